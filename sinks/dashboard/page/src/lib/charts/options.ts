// Turns a plot into uPlot's options and data: themed axes, shaded spans, a band. Knows nothing of where the data came from.
import uPlot from "uplot";
import { dateTime, shortTime } from "../format/time";
import type { Plot, Span, SpanKind } from "./plot";

export type Measure = "rtt" | "loss";

export interface Look {
  measure: Measure;
  zone: string;
  now_ms: number;
  height: number;
  syncKey: string;
  onCursor(index: number | null, left: number): void;
  plot(): Plot;
}

const AXIS_FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
/** Finer than this a round trip says nothing more. */
const RTT_TOP_MS_MIN = 1;
const DAY_S = 86_400;

/** The series in uPlot's order: x, then for a single line its band's high and low, then the lines. */
export function chartData(plot: Plot, measure: Measure): uPlot.AlignedData {
  const lines = plot.lines.map((line) => (measure === "rtt" ? line.rtt_ms : line.loss_percent));
  return measure === "rtt" && plot.band ? [plot.x, plot.band.high_ms, plot.band.low_ms, ...lines] : [plot.x, ...lines];
}

export function chartOptions(plot: Plot, look: Look, element: HTMLElement): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  const hasBand = look.measure === "rtt" && plot.band !== null;
  const clear: uPlot.Series = { stroke: "transparent", width: 0, points: { show: false } };
  const axis: uPlot.Axis = {
    stroke: colour("text-3"),
    font: AXIS_FONT,
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
    border: { show: false },
  };
  const time = (seconds: number): string => axisTime(seconds * 1_000, look.plot(), look);
  return {
    width: Math.max(120, element.clientWidth),
    height: look.height,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    tzDate: (seconds) => zoned(seconds, look.zone),
    cursor: {
      sync: { key: look.syncKey, scales: ["x", null] },
      points: { size: 7, width: 2, fill: colour("surface") },
      drag: { x: false, y: false },
      x: true,
      y: false,
    },
    scales: {
      x: { time: true, range: () => [look.plot().from_s, look.plot().to_s] },
      y: yScale(plot, look.measure),
    },
    axes: [
      { ...axis, size: 28, gap: 6, space: 72, grid: { show: false }, values: (_, splits) => splits.map(time) },
      {
        ...axis,
        size: 58,
        space: look.measure === "loss" ? 24 : 36,
        ...(look.measure === "loss" ? { splits: () => [0, 50, 100] } : {}),
        ...(look.measure === "rtt" && isLogarithmic(plot) ? { splits: (_, __, low, high) => decades(low, high) } : {}),
        values: (_, splits) => splits.map((value) => (look.measure === "loss" ? `${value} %` : `${Number(value.toFixed(3))} ms`)),
      },
    ],
    series: [
      {},
      ...(hasBand ? [clear, clear] : []),
      ...plot.lines.map((line): uPlot.Series => {
        const stroke = colour(`series-${line.colour}`);
        const loss = look.measure === "loss";
        return {
          label: line.name,
          stroke: loss && plot.lines.length === 1 ? colour("bad-fill") : stroke,
          width: 1.5,
          points: { show: false },
          spanGaps: false,
          ...(loss ? { fill: `color-mix(in srgb, ${plot.lines.length === 1 ? colour("bad-fill") : stroke} 22%, transparent)` } : {}),
          ...(loss && uPlot.paths.stepped ? { paths: uPlot.paths.stepped({ align: 1 }) } : {}),
        };
      }),
    ],
    ...(hasBand ? { bands: [{ series: [1, 2], fill: `color-mix(in srgb, ${colour(`series-${plot.lines[0]?.colour ?? 0}`)} 20%, transparent)` }] } : {}),
    hooks: {
      drawClear: [(chart) => shade(chart, look.plot().spans, colour)],
      setCursor: [(chart) => look.onCursor(chart.cursor.idx ?? null, chart.cursor.left ?? -1)],
    },
  };
}

/** Several targets lie decades apart: the router under a millisecond, the internet at thirty. */
export const isLogarithmic = (plot: Plot): boolean => plot.lines.length > 1;

function yScale(plot: Plot, measure: Measure): uPlot.Scale {
  if (measure === "loss") return { range: () => [0, 100] };
  if (!isLogarithmic(plot)) return { range: (_, __, high) => [0, Math.max(RTT_TOP_MS_MIN, (high ?? 0) * 1.15)] };
  return {
    distr: 3,
    log: 10,
    range: (_, low, high) => [10 ** Math.floor(Math.log10(Math.max(0.001, low ?? 0.1))), 10 ** Math.ceil(Math.log10(Math.max(0.01, (high ?? 10) * 1.05)))],
  };
}

function decades(low: number, high: number): number[] {
  const first = Math.round(Math.log10(low));
  return Array.from({ length: Math.round(Math.log10(high)) - first + 1 }, (_, i) => 10 ** (first + i));
}

const SPAN_COLOUR: Record<SpanKind, string> = { down: "bad-fill", suppressed: "held-fill", unmeasured: "idle-fill" };

function shade(chart: uPlot, spans: readonly Span[], colour: (name: string) => string): void {
  const { ctx } = chart;
  const { left, top, width, height } = chart.bbox;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  for (const span of spans) {
    const from = chart.valToPos(span.from_s, "x", true);
    // At least two pixels: a short outage in a long range must stay visible.
    const wide = Math.max(2 * devicePixelRatio, chart.valToPos(span.to_s, "x", true) - from);
    ctx.globalAlpha = 0.16;
    ctx.fillStyle = colour(SPAN_COLOUR[span.kind]);
    ctx.fillRect(from, top, wide, height);
    ctx.globalAlpha = 0.9;
    ctx.fillRect(from, top, wide, 2 * devicePixelRatio);
  }
  ctx.restore();
}

/** Hours within two days, dates beyond. */
function axisTime(at_ms: number, plot: Plot, look: Look): string {
  if (plot.to_s - plot.from_s > 2 * DAY_S) return dateTime(at_ms, look.zone, look.now_ms).replace(/ \d\d:\d\d:\d\d$/, "");
  return shortTime(at_ms, look.zone, at_ms);
}

function zoned(seconds: number, zone: string): Date {
  try {
    return uPlot.tzDate(new Date(seconds * 1_000), zone);
  } catch {
    return new Date(seconds * 1_000); // A zone that this browser does not know.
  }
}
