/** What a result was measured on: the host and its runtime. */
import { arch, availableParallelism, cpus, release, totalmem, type } from "node:os";
import type { HostRecord } from "./schema.js";

export function describeHost(): HostRecord {
  return {
    os: `${type()} ${release()} ${arch()}`,
    cpu: cpus()[0]?.model.trim() || "unknown CPU",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    runtime: `node ${process.versions.node}`,
  };
}
