// The page's whole state as a pure fold over the stream's messages: `reduce(view, message)` gives the next view and never
// changes the one it was given. It reads no clock; `now_ms` is the server's, out of the messages.
import type { Alert, Change, Incident, Pc, Position, Sample, Session, ShownAttack, State, StreamMessage, Target } from "../api";

/** How much of the live samples is kept: what the live chart shows. */
export const SAMPLE_WINDOW_MS = 30 * 60_000;
/** Samples of one target at most: a round each 200 ms over the window. */
export const SAMPLES_PER_TARGET_MAX = 9_000;
/** Incidents held in the page at most; older closed ones come by REST. */
export const INCIDENTS_MAX = 500;
/** Sessions held in the page at most; older ended ones come by REST. */
export const SESSIONS_MAX = 500;

/** Alerts held in the page at most; older ones come by REST. */
export const ALERTS_MAX = 2_000;
/** Attacks held in the page at most; older ended ones come by REST. */
export const ATTACKS_MAX = 500;

export interface LiveSample {
  at_ms: number;
  /** `fault` says that nothing was measured: neither an answer nor a loss. */
  result: "answered" | "lost" | "fault";
  rtt_us: number | null;
}

export type Board = Omit<State, "samples" | "now">;

export interface View {
  position: Position | null;
  now_ms: number | null;
  board: Board | null;
  /** By the target's name, which is any text: `toString`, say. */
  samples: ReadonlyMap<string, readonly LiveSample[]>;
  /** How much of its log the server has read, of 1, while it still does; what is shown is older than that. */
  caught_up: number | null;
  /** How many entries the limits above have left out since the last snapshot. */
  left_out: number;
}

export const EMPTY_VIEW: View = { position: null, now_ms: null, board: null, samples: new Map(), caught_up: null, left_out: 0 };

export function reduce(view: View, message: StreamMessage): View {
  switch (message.type) {
    case "snapshot": {
      const { samples, now, ...board } = message.state;
      const now_ms = Date.parse(now);
      const fresh: View = { position: message.position, now_ms, board: ordered(board), samples: new Map(), caught_up: null, left_out: 0 };
      return withSamples(fresh, samples);
    }
    case "resumed":
    case "beat":
      // The position stays where the deltas have brought it: these two carry no change.
      return { ...view, caught_up: null, now_ms: Date.parse(message.now) };
    case "catching_up":
      return { ...view, caught_up: share(message.position, message.head) };
    case "delta":
      return applyDelta(view, message.position, Date.parse(message.now), message.changes);
  }
}

function share(position: Position, head: Position): number {
  const all = head.events + head.observations;
  return all === 0 ? 0 : Math.min(1, (position.events + position.observations) / all);
}

function applyDelta(view: View, position: Position, now_ms: number, changes: Change[]): View {
  if (view.board === null || view.position === null || isOlder(position, view.position)) return view;
  return changes.reduce<View>((next, change) => applyChange(next, change), { ...view, position, now_ms });
}

/** Neither stream is further and one is behind: a message that the view already contains. */
function isOlder(candidate: Position, held: Position): boolean {
  const further = candidate.events > held.events || candidate.observations > held.observations;
  const behind = candidate.events < held.events || candidate.observations < held.observations;
  return behind && !further;
}

function applyChange(view: View, change: Change): View {
  const board = view.board;
  if (board === null) return view;
  if ("samples" in change) return withSamples(view, change.samples);
  if ("incident" in change) return limited(view, "incidents", upsert(board.incidents, change.incident, byIncident), INCIDENTS_MAX, byIncident);
  if ("session" in change) return limited(view, "sessions", upsert(board.sessions, change.session, bySession), SESSIONS_MAX, bySession);
  if ("attack" in change) return limited(view, "attacks", upsert(board.attacks, change.attack, byAttack), ATTACKS_MAX, byAttack);
  if ("alerts" in change) return withAlerts(view, board, change.alerts.items, change.alerts.cut);
  if ("target_removed" in change) return withoutTarget(view, board, change.target_removed);
  return { ...view, board: changedBoard(board, change) };
}

function changedBoard(board: Board, change: Change): Board {
  if ("target" in change) return { ...board, targets: upsert(board.targets, change.target, byTarget) };
  if ("occupancy" in change) return { ...board, occupancy: { ...change.occupancy, pcs: board.occupancy.pcs } };
  if ("pc" in change) return withPcs(board, upsert(board.occupancy.pcs, change.pc, byPc));
  if ("pc_removed" in change) return withPcs(board, board.occupancy.pcs.filter((pc) => pc.key !== change.pc_removed));
  if ("heatmap" in change) return { ...board, heatmap: change.heatmap };
  if ("maintenance" in change) return { ...board, maintenance: change.maintenance };
  if ("stages" in change) return { ...board, stages: change.stages };
  if ("alert_totals" in change) return { ...board, alert_totals: change.alert_totals };
  if ("rules" in change) return { ...board, rules: change.rules };
  return board; // A newer server may send kinds that this page does not know.
}

function withPcs(board: Board, pcs: Pc[]): Board {
  return { ...board, occupancy: { ...board.occupancy, pcs } };
}

function withoutTarget(view: View, board: Board, name: string): View {
  const samples = new Map(view.samples);
  samples.delete(name);
  return { ...view, samples, board: { ...board, targets: board.targets.filter((target) => target.name !== name) } };
}

