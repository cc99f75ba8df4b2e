// What the states, classes and signals are called and how they look: a word, an icon and a tone each, so that nothing is
// told by colour alone.
import type { Attack, Incident, IncidentClass, Outcome, Pc, Severity, Signal, Stage, SubjectState, Target, Threat } from "../api";
import type { IconName } from "../../ui/icons";
import { own } from "../table";

export type Tone = "good" | "bad" | "warn" | "held" | "idle" | "info";

export interface Look {
  word: string;
  icon: IconName;
  tone: Tone;
}

const STATES: Record<SubjectState, Look> = {
  unknown: { word: "Unknown", icon: "question", tone: "idle" },
  up: { word: "Up", icon: "check", tone: "good" },
  suspect: { word: "Suspect", icon: "alert", tone: "warn" },
  down: { word: "Down", icon: "cross", tone: "bad" },
  suppressed: { word: "Suppressed", icon: "link-off", tone: "held" },
  frozen: { word: "Frozen", icon: "snow", tone: "held" },
};

export const stateLook = (state: SubjectState): Look => own(STATES, state) ?? STATES.unknown;

/** A target that is up although some of its addresses do not answer. */
export const isDegraded = (target: Target): boolean => target.state === "up" && target.addresses_down.length > 0;

export function targetLook(target: Target): Look {
  return isDegraded(target) ? { word: "Up, degraded", icon: "alert", tone: "warn" } : stateLook(target.state);
}

const CLASS_WORD: Record<IncidentClass, string> = {
  outage: "Outage",
  flapping: "Flapping",
  collector_silent: "Collector silent",
  measurement_fault: "Cannot measure",
  parity: "Replay differs",
  attack: "Attack",
  delivery_fault: "Cannot notify",
};

/** A newer server may know classes that this page does not: they read as they are spelt. */
export const classWord = (kind: string): string => own(CLASS_WORD, kind) ?? humanised(kind);

/** `parity_mismatch` as `Parity mismatch`. */
export function humanised(name: string): string {
  const words = name.replaceAll("_", " ").trim();
  return words === "" ? "Unknown" : words.charAt(0).toUpperCase() + words.slice(1);
}

/** What an incident is about, in words: a target's name, the attack and its subject, or how many a flood is of. */
export function incidentSubject({ attack, flood, subject }: Pick<Incident, "attack" | "flood" | "subject">): string {
  if (attack) return attackTitle(attack);
  if (!flood) return subject;
  const joined = flood.of === "sources" ? " from " : flood.of === "targets" ? " on " : ": ";
  return `${flood.title || humanised(flood.category)}${joined}${flood.subjects_total} ${flood.of}`;
}

/** `Port scan: 203.0.113.9`; of what is told of its victim `SYN flood on 192.0.2.7`, as in messages. */
export function attackTitle(attack: Attack): string {
  const onVictim = attack.subject === attack.destination.ip && attack.subject !== attack.source.ip;
  return `${ruleTitle(attack)}${onVictim ? " on " : ": "}${attack.subject}`;
}

/** What whoever is on call does first, by the category of the shipped rules; a site's own have none. */
const FIRST_STEP: ReadonlyMap<string, string> = new Map([
  ["port_scan", "See whose machine the source is. Take it off the network, or exclude it from the rule if it may scan."],
  ["host_sweep", "See whose machine the source is. Take it off the network, or exclude it from the rule if it may scan."],
  ["syn_flood", "See whether the victim still answers. Block the source at the router; if there are many, ask the provider."],
  ["icmp_flood", "See whether the victim still answers. Block the source at the router; if there are many, ask the provider."],
  ["brute_force", "Block the source, then look in the victim's log for a login that succeeded."],
  ["arp_spoofing", "Find the port of the switch behind the newer hardware address, and unplug it unless the device was replaced."],
  ["dns_tunnel", "Find the program that asks for these names, and block their zone until you know it."],
  ["exfiltration", "Ask whoever uses the source what is being sent. If nobody knows, cut it off now."],
  ["suspicious_port", "Find the program on our side that uses this port, and end it unless it is known."],
  ["mining", "Find and end the program on the source that mines, and how it came there."],
]);

export const firstStep = (category: string): string | undefined => FIRST_STEP.get(category);

/** What its author calls a rule; the category where there is no title. */
export const ruleTitle = (of: Pick<Attack, "rule" | "category">): string => of.rule.title || humanised(of.category);

