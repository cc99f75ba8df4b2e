// What a chart shows, computed from samples or history: lines over one time axis, a band, and shaded spans. Pure.
import type { HistoryPoint, Incident } from "../api";
import type { LiveSample } from "../state/reduce";

export type SpanKind = "down" | "suppressed" | "unmeasured";

export interface Span {
  from_s: number;
  to_s: number;
  kind: SpanKind;
}

export interface Line {
  name: string;
  /** Which of the theme's series colours. */
  colour: number;
  rtt_ms: (number | null)[];
  loss_percent: (number | null)[];
}

export interface Plot {
  from_s: number;
  to_s: number;
  step_s: number;
  x: number[];
  lines: Line[];
  /** From the best to the 95th percentile (history) or the worst (live) answer; of a single line only. */
  band: { low_ms: (number | null)[]; high_ms: (number | null)[] } | null;
  spans: Span[];
}

/** The finest step of the live chart; slower rounds get a wider one, so that no bucket stays empty between them. */
const LIVE_STEP_S = 5;
export const LIVE_WINDOW_S = 1_800;

export interface Named<T> {
  name: string;
  colour: number;
  items: readonly T[];
}

export function livePlot(series: Named<LiveSample>[], incidents: readonly Incident[], now_ms: number): Plot {
  const step_s = liveStep(series);
  const to_s = now_ms / 1_000;
  const first = Math.floor((to_s - LIVE_WINDOW_S) / step_s);
  const buckets = Math.floor(to_s / step_s) - first + 1;
  const x = Array.from({ length: buckets }, (_, i) => (first + i) * step_s);
  const spans: Span[] = [];
  const drawn = series.map((one) => {
    const found: LiveSample[][] = Array.from({ length: buckets }, () => []);
    for (const sample of one.items) found[Math.floor(sample.at_ms / 1_000 / step_s) - first]?.push(sample);
    if (series.length === 1) spans.push(...unmeasured(found, x, step_s));
    return { one, rtts: found.map(answers), losses: found.map(lossOf) };
  });
  const single = drawn.length === 1 ? drawn[0] : undefined;
  return {
    from_s: to_s - LIVE_WINDOW_S,
    to_s,
    step_s,
    x,
    lines: drawn.map(({ one, rtts, losses }) => ({
      name: one.name,
      colour: one.colour,
      rtt_ms: rtts.map((sorted) => sorted[Math.floor(sorted.length / 2)] ?? null),
      loss_percent: losses,
    })),
    band: single
      ? { low_ms: single.rtts.map((sorted) => sorted[0] ?? null), high_ms: single.rtts.map((sorted) => sorted.at(-1) ?? null) }
      : null,
    spans: [...spans, ...incidentSpans(series.map((one) => one.name), incidents, to_s)],
  };
}

export function historyPlot(series: Named<HistoryPoint>[], step_s: number, from_s: number, to_s: number): Plot {
  const first = Math.floor(from_s / step_s);
  const length = Math.max(1, Math.ceil(to_s / step_s) - first);
  const x = Array.from({ length }, (_, i) => (first + i) * step_s);
  const spans: Span[] = [];
  const drawn = series.map((one) => {
    const points: (HistoryPoint | undefined)[] = new Array<undefined>(length).fill(undefined);
    for (const point of one.items) {
      const place = Math.floor(Date.parse(point.at) / 1_000 / step_s) - first;
      if (place >= 0 && place < length) points[place] = point;
    }
    spans.push(...historySpans(points, x, step_s, series.length === 1));
    return { one, points };
  });
  const single = drawn.length === 1 ? drawn[0] : undefined;
  const ms = (us: number | null | undefined): number | null => (us == null ? null : us / 1_000);
  return {
    from_s,
    to_s,
    step_s,
    x,
    lines: drawn.map(({ one, points }) => ({
      name: one.name,
      colour: one.colour,
      rtt_ms: points.map((point) => ms(point?.p50_us)),
      loss_percent: points.map((point) => historyLoss(point)),
    })),
    band: single
      ? { low_ms: single.points.map((point) => ms(point?.min_us)), high_ms: single.points.map((point) => ms(point?.p95_us)) }
      : null,
    spans: merged(spans),
  };
}

