/** Few rows, each in parts that a workgroup holds in registers. */
import { compare } from "@fused-topk/conformance/cases";
import {
  encodeBFloat16,
  encodeFloat16,
  type ResolvedOptions,
  type SoftmaxTopKOptions,
  softmaxTopKReference,
} from "@fused-topk/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createWebGPUBackend, type WebGPUBackend } from "../src/index.js";
import { type Capabilities, planTopK } from "../src/plan.js";

/** An invocation of 64 holds every 64th vector of its part, a part 2048 logits. */
const path = { candidates: "workgroup", workgroupSize: 64 } as const;
let backend: WebGPUBackend;
let withoutSubgroups: WebGPUBackend;

beforeAll(async () => {
  backend = await createWebGPUBackend({ path });
  withoutSubgroups = await createWebGPUBackend({ path: { ...path, subgroups: false } });
});

afterAll(() => Promise.all([backend.dispose(), withoutSubgroups.dispose()]));

let seed = 1;
const random = () => {
  seed = (seed * 48271) % 2147483647;
  return seed / 2147483647;
};

const MASKED = Number.NEGATIVE_INFINITY;
const rows: Record<string, (index: number) => number> = {
  random: () => 20 * random() - 10,
  equal: () => 1.5,
  "both zeros": (i) => (i % 3 ? -0 : 0),
  "two values": () => (random() < 0.5 ? 1 : 2),
  ascending: (i) => i * 2 ** -6,
  descending: (i) => -i * 2 ** -6,
  "a few invocations with more of the best than a part has place for": (i) => (i % 256 < 160 ? 5 : 0) + random(),
  "one part with all of the best": (i) => (i >= 4096 && i < 6000 ? 9 : 0) + random(),
  "fewer than K that are not masked": (i) => (i % 900 === 7 ? random() : MASKED),
  "one part masked but for its end": (i) => (i > 2100 && i < 4000 ? MASKED : random()),
  masked: () => MASKED,
  "NaN and masked": (i) => (i % 3 ? MASKED : Number.NaN),
  "a NaN and an infinity": (i) => (i === 5001 ? Number.NaN : i === 77 ? Number.POSITIVE_INFINITY : random()),
};

const shapes = [
  { rows: 2, vocab: 9001, k: 50, dtype: "f32", offset: 3, rowStride: 9006 },
  { rows: 1, vocab: 9001, k: 5, dtype: "f32", temperature: 0.7 },
  { rows: 2, vocab: 9001, k: 64, dtype: "bf16", offset: 1, rowStride: 9003 },
  { rows: 1, vocab: 2049, k: 20, dtype: "f16" },
] as const satisfies SoftmaxTopKOptions[];

const full = process.env.FUSED_TOPK_FULL === "1";
/** A software adapter compiles a kernel for seconds: the quick run has one, and the conformance suite the others. */
const quick = full ? shapes : shapes.slice(0, 1);

describe.each(Object.keys(rows))("%s", (name) => {
  test.each(quick)("$rows x $vocab, K $k, $dtype", async (options) => {
    const { offset = 0, rowStride = options.vocab } = options as SoftmaxTopKOptions;
    const values = new Float32Array(offset + options.rows * rowStride).fill(99);
    for (let row = 0; row < options.rows; row++) {
      for (let i = 0; i < options.vocab; i++) values[offset + row * rowStride + i] = rows[name]!(i);
    }
    const encode = options.dtype === "f16" ? encodeFloat16 : encodeBFloat16;
    const logits = options.dtype === "f32" ? values : Uint16Array.from(values, encode);
    const expected = softmaxTopKReference(logits, options);
    for (const each of full ? [backend, withoutSubgroups] : [withoutSubgroups]) {
      const actual = await each.softmaxTopK(logits, options);
      expect(compare(actual, expected, options.vocab, "webgpu").failure).toBeUndefined();
    }
  });
});

test("every shape above, and decoding on a GPU, is held, in two dispatches", () => {
  const gpu: Capabilities = {
    isSoftware: false,
    subgroups: true,
    subgroupSizes: { least: 4, most: 128 },
    invocations: 256,
    workgroupBytes: 16384,
    bindingBytes: 2 ** 27,
  };
  const entries = (options: SoftmaxTopKOptions, path = {}) => {
    const resolved = { offset: 0, rowStride: options.vocab, temperature: 1, dtype: "f32", ...options };
    return planTopK(resolved as ResolvedOptions, gpu, path).dispatches.map(({ entry }) => entry);
  };
  for (const shape of shapes) expect(entries(shape, path)).toEqual(["hold_parts", "merge_held"]);
  for (const [rowCount, vocab, k] of [
    [1, 128_256, 50],
    [8, 128_256, 128],
    [1, 50_257, 1],
    [1, 262_144, 50],
  ] as const) {
    expect(entries({ rows: rowCount, vocab, k })).toEqual(["hold_parts", "merge_held"]);
  }
});
