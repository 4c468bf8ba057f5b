/** Rows on which a selection could fail to end: nothing to select by, or ties at an end of the range it searches. */
import { compare } from "@fused-topk/conformance/cases";
import { softmaxTopKReference } from "@fused-topk/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createWebGPUBackend, type WebGPUBackend } from "../src/index.js";

let backend: WebGPUBackend;

beforeAll(async () => {
  // Candidates in workgroup memory are the few that have to be cut.
  backend = await createWebGPUBackend({
    path: { candidates: "workgroup", workgroupSize: 64, subgroups: false, parts: 1 },
  });
});

afterAll(() => backend.dispose());

const rows: Record<string, (index: number) => number> = {
  "masked alone": () => Number.NEGATIVE_INFINITY,
  "NaN alone": () => Number.NaN,
  "NaN and masked": (i) => (i % 3 === 0 ? Number.NaN : Number.NEGATIVE_INFINITY),
  "groups of masked logits, fewer than K, and NaN": (i) => (i < 400 ? Number.NEGATIVE_INFINITY : Number.NaN),
  "fewer than K that are not masked": (i) => (i % 4000 === 7 ? i : Number.NEGATIVE_INFINITY),
  // Ties are selected by their order, first ones at the upper end of the numbers; what is no tie counts as 0, behind it.
  "ties, then less": (i) => (i < 9_000 ? 5 : -i),
  "less, then ties": (i) => (i < 9_000 ? -i : 5),
  "+inf, then less": (i) => (i < 9_000 ? Number.POSITIVE_INFINITY : -i),
  "the largest float, among NaN": (i) => (i % 2 ? 3.4028234663852886e38 : Number.NaN),
};

// The last as many groups as K asks for: what lies behind the row is read with them.
const shapes = [
  { rows: 1, vocab: 20_011, k: 3 },
  { rows: 1, vocab: 20_011, k: 50 },
  { rows: 1, vocab: 1001, k: 50 },
];

test.each(Object.keys(rows))("%s", async (name) => {
  for (const options of shapes) {
    const { vocab } = options;
    const logits = Float32Array.from({ length: vocab }, (_, i) => rows[name]!(i));
    const expected = softmaxTopKReference(logits, options);
    const { failure } = compare(await backend.softmaxTopK(logits, options), expected, vocab, "webgpu");
    expect(failure, JSON.stringify(options)).toBeUndefined();
  }
});
