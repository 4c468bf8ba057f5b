/** A WebGPU adapter as a device of the bench, in any runtime. No Node here. */
import { configuration } from "./configuration.js";
import type { Device } from "./device.js";

/** @param details what the runtime adds to what the adapter says. */
export async function webgpuDevice(gpu: GPU, adapter: GPUAdapter, details: Record<string, string>): Promise<Device> {
  const { createWebGPUBackend } = await import("@fused-topk/webgpu");
  const { createWebGPUMeter } = await import("@fused-topk/webgpu/meter");
  const { info, limits } = adapter;
  const software = isSoftware(info);
  const subgroups = adapter.features.has("subgroups") ? [true, false] : [false];
  const MiB = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;
  return {
    backend: "webgpu",
    name: software
      ? `software adapter (${info.architecture || info.device})`
      : info.device || info.description || "a GPU that the runtime does not name",
    kind: software ? "software" : "gpu",
    details: {
      ...details,
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

/** Whether the adapter is a driver that runs on the CPU. */
export function isSoftware(info: GPUAdapterInfo): boolean {
  return (
    info.isFallbackAdapter ||
    /swiftshader|llvmpipe|lavapipe/i.test(`${info.architecture} ${info.device} ${info.description}`)
  );
}