/** What happens, as a sentence about the subject. */
export function incidentSentence(incident: Incident): string {
  const open = incident.ended_at === null;
  switch (incident.class) {
    case "outage":
      return `${incident.subject} ${open ? "is" : "was"} down`;
    case "flapping":
      return `${incident.subject} ${open ? "is" : "was"} flapping`;
    case "collector_silent":
      return `Collector ${incident.subject} ${open ? "is" : "was"} silent`;
    case "measurement_fault":
      return `${incident.subject} ${open ? "cannot" : "could not"} be measured`;
    case "delivery_fault":
      return `Destination ${incident.subject.replace(/^sink:/, "")} ${open ? "takes" : "took"} no messages`;
    case "parity":
      return `${incident.subject} ${open ? "disagrees" : "disagreed"} with its replay`;
    case "attack":
      return incidentSubject(incident);
    default:
      return `${classWord(incident.class)}: ${incident.subject}`;
  }
}

const SEVERITY_TONE: Record<Severity, Tone> = {
  info: "info",
  low: "info",
  medium: "warn",
  high: "bad",
  critical: "bad",
};

export const severityTone = (severity: Severity): Tone => own(SEVERITY_TONE, severity) ?? "warn";

/** From the least to the worst, as the server counts them. */
export const SEVERITIES = ["info", "low", "medium", "high", "critical"] as const satisfies readonly Severity[];

const SEVERITY_ICON: Record<Severity, IconName> = { info: "info", low: "info", medium: "alert", high: "alert", critical: "cross" };

/** A newer server may know severities that this page does not: they read as they are spelt. */
export const severityLook = (severity: Severity): Look => ({
  word: humanised(severity),
  icon: own(SEVERITY_ICON, severity) ?? "alert",
  tone: severityTone(severity),
});

const THREATS: Record<Threat, Look> = {
  not_monitored: { word: "Not monitored", icon: "question", tone: "idle" },
  normal: { word: "Normal", icon: "check", tone: "good" },
  moderate: { word: "Moderate", icon: "alert", tone: "warn" },
  elevated: { word: "Elevated", icon: "alert", tone: "warn" },
  high: { word: "High", icon: "alert", tone: "bad" },
  critical: { word: "Critical", icon: "cross", tone: "bad" },
};

export const threatLook = (threat: Threat): Look => own(THREATS, threat) ?? { word: humanised(threat), icon: "alert", tone: "warn" };

/** A stage that has not moved for longer is stuck; one that moves and still is not well says why. As the server judges. */
const STAGE_AGE_MAX_MS = 60_000;

export function stageLook(stage: Stage): Look {
  if (!stage.configured) return { word: "not configured", icon: "pause", tone: "idle" };
  return { word: stageWord(stage), icon: stage.ok ? "check" : "cross", tone: stage.ok ? "good" : "bad" };
}

function stageWord(stage: Stage): string {
  if (stage.ok) return "advances";
  if (stage.age_ms === null) return "not started";
  return stage.age_ms > STAGE_AGE_MAX_MS ? "stuck" : "needs a look";
}

const SIGNAL_WORD: Record<Signal, string> = {
  echo: "Echo",
  neighbour: "ARP",
  dns: "DNS",
  tcp: "TCP",
  https: "HTTPS",
};

const OUTCOME_WORD: Record<Outcome, string> = {
  ok: "answers",
  timed_out: "no answer",
  unreachable: "unreachable",
  refused: "refused",
  unexpected: "unexpected answer",
  fault: "could not be measured",
};

export const signalWord = (signal: Signal): string => own(SIGNAL_WORD, signal) ?? humanised(signal);

export const outcomeWord = (outcome: Outcome): string => own(OUTCOME_WORD, outcome) ?? humanised(outcome).toLowerCase();

export type PcPhase = "present" | "absent" | "arriving" | "leaving";

/** Confirmed presence, and whether the latest round already disagrees with it. A held PC does not change. */
export function pcPhase(pc: Pc): PcPhase {
  if (pc.frozen) return pc.present ? "present" : "absent";
  const seen = pc.seen_by.length > 0;
  if (pc.present) return seen ? "present" : "leaving";
  return seen ? "arriving" : "absent";
}

export const PHASE_WORD: Record<PcPhase, string> = {
  present: "Present",
  absent: "Absent",
  arriving: "Arriving",
  leaving: "Leaving",
};
