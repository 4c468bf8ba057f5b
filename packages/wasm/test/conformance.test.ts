import { describeBackend } from "@fused-topk/conformance";
import type { Backend, HostLogits, SoftmaxTopKOptions } from "@fused-topk/core";
import { describe, expect, test } from "vitest";
import { createWasmBackend, type WasmBackend } from "../src/index.js";
import { createPlainBackend } from "./plain.js";
import { type Counts, createOnThreads } from "./threads.js";

describeBackend(createWasmBackend, { variant: "wasm" });

describeBackend(createWasmBackend, { variant: "wasm, logits in its memory", call: fromItsMemory });

describe.each([
  ["on threads", {}],
  ["on threads, logits in its memory", { call: fromItsMemory }],
])("%s", (name, options) => {
  const backends: { calls: Counts[] }[] = [];
  const create = async () => {
    const created = await createOnThreads(3);
    backends.push(created);
    return created.backend;
  };

  describeBackend(create, { variant: `wasm, ${name}`, reproducible: false, ...options });

  test("the workers had tiles of every call, and left states to be merged", () => {
    const calls = backends.flatMap(({ calls }) => calls);
    expect(calls.filter(({ tiles }) => tiles === 0)).toEqual([]);
    expect(calls.filter(({ states }) => states > 0).length).toBeGreaterThan(50);
  });
});

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
