import { describe, expect, it } from "vitest";
import type { HistoryPoint, Incident } from "../api";
import type { LiveSample } from "../state/reduce";
import { LIVE_WINDOW_S, historyPlot, livePlot, merged } from "./plot";

const NOW_MS = 1_800_000_000_000;
const samples = (...list: [number, LiveSample["result"], number | null][]): LiveSample[] =>
  list.map(([ago_s, result, rtt_us]) => ({ at_ms: NOW_MS - ago_s * 1_000, result, rtt_us }));
const outage = (subject: string, from_s: number, suppressed: string[] = []): Incident =>
  ({ class: "outage", subject, started_at: new Date(from_s * 1_000).toISOString(), ended_at: null, suppressed }) as unknown as Incident;

describe("live plot", () => {
  it("takes the median of a bucket and its loss without the faults", () => {
    const items = samples([9, "answered", 4_000], [8, "answered", 2_000], [7, "lost", null], [6, "fault", null]);
    const plot = livePlot([{ name: "router", colour: 0, items }], [], NOW_MS);
    const place = plot.x.indexOf(NOW_MS / 1_000 - 10);
    expect(plot.lines[0]?.rtt_ms[place]).toBe(4);
    expect(plot.lines[0]?.loss_percent[place]).toBeCloseTo(100 / 3);
    expect(plot.band?.low_ms[place]).toBe(2);
    expect(plot.lines[0]?.rtt_ms[place - 1]).toBeNull();
  });

  it("spans its window whatever there is", () => {
    const plot = livePlot([{ name: "router", colour: 0, items: [] }], [], NOW_MS);
    expect(plot.to_s - plot.from_s).toBe(LIVE_WINDOW_S);
    expect(plot.lines[0]?.rtt_ms.every((value) => value === null)).toBe(true);
  });

  it("widens its step for slow rounds", () => {
    const items = samples(...Array.from({ length: 20 }, (_, i): [number, "answered", number] => [600 - i * 30, "answered", 1_000]));
    expect(livePlot([{ name: "slow", colour: 0, items }], [], NOW_MS).step_s).toBe(60);
  });

  it("shades outages, suppressed times and faults by kind", () => {
    const from_s = NOW_MS / 1_000 - 100;
    const items = samples([50, "fault", null]);
    const internet = livePlot([{ name: "internet", colour: 0, items }], [outage("router", from_s, ["internet"])], NOW_MS);
    expect(internet.spans.map((span) => span.kind)).toEqual(["unmeasured", "suppressed"]);
    const router = livePlot([{ name: "router", colour: 0, items: [] }], [outage("router", from_s)], NOW_MS);
    expect(router.spans).toEqual([{ from_s, to_s: NOW_MS / 1_000, kind: "down" }]);
  });
});

describe("history plot", () => {
  const point = (at_s: number, changes: Partial<HistoryPoint>): HistoryPoint =>
    ({ at: new Date(at_s * 1_000).toISOString(), probes: 10, answered: 10, faults: 0, p50_us: 1_000, min_us: 800, p95_us: 2_000, ...changes }) as HistoryPoint;

  it("leaves gaps where nothing is known, and joins shading", () => {
    const items = [point(0, {}), point(60, { answered: 4, faults: 2, down_ms: 5 }), point(120, { down_ms: 60_000 }), point(240, {})];
    const plot = historyPlot([{ name: "router", colour: 0, items }], 60, 0, 300);
    expect(plot.x).toEqual([0, 60, 120, 180, 240]);
    expect(plot.lines[0]?.rtt_ms).toEqual([1, 1, 1, null, 1]);
    expect(plot.lines[0]?.loss_percent).toEqual([0, 50, 0, null, 0]);
    expect(plot.spans).toEqual([{ from_s: 60, to_s: 180, kind: "down" }]);
  });

  it("merges only what touches and is of one kind", () => {
    expect(
      merged([
        { from_s: 5, to_s: 9, kind: "down" },
        { from_s: 0, to_s: 5, kind: "down" },
        { from_s: 9, to_s: 12, kind: "suppressed" },
        { from_s: 20, to_s: 21, kind: "down" },
      ]),
    ).toEqual([
      { from_s: 0, to_s: 9, kind: "down" },
      { from_s: 20, to_s: 21, kind: "down" },
      { from_s: 9, to_s: 12, kind: "suppressed" },
    ]);
  });
});
