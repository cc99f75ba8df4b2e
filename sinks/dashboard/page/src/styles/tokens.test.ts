import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const css = readFileSync(new URL("./tokens.css", import.meta.url), "utf8");

function values(selector: string): Record<string, string> {
  const from = css.indexOf(`${selector} {`);
  const body = css.slice(css.indexOf("{", from) + 1, css.indexOf("}", from));
  return Object.fromEntries([...body.matchAll(/(--[\w-]+):\s*([^;]+);/g)].map((match) => [match[1] as string, match[2] as string]));
}

const light = values(":root");
const dark = { ...light, ...values(':root[data-theme="dark"]') };

function luminance(hex: string): number {
  const channels = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255);
  const [r, g, b] = channels.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

describe("tokens", () => {
  it("are the same dark ones by choice and by the system", () => {
    expect(values(':root:not([data-theme="light"])')).toEqual(values(':root[data-theme="dark"]'));
  });

  it("let every text be read (WCAG AA, 4.5 : 1)", () => {
    const tones = ["good", "bad", "warn", "held", "idle", "info"];
    for (const [theme, tokens] of Object.entries({ light, dark })) {
      const of = (name: string): string => tokens[`--${name}`] as string;
      const grounds = ["page", "surface", "sunken", "raised"];
      const pairs = [
        ...["text", "text-2", "text-3", "accent", ...tones].flatMap((text) => grounds.map((ground) => [text, ground])),
        ...tones.flatMap((tone) => [tone, "text", "text-2"].map((text) => [text, `${tone}-soft`])),
        ["accent", "accent-soft"],
        ["text-2", "hover"],
        ["text-3", "hover"],
        ["on-accent", "accent"],
      ] as [string, string][];
      for (const [text, ground] of pairs) {
        expect(contrast(of(text), of(ground)), `${theme}: ${text} on ${ground}`).toBeGreaterThanOrEqual(4.5);
      }
    }
  });
});
