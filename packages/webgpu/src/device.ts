/** Finds the adapter and opens the device. */
import { FusedTopKError, invalidArgument } from "@fused-topk/core";
import type { Capabilities } from "./plan.js";

/** Which WebGPU device to use. By default a new one, of the fastest adapter. */
export interface DeviceOptions {
  /**
   * A device of the caller's, used as it is and never destroyed. Its subgroups are used if it has the feature and `gpu`
   * (in Node: pass it too) knows the WGSL language feature `subgroup_id`.
   */
  device?: GPUDevice;
  /** The entry point of WebGPU. Default: `navigator.gpu`, or in Node the `webgpu` package if it is installed. */
  gpu?: GPU;
}

export interface OpenDevice {
  device: GPUDevice;
  /** Whether the backend opened it, and so has to destroy it. */
  isOwn: boolean;
  /** What a person calls it. */
  name: string;
  capabilities: Capabilities;
  /** Dawn for Node lives as long as this is reachable. */
  gpu: GPU | undefined;
}

/**
 * Opens a device with subgroups, timestamps and the adapter's largest limits, as far as it has them.
 *
 * @throws {FusedTopKError} `ERR_BACKEND_UNAVAILABLE`, `ERR_INVALID_ARGUMENT`
 */
export async function openDevice(options: DeviceOptions): Promise<OpenDevice> {
  requireOptions(options);
  if (options.device) {
    const gpu = options.gpu ?? navigatorGpu();
    return describe(options.device, options.device.adapterInfo, gpu, false);
  }
  const gpu = options.gpu ?? navigatorGpu() ?? (await nodeGpu());
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", "WebGPU is present but offers no adapter.", {
      fix: "Install a Vulkan, Metal or D3D12 driver for the GPU, or pass `gpu` with an adapter that works.",
    });
  }
  const wanted: GPUFeatureName[] = ["subgroups", "timestamp-query"];
  let device: GPUDevice;
  try {
    device = await adapter.requestDevice({
      label: "fused-topk",
      requiredFeatures: wanted.filter((feature) => adapter.features.has(feature)),
      requiredLimits: {
        maxBufferSize: adapter.limits.maxBufferSize,
        maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
        maxComputeWorkgroupStorageSize: adapter.limits.maxComputeWorkgroupStorageSize,
        maxComputeInvocationsPerWorkgroup: adapter.limits.maxComputeInvocationsPerWorkgroup,
        maxComputeWorkgroupSizeX: adapter.limits.maxComputeWorkgroupSizeX,
      },
    });
  } catch (cause) {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", `The WebGPU adapter refused a device: ${words(cause)}.`, {
      fix: "Update the driver, or pass a `device` of your own.",
      cause,
    });
  }
  return describe(device, adapter.info, gpu, true);
}

function requireOptions(options: DeviceOptions): void {
  if (typeof options !== "object" || options === null) {
    throw invalidArgument("options", "an object", options, "Pass { device }, { gpu } or nothing.");
  }
  const { device, gpu } = options;
  if (device !== undefined && typeof device?.createCommandEncoder !== "function") {
    throw invalidArgument("device", "a GPUDevice", device, "Pass what adapter.requestDevice() gave, or leave it out.");
  }
  if (gpu !== undefined && typeof gpu?.requestAdapter !== "function") {
    throw invalidArgument("gpu", "a GPU", gpu, "Pass navigator.gpu, in Node create([]) of webgpu, or leave it out.");
  }
}

function describe(device: GPUDevice, info: GPUAdapterInfo, gpu: GPU | undefined, isOwn: boolean): OpenDevice {
  const { limits, features } = device;
  const named = [info?.description, info?.device, [info?.vendor, info?.architecture].filter(Boolean).join(" ")];
  return {
    device,
    isOwn,
    name: named.find(Boolean) || "WebGPU device",
    capabilities: {
      isSoftware: info?.isFallbackAdapter ?? false,
      subgroups: features.has("subgroups") && (gpu?.wgslLanguageFeatures?.has("subgroup_id") ?? false),
      subgroupSizes: { least: info?.subgroupMinSize ?? 4, most: info?.subgroupMaxSize ?? 128 },
      invocations: Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX),
      workgroupBytes: limits.maxComputeWorkgroupStorageSize,
      bindingBytes: Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize),
    },
    gpu,
  };
}

function navigatorGpu(): GPU | undefined {
  return (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
}

/**
 * Dawn as long as a backend holds it: to end an instance while another one works has crashed the process. Weakly, since Node
 * does not end while an instance is reachable.
 */
let dawn: WeakRef<GPU> | undefined;

/** Dawn, by the npm package `webgpu`. */
async function nodeGpu(): Promise<GPU> {
  if (!(globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node) {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", "This browser has no WebGPU: navigator.gpu is missing.", {
      fix: "Use a current browser on a secure origin (https or localhost), or another backend.",
    });
  }
  // Not a literal, so that bundlers for the browser leave it alone.
  const name = "webgpu";
  try {
    const { create } = await import(/* @vite-ignore */ /* webpackIgnore: true */ name);
    const gpu: GPU = dawn?.deref() ?? create([]);
    dawn = new WeakRef(gpu);
    return gpu;
  } catch (cause) {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", `WebGPU for Node did not load: ${words(cause)}.`, {
      fix: "Install it with `npm install webgpu`.",
      cause,
    });
  }
}

/** What an error says, on one line and without its final stop. */
export function words(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return message.trim().split("\n")[0]!.replace(/\.$/, "");
}
