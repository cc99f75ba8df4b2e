// Which theme is shown: the chosen one, or the system's. `theme.js` applies the choice before the first paint.

export type Choice = "auto" | "light" | "dark";

const KEY = "watchfold.theme";
const NEXT: Record<Choice, Choice> = { auto: "light", light: "dark", dark: "auto" };

class Theme {
  choice = $state<Choice>(stored());
  #systemDark = $state(matchMedia("(prefers-color-scheme: dark)").matches);
  shown = $derived(this.choice === "auto" ? (this.#systemDark ? "dark" : "light") : this.choice);

  constructor() {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => (this.#systemDark = event.matches));
  }

  next(): void {
    this.choice = NEXT[this.choice];
    if (this.choice === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = this.choice;
    try {
      if (this.choice === "auto") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, this.choice);
    } catch {
      // Storage can be forbidden; the choice then lasts as long as the page.
    }
  }
}

function stored(): Choice {
  const choice = document.documentElement.dataset["theme"];
  return choice === "light" || choice === "dark" ? choice : "auto";
}

export const theme = new Theme();
