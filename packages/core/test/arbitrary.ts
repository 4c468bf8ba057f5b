/** Logits for property tests. */
import fc from "fast-check";

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The float32 with these bits. */
export function fromBits(bits: number): number {
  word[0] = bits;
  return float[0]!;
}

/** A finite logit of ordinary size. */
export const ordinary = fc.double({ min: -40, max: 40, noNaN: true }).map(Math.fround);

/** Mostly ordinary, with ties, masks, and now and then NaN or +inf. */
export const logit = fc.oneof(
  { weight: 12, arbitrary: ordinary },
  { weight: 6, arbitrary: fc.integer({ min: -2, max: 2 }) },
  { weight: 3, arbitrary: fc.constantFrom(Number.NEGATIVE_INFINITY, -0, 0, 2 ** -149) },
  { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY) },
);
