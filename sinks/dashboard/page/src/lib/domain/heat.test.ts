import { describe, expect, it } from "vitest";
import { heatOf, hourSpan } from "./heat";

describe("heat map", () => {
  it("measures every hour against the busiest one and leaves the unknown ones open", () => {
    const heat = heatOf({ time_zone: "UTC", cells: [[1_000, null, 4_000], [2_500]] });
    expect(heat.rows[0]?.cells.slice(0, 3)).toEqual([
      { mean: 1, level: 0.25 },
      { mean: null, level: 0 },
      { mean: 4, level: 1 },
    ]);
    expect(heat.busiest).toEqual({ day: "Monday", hour: 2, mean: 4 });
    expect(heat.rows.every((row) => row.cells.length === 24)).toBe(true);
  });

  it("has nothing to say about nothing, and no busiest hour of an empty place", () => {
    expect(heatOf({ time_zone: "UTC", cells: [] })).toMatchObject({ known: false, busiest: null, top: 0 });
    expect(heatOf({ time_zone: "UTC", cells: [[0, 0]] })).toMatchObject({ known: true, busiest: null });
    expect(hourSpan(23)).toBe("23:00 to 00:00");
  });
});
