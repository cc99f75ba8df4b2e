// The one line about everything: how the site stands, for the header, the title and the favicon.
import type { Board } from "../state/reduce";
import { plural } from "../format/quantity";
import type { Tone } from "./words";

export interface Summary {
  tone: Tone;
  words: string;
  open: number;
}

export function summarise(board: Board | null): Summary {
  if (board === null) return { tone: "idle", words: "Waiting for data", open: 0 };
  const open = board.incidents.filter((incident) => incident.ended_at === null);
  if (open.length > 0) {
    const grave = open.some((incident) => incident.severity === "high" || incident.severity === "critical");
    return { tone: grave ? "bad" : "warn", words: plural(open.length, "open incident"), open: open.length };
  }
  if (board.targets.length === 0) return { tone: "idle", words: "Nothing watched yet", open: 0 };
  if (board.stages.some((stage) => !stage.ok)) return { tone: "warn", words: "Watchfold needs a look", open: 0 };
  if (board.targets.some((target) => ["down", "suspect", "suppressed", "frozen"].includes(target.state))) {
    return { tone: "warn", words: "Something may be down", open: 0 };
  }
  const unknown = board.targets.filter((target) => target.state !== "up").length;
  if (unknown === board.targets.length) return { tone: "idle", words: "Measuring", open: 0 };
  // What was not measured is not good.
  if (unknown > 0) return { tone: "idle", words: `${unknown} of ${board.targets.length} not measured`, open: 0 };
  if (board.targets.some((target) => target.state === "up" && target.addresses_down.length > 0)) {
    return { tone: "warn", words: "Good, with a warning", open: 0 };
  }
  return { tone: "good", words: "All good", open: 0 };
}
