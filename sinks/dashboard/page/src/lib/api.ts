// The shapes of the HTTP API and of the live stream. Generated from the Rust types by a test: change those, then run
// `WATCHFOLD_BLESS=1 cargo test -p watchfold-dashboard described`.

/** Alerts in a whole state at most; where it has fewer, the server has no others. */
export const STATE_ALERTS_MAX = 100;

/** Closed incidents in a whole state at most; where it has fewer, the server has no others. */
export const STATE_CLOSED_MAX = 100;

/** Ended sessions in a whole state at most; where it has fewer, the server has no others. */
export const STATE_ENDED_MAX = 200;

/** The act is in the log under this message id. */
export interface Accepted {
  /** Of a maintenance window. */
  id?: string | null;
  observation: string;
}

export interface ActiveRules {
  enforced: number;
  /** A name for exactly these rules. */
  hash: string;
  off: number;
  recorded: number;
  since: Time;
}

export interface AddressStatus {
  address: string;
  at: Time;
  detail: string | null;
  outcome: Outcome;
  rtt_us: number | null;
  signal: Signal;
}

/** An alert, with what its event adds. */
export interface Alert {
  at: Time;
  /** `Attack::id`. */
  attack: string;
  /** What cooldowns and attacks are told apart by, with `subject`: `port_scan`, say. */
  category: string;
  chain: Chain;
  /** Community ID v1 of the packet that made it fire. */
  community_id: string | null;
  destination: Endpoint;
  /** Further facts: (field, value), in the order of the field reference. */
  facts: [string, string][];
  /** Of its event. */
  id: string;
  measured: Measured;
  /** One sentence for people. */
  message: string;
  /** Absent where the rule asks for none, and where no verdict was there. */
  reputation: Reputation | null;
  rule: RuleRef;
  seen_by: SeenBy;
  /** After the reputation's influence. */
  severity: Severity;
  source: Endpoint;
  /** `RuleState::Record`: stored, and nobody is told. */
  state: RuleState;
  /** What it is about: the values of the rule's subject fields, joined by a blank. */
  subject: string;
  /** `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, or a protocol's number. */
  transport: string;
}

/** A page of a list, and where the next one begins. */
export interface Page<T> {
  items: T[];
  next: string | null;
}

/** The counts of alerts and open attacks of rules that are enforced. What only records is counted apart. */
export interface AlertTotals {
  attacks_open: SeverityCounts;
  /** Those with the most alerts, most first. */
  categories: CategoryCount[];
  /** Whether packets are captured and judged. */
  monitored: boolean;
  /** When the log got its newest packets. */
  packets_at: Time | null;
  recorded: number;
  /** All that the log held since the projection began. */
  severities: SeverityCounts;
  threat: Threat;
  timeline: Timeline;
}

export interface ApiError {
  error: ErrorDetail;
}

/** A row of alerts about one subject, as it stood when the event was emitted. */
export interface Attack {
  alerts: number;
  /** When its condition first held. */
  began_at: Time;
  category: string;
  community_id: string | null;
  /** The destination of the last firing. */
  destination: Endpoint;
  ended_at: Time | null;
  /** `Attack::derive_id`; holds no software version. */
  id: string;
  /** When its condition last held. */
  last_at: Time;
  /** Packets, or rows, for which the condition held. */
  matches: number;
  message: string;
  /** The greatest measured, and when. */
  peak: Measured;
  peak_at: Time;
  reputation: Reputation | null;
  /** The rule that fired last. */
  rule: RuleRef;
  seen_by: SeenBy;
  /** The highest so far. */
  severity: Severity;
  source: Endpoint;
  state: RuleState;
  subject: string;
  transport: string;
  /** Destinations, the first `VICTIMS_MAX` in the order in which they were hit. */
  victims: string[];
  /** How many destinations were told apart; a lower bound once it reaches the extractor's limit. */
  victims_total: number;
}

export interface CategoryCount {
  category: string;
  count: number;
}

