// The data of the mock server: a small café, believable and the same on every run. `scene(name, now)` makes the state;
// `advance` moves it on by one round. Development only; no part of the product.

import { alarm, alarmsOf, incidentOf } from "./alarms.mjs";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
export const SCENES = ["calm", "cascade", "degraded", "empty", "readonly", "many", "strange", "attacked", "flood"];

const iso = (ms) => new Date(ms).toISOString();
let seed = 42;
const random = () => ((seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31), seed / 2 ** 31);
const around = (middle, spread) => Math.round(middle * (1 + spread * (random() - 0.5)) + (random() < 0.03 ? middle * random() : 0));

const PLACES = [
  { name: "router", rtt: 780, depends_on: [], addresses: [["192.168.1.1", "echo"]] },
  { name: "server", rtt: 420, depends_on: ["router"], addresses: [["192.168.1.10", "echo"], ["192.168.1.10:445", "tcp"]] },
  { name: "internet", rtt: 11_800, depends_on: ["router"], addresses: [["1.1.1.1", "echo"], ["8.8.8.8", "echo"], ["1.1.1.1", "dns"], ["https://one.one.one.one", "https"]] },
  { name: "billing", rtt: 28_400, depends_on: ["internet"], addresses: [["billing.example.net:443", "https"]] },
];

/** Names are any text, also what every object of a script inherits. */
const FOREIGN = [
  ...PLACES,
  { name: "toString", rtt: 900, depends_on: ["router"], addresses: [["192.168.1.20", "echo"]] },
  { name: "__proto__", rtt: 950, depends_on: ["constructor"], addresses: [["192.168.1.21", "echo"]] },
  { name: "constructor", rtt: 950, depends_on: [], addresses: [["192.168.1.22", "echo"]] },
];

const MANY = [
  ...PLACES,
  { name: "switch-floor-2-east-wing-rack-07", rtt: 610, depends_on: ["router"], addresses: [["2001:db8:85a3:8d3:1319:8a2e:370:7348", "echo"]] },
  ...Array.from({ length: 6 }, (_, i) => ({ name: `ap-${i + 1}`, rtt: 1_400, depends_on: ["switch-floor-2-east-wing-rack-07"], addresses: [[`192.168.2.${i + 11}`, "echo"]] })),
];

export function scene(name, now) {
  seed = 42;
  const empty = name === "empty";
  const cascade = name === "cascade" || name === "readonly";
  const places = empty ? [] : name === "many" ? MANY : name === "strange" ? FOREIGN : PLACES;
  const downSince = now - 4 * MINUTE - 12 * SECOND;
  const story = { name, places, cascade, degraded: name === "degraded" || name === "many", downSince };
  const incidents = empty ? [] : incidentsOf(story, now);
  const pcs = empty ? [] : pcsOf(cascade, now);
  const state = {
    site: "cafe-1",
    time_zone: "Europe/Berlin",
    now: iso(now),
    software: "0.1.0",
    read_only: name === "readonly",
    explains: true,
    targets: places.map((place) => targetOf(place, story, now)),
    incidents,
    occupancy: { ...countOf(pcs), frozen: cascade, root: cascade ? "router" : null, measured: name !== "degraded", pcs },
    sessions: empty ? [] : sessionsOf(pcs, now),
    maintenance: empty ? [] : maintenanceOf(now),
    heatmap: { time_zone: "Europe/Berlin", cells: empty ? [] : heatOf() },
    samples: places.flatMap((place) => pastSamples(place, story, now)),
    stages: stagesOf(empty, name === "strange"),
    packets: true,
    ...alarmsOf(name, now),
  };
  for (const attack of state.attacks.filter((one) => one.incident !== null)) state.incidents.unshift(incidentOf(attack));
  return { story, state };
}

