// The heat map's cells, made comparable: a level of 0 … 1 against the busiest hour. Pure.
import type { Heatmap } from "../api";

export const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"] as const;
export const HOURS = 24;

export interface Cell {
  /** Mean of PCs present; null where nothing is known. */
  mean: number | null;
  level: number;
}

export interface Heat {
  rows: { day: string; cells: Cell[] }[];
  top: number;
  known: boolean;
  busiest: { day: string; hour: number; mean: number } | null;
}

export function heatOf(map: Heatmap): Heat {
  const means = WEEKDAYS.map((_, day) =>
    Array.from({ length: HOURS }, (_, hour) => {
      const value = map.cells[day]?.[hour] ?? null;
      return value === null ? null : value / 1_000;
    }),
  );
  const known = means.flat().filter((mean) => mean !== null);
  const top = Math.max(0, ...known);
  const place = means.flat().findIndex((mean) => mean !== null && mean === top && top > 0);
  return {
    top,
    known: known.length > 0,
    busiest: place < 0 ? null : { day: WEEKDAYS[Math.floor(place / HOURS)] as string, hour: place % HOURS, mean: top },
    rows: WEEKDAYS.map((day, row) => ({
      day,
      cells: (means[row] as (number | null)[]).map((mean) => ({ mean, level: mean === null || top === 0 ? 0 : mean / top })),
    })),
  };
}

/** `18:00 to 19:00` */
export const hourSpan = (hour: number): string => `${clock(hour)} to ${clock((hour + 1) % HOURS)}`;

const clock = (hour: number): string => `${String(hour).padStart(2, "0")}:00`;
