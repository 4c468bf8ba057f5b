/**
 * fused-topk in WebAssembly SIMD: logits in CPU memory, in Node, browsers and Deno.
 *
 * @packageDocumentation
 */
export { createWasmBackend, type WasmBackend, type WasmBackendOptions } from "./backend.js";
