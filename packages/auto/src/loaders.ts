/** How each backend is made. Nothing is imported, and no GPU touched, before its loader is called. */
import { type Backend, type BackendName, createCpuBackend } from "@fused-topk/core";

/** Makes a backend, or rejects with the reason why it cannot run here. */
export type Loader = () => Promise<Backend>;

/** One loader a backend. */
export type Loaders = Readonly<Record<BackendName, Loader>>;

/** The loaders that are the same on every platform. */
export const portableLoaders: Omit<Loaders, "cuda"> = {
  webgpu: async () => (await import("@fused-topk/webgpu")).createWebGPUBackend(),
  wasm: async () => (await import("@fused-topk/wasm")).createWasmBackend(),
  cpu: createCpuBackend,
};
