/** Timings for the bench: the kernel beside what it is compared with. Not public API: see `@fused-topk/core/measure`. */
import {
  allocateResult,
  bytesPerElement,
  invalidArgument,
  resolveHostOptions,
  type SoftmaxTopK,
} from "@fused-topk/core";
import { type Measurement, type MeasureRequest, type Meter, timeCall, type Variant } from "@fused-topk/core/measure";
import { baselines } from "./generated/baselines.js";
import { type CompiledKernel, compileKernel, instantiateKernel, type Kernel } from "./kernel.js";
import { dtypeCode, type Problem, solveAlone, takeResults } from "./solve.js";

/** What kernels/wasm/baseline exports beside the kernel. */
interface Baselines {
  read_floor(address: number, bytes: number): number;
  three_pass(address: number, vocab: number, k: number, dtype: number, row: number): void;
}

/**
 * On the calling thread, so that a time compares with that of the read floor; logits and results lie in WebAssembly memory.
 *
 * - `fused`: the kernel.
 * - `three-pass`: max, sum, then top-K, by the same functions.
 * - `read-floor`: a SIMD loop that combines the words of the logits.
 *
 * @throws {FusedTopKError} as a rejection, like `createWasmBackend`.
 */
export async function createWasmMeter(): Promise<Meter> {
  return new WasmMeter(await compileKernel(baselines));
}

class WasmMeter implements Meter {
  readonly variants: readonly Variant[] = ["fused", "three-pass", "read-floor"];
  readonly paths: readonly string[];
  /** What the read floor has seen: kept, so that it is not dead code. */
  checksum = 0;
  readonly #kernel: CompiledKernel;
  readonly #maxK: number;

  constructor(kernel: CompiledKernel) {
    this.#kernel = kernel;
    this.#maxK = instantiateKernel(kernel, 0, 1).exports.max_k();
    this.paths = [kernel.isRelaxed ? "relaxed SIMD" : "SIMD"];
  }

  async measure({ variant, options, template, sets, repeats }: MeasureRequest): Promise<Measurement> {
    const { rows, k, vocab } = options;
    const templateRows = template.length / vocab;
    const resolved = resolveHostOptions(template, { ...options, rows: Math.min(rows, templateRows) }, this.#maxK);
    const rowBytes = vocab * bytesPerElement[resolved.dtype];
    const kernel = instantiateKernel(this.#kernel, sets * rows * rowBytes, 1);
    const bytes = new Uint8Array(template.buffer, template.byteOffset, template.byteLength);
    const store = new Uint8Array(kernel.memory.buffer, kernel.logits);
    for (let row = 0; row < sets * rows; row++) {
      const from = ((Math.floor(row / rows) + row) % templateRows) * rowBytes;
      store.set(bytes.subarray(from, from + rowBytes), row * rowBytes);
    }
    const call = this.#call(variant, kernel, { ...resolved, rows });
    const microseconds: number[] = [];
    let result: SoftmaxTopK | undefined;
    let calls = 0;
    for (let i = 0; i < repeats; i++) {
      const timing = await timeCall(() => {
        const answer = call(kernel.logits + (calls++ % sets) * rows * rowBytes);
        if (calls === 1) result = answer;
      });
      microseconds.push(timing.microseconds);
    }
    const results = rows * (8 * k + 4);
    return {
      microseconds,
      ...(result !== undefined && { result }),
      launches: 1,
      bytesWritten: variant === "read-floor" ? 0 : 2 * results,
      scratchBytes: 0,
      path: variant === "fused" ? this.paths[0]! : variant,
    };
  }

  async dispose(): Promise<void> {}

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #call(variant: Variant, kernel: Kernel, options: Problem["options"]): (address: number) => SoftmaxTopK | undefined {
    const { rows, vocab, k, dtype } = options;
    const size = bytesPerElement[dtype];
    const { read_floor, three_pass } = kernel.exports as unknown as Baselines;
    switch (variant) {
      case "fused":
        return (address) => {
          const length = rows * vocab;
          const array = dtype === "f32" ? Float32Array : Uint16Array;
          const logits = new array(kernel.memory.buffer, address, length);
          const result = allocateResult(rows, k);
          solveAlone(kernel, { logits, options, result });
          return result;
        };
      case "three-pass":
        return (address) => {
          const result = allocateResult(rows, k);
          for (let row = 0; row < rows; row++) {
            three_pass(address + row * vocab * size, vocab, k, dtypeCode[dtype], 0);
            takeResults(kernel, result, row, 1, 0);
          }
          return result;
        };
      case "read-floor":
        return (address) => {
          this.checksum ^= read_floor(address, rows * vocab * size);
          return undefined;
        };
      default:
        throw invalidArgument("variant", `one of ${this.variants.join(", ")}`, variant, "This meter times no other.");
    }
  }
}
