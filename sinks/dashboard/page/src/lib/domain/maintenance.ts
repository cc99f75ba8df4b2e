// Maintenance windows as a list and as a form understands them. Pure.
import type { Maintenance } from "../api";

/** The longest that the server takes. */
const LENGTH_MAX_MS = 90 * 86_400_000;

/** Those that are not over, the running ones first, each as they begin. */
export function windowsNow(windows: readonly Maintenance[], now_ms: number): { window: Maintenance; runs: boolean }[] {
  const left = windows.filter((window) => Date.parse(window.until) > now_ms);
  const shown = left.map((window) => ({ window, runs: Date.parse(window.from) <= now_ms }));
  return [...shown.filter((one) => one.runs), ...shown.filter((one) => !one.runs)];
}

export const subjectWords = (subjects: readonly string[]): string => (subjects.length === 0 ? "The whole site" : subjects.join(", "));

/** Why a window cannot be planned so; null when it can. */
export function windowProblem(from_ms: number, until_ms: number, now_ms: number): string | null {
  if (Number.isNaN(from_ms) || Number.isNaN(until_ms)) return "Say when it begins and when it ends.";
  if (until_ms <= from_ms) return "It has to end after it begins.";
  if (until_ms <= now_ms) return "It would be over already.";
  if (until_ms - from_ms > LENGTH_MAX_MS) return "A window may last 90 days at most.";
  return null;
}
