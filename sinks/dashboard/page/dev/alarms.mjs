// The mock's alerts and attacks: a café that is scanned, brute-forced and robbed. Development only; no part of the product.

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const SEVERITIES = ["info", "low", "medium", "high", "critical"];
const iso = (ms) => new Date(ms).toISOString();
const end = (ip, port = null, mac = null) => ({ ip, port, mac });

const RULES = {
  port_scan: ["Port scan", "high", end("203.0.113.77", 51_224), end("192.168.1.10", 445), "tcp", "203.0.113.77", (n) => `203.0.113.77 tried ${n} ports of 192.168.1.10 that did not answer`, 15, 10_000],
  brute_force: ["Password guessing", "high", end("2001:db8:85a3:8d3:1319:8a2e:370:7348", 40_022), end("2001:db8:1::10", 22), "tcp", "2001:db8:85a3:8d3:1319:8a2e:370:7348 22", (n) => `2001:db8:85a3:8d3:1319:8a2e:370:7348 opened ${n} connections to port 22 that ended at once`, 30, 30_000],
  exfiltration: ["Large upload to outside", "critical", end("192.168.1.117", 55_012), end("198.51.100.23", 443), "tcp", "192.168.1.117 198.51.100.23", (n) => `192.168.1.117 sent ${n} bytes to 198.51.100.23`, 50_000_000, 60_000],
  dns_tunnel: ["DNS tunnel", "medium", end("192.168.1.121", 40_111), end("192.168.1.1", 53), "udp", "192.168.1.121", (n) => `192.168.1.121 asked for ${n} long names below <img src=x onerror=alert(1)>.example`, 50, 60_000],
  arp_change: ["A gateway's hardware address changed", "critical", end("192.168.1.1", null, "3c:52:82:10:a4:80"), end("192.168.1.117", null, null), "arp", "192.168.1.1", () => "192.168.1.1 is now at 3c:52:82:10:a4:80, before at 00:11:22:33:44:55", 1, 0],
  beacon: ["Regular connections to outside", "low", end("192.168.1.118", 51_000), end("198.51.100.99", 8_443), "tcp", "192.168.1.118", (n) => `192.168.1.118 connected ${n} times at equal distances`, 20, 3_600_000],
  new_neighbour: ["A device appeared", "info", end("192.168.1.140", null, "ac:de:48:00:11:22"), end(null), "arp", "192.168.1.140", () => "192.168.1.140 was never seen before", 1, 0],
};

function found(kind, n, at) {
  const [title, severity, source, destination, transport, subject, message, threshold, window_ms] = RULES[kind];
  const reputation = kind === "port_scan" ? { subject: "203.0.113.77", tier: "high", malicious: 5, score: -41 } : null;
  return {
    chain: "packets",
    rule: { id: `5f0c7d1e-0000-4000-8000-${kind}`, name: kind, title, version: 3, set: "default" },
    category: kind,
    severity,
    state: kind === "beacon" ? "record" : "enforce",
    subject,
    source,
    destination,
    transport,
    community_id: source.port === null ? null : "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
    reputation,
    seen_by: { collector: "capture-lan", incarnation: 7, interface: "enp3s0", packets: { ranges: [[at % 90_000, (at % 90_000) + 14], [(at % 90_000) + 20, (at % 90_000) + 20]], total: 16 } },
    message: message(n),
    measured: { observed: n, threshold: reputation ? Math.ceil(threshold / 4) : threshold, base_threshold: threshold, window_ms },
  };
}

let alerts_made = 0;
function alertOf(kind, n, at, attack) {
  const facts = kind === "dns_tunnel" ? [["dns.question.name", "mzxw6ytboi4dsmrrgi3tqojq.t1.<img src=x onerror=alert(1)>.example"]] : kind === "arp_change" ? [["neighbour.mac", "3c:52:82:10:a4:80"], ["neighbour.previous_mac", "00:11:22:33:44:55"]] : [];
  return { id: String(++alerts_made).padStart(32, "0"), at: iso(at), attack, facts, ...found(kind, n, at) };
}

function attackOf(kind, id, began, last, ended, n, alerts) {
  const { measured, ...shared } = found(kind, n, began);
  const victims = kind === "port_scan" ? ["192.168.1.10", "192.168.1.11", "192.168.1.12", "192.168.1.20", "192.168.1.21"] : shared.destination.ip ? [shared.destination.ip] : [];
  return { ...shared, id, began_at: iso(began), last_at: iso(last), ended_at: ended === null ? null : iso(ended), peak: measured, peak_at: iso(last - 30 * SECOND), alerts, matches: n * alerts, victims, victims_total: kind === "port_scan" ? 23 : victims.length, event: `evt-${id}`, told_at: iso(last), incident: shared.state === "enforce" ? `inc-${id}` : null };
}

