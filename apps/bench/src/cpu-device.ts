/** JavaScript as a device, in any runtime. No Node here. */
import { createCpuBackend } from "@fused-topk/core";
import { configuration } from "./configuration.js";
import { createCpuMeter } from "./cpu-meter.js";
import type { Device } from "./device.js";

/** @param details the engine that runs it. */
export async function findCpu(details: Record<string, string>): Promise<Device> {
  return {
    backend: "cpu",
    name: "JavaScript",
    kind: "cpu",
    details,
    createBackend: createCpuBackend,
    createMeter: () => createCpuMeter(createCpuBackend),
    configurations: [configuration("", createCpuBackend)],
  };
}
