/**
 * fused-topk in WebAssembly SIMD: logits in CPU memory, in Node, browsers, Deno and Bun.
 *
 * @packageDocumentation
 */
export { createWasmBackend, type WasmBackend } from "./backend.js";
