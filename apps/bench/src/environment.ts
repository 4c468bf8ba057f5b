/** What a result was measured on: the host, the runtime and the version of the packages. */
import { arch, availableParallelism, cpus, release, totalmem, type } from "node:os";
import packageJson from "../package.json" with { type: "json" };
import type { HostRecord } from "./schema.js";

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