/** What made a fold emit an event; part of the event's identity. */
export type Cause = { message: MessageId } | { timer: { deadline: Time; timer: string } } | { packet: { collector: string; incarnation: number; packet: number } };

/** What is wrong with a certificate. */
export type CertificateProblem = "expired" | "not_yet_valid" | "revoked" | "invalid" | "wrong_name" | "unknown_issuer";

/** An ordered set of folds over one stream of one site. */
export type Chain = "site" | "packets";

/** One thing that a viewer has to replace, add or remove. */
export type Change = { target: Target } | { target_removed: string } | { incident: Incident } | { occupancy: OccupancyCount } | { pc: Pc } | { pc_removed: string } | { session: Session } | { maintenance: Maintenance[] } | { heatmap: Heatmap } | { samples: Sample[] } | { alerts: NewAlerts } | { attack: ShownAttack } | { alert_totals: AlertTotals } | { rules: RulesInForce[] } | { stages: Stage[] };

export type CloseReason = "recovered" | "removed" | "ended";

/** A setting that decided, as it was in force at that moment, and what was compared with it. Settings are named as they are written in the configuration. */
export type Condition = { found_ms: number; limit_ms: number; setting: string } | { base_threshold: number; observed: number; rule: string; threshold: number; window_ms: number } | { found: number; limit: number; setting: string; within_ms: number };

/** How old what is shown is, as viewers and health see it. */
export interface DataAge {
  /** Age of the newest record; `None` before the first one and in a recording. */
  age_ms: number | null;
  /** Why what is shown is not the present, while it is not. */
  stale: string | null;
}

/** The alerts of one attack that are asked for, by the newest of them. */
export interface Detection {
  alerts: number;
  /** The attack's id, or the alert's where it belongs to none. */
  detection: string;
  first_at: Time;
  latest: Alert;
  /** The worst of them. */
  severity: Severity;
}

/** One end of a packet or connection. */
export interface Endpoint {
  ip: string | null;
  /** Lower case with colons. */
  mac: string | null;
  port: number | null;
}

export interface ErrorDetail {
  code: string;
  message: string;
}

export type EventKind = "subject_changed" | "subject_degraded" | "jitter_recorded" | "incident_opened" | "incident_escalated" | "incident_reminded" | "incident_acknowledged" | "incident_closed" | "session_started" | "session_ended" | "occupancy_snapshot" | "target_rollup" | "notification_requested" | "silence_changed" | "digest" | "alert_raised" | "attack_began" | "attack_grew" | "attack_ended" | "lookup_wanted";

export interface ExplainedEvent {
  at: Time;
  /** The record or timer that made it. */
  cause: Cause;
  /** What it was measured by. */
  condition?: Condition | null;
  event: Record<string, unknown>;
  kind: string;
}

export interface ExplainedPacket {
  at: Time;
  destination: string | null;
  destination_port: number | null;
  /** A name that was asked for, or who an ARP message says is where. */
  detail?: string | null;
  /** Bytes on the wire. */
  length: number;
  number: number;
  /** `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, or a number. */
  protocol: string;
  source: string | null;
  source_port: number | null;
  tcp_flags?: string;
}

export interface ExplainedPackets {
  collector: string;
  incarnation: number;
  interface: string;
  /** Whether every range was found whole. */
  is_found: boolean;
  /** The first `PACKETS_MAX` of them. */
  packets: ExplainedPacket[];
  /** How many counted. */
  total: number;
}

export interface ExplainedRecord {
  /** What other records say. */
  body?: unknown;
  /** The message id: site, collector, incarnation, number. */
  id: string;
  kind: string;
  observed_at: Time;
  /** The results of a ping round for this subject. */
  rows?: PingRow[];
  sequence: number;
  stored_at: Time;
}

/** The rule that decided. */
export interface ExplainedRule {
  category: string;
  /** As it was in force; `None` for one that is not known any more. */
  definition?: Record<string, unknown> | null;
  rule: RuleRef;
  state: RuleState;
}