export function incidentOf(attack) {
  const open = attack.ended_at === null;
  const { chain, event, told_at, incident, ...bare } = attack;
  return { id: incident, class: "attack", subject: `attack:${attack.category}:${attack.subject}`, severity: attack.severity, started_at: attack.began_at, opened_at: attack.began_at, ended_at: attack.ended_at, duration_ms: open ? null : Date.parse(attack.ended_at) - Date.parse(attack.began_at), unmeasured_ms: 0, late: false, acknowledged_by: null, acknowledged_at: null, acknowledged_note: null, notified_at: iso(Date.parse(attack.began_at) + 2 * SECOND), reminders: 0, suppressed: [], close_reason: open ? null : "ended", detail: attack.message, attack: bare, event };
}

export function alarmsOf(name, now) {
  if (name !== "attacked" && name !== "flood") return { alerts: [], attacks: [], alert_totals: totalsOf([], [], now, false), rules: [{ chain: "site", set: "default", active: { since: iso(now - 90 * MINUTE), hash: "9c01aa77", enforced: 2, recorded: 0, off: 1 } }] };
  const open = (kind, id, minutes, n, count) => attackOf(kind, id, now - minutes * MINUTE - 12 * SECOND, now, null, n, count);
  const attacks = [
    open("exfiltration", "0f1e2d3c4b5a6978", 2, 84_113_402, 8),
    open("port_scan", "1f1e2d3c4b5a6978", 4, 61, 16),
    open("brute_force", "2f1e2d3c4b5a6978", 11, 74, 44),
    open("beacon", "3f1e2d3c4b5a6978", 44, 44, 3),
    ...["dns_tunnel", "arp_change", "port_scan", "new_neighbour", "dns_tunnel", "brute_force", "beacon"].map((kind, i) => attackOf(kind, `4f1e2d3c4b5a69${70 + i}`, now - (70 + 37 * i) * MINUTE, now - (66 + 37 * i) * MINUTE, now - (65 + 37 * i) * MINUTE, 90, 12)),
  ];
  const kinds = Object.keys(RULES);
  const alerts = Array.from({ length: name === "flood" ? 400 : 90 }, (_, i) => {
    const kind = i < 3 ? ["exfiltration", "port_scan", "beacon"][i] : kinds[(i * 5 + (i % 3)) % kinds.length];
    return alertOf(kind, 15 + ((i * 31) % 90), now - (i * i * 0.011 + i * 0.22) * MINUTE - 3 * SECOND, (attacks.find((attack) => attack.category === kind) ?? attacks[0]).id);
  });
  const rules = [
    { chain: "site", set: "default", active: { since: iso(now - 90 * MINUTE), hash: "9c01aa77", enforced: 2, recorded: 1, off: 0 } },
    { chain: "packets", set: "default", active: null },
  ];
  return { alerts: alerts.slice(0, 100), attacks, alert_totals: totalsOf(alerts, attacks, now), rules };
}

function totalsOf(alerts, attacks, now, monitored = true) {
  const told = alerts.filter((alert) => alert.state === "enforce");
  const counted = (list) => SEVERITIES.map((severity) => list.filter((one) => one.severity === severity).length);
  const from = Math.floor(now / MINUTE) * MINUTE - 59 * MINUTE;
  const minutes = Array.from({ length: 60 }, (_, n) => counted(told.filter((alert) => Math.floor((Date.parse(alert.at) - from) / MINUTE) === n)));
  const categories = Object.keys(RULES).map((category) => ({ category, count: told.filter((alert) => alert.category === category).length })).filter((one) => one.count > 0).sort((a, b) => b.count - a.count);
  const attacks_open = counted(attacks.filter((attack) => attack.ended_at === null && attack.state === "enforce"));
  const threat = attacks_open[4] > 0 ? "critical" : attacks_open[3] > 5 ? "high" : attacks_open[3] > 0 ? "elevated" : attacks_open[2] > 0 ? "moderate" : monitored ? "normal" : "not_monitored";
  return { threat, monitored, packets_at: monitored ? iso(now) : null, severities: counted(told), recorded: alerts.length - told.length, categories, attacks_open, timeline: { from: iso(from), minutes } };
}

/** One more alert each few rounds. */
export function alarm({ name }, state, now) {
  if (name !== "attacked" && name !== "flood") return [];
  const kind = ["port_scan", "exfiltration", "dns_tunnel"][alerts_made % 3];
  const alert = alertOf(kind, 20 + (alerts_made % 50), now, (state.attacks.find((attack) => attack.category === kind) ?? state.attacks[0]).id);
  state.alerts = [alert, ...state.alerts];
  state.alert_totals = totalsOf(state.alerts, state.attacks, now);
  return [{ alerts: { items: [alert], cut: false } }, { alert_totals: state.alert_totals }];
}
