/** Many rows of a small vocabulary, each held by a few invocations. */
import { compare } from "@fused-topk/conformance/cases";
import {
  type DType,
  encodeBFloat16,
  encodeFloat16,
  type SoftmaxTopKOptions,
  softmaxTopKReference,
} from "@fused-topk/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createWebGPUBackend, type WebGPUBackend } from "../src/index.js";
import { type Capabilities, planTopK } from "../src/plan.js";
import { kernelKey } from "../src/shader.js";

let backend: WebGPUBackend;
let withoutSubgroups: WebGPUBackend;

beforeAll(async () => {
  backend = await createWebGPUBackend({ path: { gating: true } });
  withoutSubgroups = await createWebGPUBackend({ path: { gating: true, subgroups: false } });
});

afterAll(() => Promise.all([backend.dispose(), withoutSubgroups.dispose()]));

let seed = 1;
const random = () => {
  seed = (seed * 48271) % 2147483647;
  return seed / 2147483647;
};
const oneOf = (values: number[]) => () => values[Math.floor(random() * values.length)]!;

/** Rows that take the list, rows with more ties than it holds, and rows that no threshold helps. */
const distributions: Record<string, () => number> = {
  random: () => 20 * random() - 10,
  "around both zeros": oneOf([-0, 0, -0, 0, -1, -2, -3, -4]),
  "both zeros alone": oneOf([-0, 0]),
  "differences that a key cannot hold": oneOf([-8, -8.000001, -8.000002, -8.000003, 40, -1]),
  "a few bits above 1": () => 1 + Math.floor(64 * random()) * 2 ** -23,
  "one large value a row": () => (random() < 0.01 ? 50 : -0),
  "nearly all masked": () => (random() < 0.9 ? Number.NEGATIVE_INFINITY : random()),
  "some NaN and infinities": () =>
    random() < 0.004 ? Number.NaN : random() < 0.004 ? Number.POSITIVE_INFINITY : random(),
  "NaN alone": () => Number.NaN,
};

const shapes = [
  { rows: 21, vocab: 256, k: 8, dtype: "f32" },
  { rows: 21, vocab: 256, k: 8, dtype: "f16" },
  { rows: 21, vocab: 256, k: 7, dtype: "bf16" },
  { rows: 40, vocab: 128, k: 8, dtype: "f32" },
  { rows: 9, vocab: 64, k: 6, dtype: "f32" },
  { rows: 9, vocab: 128, k: 6, dtype: "bf16" },
  { rows: 7, vocab: 256, k: 8, dtype: "f32", offset: 2 },
  { rows: 5, vocab: 255, k: 8, dtype: "f16", offset: 3, rowStride: 257 },
  { rows: 4, vocab: 900, k: 32, dtype: "f32", offset: 1 },
  { rows: 3, vocab: 7, k: 7, dtype: "f32", rowStride: 11 },
] as const satisfies SoftmaxTopKOptions[];

function encoded(values: Float32Array<ArrayBuffer>, dtype: DType) {
  if (dtype === "f32") return values;
  return Uint16Array.from(values, dtype === "f16" ? encodeFloat16 : encodeBFloat16);
}

test.each(Object.keys(distributions))("%s", async (name) => {
  for (const options of shapes) {
    const { rows, vocab, dtype, offset = 0, rowStride = vocab } = options as SoftmaxTopKOptions & { dtype: DType };
    const logits = encoded(Float32Array.from({ length: offset + rows * rowStride }, distributions[name]!), dtype);
    const expected = softmaxTopKReference(logits, options);
    // Four lanes fit the smallest subgroup; rows of eight go without where subgroups are small.
    for (const each of vocab === 256 && dtype === "bf16" ? [backend, withoutSubgroups] : [backend]) {
      const { failure } = compare(await each.softmaxTopK(logits, options), expected, vocab, "webgpu");
      expect(failure, JSON.stringify(options)).toBeUndefined();
    }
  }
});

const device: Capabilities = {
  isSoftware: false,
  subgroups: true,
  subgroupSizes: { least: 32, most: 32 },
  invocations: 256,
  workgroupBytes: 16384,
  bindingBytes: 2 ** 27,
};

test("these shapes take this path", () => {
  for (const shape of shapes) {
    const options = { offset: 0, rowStride: shape.vocab, temperature: 1, ...shape };
    const { kernel, dispatches } = planTopK(options, device, { gating: true });
    expect(
      dispatches.map(({ entry }) => entry),
      kernelKey(kernel),
    ).toEqual([shape.vocab <= 256 ? "gate_rows" : "small_rows"]);
  }
});

test("is what many rows take by themselves", () => {
  const options = { rows: 4096, vocab: 256, k: 8, dtype: "f32" as const, offset: 0, rowStride: 256, temperature: 1 };
  expect(planTopK(options, device).dispatches.map(({ entry }) => entry)).toEqual(["gate_rows"]);
});
