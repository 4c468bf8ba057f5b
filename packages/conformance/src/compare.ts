/** Whether a result is what the contract says. */
import type { BackendName, SoftmaxTopK } from "@fused-topk/core";

/** The relative error of a probability that each backend may have, against float64, where it is above `FLUSHED`. */
export const probabilityBound: Readonly<Record<BackendName, number>> = {
  cuda: 4e-6,
  webgpu: 1e-5,
  wasm: 1e-6,
  cpu: 1e-6,
};

/** Below this a GPU may flush a probability to zero. */
const FLUSHED = 1e-30;
const SMALLEST_FLOAT32 = 2 ** -149;

export interface Comparison {
  /** The largest relative error among probabilities above 1e-30. */
  probabilityError: number;
  /** The largest error of a logSumExp, relative to max(1, |logSumExp|). */
  logSumExpError: number;
  /** What is wrong first, in full; absent when nothing is. */
  failure?: string;
}

/**
 * Compares a result with the reference.
 *
 * Indices are equal. A probability is within the bound of its backend, NaN where it is NaN; on a GPU one of at most 1e-30
 * may be anything from 0 to a hundredth above it. A logSumExp is within that same bound, which is what the error of the sum
 * becomes under the logarithm, plus the rounding of max / temperature and of the result: 2^-22 of their size.
 */
export function compare(actual: SoftmaxTopK, expected: SoftmaxTopK, vocab: number, name: BackendName): Comparison {
  const { rows, k } = expected;
  const shape = wrongShape(actual, rows, k);
  if (shape) return { probabilityError: 0, logSumExpError: 0, failure: shape };

  const bound = probabilityBound[name];
  const mayFlush = name === "cuda" || name === "webgpu";
  let probabilityError = 0;
  let logSumExpError = 0;
  let failure: string | undefined;
  const fail = (where: string, what: string, wanted: number, received: number) => {
    failure ??= `${where}: expected ${what} ${wanted} but received ${received}.`;
  };
  for (let at = 0; at < rows * k; at++) {
    if (actual.indices[at] !== expected.indices[at]) {
      fail(place(at, k), "index", expected.indices[at]!, actual.indices[at]!);
    }
    const p = actual.probs[at]!;
    const q = expected.probs[at]!;
    const right = Number.isNaN(q)
      ? Number.isNaN(p)
      : mayFlush && q <= FLUSHED
        ? p >= 0 && p <= 1.01 * q + SMALLEST_FLOAT32
        : Math.abs(p - q) <= bound * q + SMALLEST_FLOAT32;
    if (!right) fail(place(at, k), "probability", q, p);
    if (q > FLUSHED) probabilityError = Math.max(probabilityError, Math.abs(p - q) / q);
  }
  for (let row = 0; row < rows; row++) {
    const a = actual.logSumExp[row]!;
    const e = expected.logSumExp[row]!;
    if (Object.is(a, e)) continue;
    const error = Math.abs(a - e);
    if (!(error <= bound + 2 ** -22 * (Math.abs(e) + Math.log(vocab)))) fail(`row ${row}`, "logSumExp", e, a);
    if (Number.isFinite(e)) logSumExpError = Math.max(logSumExpError, error / Math.max(1, Math.abs(e)));
  }
  return { probabilityError, logSumExpError, ...(failure !== undefined && { failure }) };
}

function place(at: number, k: number): string {
  return `row ${Math.floor(at / k)}, place ${at % k}`;
}

function wrongShape(result: SoftmaxTopK, rows: number, k: number): string | undefined {
  if (result.rows !== rows || result.k !== k) {
    return `Expected a result of ${rows} rows and k ${k} but received ${result.rows} rows and k ${result.k}.`;
  }
  const wanted = [
    ["probs", Float32Array, rows * k],
    ["indices", Uint32Array, rows * k],
    ["logSumExp", Float32Array, rows],
  ] as const;
  for (const [name, type, length] of wanted) {
    const array = result[name];
    if (!(array instanceof type) || array.length !== length) {
      return `Expected ${name} to be a ${type.name} of ${length} but received ${array?.constructor?.name} of ${array?.length}.`;
    }
  }
  return undefined;
}
