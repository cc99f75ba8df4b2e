// Looking up names that came from elsewhere. A plain object answers to `constructor` and `toString` too, which are names
// like any other: what is keyed by foreign names is a Map, and a table of ours is asked for its own entries only.

/** Returns the table's own entry for a key, or undefined; never what every object inherits. */
export function own<T>(table: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}
