// The page's tabs, in order. A new one is one line here and a folder beside this one.
import type { Component } from "svelte";
import type { Board } from "../lib/state/reduce";
import type { IconName } from "../ui/icons";
import NetworkTab from "../network/NetworkTab.svelte";
import OccupancyTab from "../occupancy/OccupancyTab.svelte";

export interface Tab {
  id: string;
  word: string;
  icon: IconName;
  component: Component;
  /** A small figure beside the word. */
  badge(board: Board): { text: string; bad: boolean } | null;
}

export const TABS: readonly [Tab, ...Tab[]] = [
  {
    id: "network",
    word: "Network",
    icon: "network",
    component: NetworkTab,
    badge: (board) => {
      const open = board.incidents.filter((incident) => incident.ended_at === null).length;
      return open === 0 ? null : { text: String(open), bad: true };
    },
  },
  {
    id: "occupancy",
    word: "Occupancy",
    icon: "monitor",
    component: OccupancyTab,
    badge: ({ occupancy }) => (occupancy.total === 0 ? null : { text: `${occupancy.current}/${occupancy.total}`, bad: false }),
  },
];
