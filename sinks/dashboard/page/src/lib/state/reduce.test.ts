import { describe, expect, it } from "vitest";
import type { Alert, AlertTotals, Change, Incident, Pc, Sample, Session, ShownAttack, State, StreamMessage, Target } from "../api";
import { ALERTS_MAX, ATTACKS_MAX, EMPTY_VIEW, INCIDENTS_MAX, SAMPLE_WINDOW_MS, SAMPLES_PER_TARGET_MAX, reduce, type View } from "./reduce";

const NOW = "2026-11-20T12:00:00Z";
const at = (offset_ms: number): string => new Date(Date.parse(NOW) + offset_ms).toISOString();

const target = (name: string, changes: Partial<Target> = {}): Target => ({
  name,
  state: "up",
  since: NOW,
  root: null,
  depends_on: [],
  quorum: 1,
  addresses: [],
  addresses_down: [],
  rtt_us: 900,
  loss_permille: 0,
  rtt_p50_us: 900,
  rtt_p95_us: 1200,
  jitter_us: 50,
  uptime_day_ppm: 1_000_000,
  uptime_day_measured_ppm: 1_000_000,
  uptime_month_ppm: 1_000_000,
  uptime_month_measured_ppm: 1_000_000,
  last_measured_at: NOW,
  muted_until: null,
  maintenance_until: null,
  incident: null,
  ...changes,
});

const incident = (id: string, started_at: string, changes: Partial<Incident> = {}): Incident => ({
  id,
  class: "outage",
  subject: "router",
  severity: "high",
  started_at,
  opened_at: started_at,
  ended_at: null,
  duration_ms: null,
  unmeasured_ms: 0,
  late: false,
  acknowledged_by: null,
  acknowledged_at: null,
  reminders: 0,
  suppressed: [],
  close_reason: null,
  detail: null,
  event: "e",
  acknowledged_note: null,
  notified_at: null,
  ...changes,
});

const session = (id: string, started_at: string): Session => ({
  id,
  pc: "pc-1",
  name: "PC 1",
  started_at,
  ended_at: null,
  duration_ms: null,
  unmeasured_ms: 0,
});

const pc = (key: string, present: boolean): Pc => ({
  key,
  name: key,
  address: "192.168.1.110",
  mac: null,
  present,
  frozen: false,
  since: NOW,
  seen_by: present ? ["echo"] : [],
  last_seen_at: NOW,
  session: null,
});

const sample = (name: string, at: string, outcome: Sample["outcome"] = "ok"): Sample => ({
  target: name,
  at,
  outcome,
  rtt_us: outcome === "ok" ? 1_000 : null,
});

const NOBODY = { ip: null, port: null, mac: null };
const FOUND = {
  rule: { id: "r", name: "port_scan", title: "Port scan", version: 1, set: "default" },
  category: "port_scan",
  severity: "high",
  state: "enforce",
  subject: "203.0.113.9",
  source: NOBODY,
  destination: NOBODY,
  transport: "tcp",
  community_id: null,
  reputation: null,
  seen_by: { collector: "capture-lan", incarnation: 1, interface: "eth0", packets: { ranges: [], total: 0 } },
  message: "",
  chain: "packets",
} as const;
const MEASURED = { observed: 15, threshold: 15, base_threshold: 15, window_ms: 10_000 };
const packets = () => ({ ...FOUND.seen_by, packets: { ranges: [], total: 0 } });
const alert = (id: string, offset_ms: number): Alert => ({ ...FOUND, seen_by: packets(), id, at: at(offset_ms), attack: "x", measured: MEASURED, facts: [] });
const attack = (id: string, offset_ms: number, ended_at: string | null = null): ShownAttack => ({
  ...FOUND,
  seen_by: packets(),
  id,
  began_at: at(offset_ms),
  last_at: NOW,
  ended_at,
  peak: MEASURED,
  peak_at: NOW,
  alerts: 1,
  matches: 15,
  victims: [],
  victims_total: 0,
  event: "e",
  told_at: NOW,
  incident: null,
});
const totals: AlertTotals = {
  threat: "normal",
  monitored: true,
  packets_at: NOW,
  severities: [0, 0, 0, 0, 0],
  recorded: 0,
  categories: [],
  attacks_open: [0, 0, 0, 0, 0],
  timeline: { from: NOW, minutes: [] },
};