// ---- lists, keyed and ordered ----

interface Order<T> {
  key(item: T): string;
  /** Absent where the server's order is to be kept. */
  compare?(a: T, b: T): number;
  runs?(item: T): boolean;
}

const byTarget: Order<Target> = { key: (target) => target.name };
const byPc: Order<Pc> = { key: (pc) => pc.key };
const byIncident: Order<Incident> = {
  key: (incident) => incident.id,
  compare: (a, b) => newestFirst(a.started_at, b.started_at) || newestFirst(a.id, b.id),
  runs: (incident) => incident.ended_at === null,
};
const bySession: Order<Session> = {
  key: (session) => session.id,
  compare: (a, b) => newestFirst(a.started_at, b.started_at) || newestFirst(a.id, b.id),
  runs: (session) => session.ended_at === null,
};

const byAttack: Order<ShownAttack> = {
  key: (attack) => attack.id,
  compare: (a, b) => newestFirst(a.began_at, b.began_at) || newestFirst(a.id, b.id),
  runs: (attack) => attack.ended_at === null,
};
const byAlert = (a: Alert, b: Alert): number => newestFirst(a.at, b.at) || newestFirst(a.id, b.id);

function newestFirst(a: string, b: string): number {
  const difference = Date.parse(b) - Date.parse(a);
  return Number.isNaN(difference) ? (a < b ? 1 : a > b ? -1 : 0) : difference;
}

function upsert<T>(list: readonly T[], item: T, order: Order<T>): T[] {
  const key = order.key(item);
  const at = list.findIndex((held) => order.key(held) === key);
  const next = at < 0 ? [...list, item] : list.with(at, item);
  return order.compare ? next.sort(order.compare) : next;
}

function ordered(board: Board): Board {
  return {
    ...board,
    incidents: [...board.incidents].sort(byIncident.compare),
    sessions: [...board.sessions].sort(bySession.compare),
    alerts: [...board.alerts].sort(byAlert),
    attacks: [...board.attacks].sort(byAttack.compare),
  };
}

function limited<T>(view: View, list: "incidents" | "sessions" | "attacks", items: T[], max: number, order: Order<T>): View {
  const board = view.board as Board;
  const over = items.length - max;
  if (over <= 0) return { ...view, board: { ...board, [list]: items } };
  // What still runs is never left out: the oldest of the finished ones go.
  const gone = new Set(items.filter((item) => !order.runs?.(item)).slice(-over));
  const kept = items.filter((item) => !gone.has(item));
  return { ...view, left_out: view.left_out + gone.size, board: { ...board, [list]: kept } };
}

/** News go in at the top, where nearly all belong. After a cut what is held would have a hole: it is fetched again when asked for. */
function withAlerts(view: View, board: Board, news: readonly Alert[], cut: boolean): View {
  const alerts = cut ? [] : [...board.alerts];
  const known = new Set(alerts.map((alert) => alert.id));
  for (const alert of news) {
    if (known.has(alert.id)) continue;
    let place = 0;
    while (place < alerts.length && byAlert(alerts[place] as Alert, alert) < 0) place += 1;
    alerts.splice(place, 0, alert);
  }
  const over = Math.max(0, alerts.length - ALERTS_MAX);
  return { ...view, left_out: view.left_out + over, board: { ...board, alerts: alerts.slice(0, ALERTS_MAX) } };
}

// ---- samples ----

function withSamples(view: View, incoming: readonly Sample[]): View {
  const byName = new Map<string, Sample[]>();
  for (const sample of incoming) {
    const group = byName.get(sample.target);
    if (group) group.push(sample);
    else byName.set(sample.target, [sample]);
  }
  const samples = new Map(view.samples);
  let left_out = view.left_out;
  const oldest = (view.now_ms ?? 0) - SAMPLE_WINDOW_MS;
  for (const [name, news] of byName) {
    const merged = mergeSamples(samples.get(name) ?? [], news.map(liveSample), oldest);
    const over = Math.max(0, merged.length - SAMPLES_PER_TARGET_MAX);
    samples.set(name, over > 0 ? merged.slice(over) : merged);
    left_out += over;
  }
  return { ...view, samples, left_out };
}

function liveSample(sample: Sample): LiveSample {
  const result = sample.outcome === "ok" ? "answered" : sample.outcome === "fault" ? "fault" : "lost";
  return { at_ms: Date.parse(sample.at), result, rtt_us: result === "answered" ? sample.rtt_us : null };
}

/** In time order, one per instant (the later telling wins), nothing older than `oldest_ms`. */
function mergeSamples(held: readonly LiveSample[], news: readonly LiveSample[], oldest_ms: number): LiveSample[] {
  const start = held.findIndex((sample) => sample.at_ms >= oldest_ms);
  const merged = start < 0 ? [] : held.slice(start);
  for (const sample of news) {
    if (Number.isNaN(sample.at_ms) || sample.at_ms < oldest_ms) continue;
    let place = merged.length;
    while (place > 0 && (merged[place - 1] as LiveSample).at_ms > sample.at_ms) place -= 1;
    const twin = merged[place - 1];
    if (twin && twin.at_ms === sample.at_ms) merged[place - 1] = sample;
    else merged.splice(place, 0, sample);
  }
  return merged;
}
