// The page's tabs, in order. A new one is one line here and a folder beside this one.
import type { Component } from "svelte";
import type { Board } from "../lib/state/reduce";
import type { IconName } from "../ui/icons";
import AlertsTab from "../alerts/AlertsTab.svelte";
import { seen } from "../alerts/seen.svelte";
import NetworkTab from "../network/NetworkTab.svelte";
import OccupancyTab from "../occupancy/OccupancyTab.svelte";

/** More unseen alerts than this are many. */
const UNSEEN_SHOWN_MAX = 99;

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
    badge: ({ occupancy }) => (occupancy.total === 0 ? null : { text: `${occupancy.measured || occupancy.frozen ? occupancy.current : "?"}/${occupancy.total}`, bad: false }),
  },
  {
    id: "alerts",
    word: "Alerts",
    icon: "shield",
    component: AlertsTab,
    badge: (board) => {
      const unseen = seen.unseen(board.alert_totals);
      return unseen === 0 ? null : { text: unseen > UNSEEN_SHOWN_MAX ? `${UNSEEN_SHOWN_MAX}+` : String(unseen), bad: true };
    },
  },
];
