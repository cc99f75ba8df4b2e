// Alerts and attacks in words and numbers, and which of them are asked for. Pure.
import type { Alert, AlertTotals, Attack, Endpoint, Measured, Reputation, SeverityCounts } from "../api";
import type { AlertQuery } from "../state/rest";
import { count } from "../format/quantity";
import { duration } from "../format/time";
import { SEVERITIES } from "./words";

export const total = (counts: SeverityCounts): number => counts.reduce((sum, one) => sum + one, 0);

/** How many there are of each severity or worse. */
export function atLeast(counts: SeverityCounts): SeverityCounts {
  return counts.map((_, from) => counts.slice(from).reduce((sum, one) => sum + one, 0)) as SeverityCounts;
}

/** As the server filters, for what the page holds already. */
export function matches(alert: Alert, query: AlertQuery): boolean {
  if (query.severity !== undefined && SEVERITIES.indexOf(alert.severity) < SEVERITIES.indexOf(query.severity)) return false;
  if (query.category !== undefined && alert.category !== query.category) return false;
  if (query.state !== undefined && alert.state !== query.state) return false;
  return query.text === undefined || mentions(alert, query.text.toLowerCase());
}

function mentions(alert: Alert, wanted: string): boolean {
  const ends = [alert.source, alert.destination].flatMap((end) => [end.ip, end.mac]);
  const { category, rule, subject, message, transport, seen_by, community_id } = alert;
  const texts = [category, rule.name, rule.title, subject, message, transport, seen_by.collector, seen_by.interface, community_id, ...ends, ...alert.facts.map(([, value]) => value)];
  return texts.some((text) => text !== null && text.toLowerCase().includes(wanted));
}

/** `203.0.113.9:40111`, `[2001:db8::1]:53`, a hardware address where there is no other; null for nobody. */
export function endpointWords(end: Endpoint): string | null {
  if (end.ip === null) return end.mac;
  if (end.port === null) return end.ip;
  return end.ip.includes(":") ? `[${end.ip}]:${end.port}` : `${end.ip}:${end.port}`;
}

/** `15 within 10 s; 4 are enough (15 without its reputation)` */
export function measuredWords(measured: Measured): string {
  if (measured.threshold === 1 && measured.window_ms === 0) return "once, which is enough";
  const within = measured.window_ms > 0 ? ` within ${duration(measured.window_ms)}` : "";
  const eased = measured.threshold !== measured.base_threshold ? `, ${count(measured.base_threshold)} without its reputation` : "";
  return `${count(measured.observed)}${within}; the limit is ${count(measured.threshold)}${eased}`;
}

/** What an oracle said of an address or name; that nobody asked is no good reputation. */
export function reputationWords(reputation: Reputation | null): string {
  if (reputation === null) return "not checked";
  if (reputation.known === false) return "checked: nothing is known of it";
  return `${reputation.tier}, called malicious by ${count(reputation.malicious)}, score ${reputation.score}`;
}

/** How long an attack lasted: to what it did last. That its condition then stayed absent is no part of it. */
export const lastedMs = (attack: Pick<Attack, "began_at" | "last_at">): number => Math.max(0, Date.parse(attack.last_at) - Date.parse(attack.began_at));

export const lastedWords = (attack: Pick<Attack, "began_at" | "last_at">): string => (lastedMs(attack) < 1_000 ? "< 1 s" : duration(lastedMs(attack)));

/** Why nothing found may say nothing; null while packets are captured and judged. */
export function unmonitoredWords(totals: Pick<AlertTotals, "monitored" | "packets_at">, now_ms: number): string | null {
  if (totals.monitored) return null;
  if (totals.packets_at === null) return "No packets are captured";
  const age_ms = now_ms - Date.parse(totals.packets_at);
  return age_ms > PACKETS_WITHIN_MS ? `No packets captured for ${duration(Math.floor(age_ms / 60_000) * 60_000)}` : "Packets are captured and not judged";
}

/** Packet numbers as people write them: `100–114, 120`. */
export function rangeWords(ranges: readonly [number, number][], shown = 8): string {
  const words = ranges.slice(0, shown).map(([first, last]) => (first === last ? String(first) : `${first}–${last}`));
  return words.join(", ") + (ranges.length > shown ? " …" : "");
}

export interface Bar {
  at_ms: number;
  counts: SeverityCounts;
  total: number;
}

const MINUTE_MS = 60_000;
/** As the server judges. */
const PACKETS_WITHIN_MS = 60_000;
const BARS = 60;

/** The hour that ends with the present minute, whatever the server told last: while it is quiet, bars move on and out. */
export function bars(timeline: AlertTotals["timeline"], now_ms: number): Bar[] {
  const told = new Map(timeline.minutes.map((counts, n) => [Date.parse(timeline.from) + n * MINUTE_MS, counts]));
  const last_ms = Math.floor(now_ms / MINUTE_MS) * MINUTE_MS;
  return Array.from({ length: BARS }, (_, n) => {
    const at_ms = last_ms - (BARS - 1 - n) * MINUTE_MS;
    const counts = told.get(at_ms) ?? [0, 0, 0, 0, 0];
    return { at_ms, counts, total: total(counts) };
  });
}
