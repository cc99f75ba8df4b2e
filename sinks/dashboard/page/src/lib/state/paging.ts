// Older entries of a list whose newest ones are held already: pages are asked for until one brings something new.
import type { Page } from "../api";

/** Pages asked for at one click: enough to pass over everything that the page holds. */
const PAGES_MAX = 10;

export interface Older<T> {
  items: readonly T[];
  /** Undefined before the first page, null after the last. */
  cursor: string | null | undefined;
}

export async function older<T>(
  held: Older<T>,
  known: ReadonlySet<string>,
  ask: (after: string | undefined) => Promise<Page<T>>,
  key: (item: T) => string = (item) => (item as { id: string }).id,
): Promise<Older<T>> {
  let { items, cursor } = held;
  const seen = new Set([...known, ...items.map(key)]);
  for (let pages = 0; pages < PAGES_MAX && cursor !== null; pages++) {
    const page: Page<T> = await ask(cursor);
    const news = page.items.filter((item) => !seen.has(key(item)));
    items = [...items, ...news];
    cursor = page.items.length === 0 ? null : page.next;
    if (news.length > 0) break;
  }
  return { items, cursor };
}
