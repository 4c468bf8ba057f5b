import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeBFloat16, encodeFloat16, softmaxTopKReference } from "../src/index.js";
import { ordinary } from "./arbitrary.js";
import { exactOrder, exactSoftmax } from "./exact.js";

const NEGATIVE_INFINITY = Number.NEGATIVE_INFINITY;
const POSITIVE_INFINITY = Number.POSITIVE_INFINITY;
const NAN = Number.NaN;

/** The reference on one row. */
const onRow = (row: readonly number[], k = row.length, temperature = 1) =>
  softmaxTopKReference(Float32Array.from(row), { rows: 1, vocab: row.length, k, temperature });

describe("against exact integer arithmetic", () => {
  const row = fc.array(fc.oneof(ordinary, fc.integer({ min: -3, max: 3 })), { minLength: 1, maxLength: 25 });
  const temperature = fc.constantFrom(1, 0.7, 0.3, 3, 1000);

  test("indices are equal, and probabilities are the nearest float32 or its neighbour", () => {
    fc.assert(
      fc.property(row, temperature, (logits, t) => {
        const { probs, indices } = onRow(logits, logits.length, t);
        const exact = exactSoftmax(logits, t);
        expect([...indices]).toEqual(exactOrder(logits));
        indices.forEach((index, i) => {
          expect(Math.abs(probs[i]! - exact[index]!)).toBeLessThanOrEqual(exact[index]! * 2 ** -23.5 + 2 ** -149);
        });
      }),
      { numRuns: 200 },
    );
  });

  test("a logprob is x / temperature - logSumExp at every temperature", () => {
    fc.assert(
      fc.property(row, temperature, (logits, t) => {
        const { indices, logSumExp } = onRow(logits, 1, t);
        const best = indices[0]!;
        const logprob = logits[best]! / t - logSumExp[0]!;
        expect(Math.abs(logprob - Math.log(exactSoftmax(logits, t)[best]!))).toBeLessThanOrEqual(
          2 ** -23 * Math.max(1, Math.abs(logSumExp[0]!)),
        );
      }),
      { numRuns: 200 },
    );
  });
});

describe("by hand", () => {
  test("probabilities are over the whole row, not over the K returned", () => {
    const { probs } = onRow([0, 0, 0, 0], 1);
    expect([...probs]).toEqual([0.25]);
  });

  test("equal logits come in the order of their indices, and -0 equals +0", () => {
    expect([...onRow([1, 2, 1, 2, 1]).indices]).toEqual([1, 3, 0, 2, 4]);
    expect([...onRow([-0, 0, -0, 0]).indices]).toEqual([0, 1, 2, 3]);
  });

  test("two logits one ulp apart are told apart, though their probabilities are equal", () => {
    const { indices, probs } = onRow([2 ** -20, 2 ** -20 * (1 + 2 ** -23), 0]);
    expect([...indices]).toEqual([1, 0, 2]);
    expect(probs[0]).toBe(probs[1]);
  });

  test("subnormal logits are told apart", () => {
    expect([...onRow([2 ** -149, 2 ** -148, -(2 ** -149), 0]).indices]).toEqual([1, 0, 3, 2]);
  });

  test("-inf has probability 0 and fills the tail, lower index first", () => {
    const { probs, indices } = onRow([NEGATIVE_INFINITY, 3, NEGATIVE_INFINITY]);
    expect([...indices]).toEqual([1, 0, 2]);
    expect([...probs]).toEqual([1, 0, 0]);
  });

  test("a row of -inf alone: probs 0, logSumExp -inf, indices 0 .. K-1", () => {
    const { probs, indices, logSumExp } = onRow(Array(5).fill(NEGATIVE_INFINITY), 3);
    expect([...probs]).toEqual([0, 0, 0]);
    expect([...indices]).toEqual([0, 1, 2]);
    expect([...logSumExp]).toEqual([NEGATIVE_INFINITY]);
  });

  test("NaN and +inf: no softmax in that row, indices exact, +inf first and NaN last", () => {
    const { probs, indices, logSumExp } = onRow([NAN, 1, POSITIVE_INFINITY, NEGATIVE_INFINITY, NAN, POSITIVE_INFINITY]);
    expect([...indices]).toEqual([2, 5, 1, 3, 0, 4]);
    expect([...probs]).toEqual(Array(6).fill(NAN));
    expect([...logSumExp]).toEqual([NAN]);
  });

  test("other rows are untouched by NaN", () => {
    const { probs } = softmaxTopKReference(Float32Array.of(0, 0, NAN, 0, 0, 0), { rows: 3, vocab: 2, k: 2 });
    expect([...probs]).toEqual([0.5, 0.5, NAN, NAN, 0.5, 0.5]);
  });

  test("offset and rowStride say where rows begin", () => {
    const logits = Float32Array.of(9, 0, 1, 9, 9, 1, 0);
    const { indices, probs } = softmaxTopKReference(logits, { rows: 2, vocab: 2, k: 1, offset: 1, rowStride: 4 });
    expect([...indices]).toEqual([1, 0]);
    expect(probs[0]).toBe(Math.fround(1 / (1 + Math.exp(-1))));
  });

  test("the same values in every dtype give the same result", () => {
    const values = [0.5, -2, 3, 3, NEGATIVE_INFINITY, 1];
    const options = { rows: 2, vocab: 3, k: 2 } as const;
    const expected = softmaxTopKReference(Float32Array.from(values), options);
    const f16 = Uint16Array.from(values, encodeFloat16);
    const bf16 = Uint16Array.from(values, encodeBFloat16);
    expect(softmaxTopKReference(f16, { ...options, dtype: "f16" })).toEqual(expected);
    expect(softmaxTopKReference(bf16, { ...options, dtype: "bf16" })).toEqual(expected);
    if (typeof Float16Array !== "undefined") {
      expect(softmaxTopKReference(Float16Array.from(values), options)).toEqual(expected);
    }
  });

  test("no rows give an empty result", () => {
    const { probs, indices, logSumExp } = softmaxTopKReference(new Float32Array(0), { rows: 0, vocab: 5, k: 2 });
    expect([probs.length, indices.length, logSumExp.length]).toEqual([0, 0, 0]);
  });
});
