/** What a result was measured on: the host, the runtime and the version of the packages. */
import { arch, availableParallelism, cpus, release, totalmem, type } from "node:os";
import packageJson from "../package.json" with { type: "json" };
import { type DeviceRecord, type HostRecord, type RejectedRecord, type ResultFile, SCHEMA_VERSION } from "./schema.js";

/** Version of the packages in this repository. */
export const version: string = packageJson.version;

export function describeHost(): HostRecord {
  return {
    os: `${type()} ${release()} ${arch()}`,
    cpu: cpus()[0]?.model.trim() || "unknown CPU",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    runtime: `node ${process.versions.node}`,
  };
}

/** A result file that says where, when and on what, and holds no result yet. */
export function newResultFile(
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
    host: describeHost(),
    devices: devices.map(({ backend, name, kind, details }) => ({ backend, name, kind, details })),
    rejected,
    measurements: [],
    skipped: [],
    verifications: [],
  };
}
