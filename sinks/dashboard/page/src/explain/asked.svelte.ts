// What the operator wants explained; one thing at a time, wherever on the page it was asked for.

export interface Asked {
  kind: "incidents" | "sessions" | "alerts" | "attacks";
  id: string;
  /** In words: `server is down`. */
  what: string;
}

class Question {
  asked = $state.raw<Asked | null>(null);

  ask(asked: Asked): void {
    this.asked = asked;
  }

  close(): void {
    this.asked = null;
  }
}

export const question = new Question();
