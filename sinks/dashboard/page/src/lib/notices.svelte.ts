// Short notices about what the operator did: shown, read out, gone by themselves.

const SHOWN_MS = 6_000;
/** More at once would only cover the page; the oldest goes. */
const NOTICES_MAX = 4;

export interface Notice {
  id: number;
  tone: "good" | "bad";
  text: string;
}

class Notices {
  list = $state<Notice[]>([]);
  #next = 0;

  show(tone: Notice["tone"], text: string): void {
    const id = this.#next++;
    this.list = [...this.list, { id, tone, text }].slice(-NOTICES_MAX);
    setTimeout(() => this.dismiss(id), SHOWN_MS);
  }

  dismiss(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }

  /** Runs an act and tells how it went. True when it was accepted. */
  async tell(act: Promise<unknown>, done: string): Promise<boolean> {
    try {
      await act;
      this.show("good", done);
      return true;
    } catch (error) {
      this.show("bad", error instanceof Error ? error.message : String(error));
      return false;
    }
  }
}

export const notices = new Notices();
