// Numbers as the page shows them. A missing one is an en dash, never a zero.

import { duration } from "./time";

export const NONE = "–";

/** A round trip: `0.82 ms`, `12.4 ms`, `184 ms`, `1.20 s`. */
export function rtt(us: number | null): string {
  if (us === null) return NONE;
  const ms = us / 1_000;
  if (ms >= 1_000) return `${(ms / 1_000).toFixed(2)} s`;
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

/** Thousandths as percent: `0 %`, `0.4 %`, `12 %`. */
export function loss(permille: number | null): string {
  if (permille === null) return NONE;
  const percent = permille / 10;
  return `${percent === 0 || percent >= 10 ? Math.round(percent) : percent.toFixed(1)} %`;
}

/** Uptime rounds down: what was not whole never reads as 100 %. */
export function uptime(ppm: number | null): string {
  if (ppm === null) return NONE;
  if (ppm >= 1_000_000) return "100 %";
  const digits = ppm >= 990_000 ? 3 : 2;
  const scale = 10 ** (digits - 2);
  return `${(Math.floor((ppm / 100) * scale) / (100 * scale)).toFixed(digits)} %`;
}

/** From this share on an uptime says something: a quarter of an hour of a day, seven hours of thirty days. */
const SAYS_PPM = 10_000;
/** From this share on a period counts as measured whole: a round or a restart is missing at most. */
const WHOLE_PPM = 990_000;

/** How much of a period was measured: in a few words where it was not whole, and in a sentence. */
export function coverage(measured_ppm: number, length_ms: number): { says: boolean; short: string; long: string } {
  const measured = duration((length_ms * measured_ppm) / 1_000_000);
  if (measured_ppm >= WHOLE_PPM) return { says: true, short: "", long: "The whole period was measured." };
  const long = measured_ppm === 0 ? "Nothing of it was measured." : `${measured} of it were measured.`;
  if (measured_ppm < SAYS_PPM) return { says: false, short: measured_ppm === 0 ? "not measured" : `only ${measured} measured`, long };
  return { says: true, short: `of the ${Math.floor(measured_ppm / 10_000)} % measured`, long };
}

export function count(value: number | null): string {
  return value === null ? NONE : value.toLocaleString("en-GB").replaceAll(",", "\u202f");
}

/** `812 B`, `4.2 KiB`, `1.3 GiB`. */
export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  const scaled = value / 1_024 ** power;
  return `${power === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[power]}`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}
