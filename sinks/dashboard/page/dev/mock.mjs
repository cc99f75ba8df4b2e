// A stand-in for the server while the page is worked on: the same API, invented data, the same security headers.
// `node dev/mock.mjs [--scene calm|cascade|degraded|empty|readonly|many|strange|attacked|flood] [--port 8099] [--refuse] [--catching-up]`. Serves `dist/` too.
// Loopback only, no login, nothing stored; no part of the product.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import { WebSocketServer } from "ws";
import { SCENES, advance, explanationOf, historyOf, scene } from "./scene.mjs";

const { values } = parseArgs({
  options: {
    scene: { type: "string", default: "cascade" },
    port: { type: "string", default: "8099" },
    refuse: { type: "boolean", default: false },
    "catching-up": { type: "boolean", default: false },
  },
});
if (!SCENES.includes(values.scene)) throw new Error(`--scene is one of ${SCENES.join(", ")}`);

const DIST = new URL("../dist/", import.meta.url).pathname;
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const CSP = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'";
const ROUND_MS = 2_000;
const BEAT_MS = 5_000;
const startedAt = Date.now() - 26 * 3_600_000;

const world = scene(values.scene, Date.now());
const position = { events: 88_213, observations: 1_204_551 };
const sockets = new WebSocketServer({ noServer: true });

const server = createServer((request, response) => {
  answer(request, response).catch((error) => json(response, 500, { error: { code: "internal", message: String(error) } }));
});
server.on("upgrade", (request, socket, head) => {
  const url = new URL(request.url, "http://mock");
  if (values.refuse || url.pathname !== "/api/v1/stream") return socket.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
  sockets.handleUpgrade(request, socket, head, (client) => greet(client, url.searchParams.get("after")));
});
server.listen(Number(values.port), "127.0.0.1", () => console.log(`http://127.0.0.1:${values.port}/ (${values.scene})`));

setInterval(() => {
  if (world.state.read_only || values["catching-up"]) return;
  position.observations += 5;
  tell(advance(world, Date.now()));
}, ROUND_MS);
setInterval(() => values["catching-up"] || send({ type: "beat", position, now: world.state.now, data: { age_ms: 0, stale: null } }), BEAT_MS);

function greet(client, after) {
  if (values["catching-up"]) return client.send(JSON.stringify({ type: "catching_up", position: { events: 70_000, observations: 1_000_000 }, head: position }));
  const resumes = after !== null && after.split(",").map(Number)[1] >= position.observations - 500;
  const now = world.state.now;
  client.send(JSON.stringify(resumes ? { type: "resumed", position, now } : { type: "snapshot", position, state: world.state }));
}

function send(message) {
  for (const client of sockets.clients) client.send(JSON.stringify(message));
}

function tell(changes) {
  send({ type: "delta", position, now: world.state.now, changes });
}

