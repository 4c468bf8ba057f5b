/** The order of the contract: which of two logits of a row comes first. */

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** `orderKey` of NaN: below every number. */
export const KEY_NAN = 0;
/** `orderKey` of -inf: below every finite logit. */
export const KEY_NEGATIVE_INFINITY = 0x007fffff;
/** `orderKey` of +inf: above every finite logit. */
export const KEY_POSITIVE_INFINITY = 0xff800000;

/**
 * Maps a float32 to a uint32 that sorts as the contract does: -0 equals +0, NaN after everything else.
 *
 * Source: the radix-sort transform of IEEE floats (Michael Herf, "Radix Tricks", 2001): flip all bits of a negative
 * number, the sign bit of a positive one.
 */
export function orderKey(logit: number): number {
  if (Number.isNaN(logit)) return KEY_NAN;
  float[0] = logit + 0; // -0 + 0 is +0
  const bits = word[0]!;
  return (bits & 0x80000000 ? ~bits : bits | 0x80000000) >>> 0;
}

/** Negative when (logitA, indexA) comes before (logitB, indexB): the greater logit first, then the lower index. */
export function compareCandidates(logitA: number, indexA: number, logitB: number, indexB: number): number {
  return orderKey(logitB) - orderKey(logitA) || indexA - indexB;
}

/** The logit that has this order key: the inverse of `orderKey`, up to the sign of zero and the payload of NaN. */
export function logitOfKey(key: number): number {
  if (key === KEY_NAN) return Number.NaN;
  word[0] = key & 0x80000000 ? key & 0x7fffffff : ~key;
  return float[0]!;
}
