/** Which measurements the charts show: by backend, type and kind of logits. */
import { useMemo } from "preact/hooks";
import type { NamedResult } from "../../src/device-labels.js";
import type { MeasurementRecord } from "../../src/schema.js";
import { useSetting } from "../link.js";

const fields = ["backend", "dtype", "data"] as const;
type Field = (typeof fields)[number];
const names: Readonly<Record<Field, string>> = { backend: "Backend", dtype: "Type", data: "Logits" };

export interface Filter {
  kept: NamedResult[];
  settings: { field: Field; value: string; values: string[]; set(value: string): void }[];
}

/** The results with the measurements that the settings let through; an empty setting lets all through. */
export function useFilter(results: readonly NamedResult[]): Filter {
  const chosen = fields.map((field) => useSetting("compare", field, ""));
  const key = chosen.map(([value]) => value).join("\n");
  const kept = useMemo(() => {
    const isKept = (m: MeasurementRecord) =>
      fields.every((field, i) => chosen[i]![0] === "" || m[field] === chosen[i]![0]);
    return results.map(({ name, file }) => ({
      name,
      file: { ...file, measurements: file.measurements.filter(isKept) },
    }));
  }, [results, key]);
  const measurements = results.flatMap(({ file }) => file.measurements);
  return {
    kept,
    settings: fields.map((field, i) => {
      const [value, set] = chosen[i]!;
      return {
        field,
        value,
        set,
        values: [...new Set([...(value === "" ? [] : [value]), ...measurements.map((m) => m[field])])].sort(),
      };
    }),
  };
}

export function FilterView({ filter: { settings } }: { filter: Filter }) {
  return (
    <div class="fields">
      {settings.map(({ field, value, values, set }) => (
        <label key={field} class="field">
          <span>{names[field]}</span>
          <select value={value} onChange={(event) => set(event.currentTarget.value)}>
            <option value="">all</option>
            {values.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      ))}
    </div>
  );
}
