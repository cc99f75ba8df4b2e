import { expect, it } from "vitest";
import type { Maintenance } from "../api";
import { subjectWords, windowProblem, windowsNow } from "./maintenance";

const window = (id: string, from: number, until: number): Maintenance => ({
  id,
  subjects: [],
  from: new Date(from).toISOString(),
  until: new Date(until).toISOString(),
  who: "owner",
  note: null,
});

it("shows what runs before what is to come, and nothing that is over", () => {
  const all = [window("over", 0, 100), window("later", 300, 400), window("now", 150, 300), window("ends", 100, 200)];
  const shown = windowsNow(all, 200).map(({ window, runs }) => `${window.id} ${runs}`);
  expect(shown).toEqual(["now true", "later false"]);
});

it("names the subjects", () => {
  expect(subjectWords([])).toBe("The whole site");
  expect(subjectWords(["router", "server"])).toBe("router, server");
});

it.each([
  [100, 200, 50, null],
  [100, 200, 150, null],
  [100, 100, 50, "It has to end after it begins."],
  [100, 200, 200, "It would be over already."],
  [Number.NaN, 200, 50, "Say when it begins and when it ends."],
  [0, 91 * 86_400_000, 50, "A window may last 90 days at most."],
])("a window from %d until %d, seen at %d", (from, until, now, problem) => {
  expect(windowProblem(from, until, now)).toBe(problem);
});
