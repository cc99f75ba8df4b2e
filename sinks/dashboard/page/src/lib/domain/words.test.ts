import { describe, expect, it } from "vitest";
import type { IncidentClass, Outcome, Severity, Signal, SubjectState, Threat } from "../api";
import { conditionWords, recordWord, stepWord } from "./explain";
import { classWord, outcomeWord, severityLook, severityTone, signalWord, stateLook, threatLook } from "./words";

describe("words", () => {
  it("are found for names that every object inherits", () => {
    for (const name of ["toString", "constructor", "__proto__", "valueOf"]) {
      expect(stateLook(name as SubjectState).word).toBe("Unknown");
      for (const words of [classWord(name), stepWord(name), recordWord(name), signalWord(name as Signal), outcomeWord(name as Outcome)]) {
        expect(words, name).toBeTypeOf("string");
      }
      expect(threatLook(name as Threat).tone).toBe("warn");
      expect(severityTone(name as Severity)).toBe("warn");
      expect(severityLook(name as Severity).icon).toBe("alert");
      expect(classWord(name as IncidentClass).toLowerCase()).toContain(name.replaceAll("_", "").toLowerCase());
      expect(conditionWords("x", { setting: name, limit_ms: 1_000, found_ms: 2_000 })).toContain("the limit is 1 s");
    }
  });
});
