import { describe, expect, it } from "vitest";
import type { Page } from "../api";
import { older } from "./paging";

interface Entry {
  id: string;
}

const ALL = ["a", "b", "c", "d", "e"];
const ask = async (after: string | undefined): Promise<Page<Entry>> => {
  const from = after === undefined ? 0 : Number(after);
  const next = from + 2 < ALL.length ? String(from + 2) : null;
  return { items: ALL.slice(from, from + 2).map((id) => ({ id })), next };
};
const ids = (entries: readonly Entry[]): string => entries.map((entry) => entry.id).join("");

describe("paging", () => {
  it("passes over what is held and stops at the first page with news", async () => {
    const first = await older({ items: [], cursor: undefined }, new Set(["a", "b"]), ask);
    expect([ids(first.items), first.cursor]).toEqual(["cd", "4"]);
    const second = await older(first, new Set(["a", "b"]), ask);
    expect([ids(second.items), second.cursor]).toEqual(["cde", null]);
    expect(await older(second, new Set(), ask)).toEqual(second);
  });

  it("ends on an empty page, whatever its cursor says", async () => {
    const end = await older<Entry>({ items: [], cursor: undefined }, new Set(), async () => ({ items: [], next: "more" }));
    expect(end.cursor).toBeNull();
  });
});
