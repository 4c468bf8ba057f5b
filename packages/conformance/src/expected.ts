/**
 * What the reference returns, several times faster, for the thousands of long rows of the catalogue.
 *
 * `softmaxTopKReference` stays the definition, and a test holds the two equal bit for bit. The order is written here a second
 * time, from the bits of the logits, so that an error in the core's does not hide itself.
 */
import {
  allocateResult,
  type DType,
  type HostLogits,
  resolveHostOptions,
  type SoftmaxTopK,
  type SoftmaxTopKOptions,
} from "@fused-topk/core";
import { formats } from "./formats.js";

const SIGN = 0x80000000;
const INFINITY = 0x7f800000;

export function expectedResult(logits: HostLogits, options: SoftmaxTopKOptions): SoftmaxTopK {
  const { rows, vocab, k, dtype, offset, rowStride, temperature } = resolveHostOptions(logits, options);
  const result = allocateResult(rows, k);
  const row = new Float32Array(vocab);
  const words = new Uint32Array(row.buffer);
  // Each logit is one uint64: how far it stands from the front above its index, so that ascending is the contract's order.
  const places = new BigUint64Array(vocab);
  const halves = new Uint32Array(places.buffer);

  for (let r = 0; r < rows; r++) {
    readRow(row, logits, dtype, offset + r * rowStride);
    for (let i = 0; i < vocab; i++) {
      halves[2 * i] = i;
      halves[2 * i + 1] = rankOf(words[i]!);
    }
    places.sort();
    let max = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < vocab; i++) if (row[i]! > max) max = row[i]!;
    let sum = 0;
    for (let i = 0; i < vocab; i++) sum += weight(row[i]!, max, temperature);
    for (let i = 0; i < k; i++) {
      const index = halves[2 * i]!;
      result.indices[r * k + i] = index;
      result.probs[r * k + i] = sum === 0 ? 0 : weight(row[index]!, max, temperature) / sum;
    }
    result.logSumExp[r] = sum === 0 ? Number.NEGATIVE_INFINITY : max / temperature + Math.log(sum);
  }
  return result;
}

/** From the bits of a float32: +inf lowest, then the numbers from great to small, both zeros alike, -inf, NaN highest. */
function rankOf(bits: number): number {
  const magnitude = bits & ~SIGN;
  if (magnitude > INFINITY) return 2 * INFINITY + 1;
  return bits & SIGN ? INFINITY + magnitude : INFINITY - magnitude;
}

function weight(x: number, max: number, temperature: number): number {
  if (x === Number.NEGATIVE_INFINITY) return 0;
  return x < Number.POSITIVE_INFINITY ? Math.exp((x - max) / temperature) : Number.NaN;
}

function readRow(row: Float32Array, logits: HostLogits, dtype: DType, start: number): void {
  if (logits instanceof Uint16Array) {
    const values = decoded(dtype);
    for (let i = 0; i < row.length; i++) row[i] = values[logits[start + i]!]!;
  } else {
    row.set(logits.subarray(start, start + row.length));
  }
}

const tables = new Map<DType, Float32Array>();

/** The value of every 16-bit pattern. */
function decoded(dtype: DType): Float32Array {
  const { decode } = formats[dtype];
  const table = tables.get(dtype) ?? Float32Array.from({ length: 65536 }, (_, bits) => decode(bits));
  tables.set(dtype, table);
  return table;
}