async function answer(request, response) {
  const url = new URL(request.url, "http://mock");
  const path = url.pathname;
  if (!path.startsWith("/api/")) return file(path, response);
  if (values.refuse) return json(response, 401, { error: { code: "unauthorised", message: "Open the link that Watchfold printed." } });
  const [, , , kind, name, act] = path.split("/").map(decodeURIComponent);
  const { state } = world;
  if (request.method !== "GET") return operate(request, response, kind, name, act);
  if (kind === "state") return json(response, 200, state);
  if (kind === "health") return json(response, 200, { ok: true, now: state.now, software: state.software, site: state.site, started_at: new Date(startedAt).toISOString(), stages: state.stages, streams: streams(state.now) });
  if (kind === "targets" && act === "history") {
    const [from, to] = ["from", "to"].map((key) => Date.parse(url.searchParams.get(key)));
    return page(response, historyOf(name, url.searchParams.get("resolution"), from, to, world.story, Date.now()), url);
  }
  if (act === "explain") {
    await new Promise((resolve) => setTimeout(resolve, name === "inc-000900-7f3a91c2" ? 60_000 : 300));
    if (name === "inc-000899-7f3a91c2") return json(response, 404, { error: { code: "not_derived", message: "the log no longer gives this: the records that caused it are older than what is kept, or this version judges them otherwise" } });
    return json(response, 200, explanationOf(kind, name, state));
  }
  if (kind === "incidents") {
    const wanted = url.searchParams.get("state");
    return page(response, state.incidents.filter((one) => !wanted || (wanted === "open") === (one.ended_at === null)), url);
  }
  if (kind === "alerts" && name === undefined) {
    return page(response, alertsAsked(state, url), url);
  }
  if (kind === "detections") {
    const found = new Map();
    for (const alert of alertsAsked(state, url)) {
      const known = found.get(alert.attack) ?? { detection: alert.attack, alerts: 0, severity: alert.severity, latest: alert };
      found.set(alert.attack, { ...known, alerts: known.alerts + 1, first_at: alert.at });
    }
    return page(response, [...found.values()], url);
  }
  if (kind === "incidents.csv") return json(response, 200, state.incidents);
  if (kind === "sessions") {
    const pc = url.searchParams.get("pc");
    return page(response, state.sessions.filter((one) => pc === null || one.pc === pc), url);
  }
  return json(response, 404, { error: { code: "not_found", message: `There is no ${path}.` } });
}

function alertsAsked(state, url) {
  const text = url.searchParams.get("text")?.toLowerCase();
  const attack = url.searchParams.get("attack");
  return state.alerts.filter((one) => (attack === null || one.attack === attack) && (!text || JSON.stringify(one).toLowerCase().includes(text)));
}

function streams(now) {
  const stream = (name, last_sequence, bytes, damaged = 0) => ({ name, first_sequence: 1, last_sequence, last_stored_at: now, bytes, damaged });
  return [stream("WF_OBS", position.observations, 412_884_992), stream("WF_EVT", position.events, 31_203_840), stream("WF_SNAP", 52, 2_097_152)];
}

async function operate(request, response, kind, name, act) {
  let body = "";
  for await (const chunk of request) body += chunk;
  const input = body === "" ? {} : JSON.parse(body);
  const { state } = world;
  response.writeHead(202).end();
  position.events += 1;
  if (kind === "incidents" && act === "ack") {
    const incident = state.incidents.find((one) => one.id === name);
    Object.assign(incident, { acknowledged_by: "operator", acknowledged_at: state.now, acknowledged_note: input.note ?? null });
    tell([{ incident }]);
  }
  if (kind === "maintenance") {
    if (request.method === "DELETE") state.maintenance = state.maintenance.filter((one) => one.id !== name);
    else state.maintenance.push({ id: String(position.events), who: "owner", note: input.note ?? null, subjects: input.subjects, from: input.from, until: input.until });
    tell([{ maintenance: state.maintenance }]);
  }
  if (kind === "targets" && act === "mute") {
    const target = state.targets.find((one) => one.name === name);
    target.muted_until = request.method === "DELETE" ? null : new Date(Date.now() + input.for_ms).toISOString();
    tell([{ target }]);
  }
}

function page(response, items, url) {
  const from = Number(url.searchParams.get("after") ?? 0);
  const limit = Number(url.searchParams.get("limit") ?? 100);
  const next = from + limit < items.length ? String(from + limit) : null;
  return json(response, 200, { items: items.slice(from, from + limit), next });
}

function json(response, status, body) {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" }).end(JSON.stringify(body));
}

async function file(path, response) {
  const wanted = join(DIST, normalize(path === "/" ? "/index.html" : path));
  try {
    const body = await readFile(wanted);
    response.writeHead(200, { "content-type": TYPES[extname(wanted)] ?? "application/octet-stream", "content-security-policy": CSP }).end(body);
  } catch {
    response.writeHead(404).end("not found");
  }
}
