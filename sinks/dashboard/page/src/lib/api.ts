// The shapes of the HTTP API and of the live stream, as the server sends them. Times are RFC 3339 in UTC,
// durations carry their unit in the name. `openapi.json` describes the same; a test holds the two together.

export type SubjectState = "unknown" | "up" | "suspect" | "down" | "suppressed" | "frozen";
export type Signal = "echo" | "neighbour" | "dns" | "tcp" | "https";
export type Outcome = "ok" | "timed_out" | "unreachable" | "refused" | "unexpected" | "fault";
export type Severity = "info" | "low" | "medium" | "high" | "critical";
export type IncidentClass = "outage" | "flapping" | "collector_silent" | "measurement_fault" | "parity" | "attack" | "delivery_fault";
export type RuleState = "enforce" | "record";
export type Chain = "site" | "packets";
export type Tier = "clean" | "low" | "medium" | "high" | "critical";
/** What the open attacks amount to; it falls as they end. `not_monitored`: nothing is open, and no packets are captured or judged. */
export type Threat = "not_monitored" | "normal" | "moderate" | "elevated" | "high" | "critical";
/** A count for each severity: info, low, medium, high, critical. */
export type SeverityCounts = [number, number, number, number, number];

/** Where a projection stands: the last sequence of each stream that went into it. */
export interface Position {
  events: number;
  observations: number;
}

export interface AddressStatus {
  address: string;
  signal: Signal;
  outcome: Outcome;
  rtt_us: number | null;
  at: string;
  detail: string | null;
}

export interface Target {
  name: string;
  state: SubjectState;
  /** The first moment of the state. */
  since: string | null;
  /** The ancestor to blame while suppressed or frozen. */
  root: string | null;
  depends_on: string[];
  quorum: number;
  addresses: AddressStatus[];
  addresses_down: string[];
  /** Of the latest round: the best answer. */
  rtt_us: number | null;
  /** Samples of the last 30 minutes without an answer from any address. */
  loss_permille: number | null;
  /** Over the last 60 minutes. */
  rtt_p50_us: number | null;
  rtt_p95_us: number | null;
  jitter_us: number | null;
  /** Of the measured time in the last 24 hours and 30 days, and how much of each was measured; in parts per million. */
  uptime_day_ppm: number | null;
  uptime_day_measured_ppm: number;
  uptime_month_ppm: number | null;
  uptime_month_measured_ppm: number;
  last_measured_at: string | null;
  /** By a mute of its own. */
  muted_until: string | null;
  maintenance_until: string | null;
  incident: string | null;
}

export interface Incident {
  id: string;
  class: IncidentClass;
  subject: string;
  severity: Severity;
  started_at: string;
  opened_at: string;
  ended_at: string | null;
  duration_ms: number | null;
  unmeasured_ms: number;
  late: boolean;
  acknowledged_by: string | null;
  acknowledged_at: string | null;
  reminders: number;
  suppressed: string[];
  close_reason: "recovered" | "removed" | "ended" | null;
  /** What was seen and why, in words. */
  detail: string | null;
  /** Of class `outage`: why probes got an unexpected answer, as data. */
  reasons?: { address: string; signal: string; why: unknown }[];
  /** Of class `attack`: the attack as it stood then. */
  attack?: Attack | null;
  /** Of class `attack` without `attack`: many attacks at once. */
  flood?: { category: string; title: string; of: string; subjects: string[]; subjects_total: number; attacks_total: number } | null;
  /** The event that told of its latest change. */
  event: string;
  /** What was said with the acknowledgement. */
  acknowledged_note: string | null;
  /** When a sink delivered the first message about it. */
  notified_at: string | null;
}

export interface Pc {
  key: string;
  name: string;
  address: string;
  mac: string | null;
  /** Confirmed presence; `frozen` means that it is held. */
  present: boolean;
  frozen: boolean;
  since: string | null;
  /** The signals that answered in the latest round. */
  seen_by: Signal[];
  last_seen_at: string | null;
  /** The session that runs, or the last one. */
  session: string | null;
}

export interface Occupancy {
  current: number;
  total: number;
  percent: number;
  frozen: boolean;
  root: string | null;
  /** False while no PC was probed lately: then who is present is not known. */
  measured: boolean;
  pcs: Pc[];
}

