/** The result files that the page knows: those of the repository, those of this visit, and those that the reader loads. */
import { useEffect, useState } from "preact/hooks";
import type { NamedResult } from "../../src/device-labels.js";
import { parseResultFile, parseResultText } from "../../src/schema.js";

const bundled: NamedResult[] = Object.entries(
  import.meta.glob("../../results/*.json", { eager: true, import: "default" }),
).map(([path, value]) => {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return { name, file: parseResultFile(value, name) };
});

let known: readonly NamedResult[] = bundled;
const listeners = new Set<() => void>();

/** Adds a result, in place of one of the same name. */
export function addResult(result: NamedResult): void {
  known = [...known.filter(({ name }) => name !== result.name), result];
  for (const listener of listeners) listener();
}

/** @throws {TypeError} that names the file and what is wrong with it. */
export function addResultText(name: string, text: string): void {
  addResult({ name, file: parseResultText(text, name) });
}

/** All of them, kept up to date. */
export function useResults(): readonly NamedResult[] {
  const [results, setResults] = useState(known);
  useEffect(() => {
    const listener = () => setResults(known);
    listeners.add(listener);
    listener();
    return () => void listeners.delete(listener);
  }, []);
  return results;
}
