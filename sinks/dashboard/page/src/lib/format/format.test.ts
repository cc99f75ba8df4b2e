import { describe, expect, it } from "vitest";
import { bytes, count, coverage, loss, rtt, uptime } from "./quantity";
import { ago, dateTime, duration, fullTime, shortTime, ticking, utcToZoned, zoneName, zonedToUtc } from "./time";

const WINTER = Date.parse("2026-11-20T13:03:12.500Z");
const SUMMER = Date.parse("2026-07-01T12:00:00Z");

const check = <I, O>(cases: [I, O][], made: (input: I) => O): void => {
  for (const [input, expected] of cases) expect(made(input), String(input)).toEqual(expected);
};

describe("time", () => {
  it("gives durations in their two largest units", () => {
    check<number, string>(
      [
        [-5, "0 s"],
        [0, "0 s"],
        [9_900, "9.9 s"],
        [9_999, "9.9 s"],
        [10_000, "10 s"],
        [59_999, "59 s"],
        [60_000, "1 min"],
        [252_000, "4 min 12 s"],
        [7_500_000, "2 h 5 min"],
        [273_600_000, "3 d 4 h"],
      ],
      duration,
    );
    expect(ticking(9_900)).toBe("9 s");
  });

  it("tells how long ago something was", () => {
    check<number, string>(
      [
        [0, "just now"],
        [1_999, "just now"],
        [2_000, "2 s ago"],
        [61_000, "1 min ago"],
        [47 * 3_600_000, "47 h ago"],
        [48 * 3_600_000, "2 d ago"],
      ],
      (length) => ago(WINTER - length, WINTER),
    );
  });

  it("shows the site's wall clock with the zone's name", () => {
    expect(dateTime(WINTER, "Europe/Berlin")).toBe("20 Nov 14:03:12");
    expect(dateTime(WINTER, "Europe/Berlin", WINTER + 400 * 86_400_000)).toBe("20 Nov 2026 14:03:12");
    expect(fullTime(WINTER, "Europe/Berlin")).toBe("20 Nov 2026 14:03:12 CET");
    expect(shortTime(WINTER, "Europe/Berlin", WINTER + 3_600_000)).toBe("14:03");
    expect(shortTime(WINTER, "Europe/Berlin", WINTER + 86_400_000)).toBe("20 Nov 14:03");
    expect(zoneName(SUMMER, "Europe/Berlin")).toBe("CEST");
    expect(zoneName(WINTER, "America/New_York")).toBe("EST");
    expect(zoneName(WINTER, "UTC")).toBe("UTC");
  });

  it("survives a zone that the browser does not know", () => {
    expect(dateTime(WINTER, "Mars/Olympus")).toBe("20 Nov 13:03:12");
  });

  it("reads a wall clock in the site's zone, also around a clock change", () => {
    expect(zonedToUtc("2026-11-20T14:03", "Europe/Berlin")).toBe(Date.parse("2026-11-20T13:03:00Z"));
    expect(zonedToUtc("2026-03-29T01:30", "Europe/Berlin")).toBe(Date.parse("2026-03-29T00:30:00Z"));
    expect(zonedToUtc("2026-03-29T03:30", "Europe/Berlin")).toBe(Date.parse("2026-03-29T01:30:00Z"));
    expect(zonedToUtc("", "Europe/Berlin")).toBeNaN();
    expect(utcToZoned(WINTER, "Europe/Berlin")).toBe("2026-11-20T14:03");
  });
});

describe("quantity", () => {
  it("shows round trips", () => {
    check<number | null, string>(
      [
        [null, "–"],
        [820, "0.82 ms"],
        [12_430, "12.4 ms"],
        [184_200, "184 ms"],
        [1_204_000, "1.20 s"],
      ],
      rtt,
    );
  });

  it("shows loss", () => {
    check<number | null, string>([[null, "–"], [0, "0 %"], [4, "0.4 %"], [120, "12 %"], [1_000, "100 %"]], loss);
  });

  it("never rounds an uptime up to 100 %", () => {
    check<number | null, string>(
      [
        [null, "–"],
        [1_000_000, "100 %"],
        [999_999, "99.999 %"],
        [995_004, "99.500 %"],
        [981_239, "98.12 %"],
        [0, "0.00 %"],
      ],
      uptime,
    );
  });

  it("says how much of a period an uptime is of", () => {
    const DAY_MS = 86_400_000;
    expect(coverage(1_000_000, DAY_MS)).toMatchObject({ says: true, short: "" });
    expect(coverage(990_000, DAY_MS)).toMatchObject({ says: true, short: "" });
    expect(coverage(906_899, DAY_MS)).toMatchObject({ says: true, short: "of the 90 % measured" });
    expect(coverage(3, 30 * DAY_MS)).toMatchObject({ says: false, short: "only 7.7 s measured" });
    expect(coverage(0, DAY_MS)).toMatchObject({ says: false, short: "not measured", long: "Nothing of it was measured." });
  });

  it("shows sizes", () => {
    check<number, string>([[0, "0 B"], [1_023, "1023 B"], [1_024, "1.0 KiB"], [1_536, "1.5 KiB"], [3 * 1_024 ** 3, "3.0 GiB"], [2 ** 52, "4096 TiB"]], bytes);
  });

  it("groups thousands", () => {
    expect(count(1_234_567)).toBe("1\u202f234\u202f567");
  });
});
