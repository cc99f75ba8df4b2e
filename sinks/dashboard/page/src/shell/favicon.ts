// The tab of the browser tells how the site stands: a mark in the state's colour, with the number of open incidents.
import type { Tone } from "../lib/domain/words";

const COLOURS: Record<Tone, string> = {
  good: "#2ba673",
  bad: "#d5383e",
  warn: "#d79a2b",
  held: "#6578ad",
  idle: "#6b7585",
  info: "#3f8fd0",
};

export function favicon(tone: Tone, open: number): string {
  const mark =
    open === 0
      ? '<path d="M6 10l5 12 5-9 5 9 5-12" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round" stroke-linejoin="round"/>'
      : `<text x="16" y="23" font-family="sans-serif" font-weight="700" font-size="20" fill="#fff" text-anchor="middle">${open > 9 ? "9+" : open}</text>`;
  const image = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="${COLOURS[tone]}"/>${mark}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(image)}`;
}