/** What there is to say about an id. */
export interface Explanation {
  id: string;
  /** The packets that counted. */
  packets?: ExplainedPackets | null;
  /** The records that caused it, in the order of the log. */
  records: ExplainedRecord[];
  /** Causes that are not shown: beyond a limit, or before the span. */
  records_left_out: number;
  /** Of an alert, an attack, or the incident that one is: what decided. */
  rule?: ExplainedRule | null;
  site: string;
  /** What happened, in order. */
  steps: ExplainedEvent[];
  /** A target's name, `pc:<key>` or `collector:<name>`, where it is about one. */
  subject: string | null;
  /** What oracles had said of what the rule asks about. */
  verdicts?: Verdict[];
}

/** Attacks of one category that are one incident, because too many began within a short time. */
export interface Flood {
  /** Attacks so far, with the first few that are incidents of their own as well. */
  attacks_total: number;
  category: string;
  of: FloodOf;
  /** What the attacks are about, the first `FLOOD_SUBJECTS_NAMED_MAX`. */
  subjects: string[];
  /** Different subjects; a lower bound beyond the fold's limit. */
  subjects_total: number;
  /** Of the rule of the first attack. */
  title: string;
}

/** Which end of its attacks a flood counts. */
export type FloodOf = "sources" | "targets" | "subjects";

export interface Health {
  /** How old what is shown is. */
  data: DataAge;
  now: Time;
  ok: boolean;
  site: string;
  software: string;
  stages: Stage[];
  started_at: Time;
  streams: StreamHealth[];
}

export interface Heatmap {
  /** By local weekday (0 = Monday) and hour, in thousandths of a PC. */
  cells: ((number | null)[])[];
  time_zone: string;
}

export interface HistoryPoint {
  answered: number;
  at: Time;
  down_ms: number | null;
  faults: number;
  jitter_us: number | null;
  max_us: number | null;
  min_us: number | null;
  p50_us: number | null;
  p95_us: number | null;
  p99_us: number | null;
  probes: number;
  suppressed_ms: number | null;
  unmeasured_ms: number | null;
  up_ms: number | null;
}

/** An incident as it stood when the event was emitted. */
export interface Incident {
  acknowledged_at: Time | null;
  /** Who acknowledged it. */
  acknowledged_by: string | null;
  /** What was said with its acknowledgement. */
  acknowledged_note: string | null;
  /** The attack, for `IncidentClass::Attack`. Absent otherwise, so that the bytes of other incidents, and digests of them, are what they were before there were attacks. */
  attack?: Attack | null;
  class: IncidentClass;
  /** Why it ended. */
  close_reason: CloseReason | null;
  /** What the probes said that have no reason below, or the attack's message. */
  detail: string | null;
  /** From start to end, once ended. Never less than what was measured, whatever the clocks did. */
  duration_ms: number | null;
  ended_at: Time | null;
  /** The event that told of its latest change. */
  event: string;
  /** Many attacks at once, for `IncidentClass::Attack` without `attack`. */
  flood?: Flood | null;
  /** `Incident::derive_id`; holds no software version. */
  id: string;
  /** It was opened long after it had begun because its observations came late. */
  late: boolean;
  /** When the first message about it was delivered, by a sink's receipt. */
  notified_at: Time | null;
  /** When it had lasted long enough to be an incident. */
  opened_at: Time;
  /** Why probes got an unexpected answer, for `IncidentClass::Outage`; at most 16. Absent otherwise, like `attack`. */
  reasons?: ProbeReason[];
  reminders: number;
  severity: Severity;
  /** The first moment of what went wrong. */
  started_at: Time;
  subject: string;
  /** Subjects that cannot be seen because of it. */
  suppressed: string[];
  /** How much of it nobody measured. */
  unmeasured_ms: number;
}

/** What an incident is about. */
export type IncidentClass = "outage" | "flapping" | "collector_silent" | "measurement_fault" | "parity" | "attack" | "delivery_fault";

