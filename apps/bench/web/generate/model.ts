/** The model in onnxruntime-web and the kernel behind it: ids in, the K best next tokens out. */
import { type Backend, createCpuBackend, type SoftmaxTopK } from "@fused-topk/core";
import wasmUrl from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import { env, InferenceSession, Tensor } from "onnxruntime-web/webgpu";
import modelUrl from "../../model/tiny-code-lm.onnx?url";
import { countReadback } from "./readback.js";

export const VOCAB = 50257;
/** The model looks back so far. */
const CONTEXT = 256;
/** Inputs are padded to a multiple of this, so that few shapes are compiled. A token sees none behind it. */
const PADDING = 8;

export interface Model {
  /** What it runs on, for a person. */
  runsOn: string;
  onGpu: boolean;
  /** The K best tokens after `ids`, and the bytes of GPU memory that were mapped for reading on the way. */
  next(ids: readonly number[], k: number, temperature: number): Promise<{ best: SoftmaxTopK; bytesRead: number }>;
  dispose(): Promise<void>;
}

env.wasm.wasmPaths = { wasm: wasmUrl };
env.wasm.numThreads = 1; // more need a page that is isolated, which a static host seldom gives
env.logLevel = "error";
/** The level at which a session speaks: it warns of shape arithmetic on the CPU, which is as it should be. */
const ERRORS = 3;

/** On the engine's own device: the logits stay where the model wrote them, and K results come back. */
export async function createGpuModel(): Promise<Model> {
  const { gpu } = navigator as { gpu?: GPU };
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!gpu || !adapter) throw new Error("This browser has no WebGPU adapter.");
  const requiredFeatures = (["subgroups", "shader-f16"] as const).filter((name) => adapter.features.has(name));
  const device = await adapter.requestDevice({
    requiredFeatures: requiredFeatures as GPUFeatureName[],
    requiredLimits: {
      maxBufferSize: adapter.limits.maxBufferSize,
      maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
      maxComputeWorkgroupStorageSize: adapter.limits.maxComputeWorkgroupStorageSize,
    },
  });
  try {
    return await createModelOn(device, gpu);
  } catch (error) {
    device.destroy(); // nothing of it is left behind what takes its place
    throw error;
  }
}

async function createModelOn(device: GPUDevice, gpu: GPU): Promise<Model> {
  const { createWebGPUBackend } = await import("@fused-topk/webgpu");
  const session = await InferenceSession.create(modelUrl, {
    executionProviders: [{ name: "webgpu", device }],
    preferredOutputLocation: "gpu-buffer",
    logSeverityLevel: ERRORS,
  });
  const backend = await createWebGPUBackend({ device, gpu }).catch(async (error) => {
    await session.release();
    throw error;
  });
  const readback = countReadback();
  return {
    runsOn: `WebGPU: ${backend.device}`,
    onGpu: true,
    async next(ids, k, temperature) {
      const before = readback.bytes();
      const { logits, last } = await run(session, ids);
      const best = await backend.softmaxTopK(logits, { rows: 1, offset: last * VOCAB, k, temperature });
      logits.dispose();
      return { best, bytesRead: readback.bytes() - before };
    },
    async dispose() {
      readback.stop();
      await backend.dispose();
      await session.release();
      device.destroy();
    },
  };
}

/** In WebAssembly: the logits are in memory of the CPU, where the kernel reads them. */
export async function createWasmModel(): Promise<Model> {
  const session = await InferenceSession.create(modelUrl, { executionProviders: ["wasm"], logSeverityLevel: ERRORS });
  const backend = await createHostBackend();
  return {
    runsOn: `WebAssembly: the model in onnxruntime-web, the kernel in ${backend.device}`,
    onGpu: false,
    async next(ids, k, temperature) {
      const { logits, last } = await run(session, ids);
      const row = (logits.data as Float32Array).subarray(last * VOCAB, (last + 1) * VOCAB);
      const best = await backend.softmaxTopK(row, { rows: 1, vocab: VOCAB, k, temperature });
      logits.dispose();
      return { best, bytesRead: 0 };
    },
    async dispose() {
      await backend.dispose();
      await session.release();
    },
  };
}

async function createHostBackend(): Promise<Backend> {
  const { createWasmBackend } = await import("@fused-topk/wasm");
  return createWasmBackend().catch(() => createCpuBackend());
}

/** Logits `[1, T, VOCAB]`, and the position of the last id in them. */
async function run(session: InferenceSession, ids: readonly number[]): Promise<{ logits: Tensor; last: number }> {
  const seen = ids.slice(-CONTEXT);
  const length = Math.min(CONTEXT, Math.ceil(seen.length / PADDING) * PADDING);
  const padded = BigInt64Array.from({ length }, (_, i) => BigInt(seen[i] ?? 0));
  const { logits } = await session.run({ ids: new Tensor("int64", padded, [1, length]) });
  return { logits: logits!, last: seen.length - 1 };
}
