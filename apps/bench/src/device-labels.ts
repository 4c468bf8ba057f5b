/** What the devices of several result files are called where they are shown together. No Node here. */
import type { BackendName } from "@fused-topk/core";
import type { DeviceRecord, MeasurementRecord, ResultFile } from "./schema.js";
import { isApart } from "./shapes.js";

/** A result file and what to call it. */
export interface NamedResult {
  name: string;
  file: ResultFile;
}

/**
 * For each file its devices by backend: "cuda, NVIDIA H200", with the name of the file where another file measured the same
 * on a device of the same name.
 */
export function deviceLabels(results: readonly NamedResult[]): Map<ResultFile, Map<BackendName, string>> {
  const measured = new Map<string, Set<ResultFile>>();
  for (const { file } of results) {
    for (const m of file.measurements) {
      const key = keyOf(file, m);
      measured.set(key, (measured.get(key) ?? new Set()).add(file));
    }
  }
  const isShared = (file: ResultFile, backend: BackendName) =>
    file.measurements.some((m) => m.backend === backend && measured.get(keyOf(file, m))!.size > 1);
  return new Map(
    results.map(({ name, file }) => [
      file,
      new Map(
        file.devices.map((device) => {
          const label = deviceName(device);
          const { backend } = device;
          return [backend, isShared(file, backend) ? `${label}, ${name.replace(/\.json$/, "")}` : label];
        }),
      ),
    ]),
  );
}

function keyOf(file: ResultFile, m: MeasurementRecord): string {
  const device = file.devices.find((device) => device.backend === m.backend);
  const apart = isApart(m.group) ? m.group : "";
  return [device && deviceName(device), apart, m.variant, m.rows, m.vocab, m.k, m.dtype, m.data].join();
}

/** The backend, marked where a GPU's name would mislead, and the name of a GPU. */
export function deviceName({ backend, kind, name }: DeviceRecord): string {
  if (kind === "software") return `${backend} (software)`;
  return kind === "gpu" ? `${backend}, ${name}` : backend;
}