/** A maintenance window that runs or is to come. */
export interface Maintenance {
  from: Time;
  id: string;
  /** Why, in the words of whoever planned it. */
  note: string | null;
  /** Empty means the whole site. */
  subjects: string[];
  until: Time;
  who: string;
}

/** What made a rule fire, in numbers. */
export interface Measured {
  /** The same before it. */
  base_threshold: number;
  /** The count, the number of distinct values, the sum, or the value. */
  observed: number;
  /** What had to be reached, after the reputation's factor. */
  threshold: number;
  /** 0 where the rule has no window. */
  window_ms: number;
}

/** What a log de-duplicates by: an observation's origin, or an event's id. At most 255 bytes. */
export type MessageId = string;

/** The newest alerts, in the order of their time. */
export interface NewAlerts {
  /** There were more than are told at once: whoever follows lacks some between what it holds and these. */
  cut: boolean;
  items: Alert[];
}

export interface Occupancy {
  current: number;
  frozen: boolean;
  /** False while no PC was probed lately: then who is present is not known. */
  measured: boolean;
  pcs: Pc[];
  percent: number;
  root: string | null;
  total: number;
}

export interface OccupancyCount {
  current: number;
  frozen: boolean;
  /** False while no PC was probed lately: then who is present is not known. */
  measured: boolean;
  percent: number;
  root: string | null;
  total: number;
}

/** An alert, and the incident that it belongs to where people are told of it. */
export interface OneAlert {
  at: Time;
  /** `Attack::id`. */
  attack: string;
  /** What cooldowns and attacks are told apart by, with `subject`: `port_scan`, say. */
  category: string;
  chain: Chain;
  /** Community ID v1 of the packet that made it fire. */
  community_id: string | null;
  destination: Endpoint;
  /** Further facts: (field, value), in the order of the field reference. */
  facts: [string, string][];
  /** Of its event. */
  id: string;
  incident: string | null;
  measured: Measured;
  /** One sentence for people. */
  message: string;
  /** Absent where the rule asks for none, and where no verdict was there. */
  reputation: Reputation | null;
  rule: RuleRef;
  seen_by: SeenBy;
  /** After the reputation's influence. */
  severity: Severity;
  source: Endpoint;
  /** `RuleState::Record`: stored, and nobody is told. */
  state: RuleState;
  /** What it is about: the values of the rule's subject fields, joined by a blank. */
  subject: string;
  /** `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, or a protocol's number. */
  transport: string;
}

/** What became of one probe. */
export type Outcome = "ok" | "timed_out" | "unreachable" | "refused" | "unexpected" | "fault";

/** Packets of one collector's incarnation, by their numbers. */
export interface PacketRanges {
  /** First and last of each, both included, in order; at most `PACKET_RANGES_MAX`. */
  ranges: [number, number][];
  /** How many packets counted; a range may hold others between them. */
  total: number;
}

export interface Pc {
  address: string;
  frozen: boolean;
  key: string;
  last_seen_at: Time | null;
  mac: string | null;
  name: string;
  present: boolean;
  seen_by: Signal[];
  session: string | null;
  since: Time | null;
}

/** One probe of one address by one signal. The runtime form of a row of `PingRound`. */
export interface PingRow {
  /** The address probed, as text. */
  address: string;
  /** When the probe was sent. */
  at: Time;
  /** Why, in a few words, for outcomes that need it and have no `PingRow::why`. */
  detail: string | null;
  /** The hardware address that the neighbour table held, lower case with colons. */
  mac: string | null;
  outcome: Outcome;
  /** The address that was asked, where the one probed is a name. */
  resolved?: string | null;
  /** Round-trip time; set for `Outcome::Ok` where the signal has one. */
  rtt_us: number | null;
  signal: Signal;
  /** The target's name, or `pc:<key>` for a PC of the occupancy area. */
  subject: string;
  /** Why, for `Outcome::Unexpected`. */
  why?: Why | null;
}

/** Where a projection stands: the last sequence of each stream that went into it. */
export interface Position {
  events: number;
  observations: number;
}

