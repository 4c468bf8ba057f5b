/**
 * The CPU backend: careful JavaScript, one pass over the logits.
 *
 * A row is read in chunks that stay in the first-level cache. A chunk raises the row's max, adds its weights to the sum
 * against that max, and offers its logits to the candidate buffer. What is left at the end is a RowState, of which the buffer is
 * `top`: an object for each candidate would fill the heap where k is large.
 */
import { disposedError } from "./errors.js";
import { allocateResult, type ResolvedOptions, resolveHostOptions } from "./options.js";
import { readLogits } from "./reference.js";
import { CandidateBuffer } from "./select.js";
import { logSumExp, probability, type RowState } from "./state.js";
import type { Backend, HostLogits, SoftmaxTopK, SoftmaxTopKOptions } from "./types.js";

const CHUNK = 4096;
const MAX_K = 2 ** 32 - 1;

/** Creates the CPU backend: plain JavaScript on the calling thread, any k, float64 arithmetic. */
export async function createCpuBackend(): Promise<Backend> {
  return new CpuBackend();
}

class CpuBackend implements Backend {
  readonly name = "cpu";
  readonly device = "JavaScript";
  readonly limits = { maxK: MAX_K };
  #disposed = false;

  async softmaxTopK(logits: HostLogits, options: SoftmaxTopKOptions): Promise<SoftmaxTopK> {
    if (this.#disposed) throw disposedError("cpu backend");
    const resolved = resolveHostOptions(logits, options, MAX_K);
    const result = allocateResult(resolved.rows, resolved.k);
    if (resolved.rows === 0) return result;
    const candidates = new CandidateBuffer(resolved.k, resolved.vocab);
    const chunk = new Float32Array(Math.min(CHUNK, resolved.vocab));
    for (let row = 0; row < resolved.rows; row++) {
      finish(scanRow(logits, resolved, row, chunk, candidates), candidates, result, row, resolved.temperature);
    }
    return result;
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

function scanRow(
  logits: HostLogits,
  { vocab, k, dtype, offset, rowStride, temperature }: ResolvedOptions,
  row: number,
  chunk: Float32Array,
  candidates: CandidateBuffer,
): Omit<RowState, "top"> {
  const inverseTemperature = 1 / temperature;
  let max = Number.NEGATIVE_INFINITY;
  let sum = 0;
  candidates.clear();
  for (let start = 0; start < vocab; start += CHUNK) {
    const count = Math.min(CHUNK, vocab - start);
    readLogits(chunk, logits, dtype, offset + row * rowStride + start, count);

    let chunkMax = max;
    for (let i = 0; i < count; i++) {
      const x = chunk[i]!;
      if (x > chunkMax) chunkMax = x;
      if (!(x <= candidates.threshold)) candidates.append(x, start + i);
    }
    if (chunkMax > max) {
      if (sum !== 0) sum *= Math.exp((max - chunkMax) * inverseTemperature);
      max = chunkMax;
    }
    sum += chunkSum(chunk, count, max, inverseTemperature);
  }
  candidates.sort();
  return { k, max, sum };
}

/** `finish` of state.ts. */
function finish(
  { k, max, sum }: Omit<RowState, "top">,
  candidates: CandidateBuffer,
  result: SoftmaxTopK,
  row: number,
  temperature: number,
): void {
  for (let i = 0; i < k; i++) {
    result.probs[row * k + i] = probability(candidates.logit(i), max, sum, temperature);
    result.indices[row * k + i] = candidates.index(i);
  }
  result.logSumExp[row] = logSumExp(max, sum, temperature);
}

/** The sum of the weights of a chunk against `max`, which is at least its maximum. */
function chunkSum(chunk: Float32Array, count: number, max: number, inverseTemperature: number): number {
  // With nothing but masked logits so far, x - max would be NaN for them too: weigh against 0 instead.
  const reference = max === Number.NEGATIVE_INFINITY ? 0 : max;
  let sum = 0;
  for (let i = 0; i < count; i++) sum += Math.exp((chunk[i]! - reference) * inverseTemperature);
  return sum;
}
