// The HTTP half of the API: pages of lists, and the operator's acts. Every failure becomes a `RestError` with words that
// can be shown.
import type { Alert, ApiError, Detection, Explanation, Health, HistoryPoint, Incident, Page, RuleState, Session, Severity } from "../api";
import type { Asked } from "../../explain/asked.svelte";

/** A request that takes longer than this is given up. */
const TIMEOUT_MS = 10_000;
/** An explanation reads the log once more, and may take as long as the server lets it. */
const EXPLAIN_TIMEOUT_MS = 30_000;
/** Points of one chart at most; more are left out, and the chart says so. */
export const HISTORY_POINTS_MAX = 6_000;
const HISTORY_PAGE = 1_000;

/** What alerts are asked for by; what is absent asks for all. */
export interface AlertQuery {
  severity?: Severity;
  category?: string;
  state?: RuleState;
  text?: string;
  attack?: string;
}

export type Resolution = "minute" | "hour" | "day";

export class RestError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export const apiUrl = (path: string): string => new URL(`api/v1/${path}`, document.baseURI).href;

export const health = (): Promise<Health> => call("GET", "health");

export function incidents(query: { state?: "open" | "closed"; subject?: string; after?: string; limit: number }) {
  return call<Page<Incident>>("GET", `incidents?${parameters(query)}`);
}

export function sessions(query: { pc?: string; after?: string; limit: number }) {
  return call<Page<Session>>("GET", `sessions?${parameters(query)}`);
}

export function alerts(query: AlertQuery & { after?: string; limit: number }) {
  return call<Page<Alert>>("GET", `alerts?${parameters({ ...query })}`);
}

export function detections(query: AlertQuery & { after?: string; limit: number }) {
  return call<Page<Detection>>("GET", `detections?${parameters({ ...query })}`);
}

/** Where a file of the alerts that are asked for is. */
export function alertsFile(extension: "csv" | "json" | "eve", query: AlertQuery): string {
  const asked = parameters({ ...query });
  return apiUrl(`alerts.${extension}${asked === "" ? "" : `?${asked}`}`);
}

export const packetsFile = (alert: string): string => apiUrl(`alerts/${encodeURIComponent(alert)}/packets.pcapng`);

export function acknowledge(id: string, note: string): Promise<void> {
  return call("POST", `incidents/${encodeURIComponent(id)}/ack`, note === "" ? {} : { note });
}

export function mute(target: string, for_ms: number): Promise<void> {
  return call("POST", `targets/${encodeURIComponent(target)}/mute`, { for_ms });
}

export function unmute(target: string): Promise<void> {
  return call("DELETE", `targets/${encodeURIComponent(target)}/mute`);
}

/** Ends with the signal: nobody waits any more, and the server stops, too. */
export function explain(kind: Asked["kind"], id: string, signal: AbortSignal): Promise<Explanation> {
  return call("GET", `${kind}/${encodeURIComponent(id)}/explain`, undefined, signal, EXPLAIN_TIMEOUT_MS);
}

/** Without subjects it is for the whole site. */
export function planMaintenance(window: { subjects: string[]; from: string; until: string; note?: string }): Promise<void> {
  return call("POST", "maintenance", window);
}

export function cancelMaintenance(id: string): Promise<void> {
  return call("DELETE", `maintenance/${encodeURIComponent(id)}`);
}

/** All points of the span, over as many pages as it takes; `cut` when the limit ended it early. */
export async function history(
  target: string,
  query: { resolution: Resolution; from: string; to: string },
  signal: AbortSignal,
): Promise<{ points: HistoryPoint[]; cut: boolean }> {
  const points: HistoryPoint[] = [];
  let after: string | null = null;
  do {
    const asked = parameters({ ...query, limit: HISTORY_PAGE, ...(after === null ? {} : { after }) });
    const path = `targets/${encodeURIComponent(target)}/history?${asked}`;
    const page: Page<HistoryPoint> = await call("GET", path, undefined, signal);
    points.push(...page.items);
    after = page.items.length === 0 ? null : page.next;
  } while (after !== null && points.length < HISTORY_POINTS_MAX);
  return { points, cut: after !== null };
}

/** The status of a cheap request; 0 when there is no answer. */
export async function probe(): Promise<number> {
  try {
    return (await fetch(apiUrl("health"), { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" })).status;
  } catch {
    return 0;
  }
}

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal, timeout_ms = TIMEOUT_MS): Promise<T> {
  const limit = AbortSignal.timeout(timeout_ms);
  let answer: Response;
  try {
    answer = await fetch(apiUrl(path), {
      method,
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new RestError(0, "The server did not answer. Check that Watchfold is running, then try again.");
  }
  if (!answer.ok) throw new RestError(answer.status, await reason(answer));
  const text = await answer.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

async function reason(answer: Response): Promise<string> {
  try {
    return ((await answer.json()) as ApiError).error.message;
  } catch {
    return answer.status === 401
      ? "The access token is no longer valid. Open the link that Watchfold printed when it started."
      : `The server answered with ${answer.status}.`;
  }
}

function parameters(query: Record<string, string | number>): string {
  return new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)])).toString();
}