/** One round later: the changes that a server would send. */
export function advance({ story, state }, now) {
  state.now = iso(now);
  const samples = story.places.map((place) => sampleOf(place, story, now));
  state.targets = state.targets.map((target, i) => ({ ...targetOf(story.places[i], story, now), muted_until: target.muted_until }));
  state.samples = [...state.samples, ...samples].filter((sample) => Date.parse(sample.at) > now - 30 * MINUTE);
  for (const stage of state.stages) if (stage.position !== null) stage.position = stage.head = stage.head + 5;
  return [{ samples }, ...state.targets.map((target) => ({ target })), { stages: state.stages }, ...alarm(story, state, now)];
}

export function historyOf(target, resolution, from, to, story, now) {
  const step = { minute: MINUTE, hour: HOUR, day: DAY }[resolution];
  const place = story.places.find((one) => one.name === target);
  const points = [];
  for (let at = Math.floor(from / step) * step; at < Math.min(to, now); at += step) {
    const n = Math.floor(at / step);
    if (n % 97 === 13) continue; // Nothing was measured.
    const wave = 1 + 0.35 * Math.sin((at / DAY) * 2 * Math.PI) + 0.1 * Math.sin(n * 1.7);
    const down = n % 131 === 7 && target !== "server";
    const p50 = Math.round(place.rtt * wave);
    points.push({
      at: iso(at),
      probes: step / 2_000,
      answered: Math.round((step / 2_000) * (down ? 0.35 : n % 17 === 0 ? 0.97 : 1)),
      faults: 0,
      min_us: Math.round(p50 * 0.72),
      p50_us: p50,
      p95_us: Math.round(p50 * (1.5 + 0.4 * Math.abs(Math.sin(n)))),
      p99_us: Math.round(p50 * 2.2),
      max_us: Math.round(p50 * 3),
      jitter_us: Math.round(p50 * 0.06),
      up_ms: down ? step * 0.35 : step,
      down_ms: down ? step * 0.65 : 0,
      suppressed_ms: 0,
      unmeasured_ms: 0,
    });
  }
  return points;
}

/** Why an incident or a session came about, as far as the mock can tell. */
export function explanationOf(kind, id, state) {
  const row = (at, address, outcome, rtt_us) => ({ subject: "router", address, signal: "echo", at: iso(at), outcome, rtt_us, mac: null, detail: outcome === "ok" ? null : "no answer within 1 s" });
  const record = (n, at, kind, more) => ({ sequence: 1_204_551 + n, stored_at: iso(at + 40), observed_at: iso(at), id: `cafe-1/ping/7/${88_213 + n}`, kind, ...more });
  if (kind === "sessions") {
    const session = state.sessions.find((one) => one.id === id);
    const began = Date.parse(session.started_at);
    const held = (found_ms) => ({ setting: "occupancy.min_session", limit_ms: 180_000, found_ms });
    const steps = [{ at: iso(began + 180_000), kind: "session_started", cause: { timer: { timer: "occupancy/confirm", deadline: iso(began + 180_000) } }, condition: held(180_000), event: {} }];
    if (session.ended_at) steps.push({ at: iso(Date.parse(session.ended_at) + 180_000), kind: "session_ended", cause: { message: "cafe-1/ping/7/88213" }, condition: held(181_400), event: {} });
    return { id, site: state.site, subject: `pc:${session.pc}`, steps, records: [record(0, began, "ping_round", { rows: [row(began, "192.168.1.117", "ok", 640)] })], records_left_out: 0 };
  }
  if (kind === "alerts" || kind === "attacks") return foundOf(kind, id, state, record);
  const incident = state.incidents.find((one) => one.id === id);
  const began = Date.parse(incident.started_at);
  const condition = incident.class === "flapping" ? { setting: "network.flapping_count", limit: 3, found: 4, within_ms: 600_000 } : { setting: "network.min_incident", limit_ms: 10_000, found_ms: 10_000 };
  const steps = [{ at: incident.opened_at, kind: "incident_opened", cause: { timer: { timer: "incidents/open", deadline: incident.opened_at } }, condition, event: {} }];
  if (incident.acknowledged_at) steps.push({ at: incident.acknowledged_at, kind: "incident_acknowledged", cause: { message: "cafe-1/operator/7/1" }, event: {} });
  if (incident.ended_at) steps.push({ at: incident.ended_at, kind: "incident_closed", cause: { message: "cafe-1/ping/7/88233" }, event: {} });
  const records = Array.from({ length: 20 }, (_, n) => record(n, began + n * 2 * SECOND, "ping_round", { rows: [row(began + n * 2 * SECOND, "192.168.1.1", n === 19 && incident.ended_at ? "ok" : "timed_out", n === 19 && incident.ended_at ? 780 : null)] }));
  records.splice(2, 0, record(90, began + 3 * SECOND, "operator", { body: { operator: { at: iso(began), who: "owner", act: { acknowledge: { incident: id } }, note: "The cleaner pulled the plug" } } }));
  records.splice(4, 0, record(91, began + 5 * SECOND, "fault", { body: { fault: { at: iso(began), reason: "permission denied" } } }));
  return { id, site: state.site, subject: incident.subject, steps, records, records_left_out: 14 };
}

