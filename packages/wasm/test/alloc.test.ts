/** What `alloc` promises: logits are read where they lie, and the array stays attached. */
import { FusedTopKError, softmaxTopKReference } from "@fused-topk/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createWasmBackend, type WasmBackend } from "../src/index.js";

let backend: WasmBackend;
beforeAll(async () => {
  backend = await createWasmBackend();
});
afterAll(() => backend.dispose());

test("an array of each dtype, all zeros", () => {
  expect(backend.alloc(3, "f32")).toEqual(new Float32Array(3));
  expect(backend.alloc(3, "f16")).toEqual(new Uint16Array(3));
  expect(backend.alloc(3, "bf16")).toEqual(new Uint16Array(3));
  expect(backend.alloc(0, "f32")).toEqual(new Float32Array(0));
});

test("no later call, allocation or dispose detaches it or changes what it holds", async () => {
  const own = await createWasmBackend();
  const held = own.alloc(1000, "f32");
  held.forEach((_, i) => {
    held[i] = Math.sin(i);
  });
  const kept = held.slice();
  const large = own.alloc(4_000_000, "f32");
  for (const k of [1, 1000]) await own.softmaxTopK(held, { rows: 1, vocab: 1000, k });
  await own.softmaxTopK(large, { rows: 1, vocab: 4_000_000, k: own.limits.maxK });
  await own.softmaxTopK(new Float32Array(100_000), { rows: 1, vocab: 100_000, k: own.limits.maxK });
  await own.dispose();
  expect(held).toEqual(kept);
  expect(large.every((x) => x === 0)).toBe(true);
});

test("any view of its memory will do", async () => {
  const held = backend.alloc(100, "f32");
  held.forEach((_, i) => {
    held[i] = (i * 37) % 100;
  });
  const part = held.subarray(7, 97);
  const options = { rows: 2, vocab: 30, k: 5, offset: 3, rowStride: 40 };
  const { indices } = await backend.softmaxTopK(part, options);
  expect(indices).toEqual(softmaxTopKReference(part.slice(), options).indices);
});

test("memory of another backend is host memory", async () => {
  await using other = await createWasmBackend();
  const held = other.alloc(4, "f32");
  held.set([1, 4, 2, 3]);
  const { indices } = await backend.softmaxTopK(held, { rows: 1, vocab: 4, k: 3 });
  expect([...indices]).toEqual([1, 3, 2]);
});

test.each([
  ["a negative length", -1, "f32", "ERR_INVALID_ARGUMENT", "Expected an integer >= 0 for length but received -1."],
  ["a fractional length", 1.5, "f32", "ERR_INVALID_ARGUMENT", "for length but received 1.5."],
  [
    "an unknown dtype",
    1,
    "f64",
    "ERR_INVALID_ARGUMENT",
    'Expected "f32", "f16" or "bf16" for dtype but received "f64".',
  ],
  ["more than WebAssembly can address", 2 ** 31, "f32", "ERR_OUT_OF_MEMORY", "Could not allocate 8589934592 bytes"],
])("refuses %s", (_, length, dtype, code, message) => {
  const error = errorOf(() => backend.alloc(length, dtype as "f32"));
  expect(error.code).toBe(code);
  expect(error.message).toContain(message);
});

test("refuses after dispose", async () => {
  const own = await createWasmBackend();
  await own.dispose();
  expect(errorOf(() => own.alloc(1, "f32")).code).toBe("ERR_DISPOSED");
});

function errorOf(call: () => unknown): FusedTopKError {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(FusedTopKError);
    return error as FusedTopKError;
  }
  throw new Error("Expected an error.");
}
