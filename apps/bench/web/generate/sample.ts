/** Draws one of the K best. */
import type { SoftmaxTopK } from "@fused-topk/core";

/**
 * The place of the token drawn, by the probabilities of the K best alone.
 *
 * @param random uniform in [0, 1).
 */
export function drawToken({ probs }: SoftmaxTopK, random: number): number {
  let left = random * probs.reduce((sum, p) => sum + p, 0);
  for (let i = 0; i < probs.length; i++) {
    left -= probs[i]!;
    if (left < 0) return i;
  }
  return 0; // rounding left a trace of the sum
}