export interface Session {
  id: string;
  pc: string;
  name: string;
  started_at: string;
  ended_at: string | null;
  duration_ms: number | null;
  unmeasured_ms: number;
}

/** A maintenance window that runs or is to come. */
export interface Maintenance {
  id: string;
  /** Empty: the whole site. */
  subjects: string[];
  from: string;
  until: string;
  who: string;
  note: string | null;
}

/** How a stage of the pipeline advances. */
export interface Stage {
  /** `collector:ping`, `chain:site`, `sink:discord`, `dashboard` … */
  name: string;
  /** The last sequence dealt with, and the last one there is, where the stage reads a stream. */
  position: number | null;
  head: number | null;
  lag: number | null;
  /** How long ago it last advanced, and whether that is within its limit. */
  age_ms: number | null;
  ok: boolean;
  /** False for a part that the configuration does not switch on. */
  configured: boolean;
  detail: string | null;
  /** What it did last, where that is worth a line. */
  note?: string;
}

export interface Health {
  ok: boolean;
  now: string;
  software: string;
  site: string;
  started_at: string;
  stages: Stage[];
  streams: StreamHealth[];
}

/** What a stream of the log holds. */
export interface StreamHealth {
  name: string;
  first_sequence: number;
  last_sequence: number;
  last_stored_at: string | null;
  bytes: number;
  /** Records dropped since the log was opened because their checksum did not hold. */
  damaged: number;
}

/** One point of a target's history. */
export interface HistoryPoint {
  at: string;
  probes: number;
  answered: number;
  faults: number;
  min_us: number | null;
  p50_us: number | null;
  p95_us: number | null;
  p99_us: number | null;
  max_us: number | null;
  jitter_us: number | null;
  up_ms: number | null;
  down_ms: number | null;
  suppressed_ms: number | null;
  unmeasured_ms: number | null;
}

/** One result of one target, for the live chart. */
export interface Sample {
  target: string;
  at: string;
  outcome: Outcome;
  rtt_us: number | null;
}

/** Mean of PCs present by local weekday (0 = Monday) and hour, in thousandths; null where nothing is known. */
export interface Heatmap {
  time_zone: string;
  cells: (number | null)[][];
}

export interface RuleRef {
  id: string;
  name: string;
  title: string;
  version: number;
  /** The name of the set of rules. */
  set: string;
}

export interface Endpoint {
  ip: string | null;
  port: number | null;
  mac: string | null;
}

/** What made a rule fire, in numbers. */
export interface Measured {
  observed: number;
  /** After the reputation's factor, and before it. */
  threshold: number;
  base_threshold: number;
  /** 0 where the rule has no window. */
  window_ms: number;
}

/** What an oracle had said of an address or name. Without a verdict there is none. */
export interface Reputation {
  subject: string;
  tier: Tier;
  malicious: number;
  score: number;
  /** False when the oracle was asked and knows nothing of it. */
  known?: boolean;
}

export interface SeenBy {
  collector: string;
  incarnation: number;
  interface: string;
  packets: { ranges: [number, number][]; total: number };
}

/** One firing of a rule. */
export interface Alert {
  /** Of its event. */
  id: string;
  at: string;
  chain: Chain;
  rule: RuleRef;
  category: string;
  severity: Severity;
  state: RuleState;
  /** The attack that it belongs to. */
  attack: string;
  subject: string;
  source: Endpoint;
  destination: Endpoint;
  transport: string;
  community_id: string | null;
  measured: Measured;
  reputation: Reputation | null;
  seen_by: SeenBy;
  message: string;
  /** Further facts: field and value. */
  facts: [string, string][];
}

/** The alerts of one detection that are asked for, by the newest of them. */
export interface Detection {
  /** The attack that the alerts belong to, or the alert's own id. */
  detection: string;
  alerts: number;
  first_at: string;
  severity: Severity;
  latest: Alert;
}

/** A row of alerts about one subject. */
export interface Attack {
  id: string;
  rule: RuleRef;
  category: string;
  severity: Severity;
  state: RuleState;
  subject: string;
  source: Endpoint;
  destination: Endpoint;
  transport: string;
  community_id: string | null;
  began_at: string;
  last_at: string;
  ended_at: string | null;
  peak: Measured;
  peak_at: string;
  alerts: number;
  matches: number;
  /** The first 16 destinations, and how many there were. */
  victims: string[];
  victims_total: number;
  reputation: Reputation | null;
  seen_by: SeenBy;
  message: string;
}