/** Why one probe of a target failed. */
export interface ProbeReason {
  /** As configured. */
  address: string;
  signal: Signal;
  why: Why;
}

/** An event as recorded, with its place in the stream. */
export interface RecordedEvent {
  /** As `schemas/json/event.json` describes it; `body` has one key, its kind. */
  event: Record<string, unknown>;
  kind: EventKind;
  sequence: number;
  stored_at: Time;
}

/** What an oracle had said when the rule fired. Without a verdict there is no reputation. */
export interface Reputation {
  /** False when the oracle was asked and knows nothing of the subject; the tier says nothing then. State is stored by position, so this field stays the last one. */
  known?: boolean;
  /** Engines that call it malicious, and the oracle's own score. */
  malicious: number;
  score: number;
  /** The address or name that was judged. */
  subject: string;
  tier: Tier;
}

/** Which rule fired, in which set. */
export interface RuleRef {
  /** `crate::rules::Rule::id`. */
  id: string;
  /** `crate::rules::Rule::name`. */
  name: string;
  /** The name of the set: `default`, `classic`, or that of a directory. */
  set: string;
  title: string;
  /** `crate::rules::Rule::version`. */
  version: number;
}

export type RuleState = "enforce" | "off" | "record";

/** The rules of a chain, as far as is known here. */
export interface RulesInForce {
  /** Where their activation was seen; else only the set is known, from the newest alert. */
  active: ActiveRules | null;
  chain: Chain;
  /** The name of their set. */
  set: string;
}

export interface Sample {
  at: Time;
  outcome: Outcome;
  rtt_us: number | null;
  target: string;
}

/** Who captured what a rule saw. */
export interface SeenBy {
  collector: string;
  incarnation: number;
  /** The interface, or the name of the file. */
  interface: string;
  /** None for a rule on other observations than packets. */
  packets: PacketRanges;
  /** The VLANs of what was seen, the outermost first; empty without a tag. The last field, because state is stored by position. */
  vlans?: number[];
}

/** A PC's presence from its first to its last moment. */
export interface Session {
  duration_ms: number | null;
  /** The first moment of absence. */
  ended_at: Time | null;
  /** `Session::derive_id`. */
  id: string;
  name: string;
  /** The PC's key: hardware or IP address. */
  pc: string;
  /** The first moment of presence, not of its confirmation. */
  started_at: Time;
  /** How much of it nobody measured. */
  unmeasured_ms: number;
}

export type Severity = "info" | "low" | "medium" | "high" | "critical";

/** A count for each severity: info, low, medium, high, critical. */
export type SeverityCounts = [number, number, number, number, number];

/** An attack as it stands. */
export interface ShownAttack {
  alerts: number;
  /** When its condition first held. */
  began_at: Time;
  category: string;
  chain: Chain;
  community_id: string | null;
  /** The destination of the last firing. */
  destination: Endpoint;
  ended_at: Time | null;
  /** The event that told of its latest change, and when that was. */
  event: string;
  /** `Attack::derive_id`; holds no software version. */
  id: string;
  /** The incident that it is, where people are told of it. */
  incident: string | null;
  /** When its condition last held. */
  last_at: Time;
  /** Packets, or rows, for which the condition held. */
  matches: number;
  message: string;
  /** The greatest measured, and when. */
  peak: Measured;
  peak_at: Time;
  reputation: Reputation | null;
  /** The rule that fired last. */
  rule: RuleRef;
  seen_by: SeenBy;
  /** The highest so far. */
  severity: Severity;
  source: Endpoint;
  state: RuleState;
  subject: string;
  told_at: Time;
  transport: string;
  /** Destinations, the first `VICTIMS_MAX` in the order in which they were hit. */
  victims: string[];
  /** How many destinations were told apart; a lower bound once it reaches the extractor's limit. */
  victims_total: number;
}

/** By what evidence an address was seen. */
export type Signal = "dns" | "tcp" | "https" | "echo" | "neighbour";

