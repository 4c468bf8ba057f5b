/** The devices of this machine: for each backend a device that can run and be measured, or the reason why not. */
import type { BackendName } from "@fused-topk/core";
import { configuration } from "./configuration.js";
import { findCpu } from "./cpu-device.js";
import { findWebGPU } from "./dawn.js";
import { type Device, type Devices, type Finders, findDevicesWith } from "./device.js";
import { describeNvidia } from "./nvidia.js";
import { findWasm } from "./wasm-device.js";
import { webgpuDevice } from "./webgpu-device.js";

/** The backends that a bench without `--backend` looks for. */
export const defaultBackends: readonly BackendName[] = ["cuda", "webgpu", "wasm", "cpu"];

/** Looks for a device of each backend. A missing one is a reason, never an error. */
export function findDevices(names: readonly BackendName[]): Promise<Devices> {
  return findDevicesWith(finders, names);
}

const engine = { v8: process.versions.v8 };

const finders: Finders = {
  cuda: findCuda,
  webgpu: async () => {
    const { gpu, adapter, source } = await findWebGPU();
    return webgpuDevice(gpu, adapter, { dawn: source });
  },
  wasm: () => findWasm(engine),
  cpu: () => findCpu(engine),
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
