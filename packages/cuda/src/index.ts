/**
 * fused-topk on CUDA: NVIDIA GPUs since Turing, in Node.
 *
 * @packageDocumentation
 */
export { type CudaBackend, type CudaBackendOptions, createCudaBackend } from "./backend.js";
export type { DeviceLogits } from "./logits.js";
