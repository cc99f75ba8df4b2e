// Times in the site's zone and durations in words. Pure: the present is an argument.

const LOCALES = ["en-GB", "en-US", "en-AU", "en-CA", "en-IN", "en-NZ", "en-ZA"];
const cache = new Map<string, Intl.DateTimeFormat>();

/** `20 Nov 14:03:12`, with the year when it is not the present one. */
export function dateTime(at_ms: number, zone: string, now_ms: number = at_ms): string {
  const year = format(zone, "year", { year: "numeric" });
  const sameYear = year.format(at_ms) === year.format(now_ms);
  const day = format(zone, sameYear ? "day" : "dayYear", {
    day: "numeric",
    month: "short",
    ...(sameYear ? {} : { year: "numeric" }),
  });
  return `${day.format(at_ms)} ${clockTime(at_ms, zone)}`;
}

/** `14:03:12` */
export function clockTime(at_ms: number, zone: string): string {
  const options = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" } as const;
  return format(zone, "clock", options).format(at_ms);
}

/** What stands behind the second of a time as the API writes it, to the microsecond: `.097046`. */
export function fraction(at: string): string {
  const digits = /\.(\d+)Z$/.exec(at)?.[1] ?? "";
  return `.${digits.slice(0, 6).padEnd(6, "0")}`;
}

/** The short form people use for a day's list: `14:03` today, `19 Nov 14:03` otherwise. */
export function shortTime(at_ms: number, zone: string, now_ms: number): string {
  const minute = format(zone, "minute", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const day = format(zone, "day", { day: "numeric", month: "short" });
  const today = day.format(at_ms) === day.format(now_ms) && Math.abs(now_ms - at_ms) < 2 * DAY;
  return today ? minute.format(at_ms) : `${day.format(at_ms)} ${minute.format(at_ms)}`;
}

/** `CET`, `EST`, `JST` …; the plain offset where no English locale has a name for it. */
export function zoneName(at_ms: number, zone: string): string {
  let fallback = zone;
  for (const locale of LOCALES) {
    const parts = format(zone, `zone ${locale}`, { timeZoneName: "short" }, locale).formatToParts(at_ms);
    const name = parts.find((part) => part.type === "timeZoneName")?.value ?? zone;
    if (!/^(GMT|UTC)[+-]/.test(name)) return name;
    fallback = name;
  }
  return fallback;
}

/** With the zone, as tooltips show it: `20 Nov 2026 14:03:12 CET`. */
export function fullTime(at_ms: number, zone: string): string {
  return `${dateTime(at_ms, zone, at_ms - 400 * DAY)} ${zoneName(at_ms, zone)}`;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The two largest units: `9.9 s`, `42 s`, `4 min 12 s`, `2 h 5 min`, `3 d 4 h`. */
export function duration(length_ms: number): string {
  const length = Math.max(0, length_ms);
  if (length < 10 * SECOND && length % SECOND !== 0) return `${(Math.floor(length / 100) / 10).toFixed(1)} s`;
  if (length < MINUTE) return `${Math.floor(length / SECOND)} s`;
  if (length < HOUR) return pair(length, MINUTE, "min", SECOND, "s");
  if (length < DAY) return pair(length, HOUR, "h", MINUTE, "min");
  return pair(length, DAY, "d", HOUR, "h");
}

/** In whole seconds: for what ticks on the screen. */
export function ticking(length_ms: number): string {
  return duration(Math.floor(Math.max(0, length_ms) / SECOND) * SECOND);
}

/** `just now`, `42 s ago`, `4 min ago`, `3 d ago`. */
export function ago(at_ms: number, now_ms: number): string {
  const length = now_ms - at_ms;
  if (length < 2 * SECOND) return "just now";
  if (length < MINUTE) return `${Math.floor(length / SECOND)} s ago`;
  if (length < HOUR) return `${Math.floor(length / MINUTE)} min ago`;
  if (length < 2 * DAY) return `${Math.floor(length / HOUR)} h ago`;
  return `${Math.floor(length / DAY)} d ago`;
}

/** What `<input type="datetime-local">` holds, read as a wall clock in `zone`. NaN when it is not a time. */
export function zonedToUtc(local: string, zone: string): number {
  const asUtc = Date.parse(`${local}Z`);
  if (Number.isNaN(asUtc)) return Number.NaN;
  // Twice, because the offset at the first guess can lie on the other side of a clock change.
  let guess = asUtc - offset(asUtc, zone);
  guess = asUtc - offset(guess, zone);
  return guess;
}

/** The opposite: the wall clock in `zone`, to the minute. */
export function utcToZoned(at_ms: number, zone: string): string {
  return new Date(at_ms + offset(at_ms, zone)).toISOString().slice(0, 16);
}

function offset(at_ms: number, zone: string): number {
  const options = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" } as const;
  const parts = format(zone, "parts", { ...options, hourCycle: "h23" }, "en-US").formatToParts(at_ms);
  const value = (type: string): number => Number(parts.find((part) => part.type === type)?.value);
  const wall = Date.UTC(value("year"), value("month") - 1, value("day"), value("hour"), value("minute"), value("second"));
  return wall - Math.floor(at_ms / SECOND) * SECOND;
}

function pair(length: number, big: number, bigName: string, small: number, smallName: string): string {
  const rest = Math.floor((length % big) / small);
  return `${Math.floor(length / big)} ${bigName}${rest === 0 ? "" : ` ${rest} ${smallName}`}`;
}

/** Formatters are dear to make, and a zone that this browser does not know must not break the page: UTC then. */
function format(zone: string, name: string, options: Intl.DateTimeFormatOptions, locale = "en-GB"): Intl.DateTimeFormat {
  const key = `${zone} ${name}`;
  let made = cache.get(key);
  if (made === undefined) {
    try {
      made = new Intl.DateTimeFormat(locale, { ...options, timeZone: zone });
    } catch {
      made = new Intl.DateTimeFormat(locale, { ...options, timeZone: "UTC" });
    }
    cache.set(key, made);
  }
  return made;
}
