/** Where the results of a call lie in one buffer, and how they become a SoftmaxTopK. */
import type { ResolvedOptions, SoftmaxTopK } from "@fused-topk/core";

/** Positions in bytes, aligned as a binding has to be. */
export interface ResultLayout {
  probs: number;
  indices: number;
  logSumExp: number;
  bytes: number;
}

export function resultLayout({ rows, k }: { rows: number; k: number }): ResultLayout {
  const section = Math.ceil((rows * k * 4) / 256) * 256;
  const logSumExp = 2 * section;
  return { probs: 0, indices: section, logSumExp, bytes: logSumExp + rows * 4 };
}

/** Copies the results of `options.rows` rows to those from `row` on. */
export function copyResults(
  bytes: ArrayBuffer,
  layout: ResultLayout,
  { rows, k }: ResolvedOptions,
  result: SoftmaxTopK,
  row: number,
): void {
  result.probs.set(new Float32Array(bytes, layout.probs, rows * k), row * k);
  result.indices.set(new Uint32Array(bytes, layout.indices, rows * k), row * k);
  result.logSumExp.set(new Float32Array(bytes, layout.logSumExp, rows), row);
}
