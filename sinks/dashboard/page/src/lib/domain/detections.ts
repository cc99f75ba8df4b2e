// The alerts by the detection that they belong to: one that repeats for an hour is one thing that happens. Pure.
import type { Alert, Detection, Severity, ShownAttack } from "../api";
import { SEVERITIES } from "./words";

export interface Group {
  /** The detection's id, or the alert's where it has none. */
  id: string;
  latest: Alert;
  /** Those that the page holds, newest first. */
  alerts: readonly Alert[];
  /** How many there were; more than are held, where the server counted them. */
  count: number;
  /** There may be more than are counted: older alerts are not held, and the server has not counted them. */
  isCut: boolean;
  first_at: string;
  /** The worst of them. */
  severity: Severity;
}

/**
 * Groups in the order of their newest alerts. `attacks` know of alerts that are not held; give none where these are narrowed.
 * `isWhole`: the server has no older alerts than are given.
 */
export function groupsOf(alerts: readonly Alert[], attacks: readonly ShownAttack[], isWhole: boolean, older: readonly Detection[] = []): Group[] {
  const byDetection = new Map<string, Alert[]>();
  for (const alert of alerts) {
    const id = detectionOf(alert);
    const group = byDetection.get(id);
    if (group) group.push(alert);
    else byDetection.set(id, [alert]);
  }
  const known = new Map(attacks.map((attack) => [attack.id, attack]));
  const told = new Map(older.map((one) => [one.detection, one]));
  const held = [...byDetection].map(([id, members]): Group => {
    const latest = members[0] as Alert;
    const first = members.at(-1) as Alert;
    const attack = known.get(id);
    const other = told.get(id);
    return {
      id,
      latest,
      alerts: members,
      isCut: !isWhole && attack === undefined && other === undefined,
      count: Math.max(members.length, attack?.alerts ?? 0, other?.alerts ?? 0),
      first_at: [first.at, attack?.began_at, other?.first_at].reduce<string>((least, at) => (at !== undefined && Date.parse(at) < Date.parse(least) ? at : least), first.at),
      severity: members.reduce((worst, one) => worse(worst, one.severity), latest.severity),
    };
  });
  const rest = older.filter((one) => !byDetection.has(one.detection));
  return [...held, ...rest.map((one): Group => ({ id: one.detection, latest: one.latest, alerts: [one.latest], count: one.alerts, isCut: false, first_at: one.first_at, severity: one.severity }))];
}

export const detectionOf = (alert: Alert): string => (alert.attack === "" ? alert.id : alert.attack);

const worse = (a: Severity, b: Severity): Severity => (SEVERITIES.indexOf(b) > SEVERITIES.indexOf(a) ? b : a);
