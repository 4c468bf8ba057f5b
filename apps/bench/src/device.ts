/** What a device is to the bench, and the search for those that are here. No Node here. */
import { type Backend, type BackendName, FusedTopKError } from "@fused-topk/core";
import type { Meter } from "@fused-topk/core/measure";
import type { Configuration } from "./configuration.js";
import type { DeviceRecord, RejectedRecord } from "./schema.js";

/** A device, and how to make what runs on it. */
export interface Device extends DeviceRecord {
  createBackend(): Promise<Backend>;
  createMeter(): Promise<Meter>;
  /** What a conformance run goes through. */
  configurations: Configuration[];
}

export interface Devices {
  found: Device[];
  rejected: RejectedRecord[];
}

/** For each backend the search for its device; one that is missing throws the reason. */
export type Finders = Readonly<Record<BackendName, () => Promise<Device>>>;

/** Looks for a device of each backend. A missing one is a reason, never an error. */
export async function findDevicesWith(finders: Finders, names: readonly BackendName[]): Promise<Devices> {
  const devices: Devices = { found: [], rejected: [] };
  for (const backend of names) {
    try {
      devices.found.push(await finders[backend]());
    } catch (error) {
      devices.rejected.push({
        backend,
        code: error instanceof FusedTopKError ? error.code : "ERR_BACKEND_UNAVAILABLE",
        message: error instanceof Error ? error.message : String(error),
      });
    }
  }
  return devices;
}
