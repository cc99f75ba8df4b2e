import { describe, expect, it } from "vitest";
import type { Alert, Detection, ShownAttack } from "../api";
import { groupsOf } from "./detections";

const at = (minute: number): string => new Date(Date.UTC(2026, 10, 20, 12, minute)).toISOString();
const alert = (id: string, attack: string, minute: number, severity: Alert["severity"] = "medium"): Alert => ({ id, attack, at: at(minute), severity }) as Alert;

describe("detections", () => {
  it("are one group each, however often they fire, in the order of their newest alerts", () => {
    const forty = Array.from({ length: 40 }, (_, n) => alert(`b${n}`, "brute", 59 - n));
    const groups = groupsOf([alert("s2", "scan", 60), ...forty, alert("s1", "scan", 3, "high")], [], true);
    expect(groups.map(({ id, count, severity, first_at }) => [id, count, severity, first_at])).toEqual([
      ["scan", 2, "high", at(3)],
      ["brute", 40, "medium", at(20)],
    ]);
    expect(groups[1]?.latest.id).toBe("b0");
    expect(groups[1]?.alerts).toHaveLength(40);
  });

  it("count what the server knows of beyond what is held, and keep what only the server has", () => {
    const attack = { id: "brute", alerts: 240, began_at: at(0) } as ShownAttack;
    const older: Detection[] = [
      { detection: "brute", alerts: 230, first_at: at(1), severity: "medium", latest: alert("b0", "brute", 30) },
      { detection: "old", alerts: 7, first_at: at(2), severity: "low", latest: alert("o", "old", 5) },
    ];
    const groups = groupsOf([alert("b0", "brute", 30)], [attack], false, older);
    expect(groups.map(({ id, count, first_at }) => [id, count, first_at])).toEqual([
      ["brute", 240, at(0)],
      ["old", 7, at(2)],
    ]);
  });

  it("have any name, also none", () => {
    const groups = groupsOf([alert("a", "toString", 3), alert("b", "", 2), alert("c", "", 1), alert("d", "__proto__", 0)], [], false);
    expect(groups.every((group) => group.isCut)).toBe(true);
    expect(groups.map((group) => [group.id, group.count])).toEqual([["toString", 1], ["b", 1], ["c", 1], ["__proto__", 1]]);
  });
});
