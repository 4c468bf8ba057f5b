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
 * Whether a probability is what the contract allows where the reference has `expected`: within the bound of its backend, NaN
 * where that is NaN; on a GPU one of at most 1e-30 may be anything from 0 to a hundredth above it.
 */
export function isProbabilityRight(actual: number, expected: number, name: BackendName): boolean {
  if (Number.isNaN(expected)) return Number.isNaN(actual);
  const mayFlush = name === "cuda" || name === "webgpu";
  if (mayFlush && expected <= FLUSHED) return actual >= 0 && actual <= 1.01 * expected + SMALLEST_FLOAT32;
  return Math.abs(actual - expected) <= probabilityBound[name] * expected + SMALLEST_FLOAT32;
}

/**
 * Whether a logSumExp is within the bound of the probabilities, which is what the error of the sum becomes under the
 * logarithm, plus the rounding of max / temperature and of the result: 2^-22 of their size.
 */
export function isLogSumExpRight(actual: number, expected: number, vocab: number, bound: number): boolean {
  if (Object.is(actual, expected)) return true;
  return Math.abs(actual - expected) <= bound + 2 ** -22 * (Math.abs(expected) + Math.log(vocab));
}

/**
 * The relative error of a probability, 0 where the reference has none above 1e-30. Finite, so that JSON holds it: the largest
 * number where the probability is none.
 */
export function probabilityErrorOf(actual: number, expected: number): number {
  return expected > FLUSHED ? finite(Math.abs(actual - expected) / expected) : 0;
}

/**
 * Compares a result with the reference: its indices are equal, its probabilities and logSumExp right by the rules above.
 */
export function compare(actual: SoftmaxTopK, expected: SoftmaxTopK, vocab: number, name: BackendName): Comparison {
  const { rows, k } = expected;
  const shape = wrongShape(actual, rows, k);
  if (shape) return { probabilityError: 0, logSumExpError: 0, failure: shape };

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
    if (!isProbabilityRight(p, q, name)) fail(place(at, k), "probability", q, p);
    probabilityError = Math.max(probabilityError, probabilityErrorOf(p, q));
  }
  for (let row = 0; row < rows; row++) {
    const a = actual.logSumExp[row]!;
    const e = expected.logSumExp[row]!;
    if (!isLogSumExpRight(a, e, vocab, probabilityBound[name])) fail(`row ${row}`, "logSumExp", e, a);
    if (Number.isFinite(e)) {
      logSumExpError = Math.max(logSumExpError, finite(Math.abs(a - e) / Math.max(1, Math.abs(e))));
    }
  }
  return { probabilityError, logSumExpError, ...(failure !== undefined && { failure }) };
}

function finite(error: number): number {
  return Number.isFinite(error) ? error : Number.MAX_VALUE;
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