export interface Stage {
  age_ms: number | null;
  /** False for a part that the configuration does not switch on: it does nothing, and nothing is wrong. */
  configured: boolean;
  detail: string | null;
  head: number | null;
  lag: number | null;
  name: string;
  /** What it did last, where that is worth a line. */
  note?: string | null;
  ok: boolean;
  position: number | null;
}

/** The whole state as it is sent. */
export interface State {
  alert_totals: AlertTotals;
  /** The newest, newest first. */
  alerts: Alert[];
  attacks: ShownAttack[];
  explains: boolean;
  heatmap: Heatmap;
  incidents: Incident[];
  maintenance: Maintenance[];
  now: Time;
  occupancy: Occupancy;
  packets: boolean;
  read_only: boolean;
  rules: RulesInForce[];
  samples: Sample[];
  sessions: Session[];
  site: string;
  software: string;
  stages: Stage[];
  targets: Target[];
  time_zone: string;
}

/** What a stream of the log holds. */
export interface StreamHealth {
  bytes: number;
  damaged: number;
  first_sequence: number;
  last_sequence: number;
  last_stored_at: Time | null;
  name: string;
}

export type StreamMessage = { head: Position; position: Position; stale?: string | null; type: "catching_up" } | { position: Position; state: State; type: "snapshot" } | { now: Time; position: Position; type: "resumed" } | { changes: Change[]; now: Time; position: Position; type: "delta" } | { data: DataAge; now: Time; position: Position; type: "beat" };

/** What a question to an oracle is about. */
export type SubjectKind = "address" | "name";

/** The states of the one state machine that all subjects share. */
export type SubjectState = "up" | "down" | "unknown" | "suspect" | "suppressed" | "frozen";

export interface Target {
  addresses: AddressStatus[];
  addresses_down: string[];
  depends_on: string[];
  incident: string | null;
  jitter_us: number | null;
  last_measured_at: Time | null;
  /** Samples of the last 30 minutes without an answer from any address. */
  loss_permille: number | null;
  maintenance_until: Time | null;
  /** By a mute of its own. */
  muted_until: Time | null;
  name: string;
  quorum: number;
  root: string | null;
  rtt_p50_us: number | null;
  rtt_p95_us: number | null;
  rtt_us: number | null;
  since: Time | null;
  state: SubjectState;
  /** How much of the period was measured. */
  uptime_day_measured_ppm: number;
  /** Of the measured time. */
  uptime_day_ppm: number | null;
  uptime_month_measured_ppm: number;
  uptime_month_ppm: number | null;
}

/** What the open attacks amount to. */
export type Threat = "normal" | "moderate" | "elevated" | "high" | "critical" | "not_monitored";

/** How bad an outside oracle holds an address or name to be. */
export type Tier = "clean" | "low" | "medium" | "high" | "critical";

/** RFC 3339 in UTC; in MessagePack an integer of nanoseconds since 1970 */
export type Time = string;

/** Alerts of the last hour by minute, the oldest first. */
export interface Timeline {
  /** The first moment of the first minute. */
  from: Time;
  minutes: SeverityCounts[];
}

/** What an oracle said. */
export interface Verdict {
  at: Time;
  /** At most three. */
  categories: string[];
  country: string | null;
  /** Not to be believed after this. */
  expires_at: Time;
  harmless: number;
  kind: SubjectKind;
  /** False when the oracle knows nothing of it; the figures are 0 then. */
  known: boolean;
  /** How many engines call it so. */
  malicious: number;
  /** `virustotal`, say. */
  oracle: string;
  /** The owner of its network, or the registrar of its name. */
  owner: string | null;
  /** The oracle's own score; below 0 is bad. */
  score: number;
  subject: string;
  suspicious: number;
  undetected: number;
}

/** The reason of an unexpected answer. */
export type Why = { http_status: { got: number; redirected_to?: string | null; want: number } } | { text_missing: { is_cut: boolean; searched_bytes: number } } | { undecodable_body: { encoding: string } } | { certificate: CertificateProblem } | { dns_code: number } | "dns_empty" | "not_dns" | { protocol: { problem: string } };
