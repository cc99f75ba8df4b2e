// An explanation in the words of whoever is woken by it. Pure.
import type { Condition, ExplainedEvent, ExplainedRecord } from "../api";
import { duration } from "../format/time";
import { measuredWords } from "./alerts";
import { own } from "../table";
import { humanised } from "./words";

const STEP_WORD: Record<string, string> = {
  incident_opened: "Incident opened",
  incident_escalated: "Escalated",
  incident_reminded: "Reminder sent",
  incident_acknowledged: "Acknowledged",
  incident_closed: "Incident closed",
  session_started: "Session began",
  session_ended: "Session ended",
  alert_raised: "Rule fired",
  attack_began: "Attack began",
  attack_grew: "Attack grew",
  attack_ended: "Attack ended",
};

export const stepWord = (kind: string): string => own(STEP_WORD, kind) ?? humanised(kind);

/** What was found, and what it was held against. */
export function conditionWords(kind: string, condition: Condition): string {
  if ("rule" in condition) return `${measuredWords(condition)}.`;
  if ("within_ms" in condition) {
    return `${condition.found} times within ${duration(condition.within_ms)}; more than ${condition.limit} count.`;
  }
  const [found, limit] = [duration(condition.found_ms), duration(condition.limit_ms)];
  switch (condition.setting) {
    case "network.min_incident":
      return `Down for ${found}. It counts as an incident from ${limit} on.`;
    case "network.silence":
      return `Nothing heard for ${found}. It counts as silent from ${limit} on.`;
    case "network.fault_incident":
      return `Could not be measured for ${found}. It counts as an incident from ${limit} on.`;
    case "network.escalate_after":
      return `Open for ${found} without an acknowledgement. It escalates after ${limit}.`;
    case "occupancy.min_session":
      return kind === "session_ended"
        ? `Absent for ${found}. A session ends after ${limit} of absence, and counts to its first moment.`
        : `Present for ${found}. It counts as a session from ${limit} on.`;
    default:
      return `${found} found; the limit is ${limit}.`;
  }
}

/** What it is called where it can be changed: a setting of the configuration, or a rule. */
export const conditionName = (condition: Condition): string => ("rule" in condition ? `rule ${condition.rule}` : condition.setting);

/** What made a step: the record that arrived, or a deadline that passed. */
export function causeWords(step: ExplainedEvent, records: readonly ExplainedRecord[]): string {
  const { cause } = step;
  if ("message" in cause) {
    const record = records.find((one) => one.id === cause.message);
    return record ? `When record ${record.sequence} arrived` : `When the record ${cause.message} arrived`;
  }
  if ("packet" in cause) return `When packet ${cause.packet.packet} arrived`;
  return "timer" in cause ? "When the time to wait was over" : "";
}

const RECORD_WORD: Record<string, string> = {
  ping_round: "Measured",
  tick: "Clock",
  quiet: "Nothing to report",
  fault: "Could not measure",
  gap: "Records are missing",
  operator: "Operator",
  activation: "Configuration came into force",
  receipt: "Message delivered",
  batch: "Packets",
  verdict: "Reputation",
  rules: "Rules came into force",
  finding: "Finding",
};

export const recordWord = (kind: string): string => own(RECORD_WORD, kind) ?? humanised(kind);

const ACT_WORD: Record<string, string> = {
  acknowledge: "acknowledged it",
  mute: "muted it",
  unmute: "unmuted it",
  maintenance: "planned maintenance",
  cancel_maintenance: "cancelled maintenance",
};

/** What an operator did, from the record's body; null for what is no act. */
export function actWords(body: unknown): string | null {
  const act = field(body, "operator");
  const who = field(act, "who");
  if (typeof who !== "string") return null;
  const done = field(act, "act");
  const kind = typeof done === "object" && done !== null ? Object.keys(done)[0] : done;
  const note = field(act, "note");
  const words = typeof kind === "string" ? (own(ACT_WORD, kind) ?? humanised(kind).toLowerCase()) : "did something";
  return `${who} ${words}${typeof note === "string" ? `: ${note}` : ""}`;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? own(value as Record<string, unknown>, name) : undefined;
}
