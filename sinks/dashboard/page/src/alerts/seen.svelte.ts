// How many alerts came since somebody looked at them. Kept while the page is open, and nowhere else.
import type { AlertTotals } from "../lib/api";
import { total } from "../lib/domain/alerts";

class Seen {
  #count = $state<number | null>(null);

  /** Counts from here on, unless it does already or the server counts anew. */
  begin(totals: AlertTotals): void {
    const now = total(totals.severities);
    if (this.#count === null || now < this.#count) this.#count = now;
  }

  /** Somebody looks at all of them. */
  all(totals: AlertTotals): void {
    this.#count = total(totals.severities);
  }

  unseen(totals: AlertTotals): number {
    return this.#count === null ? 0 : Math.max(0, total(totals.severities) - this.#count);
  }
}

export const seen = new Seen();
