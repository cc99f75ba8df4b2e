// The dependency graph as places on a plane: layers from left to right where there is room, an indented list where there
// is not. Pure geometry; cycles and unknown parents (a configuration may be half loaded) do not break it.
import type { Target } from "../api";

export interface Placed {
  target: Target;
  x: number;
  y: number;
  width: number;
}

export interface Edge {
  from: string;
  to: string;
  path: string;
}

export interface Layout {
  width: number;
  height: number;
  nodes: Placed[];
  edges: Edge[];
}

export const NODE_HEIGHT = 56;
const NODE_WIDTH_MIN = 148;
const NODE_WIDTH_MAX = 240;
const COLUMN_GAP = 48;
const ROW_GAP = 16;
const INDENT = 24;

export function layoutGraph(targets: readonly Target[], width: number): Layout {
  const depth = depths(targets);
  const columns = Math.max(0, ...depth.values()) + 1;
  const room = (width - COLUMN_GAP * (columns - 1)) / columns;
  return room >= NODE_WIDTH_MIN || columns === 1
    ? layered(targets, depth, width, Math.min(NODE_WIDTH_MAX, room))
    : indented(targets, depth, width);
}

/** The longest way from a root; a target in a cycle counts as a root where the cycle is entered. */
export function depths(targets: readonly Target[]): Map<string, number> {
  const byName = new Map(targets.map((target) => [target.name, target]));
  const known = new Map<string, number>();
  const visit = (name: string, path: Set<string>): number => {
    const held = known.get(name);
    if (held !== undefined) return held;
    path.add(name);
    const parents = (byName.get(name)?.depends_on ?? []).filter((parent) => byName.has(parent) && !path.has(parent));
    const depth = parents.length === 0 ? 0 : Math.max(...parents.map((parent) => visit(parent, path))) + 1;
    path.delete(name);
    known.set(name, depth);
    return depth;
  };
  for (const target of targets) visit(target.name, new Set());
  return known;
}

function layered(targets: readonly Target[], depth: Map<string, number>, width: number, nodeWidth: number): Layout {
  const columns: Target[][] = [];
  for (const target of targets) (columns[depth.get(target.name) ?? 0] ??= []).push(target);
  const rows = Math.max(0, ...columns.map((column) => column.length));
  const height = Math.max(NODE_HEIGHT, rows * (NODE_HEIGHT + ROW_GAP) - ROW_GAP);
  const gap = columns.length > 1 ? Math.min(COLUMN_GAP * 2.5, (width - nodeWidth * columns.length) / (columns.length - 1)) : 0;
  const used = nodeWidth * columns.length + gap * (columns.length - 1);
  const left = Math.max(0, (width - used) / 2);
  const nodes = columns.flatMap((column, x) => {
    const taken = column.length * (NODE_HEIGHT + ROW_GAP) - ROW_GAP;
    const top = (height - taken) / 2;
    return column.map((target, y) => ({
      target,
      x: left + x * (nodeWidth + gap),
      y: top + y * (NODE_HEIGHT + ROW_GAP),
      width: nodeWidth,
    }));
  });
  return { width, height, nodes, edges: edges(nodes, sideways) };
}

function indented(targets: readonly Target[], depth: Map<string, number>, width: number): Layout {
  const inOrder = depthFirst(targets);
  const nodes = inOrder.map((target, row) => {
    const x = Math.min((depth.get(target.name) ?? 0) * INDENT, width / 2);
    return { target, x, y: row * (NODE_HEIGHT + ROW_GAP), width: width - x };
  });
  return { width, height: Math.max(0, nodes.length * (NODE_HEIGHT + ROW_GAP) - ROW_GAP), nodes, edges: edges(nodes, elbow) };
}

/** Each target once, below the first of its parents. */
function depthFirst(targets: readonly Target[]): Target[] {
  const names = new Set(targets.map((target) => target.name));
  const seen = new Set<string>();
  const ordered: Target[] = [];
  const visit = (target: Target): void => {
    if (seen.has(target.name)) return;
    seen.add(target.name);
    ordered.push(target);
    for (const child of targets) if (child.depends_on[0] === target.name) visit(child);
  };
  for (const target of targets) if (!target.depends_on.some((parent) => names.has(parent))) visit(target);
  for (const target of targets) visit(target);
  return ordered;
}

function edges(nodes: Placed[], draw: (parent: Placed, child: Placed) => string): Edge[] {
  const byName = new Map(nodes.map((node) => [node.target.name, node]));
  return nodes.flatMap((child) =>
    child.target.depends_on.flatMap((name) => {
      const parent = byName.get(name);
      return parent === undefined || parent === child ? [] : [{ from: name, to: child.target.name, path: draw(parent, child) }];
    }),
  );
}

function sideways(parent: Placed, child: Placed): string {
  const [x1, y1] = [parent.x + parent.width, parent.y + NODE_HEIGHT / 2];
  const [x2, y2] = [child.x, child.y + NODE_HEIGHT / 2];
  const bend = (x2 - x1) / 2;
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

function elbow(parent: Placed, child: Placed): string {
  const x = parent.x + INDENT / 2;
  const y = child.y + NODE_HEIGHT / 2;
  const r = 6;
  return `M${x} ${parent.y + NODE_HEIGHT}V${y - r}Q${x} ${y} ${x + r} ${y}H${child.x}`;
}

/** Down, and nobody above it is: the one to look at first. */
export function isRootCause(target: Target, targets: readonly Target[]): boolean {
  return target.state === "down" || targets.some((other) => other.state === "suppressed" && other.root === target.name);
}
