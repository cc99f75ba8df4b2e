import { readFileSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Attack, Incident, Pc, Signal, Stage, Target } from "../api";
import type { Board } from "../state/reduce";
import { summarise } from "./summary";
import { attackTitle, firstStep, incidentSentence, pcPhase, stageLook, targetLook, threatLook } from "./words";

const board = (changes: Partial<Board>): Board => ({ targets: [{ state: "up", addresses_down: [] } as unknown as Target], incidents: [], stages: [], ...changes }) as unknown as Board;
const incident = (changes: Partial<Incident>): Incident => ({ class: "outage", subject: "router", severity: "high", ended_at: null, ...changes }) as Incident;
const target = (state: Target["state"], addresses_down: string[] = []): Target => ({ state, addresses_down }) as unknown as Target;

describe("summary", () => {
  it("says the gravest thing first", () => {
    const cases: [Board | null, string, string][] = [
      [null, "idle", "Waiting for data"],
      [board({}), "good", "All good"],
      [board({ targets: [] }), "idle", "Nothing watched yet"],
      [board({ targets: [target("unknown")] }), "idle", "Measuring"],
      [board({ targets: [target("up", ["8.8.8.8"])] }), "warn", "Good, with a warning"],
      [board({ targets: [target("suspect")] }), "warn", "Something may be down"],
      [board({ targets: [target("up"), target("suppressed")] }), "warn", "Something may be down"],
      [board({ targets: [target("up"), target("unknown")] }), "idle", "1 of 2 not measured"],
      [board({ stages: [{ ok: false } as Stage] }), "warn", "Watchfold needs a look"],
      [board({ incidents: [incident({ severity: "low" })] }), "warn", "1 open incident"],
      [board({ incidents: [incident({}), incident({ severity: "low" }), incident({ ended_at: "2026-11-20T12:00:00Z" })] }), "bad", "2 open incidents"],
    ];
    for (const [given, tone, words] of cases) expect(summarise(given)).toMatchObject({ tone, words });
  });

  it("calls nothing good that was not measured", () => {
    const stage = (changes: Partial<Stage>): Stage => ({ ok: true, configured: true, age_ms: 10, ...changes }) as Stage;
    expect(stageLook(stage({}))).toMatchObject({ word: "advances", tone: "good" });
    expect(stageLook(stage({ configured: false }))).toMatchObject({ word: "not configured", tone: "idle" });
    expect(stageLook(stage({ ok: false, age_ms: null }))).toMatchObject({ word: "not started", tone: "bad" });
    expect(threatLook("normal").tone).toBe("good");
    expect(threatLook("not_monitored")).toMatchObject({ word: "Not monitored", tone: "idle" });
  });
});

describe("words", () => {
  it("says of what is told of a victim that it is on it", () => {
    const attack = (subject: string): Attack => ({ rule: { title: "Flood" }, category: "x", subject, source: { ip: "192.0.2.1" }, destination: { ip: "192.0.2.7" } }) as Attack;
    expect(["192.0.2.1", "192.0.2.7", "192.0.2.1 192.0.2.7"].map((subject) => attackTitle(attack(subject)))).toEqual(["Flood: 192.0.2.1", "Flood on 192.0.2.7", "Flood: 192.0.2.1 192.0.2.7"]);
  });

  it("has a first step for every category of the packs that ship, and for no other", () => {
    const packs = new URL("../../../../../../processors/rules/packs/", import.meta.url);
    const categories = new Set<string>();
    for (const pack of ["classic", "default"]) {
      for (const file of readdirSync(new URL(`${pack}/`, packs))) {
        for (const [, category] of readFileSync(new URL(`${pack}/${file}`, packs), "utf8").matchAll(/^watchfold\.category: (.+)$/gm)) categories.add(category ?? "");
      }
    }
    expect(categories.size).toBeGreaterThan(8);
    for (const category of categories) expect(firstStep(category), category).toBeDefined();
    expect(firstStep("constructor")).toBeUndefined();
  });

  it("tells a degraded target from a good one, by word and by tone", () => {
    expect(targetLook(target("up"))).toMatchObject({ word: "Up", tone: "good" });
    expect(targetLook(target("up", ["8.8.8.8"]))).toMatchObject({ word: "Up, degraded", tone: "warn" });
    expect(targetLook(target("down", ["8.8.8.8"]))).toMatchObject({ word: "Down", tone: "bad" });
  });

  it("sees a change under way before it is confirmed, but not in a held PC", () => {
    const phase = (present: boolean, seen_by: Signal[], frozen = false): string => pcPhase({ present, seen_by, frozen } as unknown as Pc);
    expect([phase(true, ["echo"]), phase(true, []), phase(false, ["neighbour"]), phase(false, [])]).toEqual(["present", "leaving", "arriving", "absent"]);
    expect([phase(true, [], true), phase(false, [], true)]).toEqual(["present", "absent"]);
  });

  it("speaks of the past when it is past", () => {
    expect(incidentSentence(incident({}))).toBe("router is down");
    expect(incidentSentence(incident({ class: "measurement_fault", ended_at: "2026-11-20T12:00:00Z" }))).toBe("router could not be measured");
    expect(incidentSentence(incident({ class: "delivery_fault", subject: "sink:discord/alerts" }))).toBe("Destination discord/alerts takes no messages");
    const flood = { category: "port_scan", title: "Port scan", of: "sources" as const, subjects: ["203.0.113.9"], subjects_total: 214, attacks_total: 231 };
    expect(incidentSentence(incident({ class: "attack", subject: "attack:port_scan", flood }))).toBe("Port scan from 214 sources");
    expect(incidentSentence(incident({ class: "attack", subject: "attack:port_scan", flood: { ...flood, of: "targets" } }))).toBe("Port scan on 214 targets");
  });
});