const state = (changes: Partial<State> = {}): State => ({
  site: "cafe-1",
  time_zone: "Europe/Berlin",
  now: NOW,
  software: "0.1.0",
  read_only: false,
  explains: true,
  targets: [target("router"), target("internet")],
  incidents: [incident("a", at(-60_000))],
  occupancy: { current: 1, total: 2, percent: 50, frozen: false, root: null, measured: true, pcs: [pc("pc-1", true), pc("pc-2", false)] },
  sessions: [session("s1", at(-600_000))],
  maintenance: [],
  heatmap: { time_zone: "Europe/Berlin", cells: [] },
  samples: [sample("router", at(-4_000)), sample("router", at(-2_000))],
  stages: [],
  packets: false,
  alerts: [alert("a1", -2_000), alert("a2", -1_000)],
  attacks: [attack("k", -5_000)],
  alert_totals: totals,
  rules: [],
  ...changes,
});

const snapshot = (changes: Partial<State> = {}): StreamMessage => ({
  type: "snapshot",
  position: { events: 10, observations: 100 },
  state: state(changes),
});

const delta = (events: number, observations: number, ...changes: Change[]): StreamMessage => ({
  type: "delta",
  position: { events, observations },
  now: at(2_000),
  changes,
});

const folded = (...messages: StreamMessage[]): View => messages.reduce(reduce, EMPTY_VIEW);

