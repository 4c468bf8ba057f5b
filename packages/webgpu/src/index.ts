/**
 * fused-topk on WebGPU: browsers, Node (with the `webgpu` package) and Deno.
 *
 * @packageDocumentation
 */
export { createWebGPUBackend, type GPUBuffers, type WebGPUBackend, type WebGPUBackendOptions } from "./backend.js";
export type { DeviceOptions } from "./device.js";
export type { PathOptions } from "./plan.js";
export type { LogitsTensor, TensorOptions } from "./tensor.js";
