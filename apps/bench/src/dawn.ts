/** WebGPU in Node: Dawn, from `$DAWN_NODE` or from the npm package `webgpu`, on a GPU or on the software adapter. */
import { createRequire } from "node:module";
import { FusedTopKError } from "@fused-topk/core";
import { isSoftware } from "./webgpu-device.js";

interface Dawn {
  create(options: string[]): GPU;
  globals: Record<string, unknown>;
}

interface WebGPUFound {
  gpu: GPU;
  /** A Vulkan driver that runs on the CPU. */
  software: boolean;
  adapter: GPUAdapter;
  /** Where Dawn came from. */
  source: string;
}

/** Timestamps would else be rounded to 65 us, which is longer than a call. */
const DAWN_OPTIONS = ["disable-dawn-features=timestamp_quantization"];

/**
 * Finds an adapter, hardware first.
 *
 * @throws {FusedTopKError} `ERR_BACKEND_UNAVAILABLE` with what is missing.
 */
export async function findWebGPU(): Promise<WebGPUFound> {
  const { dawn, source } = await loadDawn();
  Object.assign(globalThis, dawn.globals);
  const gpu = dawn.create(DAWN_OPTIONS);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", "Dawn found no adapter: no Vulkan driver is installed here.", {
      fix: "Install the driver of the GPU, or run npm ci on Linux x86-64, which brings a software adapter.",
    });
  }
  return { gpu, adapter, software: isSoftware(adapter.info), source };
}

async function loadDawn(): Promise<{ dawn: Dawn; source: string }> {
  const path = process.env.DAWN_NODE;
  try {
    if (path !== undefined && path !== "") {
      return { dawn: createRequire(import.meta.url)(path) as Dawn, source: "$DAWN_NODE" };
    }
    const require = createRequire(import.meta.url);
    const { version } = require("webgpu/package.json") as { version: string };
    return { dawn: (await import("webgpu")) as Dawn, source: `npm webgpu ${version}` };
  } catch (cause) {
    const words = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", `Dawn, WebGPU for Node, could not be loaded: ${words}.`, {
      fix: "Run npm ci, or point DAWN_NODE at a dawn.node.",
      cause,
    });
  }
}
