/** The meter of the backends that run on the CPU: what JavaScript programs do today, beside them. No Node here. */
import { allocateResult, type Backend, type HostLogits, invalidArgument, type SoftmaxTopK } from "@fused-topk/core";
import { type Measurement, type MeasureRequest, type Meter, timeCall, type Variant } from "@fused-topk/core/measure";
import { rawBits, repeatRows, widenLogits } from "./data.js";

/** Dense rows, with the dtype said. */
type DenseOptions = Required<MeasureRequest["options"]>;

/**
 * - `fused`: the backend.
 * - `unfused`: the row mapped to probabilities, then the indices of the whole vocabulary sorted by them.
 * - `three-pass`: max, sum, then a heap of the K best: careful code without an intermediate.
 * - `read-floor`: a loop that combines the words of the logits.
 */
export async function createCpuMeter(createBackend: () => Promise<Backend>): Promise<Meter> {
  return new CpuMeter(await createBackend());
}

class CpuMeter implements Meter {
  readonly variants: readonly Variant[] = ["fused", "unfused", "three-pass", "read-floor"];
  readonly paths = ["one-pass"];
  /** What the read-floor loop has seen: kept, so that the loop is not dead code. */
  checksum = 0;
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  async measure({ variant, options, template: logits, sets, repeats }: MeasureRequest): Promise<Measurement> {
    const template = rawBits(logits);
    const { rows, vocab, k } = options;
    const dense: DenseOptions = { rows, vocab, k, dtype: options.dtype ?? "f32" };
    const templateRows = template.length / vocab;
    const inputs = Array.from({ length: sets }, (_, s) => repeatRows(template, templateRows, rows, s));
    const call = this.#call(variant, dense);
    const microseconds: number[] = [];
    let first: ReturnType<typeof call>;
    let calls = 0;
    for (let i = 0; i < repeats; i++) {
      const timing = await timeCall(() => {
        const answer = call(inputs[calls++ % sets]!);
        if (calls === 1) first = answer;
        return answer;
      });
      microseconds.push(timing.microseconds);
    }
    const result = await first;
    const results = rows * (8 * k + 4);
    const decoded = dense.dtype === "f32" ? 0 : 4 * vocab;
    const intermediate = variant === "unfused" ? decoded + 8 * vocab : variant === "three-pass" ? decoded : 0;
    return {
      microseconds,
      ...(result !== undefined && { result }),
      launches: 1,
      bytesWritten: variant === "read-floor" ? 0 : results + rows * intermediate,
      scratchBytes: intermediate,
      path: variant === "fused" ? "one-pass" : variant,
    };
  }

  async dispose(): Promise<void> {
    await this.#backend.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #call(variant: Variant, dense: DenseOptions): (logits: HostLogits) => Promise<SoftmaxTopK> | SoftmaxTopK | undefined {
    switch (variant) {
      case "fused":
        return (logits) => this.#backend.softmaxTopK(logits, dense);
      case "unfused":
        return (logits) => unfused(logits, dense);
      case "three-pass":
        return (logits) => threePass(logits, dense);
      case "read-floor":
        return (logits) => {
          this.checksum ^= combineWords(logits);
          return undefined;
        };
      default:
        throw invalidArgument("variant", `one of ${this.variants.join(", ")}`, variant, "This meter times no other.");
    }
  }
}

export function unfused(logits: HostLogits, { rows, vocab, k, dtype }: DenseOptions): SoftmaxTopK {
  const result = allocateResult(rows, k);
  for (let r = 0; r < rows; r++) {
    const row = widenLogits(logits.subarray(r * vocab, (r + 1) * vocab), dtype);
    const max = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const weights = row.map((x) => Math.exp(x - max));
    const sum = weights.reduce((a, b) => a + b, 0);
    const probs = weights.map((w) => w / sum);
    const order = Uint32Array.from(probs, (_, i) => i).sort((a, b) => probs[b]! - probs[a]! || a - b);
    for (let i = 0; i < k; i++) {
      result.indices[r * k + i] = order[i]!;
      result.probs[r * k + i] = probs[order[i]!]!;
    }
    result.logSumExp[r] = max + Math.log(sum);
  }
  return result;
}

export function threePass(logits: HostLogits, { rows, vocab, k, dtype }: DenseOptions): SoftmaxTopK {
  const result = allocateResult(rows, k);
  for (let r = 0; r < rows; r++) {
    const row = widenLogits(logits.subarray(r * vocab, (r + 1) * vocab), dtype);
    let max = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < vocab; i++) if (row[i]! > max) max = row[i]!;
    const reference = max === Number.NEGATIVE_INFINITY ? 0 : max;
    let sum = 0;
    for (let i = 0; i < vocab; i++) sum += Math.exp(row[i]! - reference);
    const top = heapOfBest(row, k);
    for (let i = k - 1; i >= 0; i--) {
      const index = popWorst(top, row);
      result.indices[r * k + i] = index;
      result.probs[r * k + i] = sum === 0 ? 0 : Math.exp(row[index]! - reference) / sum;
    }
    result.logSumExp[r] = sum === 0 ? Number.NEGATIVE_INFINITY : max + Math.log(sum);
  }
  return result;
}

/** A binary heap of the indices of the k best, the worst of them at the front. */
function heapOfBest(row: Float32Array, k: number): { heap: Uint32Array; length: number } {
  const heap = Uint32Array.from({ length: k }, (_, i) => i);
  const top = { heap, length: k };
  for (let i = (k >> 1) - 1; i >= 0; i--) sink(top, row, i);
  for (let i = k; i < row.length; i++) {
    if (row[i]! <= row[heap[0]!]!) continue; // a tie with an earlier index loses
    heap[0] = i;
    sink(top, row, 0);
  }
  return top;
}

function popWorst(top: { heap: Uint32Array; length: number }, row: Float32Array): number {
  const worst = top.heap[0]!;
  top.heap[0] = top.heap[--top.length]!;
  sink(top, row, 0);
  return worst;
}

function sink({ heap, length }: { heap: Uint32Array; length: number }, row: Float32Array, from: number): void {
  const held = heap[from]!;
  let at = from;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= length) break;
    if (child + 1 < length && isWorse(row, heap[child + 1]!, heap[child]!)) child++;
    if (!isWorse(row, heap[child]!, held)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = held;
}

function isWorse(row: Float32Array, a: number, b: number): boolean {
  return row[a]! < row[b]! || (row[a] === row[b] && a > b);
}

/** Reads every whole word of the logits, in four independent chains. */
function combineWords(logits: HostLogits): number {
  const { buffer, byteOffset, byteLength } = logits;
  const head = Math.min(byteLength, -byteOffset & 3);
  const words = new Int32Array(buffer, byteOffset + head, (byteLength - head) >> 2);
  const end = words.length & ~3;
  let [a, b, c, d] = [0, 0, 0, 0];
  for (let i = 0; i < end; i += 4) {
    a ^= words[i]!;
    b ^= words[i + 1]!;
    c ^= words[i + 2]!;
    d ^= words[i + 3]!;
  }
  for (let i = end; i < words.length; i++) a ^= words[i]!;
  return a ^ b ^ c ^ d;
}
