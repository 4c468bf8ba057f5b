/** The reference, which every backend is compared with, and how it reads logits of any dtype. */
import { bytesPerElement, decodeInto } from "./dtypes.js";
import { allocateResult, type ResolvedOptions, resolveHostOptions } from "./options.js";
import { orderKey } from "./order.js";
import { logSumExp, probability, weight } from "./state.js";
import type { HostLogits, SoftmaxTopK, SoftmaxTopKOptions } from "./types.js";

/**
 * The definition of right: softmax in float64 over the whole row, then a full sort. Slow and obvious on purpose.
 *
 * @param logits `rows x vocab` logits, any dtype.
 * @returns results rounded once, from float64 to float32.
 * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT`, `ERR_OUT_OF_MEMORY`
 */
export function softmaxTopKReference(logits: HostLogits, options: SoftmaxTopKOptions): SoftmaxTopK {
  const resolved = resolveHostOptions(logits, options);
  const { rows, vocab, k, temperature } = resolved;
  const result = allocateResult(rows, k);
  const row = new Float32Array(rows === 0 ? 0 : vocab);
  for (let r = 0; r < rows; r++) {
    readRow(row, logits, resolved, r);
    let max = Number.NEGATIVE_INFINITY;
    for (const x of row) if (x > max) max = x;
    let sum = 0;
    for (const x of row) sum += weight(x, max, temperature);
    const keys = Float64Array.from(row, orderKey);
    const order = Uint32Array.from(row, (_, i) => i).sort((a, b) => keys[b]! - keys[a]! || a - b);
    for (let i = 0; i < k; i++) {
      const index = order[i]!;
      result.probs[r * k + i] = probability(row[index]!, max, sum, temperature);
      result.indices[r * k + i] = index;
    }
    result.logSumExp[r] = logSumExp(max, sum, temperature);
  }
  return result;
}

/** Decodes row `r` into the front of `out`, as float32: exact for every dtype. */
function readRow(
  out: Float32Array,
  logits: HostLogits,
  { vocab, dtype, offset, rowStride }: ResolvedOptions,
  r: number,
): void {
  readLogits(out, logits, dtype, offset + r * rowStride, vocab);
}

/** Decodes `count` logits from element `start` into the front of `out`. */
export function readLogits(
  out: Float32Array,
  logits: HostLogits,
  dtype: ResolvedOptions["dtype"],
  start: number,
  count: number,
): void {
  if (dtype === "f32") {
    out.set((logits as Float32Array).subarray(start, start + count));
  } else {
    const bits = new Uint16Array(logits.buffer, logits.byteOffset + start * bytesPerElement[dtype], count);
    decodeInto(out, bits, dtype, 0, count);
  }
}