export interface ShownAttack extends Attack {
  chain: Chain;
  /** The event that told of its latest change. */
  event: string;
  told_at: string;
  /** The incident that it is, where people are told of it. */
  incident: string | null;
}

/** Of enforced rules; what only records is counted apart. */
export interface AlertTotals {
  threat: Threat;
  /** Whether packets are captured and judged. */
  monitored: boolean;
  packets_at: string | null;
  severities: SeverityCounts;
  recorded: number;
  /** Most first, at most 50. */
  categories: { category: string; count: number }[];
  attacks_open: SeverityCounts;
  /** The last 60 minutes, the present one included. */
  timeline: { from: string; minutes: SeverityCounts[] };
}

/** The rules of a chain; their activation where it was seen. */
export interface RulesInForce {
  chain: Chain;
  set: string;
  active: { since: string; hash: string; enforced: number; recorded: number; off: number } | null;
}

/** Alerts in a state; where there are fewer, the server has no others. */
export const STATE_ALERTS_MAX = 100;
/** Closed incidents and ended sessions in a state; where there are fewer, the server has no others. */
export const STATE_CLOSED_MAX = 100;
export const STATE_ENDED_MAX = 200;

export interface State {
  site: string;
  time_zone: string;
  now: string;
  software: string;
  /** True when a recording is shown: nothing can be acknowledged or muted. */
  read_only: boolean;
  /** Whether incidents, sessions, alerts and attacks can be explained. */
  explains: boolean;
  /** Whether the packets of alerts can be had. */
  packets: boolean;
  targets: Target[];
  /** The open ones and the newest closed ones, newest first. */
  incidents: Incident[];
  occupancy: Occupancy;
  /** Running ones and the newest ended ones, newest first. */
  sessions: Session[];
  /** By when they begin. */
  maintenance: Maintenance[];
  heatmap: Heatmap;
  /** The last minutes of each target. */
  samples: Sample[];
  stages: Stage[];
  /** The newest, newest first. */
  alerts: Alert[];
  /** Open ones and the newest that ended, newest first. */
  attacks: ShownAttack[];
  alert_totals: AlertTotals;
  rules: RulesInForce[];
}

export type Change =
  | { target: Target }
  | { target_removed: string }
  | { incident: Incident }
  | { occupancy: Omit<Occupancy, "pcs"> }
  | { pc: Pc }
  | { pc_removed: string }
  | { session: Session }
  | { maintenance: Maintenance[] }
  | { heatmap: Heatmap }
  | { samples: Sample[] }
  /** In the order of their time; `cut` when there were more in between than are told. */
  | { alerts: { items: Alert[]; cut: boolean } }
  | { attack: ShownAttack }
  | { alert_totals: AlertTotals }
  | { rules: RulesInForce[] }
  | { stages: Stage[] };

/**
 * `GET /api/v1/stream` (WebSocket). The first message is `snapshot`, or `resumed` when `?after=<position.events>,
 * <position.observations>` could be served from the recent deltas. `beat` comes at least every 5 s. While the server still reads
 * what its log holds up to `head`, `catching_up` comes instead, and a `snapshot` follows.
 */
export type StreamMessage =
  | { type: "snapshot"; position: Position; state: State }
  | { type: "resumed"; position: Position; now: string }
  | { type: "delta"; position: Position; now: string; changes: Change[] }
  | { type: "beat"; position: Position; now: string; data: DataAge }
  | { type: "catching_up"; position: Position; head: Position; stale?: string };

/** How old what is shown is. */
export interface DataAge {
  /** Age of the newest record in the log; null before the first one and in a recording. */
  age_ms: number | null;
  /** Why what is shown is not the present; null while it is. */
  stale: string | null;
}

/** Every list: at most `limit` items and a cursor for the next page. */
export interface Page<T> {
  items: T[];
  next: string | null;
}

/** An event as recorded; `event.body` has one key, its kind. */
export interface RecordedEvent {
  sequence: number;
  stored_at: string;
  kind: string;
  event: { id: string; site: string; at: string; key: string; body: Record<string, unknown> };
}

