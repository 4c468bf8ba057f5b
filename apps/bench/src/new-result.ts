/** A result file at the start of a run. No Node here. */
import packageJson from "../package.json" with { type: "json" };
import { type DeviceRecord, type HostRecord, type RejectedRecord, type ResultFile, SCHEMA_VERSION } from "./schema.js";

/** Version of the packages in this repository. */
export const version: string = packageJson.version;

/** A result file that says where, when and on what, and holds no result yet. */
export function newResultFile(
  host: HostRecord,
  command: readonly string[],
  seed: number,
  devices: readonly DeviceRecord[],
  rejected: RejectedRecord[],
): ResultFile {
  return {
    schema: SCHEMA_VERSION,
    date: new Date().toISOString(),
    version,
    command: [...command],
    seed,
    host,
    devices: devices.map(({ backend, name, kind, details }) => ({ backend, name, kind, details })),
    rejected,
    measurements: [],
    skipped: [],
    verifications: [],
  };
}