describe("reduce", () => {
  it("takes a snapshot whole", () => {
    const view = folded(snapshot());
    expect(view.position).toEqual({ events: 10, observations: 100 });
    expect(view.board?.site).toBe("cafe-1");
    expect(view.samples.get("router")).toHaveLength(2);
    expect(view.now_ms).toBe(Date.parse(NOW));
  });

  it("forgets everything that an earlier snapshot held", () => {
    const view = folded(snapshot(), snapshot({ targets: [target("server")], samples: [], incidents: [] }));
    expect(view.board?.targets.map((one) => one.name)).toEqual(["server"]);
    expect(view.samples).toEqual(new Map());
    expect(view.board?.incidents).toEqual([]);
  });

  it("keeps what it shows while the server catches up, and says how far that is", () => {
    const position = { events: 5, observations: 75 };
    const catching: StreamMessage = { type: "catching_up", position, head: { events: 20, observations: 140 } };
    const view = folded(snapshot(), catching);
    expect(view.caught_up).toBe(0.5);
    expect(view.board?.site).toBe("cafe-1");
    expect(view.now_ms).toBe(Date.parse(NOW));
    expect(folded(snapshot(), catching, snapshot()).caught_up).toBeNull();
    const nothing = { events: 0, observations: 0 };
    expect(folded({ ...catching, position: nothing, head: nothing }).caught_up).toBe(0);
  });

  it("replaces the maintenance windows", () => {
    const window = { id: "w", subjects: [], from: at(0), until: at(60_000), who: "owner", note: null };
    expect(folded(snapshot(), delta(11, 100, { maintenance: [window] })).board?.maintenance).toEqual([window]);
  });

  it("ignores deltas before the first snapshot", () => {
    expect(folded(delta(1, 1, { target: target("router") }))).toEqual(EMPTY_VIEW);
  });

  it("replaces a target in its place and appends a new one", () => {
    const view = folded(snapshot(), delta(11, 101, { target: target("router", { state: "down" }) }, { target: target("nas") }));
    expect(view.board?.targets.map((one) => `${one.name} ${one.state}`)).toEqual(["router down", "internet up", "nas up"]);
  });

  it("takes targets of any name: what every object inherits is a name like any other", () => {
    for (const name of ["toString", "constructor", "__proto__", "hasOwnProperty"]) {
      const samples = [sample(name, at(-4_000)), sample("router", at(-4_000))];
      const view = folded(snapshot({ targets: [target(name), target("router")], samples }), delta(11, 101, { samples: [sample(name, at(-2_000))] }));
      expect(view.samples.get(name), name).toHaveLength(2);
      expect(view.samples.get("router"), name).toHaveLength(1);
      const without = reduce(view, delta(12, 102, { target_removed: name }));
      expect([...without.samples.keys()]).toEqual(["router"]);
      expect(without.board?.targets.map((one) => one.name)).toEqual(["router"]);
    }
  });

  it("removes a target with its samples", () => {
    const view = folded(snapshot(), delta(11, 101, { target_removed: "router" }));
    expect(view.board?.targets.map((one) => one.name)).toEqual(["internet"]);
    expect(view.samples.get("router")).toBeUndefined();
  });

  it("keeps incidents newest first, whatever order they come in", () => {
    const view = folded(
      snapshot(),
      delta(11, 101, { incident: incident("old", at(-900_000)) }, { incident: incident("new", at(-1_000)) }),
      delta(12, 102, { incident: incident("a", at(-60_000), { ended_at: NOW }) }),
    );
    expect(view.board?.incidents.map((one) => one.id)).toEqual(["new", "a", "old"]);
    expect(view.board?.incidents[1]?.ended_at).toBe(NOW);
  });

  it("changes the count without touching the PCs, and the PCs without touching the count", () => {
    const view = folded(
      snapshot(),
      delta(11, 101, { occupancy: { current: 2, total: 2, percent: 100, frozen: true, root: "router", measured: true } }),
      delta(12, 102, { pc: pc("pc-2", true) }, { pc_removed: "pc-1" }),
    );
    expect(view.board?.occupancy).toMatchObject({ current: 2, percent: 100, frozen: true, root: "router", measured: true });
    expect(view.board?.occupancy.pcs.map((one) => `${one.key} ${one.present}`)).toEqual(["pc-2 true"]);
  });

  it("inserts sessions newest first", () => {
    const view = folded(snapshot(), delta(11, 101, { session: session("s2", at(-5_000)) }));
    expect(view.board?.sessions.map((one) => one.id)).toEqual(["s2", "s1"]);
  });

  it("takes heat map and stages", () => {
    const stage = { name: "chain:site", position: 1, head: 1, lag: 0, age_ms: 5, ok: true, configured: true, detail: null };
    const view = folded(snapshot(), delta(10, 101, { heatmap: { time_zone: "UTC", cells: [[1]] } }, { stages: [stage] }));
    expect(view.board?.heatmap.time_zone).toBe("UTC");
    expect(view.board?.stages).toEqual([stage]);
  });

  it("leaves out a delta that is older than the view", () => {
    const once = folded(snapshot(), delta(12, 105, { target: target("router", { state: "down" }) }));
    const again = reduce(once, delta(12, 104, { target: target("router", { state: "up" }) }));
    expect(again).toBe(once);
  });

  it("applies the same delta twice with the same result", () => {
    const message = delta(12, 105, { incident: incident("b", at(-2)) }, { samples: [sample("router", at(1_000))] });
    const once = folded(snapshot(), message);
    expect(reduce(once, message)).toEqual(once);
  });

  it("keeps the position of the last delta on a beat or a resumption", () => {
    const view = folded(snapshot(), { type: "beat", position: { events: 99, observations: 999 }, now: at(5_000), data: { age_ms: 0, stale: null } });
    expect(view.position).toEqual({ events: 10, observations: 100 });
    expect(view.now_ms).toBe(Date.parse(at(5_000)));
    const resumed = reduce(view, { type: "resumed", position: { events: 12, observations: 120 }, now: at(6_000) });
    expect(resumed.board).toBe(view.board);
    expect(resumed.position).toEqual({ events: 10, observations: 100 });
  });

  it("puts late samples in their place, once, and drops those out of the window", () => {
    const view = folded(
      snapshot(),
      delta(10, 101, {
        samples: [
          sample("router", at(1_000), "timed_out"),
          sample("router", at(-3_000), "fault"),
          sample("router", at(-2_000), "refused"),
          sample("router", at(-SAMPLE_WINDOW_MS)),
        ],
      }),
    );
    expect(view.samples.get("router")?.map((one) => one.result)).toEqual(["answered", "fault", "lost", "lost"]);
  });

  it("bounds samples and incidents and counts what it left out", () => {
    const many = Array.from({ length: SAMPLES_PER_TARGET_MAX + 5 }, (_, i) => sample("router", at(-i * 100)));
    const closed = Array.from({ length: INCIDENTS_MAX }, (_, i) => incident(`c${i}`, at(i), { ended_at: at(i + 1) }));
    const view = folded(snapshot({ samples: many }), delta(11, 101, ...closed.map((one) => ({ incident: one }))));
    expect(view.samples.get("router")).toHaveLength(SAMPLES_PER_TARGET_MAX);
    expect(view.board?.incidents).toHaveLength(INCIDENTS_MAX);
    expect(view.board?.incidents.some((one) => one.id === "a")).toBe(true);
    expect(view.left_out).toBe(5 + 1);
  });

  it("puts new alerts on top, each once, and begins anew after a cut", () => {
    const news = (...items: Alert[]): Change => ({ alerts: { items, cut: false } });
    const ids = (view: View): string => (view.board?.alerts ?? []).map((one) => one.id).join(" ");
    const view = folded(snapshot(), delta(11, 101, news(alert("a3", 0), alert("a4", 500))), delta(12, 102, news(alert("a4", 500), alert("a0", -1_500))));
    expect(ids(view)).toBe("a4 a3 a2 a0 a1");
    expect(ids(reduce(view, delta(13, 103, { alerts: { items: [alert("b1", 1_000), alert("b2", 2_000)], cut: true } })))).toBe("b2 b1");
  });

  it("bounds alerts and attacks, and keeps the attacks that go on", () => {
    const many = Array.from({ length: ALERTS_MAX + 5 }, (_, i) => alert(`m${i}`, 1_000 + i));
    const ended = Array.from({ length: ATTACKS_MAX }, (_, i) => attack(`e${i}`, i, at(i + 1)));
    const view = folded(snapshot(), delta(11, 101, { alerts: { items: many, cut: false } }, ...ended.map((one) => ({ attack: one }))));
    expect(view.board?.alerts).toHaveLength(ALERTS_MAX);
    expect(view.board?.alerts[0]?.id).toBe(`m${ALERTS_MAX + 4}`);
    expect(view.board?.attacks).toHaveLength(ATTACKS_MAX);
    expect(view.board?.attacks.some((one) => one.id === "k")).toBe(true);
    expect(view.left_out).toBe(7 + 1);
  });

  it("takes the threat and the rules as they are told, and attacks as they change", () => {
    const view = folded(
      snapshot(),
      delta(11, 101, { alert_totals: { ...totals, threat: "critical" } }, { rules: [{ chain: "packets", set: "default", active: null }] }, { attack: attack("k", -5_000, NOW) }),
    );
    expect(view.board?.alert_totals.threat).toBe("critical");
    expect(view.board?.rules[0]?.set).toBe("default");
    expect(view.board?.attacks.map((one) => one.ended_at)).toEqual([NOW]);
  });

  it("never changes what it was given", () => {
    const view = folded(snapshot());
    const before = structuredClone(view);
    reduce(view, delta(11, 101, { pc_removed: "pc-1" }, { incident: incident("z", NOW) }, { samples: [sample("router", NOW)] }, { alerts: { items: [alert("z", 0)], cut: false } }, { attack: attack("z", 0) }));
    expect(view).toEqual(before);
  });

  it("passes over a change that it does not know", () => {
    const view = folded(snapshot());
    expect(reduce(view, delta(11, 101, { weather: "fine" } as unknown as Change)).board).toEqual(view.board);
  });
});
