// The ranges of the charts: how far back, and how fine the server's history is asked for.
import type { Resolution } from "../lib/state/rest";

export interface Range {
  id: string;
  word: string;
  /** Null is the live half hour. */
  history: { resolution: Resolution; step_s: number; span_s: number } | null;
}

const HOUR_S = 3_600;
const DAY_S = 24 * HOUR_S;

export const RANGES = [
  { id: "live", word: "Live", history: null },
  { id: "6h", word: "6 h", history: { resolution: "minute", step_s: 60, span_s: 6 * HOUR_S } },
  { id: "24h", word: "24 h", history: { resolution: "minute", step_s: 60, span_s: DAY_S } },
  { id: "7d", word: "7 d", history: { resolution: "hour", step_s: HOUR_S, span_s: 7 * DAY_S } },
  { id: "30d", word: "30 d", history: { resolution: "hour", step_s: HOUR_S, span_s: 30 * DAY_S } },
  { id: "1y", word: "1 y", history: { resolution: "day", step_s: DAY_S, span_s: 365 * DAY_S } },
] as const satisfies readonly Range[];

export type RangeId = (typeof RANGES)[number]["id"];
