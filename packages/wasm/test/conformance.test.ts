import { describeBackend } from "@fused-topk/conformance";
import type { Backend, HostLogits, SoftmaxTopKOptions } from "@fused-topk/core";
import { createBackend } from "../src/backend.js";
import { createWasmBackend, type WasmBackend } from "../src/index.js";
import { createPlainBackend } from "./plain.js";
import { startThreads } from "./threads.js";

describeBackend(createWasmBackend, { variant: "wasm" });

describeBackend(createWasmBackend, { variant: "wasm, logits in its memory", call: fromItsMemory });

/** Every call of several rows goes to the threads. */
const onThreads = () => startThreads(createBackend({ threads: 3 }, 0));

describeBackend(onThreads, { variant: "wasm, on threads" });

describeBackend(onThreads, { variant: "wasm, on threads, logits in its memory", call: fromItsMemory });

describeBackend(createPlainBackend, { variant: "wasm, plain SIMD" });

function fromItsMemory(backend: Backend, logits: HostLogits, problem: SoftmaxTopKOptions) {
  const dtype = logits instanceof Float32Array ? "f32" : (problem.dtype ?? "f16");
  const held = (backend as WasmBackend).alloc(logits.length, dtype);
  bytesOf(held).set(bytesOf(logits));
  return backend.softmaxTopK(held, { ...problem, dtype });
}

function bytesOf({ buffer, byteOffset, byteLength }: HostLogits): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
