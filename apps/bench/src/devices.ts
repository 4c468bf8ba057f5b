/** The devices of this machine: for each backend a device that can run and be measured, or the reason why not. */
import { type Backend, type BackendName, createCpuBackend, FusedTopKError } from "@fused-topk/core";
import type { Meter } from "@fused-topk/core/measure";
import { type Configuration, configuration } from "./configuration.js";
import { createCpuMeter } from "./cpu-meter.js";
import { findWebGPU } from "./dawn.js";
import { describeNvidia } from "./nvidia.js";
import type { DeviceRecord, RejectedRecord } from "./schema.js";
import { findWasm } from "./wasm-device.js";

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

/** The backends that a bench without `--backend` looks for. */
export const defaultBackends: readonly BackendName[] = ["cuda", "webgpu", "wasm", "cpu"];

/** Looks for a device of each backend. A missing one is a reason, never an error. */
export async function findDevices(names: readonly BackendName[]): Promise<Devices> {
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

const finders: Readonly<Record<BackendName, () => Promise<Device>>> = {
  cuda: findCuda,
  webgpu: findWebGPUDevice,
  wasm: () => findWasm({ v8: process.versions.v8 }),
  cpu: async () => ({
    backend: "cpu",
    name: "JavaScript",
    kind: "cpu",
    details: { v8: process.versions.v8 },
    createBackend: createCpuBackend,
    createMeter: () => createCpuMeter(createCpuBackend),
    configurations: [configuration("", createCpuBackend)],
  }),
};

async function findCuda(): Promise<Device> {
  const { createCudaBackend } = await import("@fused-topk/cuda");
  const { createCudaMeter } = await import("@fused-topk/cuda/meter");
  const backend = await createCudaBackend();
  const name = backend.device;
  await backend.dispose();
  return {
    backend: "cuda",
    name,
    kind: "gpu",
    details: await describeNvidia(),
    createBackend: () => createCudaBackend(),
    createMeter: () => createCudaMeter(),
    configurations: [configuration("", () => createCudaBackend())],
  };
}

async function findWebGPUDevice(): Promise<Device> {
  const { createWebGPUBackend } = await import("@fused-topk/webgpu");
  const { createWebGPUMeter } = await import("@fused-topk/webgpu/meter");
  const { gpu, adapter, info, software, source } = await findWebGPU();
  const { limits } = adapter;
  const subgroups = adapter.features.has("subgroups") ? [true, false] : [false];
  const MiB = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;
  return {
    backend: "webgpu",
    name: software ? `software adapter (${info.architecture || info.device})` : info.device || info.description,
    kind: software ? "software" : "gpu",
    details: {
      dawn: source,
      adapter: [info.vendor, info.architecture, info.device].filter(Boolean).join(" "),
      driver: info.description,
      features: ["subgroups", "shader-f16", "timestamp-query"].filter((name) => adapter.features.has(name)).join(", "),
      "subgroup size": `${info.subgroupMinSize} to ${info.subgroupMaxSize}`,
      "workgroup storage": `${limits.maxComputeWorkgroupStorageSize / 1024} KiB`,
      "invocations a workgroup": String(limits.maxComputeInvocationsPerWorkgroup),
      "largest binding": MiB(limits.maxStorageBufferBindingSize),
    },
    createBackend: () => createWebGPUBackend({ gpu }),
    createMeter: () => createWebGPUMeter({ gpu }),
    configurations: subgroups.map((on) =>
      configuration(`subgroups ${on ? "on" : "off"}`, () => createWebGPUBackend({ gpu, path: { subgroups: on } })),
    ),
  };
}
