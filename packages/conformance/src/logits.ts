/** Makes the logits of an input, and of the decoy that goes before it. */
import type { HostLogits, SoftmaxTopKOptions } from "@fused-topk/core";
import { dtypeOf, type Input } from "./catalogue.js";
import { distributions } from "./distributions.js";
import { formats } from "./formats.js";
import { createRandom } from "./random.js";

// Elements before and after the array in its ArrayBuffer: a view that does not begin at 0 is a case of its own.
const BEFORE = 3;
const AFTER = 5;

/** The input's logits. Everything in their buffer that belongs to no row is +inf, so that reading it shows. */
export function makeLogits(input: Input): HostLogits {
  const { rows, vocab, offset, rowStride } = input;
  const format = formats[dtypeOf[input.array]];
  const { fill } = distributions[input.distribution];
  const length = offset + (rows === 0 ? 0 : (rows - 1) * rowStride + vocab);
  const Words = format.width === 32 ? Uint32Array : Uint16Array;
  const words = new Words(BEFORE + length + AFTER).fill(format.infinity);

  const random = createRandom(input.seed ?? length + rows);
  const row = new Float32Array(vocab);
  for (let rowIndex = 0; rowIndex < rows; rowIndex++) {
    fill(row, { random, format, rowIndex });
    const start = BEFORE + offset + rowIndex * rowStride;
    for (let i = 0; i < vocab; i++) words[start + i] = format.encode(row[i]!);
  }
  const position = BEFORE * words.BYTES_PER_ELEMENT;
  switch (input.array) {
    case "f32":
      return new Float32Array(words.buffer, position, length);
    case "Float16Array":
      return new Float16Array(words.buffer, position, length);
    default:
      return new Uint16Array(words.buffer, position, length);
  }
}

/** The options that ask for the `k` best of an input. Defaults are left to the backend. */
export function optionsOf(input: Input, k: number): SoftmaxTopKOptions {
  const { rows, vocab, array, offset, rowStride, temperature } = input;
  return {
    rows,
    vocab,
    k,
    ...(array.endsWith("bits") && { dtype: dtypeOf[array] }),
    ...(offset !== 0 && { offset }),
    ...(rowStride !== vocab && { rowStride }),
    ...(temperature !== 1 && { temperature }),
  };
}

/**
 * A problem whose result has the size of `rows x k` and is wrong for any other: NaN probabilities, indices from the far end.
 *
 * Run before a case, it leaves its result in whatever memory the backend reuses, so an element that the case does not
 * write shows.
 */
export function makeDecoy(rows: number, k: number): { logits: Float32Array; options: SoftmaxTopKOptions } {
  const vocab = k + 7;
  const logits = Float32Array.from({ length: rows * vocab }, (_, at) => {
    const i = at % vocab;
    return i === vocab - 1 ? Number.POSITIVE_INFINITY : i;
  });
  return { logits, options: { rows, vocab, k } };
}