function foundOf(kind, id, state, record) {
  const found = state[kind].find((one) => one.id === id);
  const at = Date.parse(found.at ?? found.began_at);
  const measured = found.measured ?? found.peak;
  const condition = { rule: found.rule.name, ...measured };
  const packets = Array.from({ length: 40 }, (_, n) => ({ number: 100 + n, at: iso(at - 9_000 + n * 200), source: found.source.ip, source_port: found.source.port, destination: found.destination.ip, destination_port: 20 + n * 7, protocol: found.transport, tcp_flags: "SYN", length: 60 }));
  const steps = [{ at: iso(at), kind: kind === "alerts" ? "alert_raised" : "attack_began", cause: { packet: { collector: "capture-lan", incarnation: 7, packet: 114 } }, condition, event: {} }];
  return { id, site: state.site, subject: found.subject, steps, records: [record(0, at, "batch", { body: { batch: { first: 100, packets: 212 } } })], records_left_out: 0, rule: { rule: found.rule, category: found.category, state: found.state, definition: { trigger: { distinct: { field: "destination.port", window_ms: measured.window_ms, at_least: measured.base_threshold } } } }, packets: { ...found.seen_by, packets, total: 61, is_found: true } };
}

function maintenanceOf(now) {
  return [
    { id: "a1", subjects: ["billing"], from: iso(now - 20 * MINUTE), until: iso(now + 100 * MINUTE), who: "owner", note: "The provider replaces its line" },
    { id: "b2", subjects: [], from: iso(now + 3 * DAY), until: iso(now + 3 * DAY + 2 * HOUR), who: "owner", note: null },
  ];
}

const fails = (place, story, at) => story.cascade && at >= story.downSince && place !== undefined;

function sampleOf(place, story, at) {
  const lost = fails(place, story, at) || (place.name === "internet" && random() < 0.012);
  return { target: place.name, at: iso(at), outcome: lost ? "timed_out" : "ok", rtt_us: lost ? null : around(place.rtt, 0.3) };
}

function pastSamples(place, story, now) {
  const wobble = (at) => 1 + 0.25 * Math.sin(at / (4 * MINUTE)) ** 2;
  return Array.from({ length: 895 }, (_, i) => {
    const at = now - (895 - i) * 2 * SECOND;
    const sample = sampleOf(place, story, at);
    return { ...sample, rtt_us: sample.rtt_us === null ? null : Math.round(sample.rtt_us * wobble(at)) };
  });
}

