import { describe, expect, it } from "vitest";
import type { Alert, SeverityCounts } from "../api";
import { atLeast, bars, endpointWords, matches, measuredWords, rangeWords } from "./alerts";

const end = (ip: string | null, port: number | null = null, mac: string | null = null) => ({ ip, port, mac });

const alert = (changes: Partial<Alert> = {}): Alert => ({
  id: "a",
  at: "2026-11-20T12:00:00Z",
  chain: "packets",
  rule: { id: "r", name: "port_scan", title: "Port scan", version: 1, set: "default" },
  category: "port_scan",
  severity: "high",
  state: "enforce",
  attack: "x",
  subject: "203.0.113.9",
  source: end("203.0.113.9", 40_111),
  destination: end("192.0.2.10", 22),
  transport: "tcp",
  community_id: "1:abc",
  measured: { observed: 15, threshold: 4, base_threshold: 15, window_ms: 10_000 },
  reputation: null,
  seen_by: { collector: "capture-lan", incarnation: 1, interface: "eth0", packets: { ranges: [[100, 114]], total: 15 } },
  message: "203.0.113.9 tried 15 ports",
  facts: [["dns.question.name", "Evil.example"]],
  ...changes,
});

describe("alerts", () => {
  it("are asked for as the server filters them", () => {
    const cases: [Parameters<typeof matches>[1], boolean][] = [
      [{}, true],
      [{ severity: "high" }, true],
      [{ severity: "critical" }, false],
      [{ severity: "info" }, true],
      [{ category: "port_scan" }, true],
      [{ category: "dns_tunnel" }, false],
      [{ state: "record" }, false],
      [{ text: "evil.EXAMPLE" }, true],
      [{ text: "ETH0" }, true],
      [{ text: "1:ABC" }, true],
      [{ text: "nowhere" }, false],
      [{ severity: "medium", text: "nowhere" }, false],
    ];
    for (const [query, want] of cases) expect(matches(alert(), query), JSON.stringify(query)).toBe(want);
    expect(matches(alert({ community_id: null, source: end(null) }), { text: "null" })).toBe(false);
  });

  it("name their ends", () => {
    expect(endpointWords(end("192.0.2.1", 53))).toBe("192.0.2.1:53");
    expect(endpointWords(end("2001:db8::1", 53))).toBe("[2001:db8::1]:53");
    expect(endpointWords(end("2001:db8::1"))).toBe("2001:db8::1");
    expect(endpointWords(end(null, null, "3c:52:82:10:a4:80"))).toBe("3c:52:82:10:a4:80");
    expect(endpointWords(end(null))).toBeNull();
  });

  it("say what was measured and against what", () => {
    expect(measuredWords(alert().measured)).toBe("15 within 10 s; the limit is 4, 15 without its reputation");
    expect(measuredWords({ observed: 1, threshold: 1, base_threshold: 1, window_ms: 0 })).toBe("once, which is enough");
    expect(rangeWords([[100, 114], [120, 120]])).toBe("100–114, 120");
    expect(rangeWords([[1, 1], [3, 3], [5, 5]], 2)).toBe("1, 3 …");
  });

  it("count each severity or worse", () => {
    expect(atLeast([1, 2, 3, 4, 5])).toEqual([15, 14, 12, 9, 5]);
  });

  it("move out of the hour while nothing is told", () => {
    const minutes: SeverityCounts[] = Array.from({ length: 60 }, () => [0, 0, 0, 0, 0]);
    minutes[59] = [0, 0, 0, 2, 0];
    const timeline = { from: "2026-11-20T11:01:00Z", minutes };
    const now_ms = Date.parse("2026-11-20T12:00:30Z");
    expect(bars(timeline, now_ms)[59]).toMatchObject({ total: 2, at_ms: Date.parse("2026-11-20T12:00:00Z") });
    const later = bars(timeline, now_ms + 10 * 60_000);
    expect(later.map((bar) => bar.total).indexOf(2)).toBe(49);
    expect(bars(timeline, now_ms + 60 * 60_000).every((bar) => bar.total === 0)).toBe(true);
  });
});
