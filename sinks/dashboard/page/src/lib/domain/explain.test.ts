import { describe, expect, it } from "vitest";
import type { Cause, ExplainedEvent } from "../api";
import { actWords, causeWords, conditionWords, recordWord, stepWord } from "./explain";
import { classWord, incidentSentence, severityTone, stageLook } from "./words";

describe("an explanation in words", () => {
  it.each([
    ["incident_opened", { setting: "network.min_incident", limit_ms: 10_000, found_ms: 10_000 }, "Down for 10 s. It counts as an incident from 10 s on."],
    ["incident_opened", { setting: "network.flapping_count", limit: 3, found: 4, within_ms: 600_000 }, "4 times within 10 min; more than 3 count."],
    ["incident_escalated", { setting: "network.escalate_after", limit_ms: 900_000, found_ms: 900_000 }, "Open for 15 min without an acknowledgement. It escalates after 15 min."],
    ["session_started", { setting: "occupancy.min_session", limit_ms: 180_000, found_ms: 180_000 }, "Present for 3 min. It counts as a session from 3 min on."],
    ["session_ended", { setting: "occupancy.min_session", limit_ms: 180_000, found_ms: 181_000 }, "Absent for 3 min 1 s. A session ends after 3 min of absence, and counts to its first moment."],
    ["attack_began", { rule: "port_scan", observed: 61, threshold: 15, base_threshold: 15, window_ms: 10_000 }, "61 within 10 s; the limit is 15."],
    ["something_new", { setting: "network.other", limit_ms: 1_000, found_ms: 2_000 }, "2 s found; the limit is 1 s."],
  ])("%s held against %o", (kind, condition, words) => {
    expect(conditionWords(kind, condition)).toBe(words);
  });

  it("names the record that made a step, or the deadline", () => {
    const step = (cause: Cause): ExplainedEvent => ({ at: "2026-01-01T00:00:00Z", kind: "incident_closed", cause, event: {} });
    const records = [{ sequence: 7, stored_at: "", observed_at: "", id: "s/ping/1/7", kind: "ping_round" }];
    expect(causeWords(step({ message: "s/ping/1/7" }), records)).toBe("When record 7 arrived");
    expect(causeWords(step({ message: "s/ping/1/8" }), records)).toBe("When the record s/ping/1/8 arrived");
    expect(causeWords(step({ timer: { timer: "incidents/open", deadline: "" } }), records)).toBe("When the time to wait was over");
    expect(causeWords(step({ packet: { collector: "capture-lan", incarnation: 7, packet: 114 } }), records)).toBe("When packet 114 arrived");
  });

  it("says what an operator did", () => {
    expect(actWords({ operator: { who: "owner", act: { acknowledge: { incident: "i" } }, note: "on it" } })).toBe("owner acknowledged it: on it");
    expect(actWords({ operator: { who: "owner", act: { unmute: { subject: "s" } }, note: null } })).toBe("owner unmuted it");
    for (const strange of [null, 5, "x", {}, { operator: null }]) expect(actWords(strange)).toBeNull();
  });
});

describe("what a newer server may send", () => {
  it("reads as it is spelt", () => {
    expect(stepWord("incident_merged")).toBe("Incident merged");
    expect(recordWord("heartbeat")).toBe("Heartbeat");
    expect(classWord("parity_mismatch")).toBe("Parity mismatch");
    expect(severityTone("catastrophic" as never)).toBe("warn");
    const incident = { class: "parity_mismatch", subject: "chain:site", ended_at: null } as never;
    expect(incidentSentence(incident)).toBe("Parity mismatch: chain:site");
  });

  it("a stage that moves and is not well is not called stuck", () => {
    const stage = { name: "parity", position: 3, head: 3, lag: 0, age_ms: 900, ok: true, configured: true, detail: null };
    expect(stageLook(stage).word).toBe("advances");
    expect(stageLook({ ...stage, ok: false, detail: "hour 07 differs" }).word).toBe("needs a look");
    expect(stageLook({ ...stage, ok: false, age_ms: 61_000 }).word).toBe("stuck");
    expect(stageLook({ ...stage, ok: false, age_ms: null }).word).toBe("not started");
  });
});
