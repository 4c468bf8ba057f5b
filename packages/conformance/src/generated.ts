/** Problems for fast-check: any bit pattern, any layout, small enough to shrink well. */
import type { DType, HostLogits, SoftmaxTopKOptions } from "@fused-topk/core";
import fc from "fast-check";
import { formats } from "./formats.js";

export interface Problem {
  logits: HostLogits;
  problem: SoftmaxTopKOptions;
}

/** @param maxK the backend's limits.maxK. */
export function generatedProblem(maxK: number): fc.Arbitrary<Problem> {
  const shape = fc.record({
    rows: fc.integer({ min: 0, max: 5 }),
    vocab: fc.oneof(fc.integer({ min: 1, max: 80 }), fc.integer({ min: 1, max: 3000 })),
    offset: fc.integer({ min: 0, max: 9 }),
    padding: fc.integer({ min: 0, max: 9 }),
    dtype: fc.constantFrom<DType>("f32", "f16", "bf16"),
    temperature: fc.oneof(fc.constant(1), fc.double({ min: 0.01, max: 100, noNaN: true })),
  });
  return shape.chain(({ rows, vocab, offset, padding, dtype, temperature }) => {
    const rowStride = vocab + padding;
    const length = offset + rows * rowStride;
    return fc
      .record({ k: fc.integer({ min: 1, max: Math.min(vocab, maxK) }), bits: bitPatterns(dtype, length) })
      .map(({ k, bits }) => ({
        logits: dtype === "f32" ? new Float32Array(Uint32Array.from(bits).buffer) : Uint16Array.from(bits),
        problem: { rows, vocab, k, offset, rowStride, dtype, temperature },
      }));
  });
}

/** Mostly ordinary values and their neighbours, so that rows have a softmax and ties; sometimes anything at all. */
function bitPatterns(dtype: DType, length: number): fc.Arbitrary<number[]> {
  const { width, one, largest, encode } = formats[dtype];
  const size = { minLength: length, maxLength: length };
  const ordinary = fc.double({ min: -60, max: 60, noNaN: true }).map(encode);
  const neighbours = fc.integer({ min: one, max: one + 9 });
  const masked = fc.constantFrom(encode(Number.NEGATIVE_INFINITY), encode(-largest));
  const anything = fc.integer({ min: 0, max: 2 ** width - 1 });
  return fc.oneof(
    fc.array(ordinary, size),
    fc.array(fc.oneof(ordinary, neighbours, masked), size),
    fc.array(neighbours, size),
    fc.array(anything, size),
  );
}
