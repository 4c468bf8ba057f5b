/** What the devices of several result files are called where they are shown together. No Node here. */
import type { BackendName } from "@fused-topk/core";
import type { DeviceRecord, ResultFile } from "./schema.js";

/** A result file and what to call it. */
export interface NamedResult {
  name: string;
  file: ResultFile;
}

/** For each file its devices by backend: "cuda, NVIDIA H200", with the name of the file where two would be alike. */
export function deviceLabels(results: readonly NamedResult[]): Map<ResultFile, Map<BackendName, string>> {
  const times = new Map<string, number>();
  for (const { file } of results) {
    for (const label of new Set(file.devices.map(labelOf))) times.set(label, (times.get(label) ?? 0) + 1);
  }
  return new Map(
    results.map(({ name, file }) => [
      file,
      new Map(
        file.devices.map((device) => {
          const label = labelOf(device);
          return [device.backend, times.get(label)! > 1 ? `${label}, ${name}` : label];
        }),
      ),
    ]),
  );
}

/** The backend, marked where a GPU's name would mislead, and the name of a GPU. */
function labelOf({ backend, kind, name }: DeviceRecord): string {
  if (kind === "software") return `${backend} (software)`;
  return kind === "gpu" ? `${backend}, ${name}` : backend;
}
