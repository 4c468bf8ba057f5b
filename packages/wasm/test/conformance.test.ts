import { describeBackend } from "@fused-topk/conformance";
import type { HostLogits } from "@fused-topk/core";
import { createWasmBackend, type WasmBackend } from "../src/index.js";

describeBackend(createWasmBackend, { variant: "wasm" });

describeBackend(createWasmBackend, {
  variant: "wasm, logits in its memory",
  call: (backend, logits, problem) => {
    const dtype = logits instanceof Float32Array ? "f32" : (problem.dtype ?? "f16");
    const held = (backend as WasmBackend).alloc(logits.length, dtype);
    bytesOf(held).set(bytesOf(logits));
    return backend.softmaxTopK(held, { ...problem, dtype });
  },
});

function bytesOf({ buffer, byteOffset, byteLength }: HostLogits): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