/** What decided, and what was compared with it: a length that was reached, a count that was exceeded, or what a rule measured. */
export type Condition =
  | { setting: string; limit_ms: number; found_ms: number }
  | { setting: string; limit: number; found: number; within_ms: number }
  | (Measured & { rule: string });

export interface ExplainedEvent {
  at: string;
  kind: string;
  /** One key: `message`, the id of a record; or `timer`. */
  cause: Record<string, unknown>;
  condition?: Condition;
  event: unknown;
}

/** One answer of one address, or what came instead. */
export interface ProbeRow {
  subject: string;
  address: string;
  signal: Signal;
  at: string;
  outcome: Outcome;
  rtt_us: number | null;
  mac: string | null;
  detail: string | null;
}

export interface ExplainedRecord {
  sequence: number;
  stored_at: string;
  observed_at: string;
  id: string;
  kind: string;
  /** Of a ping round, what it says of the subject. */
  rows?: ProbeRow[];
  /** Of any other record, what it says. */
  body?: unknown;
}

/** Why an incident, a session, an alert or an attack came about, derived once more from the log. */
export interface Explanation {
  id: string;
  site: string;
  subject: string | null;
  steps: ExplainedEvent[];
  records: ExplainedRecord[];
  records_left_out: number;
  /** Of an alert, an attack, or the incident that one is. */
  rule?: { rule: RuleRef; category: string; state: RuleState; definition?: unknown };
  /** The packets that counted, the first 100 of them. */
  packets?: { collector: string; incarnation: number; interface: string; packets: ExplainedPacket[]; total: number; is_found: boolean };
  verdicts?: unknown[];
}

export interface ExplainedPacket {
  number: number;
  at: string;
  source: string | null;
  source_port: number | null;
  destination: string | null;
  destination_port: number | null;
  protocol: string;
  tcp_flags?: string;
  /** Bytes on the wire. */
  length: number;
  detail?: string;
}

/** The body of every 202 answer: the act is in the log under this message id. */
export interface Accepted {
  /** Of a maintenance window. */
  id?: string;
  observation: string;
}

/** The body of every error answer. */
export interface ApiError {
  error: { code: string; message: string };
}

// GET    /api/v1/state                         State
// GET    /api/v1/health                        Health
// GET    /api/v1/targets                       Page<Target>
// GET    /api/v1/targets/{name}/history?resolution=minute|hour|day&from=&to=&limit=&after=   Page<HistoryPoint>
// POST   /api/v1/targets/{name}/mute           { for_ms: number, note?: string }      202 Accepted
// DELETE /api/v1/targets/{name}/mute                                                 202 Accepted
// GET    /api/v1/incidents?state=open|closed&subject=&limit=&after=                  Page<Incident>
// GET    /api/v1/incidents.csv
// POST   /api/v1/incidents/{id}/ack            { note?: string }                     202 Accepted
// GET    /api/v1/incidents/{id}/explain        Explanation
// GET    /api/v1/maintenance?limit=&after=     Page<Maintenance>
// POST   /api/v1/maintenance                   { subjects: string[], from: string, until: string, note?: string } 202 Accepted
// DELETE /api/v1/maintenance/{id}                                                    202 Accepted
// GET    /api/v1/occupancy                     Occupancy
// GET    /api/v1/sessions?pc=&from=&to=&limit=&after=                                Page<Session>
// GET    /api/v1/sessions/{id}/explain         Explanation
// GET    /api/v1/alerts?severity=&category=&rule=&source=&destination=&state=&from=&to=&text=&attack=&limit=&after=   Page<Alert>
// GET    /api/v1/detections?                                                         the same filters, limit and after   Page<Detection>
// GET    /api/v1/alerts.csv, .json, .jsonl, .eve                                     the same filters
// GET    /api/v1/alerts/{id}                   Alert
// GET    /api/v1/alerts/{id}/explain           Explanation
// GET    /api/v1/alerts/{id}/packets.pcapng
// GET    /api/v1/attacks?state=open|ended&category=&limit=&after=                    Page<ShownAttack>
// GET    /api/v1/attacks/{id}                  ShownAttack
// GET    /api/v1/attacks/{id}/explain          Explanation
// GET    /api/v1/events?after=&limit=&kind=    Page<RecordedEvent>
// GET    /api/v1/openapi.json
// GET    /metrics                              Prometheus text
// GET    /livez, /readyz                       open; 200 or 503 with one word