/** Twice the usual distance between two samples of the sparsest series, in whole steps. */
function liveStep(series: Named<LiveSample>[]): number {
  const distances = series.map(({ items }) => {
    const first = items[0];
    const last = items.at(-1);
    return first && last && items.length > 2 ? (last.at_ms - first.at_ms) / (items.length - 1) / 1_000 : 0;
  });
  return Math.min(60, Math.ceil(Math.max(LIVE_STEP_S, 2 * Math.max(0, ...distances)) / LIVE_STEP_S) * LIVE_STEP_S);
}

function answers(bucket: LiveSample[]): number[] {
  return bucket.flatMap((sample) => (sample.rtt_us === null ? [] : [sample.rtt_us / 1_000])).sort((a, b) => a - b);
}

/** A fault is neither an answer nor a loss. */
function lossOf(bucket: LiveSample[]): number | null {
  const counted = bucket.filter((sample) => sample.result !== "fault");
  if (counted.length === 0) return null;
  return (100 * counted.filter((sample) => sample.result === "lost").length) / counted.length;
}

function historyLoss(point: HistoryPoint | undefined): number | null {
  if (point === undefined) return null;
  const counted = point.probes - point.faults;
  return counted <= 0 ? null : (100 * (counted - point.answered)) / counted;
}

function unmeasured(found: LiveSample[][], x: number[], step_s: number): Span[] {
  return merged(
    found.flatMap((bucket, i) => {
      const from_s = x[i] as number;
      const faulty = bucket.length > 0 && bucket.every((sample) => sample.result === "fault");
      return faulty ? [{ from_s, to_s: from_s + step_s, kind: "unmeasured" as const }] : [];
    }),
  );
}

function incidentSpans(names: string[], incidents: readonly Incident[], to_s: number): Span[] {
  return merged(
    incidents.flatMap((incident): Span[] => {
      if (incident.class !== "outage") return [];
      const from_s = Date.parse(incident.started_at) / 1_000;
      const end_s = incident.ended_at === null ? to_s : Date.parse(incident.ended_at) / 1_000;
      if (end_s < to_s - LIVE_WINDOW_S) return [];
      if (names.includes(incident.subject)) return [{ from_s, to_s: end_s, kind: "down" }];
      const suppressed = names.length === 1 && incident.suppressed.some((name) => names.includes(name));
      return suppressed ? [{ from_s, to_s: end_s, kind: "suppressed" }] : [];
    }),
  );
}

/** A point that was down for part of its time is shaded; of several targets only the outages are. */
function historySpans(points: (HistoryPoint | undefined)[], x: number[], step_s: number, single: boolean): Span[] {
  return points.flatMap((point, i): Span[] => {
    if (point === undefined) return [];
    const from_s = x[i] as number;
    const span = (kind: SpanKind): Span[] => [{ from_s, to_s: from_s + step_s, kind }];
    if ((point.down_ms ?? 0) > 0) return span("down");
    if (!single) return [];
    if ((point.suppressed_ms ?? 0) > 0) return span("suppressed");
    // A lost second is not worth a stripe; half of the time unknown is.
    return (point.unmeasured_ms ?? 0) > (step_s * 1_000) / 2 ? span("unmeasured") : [];
  });
}

/** Touching spans of one kind become one, so that their shading has no seams. */
export function merged(spans: Span[]): Span[] {
  const sorted = [...spans].sort((a, b) => a.kind.localeCompare(b.kind) || a.from_s - b.from_s);
  const result: Span[] = [];
  for (const span of sorted) {
    const last = result.at(-1);
    if (last && last.kind === span.kind && span.from_s <= last.to_s) last.to_s = Math.max(last.to_s, span.to_s);
    else result.push({ ...span });
  }
  return result;
}
