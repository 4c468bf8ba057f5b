/** How each backend is made. Nothing is imported, and no GPU touched, before its loader is called. */
import { type Backend, type BackendName, createCpuBackend, FusedTopKError } from "@fused-topk/core";

/** Makes a backend, or rejects with the reason why it cannot run here. */
export type Loader = () => Promise<Backend>;

/** One loader a backend. */
export type Loaders = Readonly<Record<BackendName, Loader>>;

/** The loaders that are the same on every platform. */
export const portableLoaders: Omit<Loaders, "cuda"> = {
  webgpu: async () => (await import("@fused-topk/webgpu")).createWebGPUBackend(),
  wasm: async () => {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", "The wasm backend is not part of this version.", {
      fix: 'Use "cpu", which runs everywhere.',
    });
  },
  cpu: createCpuBackend,
};
