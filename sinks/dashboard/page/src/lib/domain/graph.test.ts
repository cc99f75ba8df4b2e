import { describe, expect, it } from "vitest";
import type { Target } from "../api";
import { depths, isRootCause, layoutGraph } from "./graph";

const target = (name: string, ...depends_on: string[]): Target => ({ name, depends_on, state: "up", root: null }) as unknown as Target;
const CAFE = [target("router"), target("internet", "router"), target("server", "router"), target("api", "internet", "server")];

describe("graph", () => {
  it("puts every target one layer after the last of its parents", () => {
    expect([...depths(CAFE)]).toEqual([["router", 0], ["internet", 1], ["server", 1], ["api", 2]]);
  });

  it("lies in columns where there is room and in an indented list where there is not", () => {
    const wide = layoutGraph(CAFE, 900);
    expect(new Set(wide.nodes.map((node) => node.x)).size).toBe(3);
    const narrow = layoutGraph(CAFE, 340);
    expect(new Set(narrow.nodes.map((node) => node.y)).size).toBe(4);
    for (const layout of [wide, narrow]) {
      expect(layout.edges).toHaveLength(4);
      for (const node of layout.nodes) expect(node.x + node.width).toBeLessThanOrEqual(layout.width);
    }
  });

  it("survives cycles, unknown parents and nothing at all", () => {
    expect(layoutGraph([], 300).nodes).toEqual([]);
    const odd = [target("a", "b"), target("b", "a"), target("c", "gone"), target("d", "d")];
    for (const width of [200, 1_000]) {
      const layout = layoutGraph(odd, width);
      expect(layout.nodes.map((node) => node.target.name).sort()).toEqual(["a", "b", "c", "d"]);
    }
  });

  it("knows the root cause", () => {
    const router = { ...target("router"), state: "down" } as Target;
    const internet = { ...target("internet", "router"), state: "suppressed", root: "router" } as Target;
    expect([router, internet].map((one) => isRootCause(one, [router, internet]))).toEqual([true, false]);
  });
});