function targetOf(place, story, now) {
  const failing = fails(place, story, now);
  const state = !failing ? "up" : place.name === "router" ? "down" : "suppressed";
  const lame = story.degraded && place.name === "internet" ? "8.8.8.8" : null;
  const addresses = place.addresses.map(([address, signal], i) => {
    const lost = failing || address === lame;
    return {
      address,
      signal,
      outcome: lost ? "timed_out" : "ok",
      rtt_us: lost ? null : around(place.rtt * (1 + i * 0.4), 0.2),
      at: iso(now),
      detail: lost ? "no answer within 1 s, nor to the retry 1 s later" : null,
    };
  });
  return {
    name: place.name,
    state,
    since: iso(failing ? story.downSince + (place.name === "router" ? 0 : 2 * SECOND) : now - 3 * DAY - 4 * HOUR - place.rtt * 100),
    root: state === "suppressed" ? "router" : null,
    depends_on: place.depends_on,
    quorum: 1,
    addresses,
    addresses_down: lame && !failing ? [lame] : failing ? [...new Set(place.addresses.map(([address]) => address))] : [],
    rtt_us: failing ? null : Math.min(...addresses.filter((one) => one.rtt_us !== null).map((one) => one.rtt_us)),
    loss_permille: failing ? 70 : place.name === "internet" ? 12 : 0,
    rtt_p50_us: place.rtt,
    rtt_p95_us: Math.round(place.rtt * 1.6),
    jitter_us: Math.round(place.rtt * 0.08),
    uptime_day_measured_ppm: place.name === "billing" ? 906_899 : 998_000,
    uptime_month_measured_ppm: place.name === "billing" ? 3 : 400_000,
    uptime_day_ppm: failing && place.name === "router" ? 997_083 : 999_612,
    uptime_month_ppm: place.name === "server" ? 1_000_000 : 999_871,
    last_measured_at: iso(now),
    muted_until: place.name === "billing" ? iso(now + 3 * HOUR) : null,
    maintenance_until: place.name === "server" ? iso(now + 2 * HOUR) : null,
    incident: failing && place.name === "router" ? "inc-open-1" : null,
  };
}

function incidentsOf(story, now) {
  const base = { severity: "high", unmeasured_ms: 0, late: false, acknowledged_by: null, acknowledged_at: null, acknowledged_note: null, notified_at: null, reminders: 0, suppressed: [], close_reason: null, detail: null };
  const closed = Array.from({ length: 24 }, (_, i) => {
    const started = now - (i + 1) * 9 * HOUR - i * i * 11 * MINUTE;
    const length = [62, 417, 19, 3_720, 141, 28][i % 6] * SECOND;
    return {
      ...base,
      id: `inc-${String(900 - i).padStart(6, "0")}-7f3a91c2`,
      class: i % 7 === 3 ? "flapping" : "outage",
      subject: ["internet", "router", "server", "billing"][i % 4],
      severity: i % 3 === 0 ? "medium" : "high",
      started_at: iso(started),
      opened_at: iso(started + (i === 2 ? length + HOUR : 10 * SECOND)),
      ended_at: iso(started + length),
      duration_ms: length,
      unmeasured_ms: i === 3 ? 95 * SECOND : 0,
      late: i === 2,
      acknowledged_by: i === 3 ? "maria" : null,
      acknowledged_at: i === 3 ? iso(started + 5 * MINUTE) : null,
      reminders: i === 3 ? 1 : 0,
      suppressed: i % 4 === 1 ? ["server", "internet", "billing"] : [],
      close_reason: "recovered",
      detail: i % 4 === 0 ? "1.1.1.1 and 8.8.8.8 did not answer; the router did." : null,
      event: `evt-${(0x5f2a91c + i * 977).toString(16)}`,
    };
  });
  const strange = { ...base, id: "inc-000950-77aa", class: "parity_mismatch", subject: "chain:site", severity: "medium", started_at: iso(now - 40 * MINUTE), opened_at: iso(now - 38 * MINUTE), ended_at: null, duration_ms: null, detail: "the hour from 07:00 folds to other events than were told; first at record 1204551", event: "evt-77" };
  if (story.name === "strange") return [strange, ...closed];
  if (!story.cascade) return closed;
  const open = {
    ...base,
    id: "inc-000901-04be77d0",
    class: "outage",
    subject: "router",
    severity: "critical",
    started_at: iso(story.downSince),
    opened_at: iso(story.downSince + 10 * SECOND),
    ended_at: null,
    duration_ms: null,
    suppressed: ["server", "internet", "billing"],
    detail: "192.168.1.1 does not answer.",
    event: "evt-9c01aa77",
  };
  return [open, ...closed];
}

function pcsOf(frozen, now) {
  return Array.from({ length: 20 }, (_, i) => {
    const present = ![2, 5, 6, 11, 13, 16, 18, 19].includes(i);
    const seen = frozen ? [] : i === 5 ? ["neighbour"] : i === 9 ? [] : present ? (i % 4 === 1 ? ["neighbour"] : ["echo", "neighbour"]) : [];
    return {
      key: `pc-${i + 1}`,
      name: i === 7 ? "Tournament stage, left" : `PC ${String(i + 1).padStart(2, "0")}`,
      address: `192.168.1.${110 + i}`,
      mac: present || i % 2 ? `3c:52:82:${(0x10 + i).toString(16)}:a4:${(0x80 + i * 3).toString(16)}` : null,
      present,
      frozen,
      since: iso(now - (present ? 17 + i * 13 : 40 + i * 21) * MINUTE),
      seen_by: seen,
      last_seen_at: iso(now - (present ? SECOND : (40 + i * 21) * MINUTE)),
      session: present ? `ses-run-${i}` : null,
    };
  });
}

function countOf(pcs) {
  const current = pcs.filter((pc) => pc.present).length;
  return { current, total: pcs.length, percent: pcs.length === 0 ? 0 : Math.floor((100 * current) / pcs.length) };
}

function sessionsOf(pcs, now) {
  const running = pcs.filter((pc) => pc.present).map((pc) => ({ id: pc.session, pc: pc.key, name: pc.name, started_at: pc.since, ended_at: null, duration_ms: null, unmeasured_ms: 0 }));
  const ended = Array.from({ length: 140 }, (_, i) => {
    const pc = pcs[(i * 7) % pcs.length];
    const length = (12 + ((i * 37) % 190)) * MINUTE;
    const end = now - (i + 1) * 21 * MINUTE;
    return { id: `ses-${9_000 - i}`, pc: pc.key, name: pc.name, started_at: iso(end - length), ended_at: iso(end), duration_ms: length, unmeasured_ms: i % 23 === 4 ? 252 * SECOND : 0 };
  });
  return [...running, ...ended];
}

function heatOf() {
  return Array.from({ length: 7 }, (_, day) =>
    Array.from({ length: 24 }, (_, hour) => {
      if (day === 6 && hour < 4) return null;
      const evening = Math.exp(-(((hour - 19.5) / 3.6) ** 2));
      const noon = 0.45 * Math.exp(-(((hour - 13) / 2.4) ** 2));
      const weekend = day >= 4 ? 1.35 : 1;
      return Math.round(Math.min(1, (evening + noon) * 0.62 * weekend) * 20_000 + 150 * random());
    }),
  );
}

function stagesOf(empty, strange) {
  const stage = (name, position, lag, age_ms, ok = true, detail = null) => ({ name, position, head: position === null ? null : position + (lag ?? 0), lag, age_ms, ok, configured: true, detail });
  return [
    stage("collector:ping", null, null, 640),
    stage("collector:clock", null, null, 410),
    stage("chain:site", 1_204_551, 0, 310),
    stage("dashboard", 88_213, 0, 120),
    ...(strange ? [stage("parity", 417, 0, 900, false, "the hour from 2026-11-20T07:00:00Z folds to other events than were told; the first that differs is record 1204551")] : []),
    ...(empty ? [] : [stage("sink:discord", 88_213, 0, 4_200), stage("sink:healthchecks", 88_213, 0, 21_500), { ...stage("sink:virustotal", 0, 0, 300), configured: false }]),
  ];
}
