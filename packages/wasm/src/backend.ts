/** The WebAssembly backend: validation, the ways to the kernel, memory that callers write their logits to. */
import {
  allocateResult,
  type Backend,
  bytesPerElement,
  type DType,
  disposedError,
  type HostLogits,
  invalidArgument,
  resolveHostOptions,
  type SoftmaxTopK,
  type SoftmaxTopKOptions,
} from "@fused-topk/core";
import { kernels } from "./generated/kernels.js";
import { type CompiledKernel, compileKernel, instantiateKernel, type Kernel } from "./kernel.js";
import { Pool } from "./pool.js";
import { dtypeCode, type Problem, placesOf, solveAlone, solveWithTeam, TILE } from "./solve.js";
import { hardwareThreads, noThreadsReason } from "./worker.js";

/** fused-topk in WebAssembly SIMD: on the calling thread, and on worker threads where several rows are worth it. */
export interface WasmBackend extends Backend {
  readonly name: "wasm";
  /**
   * Room for `length` logits in WebAssembly memory. A call whose logits lie there copies nothing.
   *
   * The array has a memory of its own, which never grows: it stays attached, with what was written to it, for as long as
   * the caller holds it, whatever else is allocated and after `dispose()` too. Letting go of it frees it; the one that threads
   * worked in last, once they work in another. An engine holds some hundred such memories at a time: take a large one, and
   * use subarrays of it, rather than many.
   *
   * Where the backend has threads, the array's buffer is a `SharedArrayBuffer`, which few other APIs take.
   *
   * @returns zeros; f16 and bf16 as raw bits, so pass the `dtype` with every call.
   * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT`, `ERR_OUT_OF_MEMORY`, `ERR_DISPOSED`
   */
  alloc(length: number, dtype: "f32"): Float32Array;
  alloc(length: number, dtype: "f16" | "bf16"): Uint16Array;
  alloc(length: number, dtype: DType): Float32Array | Uint16Array;
}

/** Options of `createWasmBackend`. */
export interface WasmBackendOptions {
  /**
   * How many threads may work at a call, the calling one among them: 1 to 256. Default: those of the processor, at most 8. Where
   * memory cannot be shared, as in a page that is not cross-origin isolated, there is one, and `device` says why.
   */
  threads?: number;
}

const DEFAULT_THREADS = 8;
/** Each has a MiB of every memory that threads share, of which 4 GiB can be addressed. */
const MOST_THREADS = 256;
/** Bytes of logits for each thread of a call, of some 2 us a tile: they make up for waking it and merging what it knows. */
export const SHARE = 12 * TILE;

/**
 * Creates the WebAssembly backend. Workers are started by the first call that is worth it, and never keep a process alive.
 *
 * @throws {FusedTopKError} as a rejection: `ERR_BACKEND_UNAVAILABLE` where the engine has no WebAssembly SIMD;
 *   `ERR_INVALID_ARGUMENT`.
 */
export async function createWasmBackend(options: WasmBackendOptions = {}): Promise<WasmBackend> {
  return createWith(options, SHARE, Pool);
}

/**
 * @param share bytes of logits that a call has for each of its threads, at least.
 * @param Threads what starts them.
 */
export async function createWith(
  options: WasmBackendOptions,
  share: number,
  Threads: typeof Pool,
): Promise<WasmBackend> {
  if (typeof options !== "object" || options === null) {
    throw invalidArgument("options", "an object", options, "Pass { threads: 4 } or nothing.");
  }
  const { threads = Math.min(DEFAULT_THREADS, hardwareThreads()) } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > MOST_THREADS) {
    const range = `an integer from 1 to ${MOST_THREADS}`;
    throw invalidArgument("threads", range, threads, "Pass 1 to stay on the calling thread.");
  }
  const reason = threads === 1 ? undefined : noThreadsReason();
  return new Implementation(await compileKernel(kernels), reason === undefined ? threads : 1, share, Threads, reason);
}

class Implementation implements WasmBackend {
  readonly name = "wasm";
  readonly limits: { readonly maxK: number };
  readonly #kernel: CompiledKernel;
  readonly #threads: number;
  readonly #share: number;
  readonly #Threads: typeof Pool;
  #noThreads: string | undefined;
  /** For logits that are not in memory of this backend, on the calling thread. */
  readonly #host: Kernel;
  readonly #allocated = new WeakMap<ArrayBufferLike, Kernel>();
  /** For tiles that are copied for the threads. */
  #store: Kernel | undefined;
  #pool: Pool | undefined;
  /** Settles when the last call on the threads has. */
  #turn: Promise<unknown> = Promise.resolve();
  #pending = 0;
  #disposed = false;

  constructor(
    kernel: CompiledKernel,
    threads: number,
    share: number,
    Threads: typeof Pool,
    noThreads: string | undefined,
  ) {
    this.#kernel = kernel;
    this.#threads = threads;
    this.#share = share;
    this.#Threads = Threads;
    this.#noThreads = noThreads;
    this.#host = instantiateKernel(kernel, TILE, 1);
    this.limits = { maxK: this.#host.exports.max_k() };
  }

  get device(): string {
    const simd = this.#kernel.isRelaxed ? "relaxed SIMD" : "SIMD";
    if (this.#noThreads !== undefined) return `WebAssembly ${simd}, one thread: ${this.#noThreads}`;
    return `WebAssembly ${simd}, ${this.#threads === 1 ? "one thread" : `${this.#threads} threads`}`;
  }

  alloc(length: number, dtype: "f32"): Float32Array;
  alloc(length: number, dtype: "f16" | "bf16"): Uint16Array;
  alloc(length: number, dtype: DType): Float32Array | Uint16Array {
    if (this.#disposed) throw disposedError("wasm backend");
    if (!Number.isSafeInteger(length) || length < 0) {
      throw invalidArgument("length", "an integer >= 0", length, "Pass the number of logits.");
    }
    if (!Object.hasOwn(dtypeCode, dtype)) {
      throw invalidArgument("dtype", '"f32", "f16" or "bf16"', dtype, "Pass one of these.");
    }
    const kernel = instantiateKernel(this.#kernel, length * bytesPerElement[dtype], this.#threads);
    const { buffer } = kernel.memory;
    this.#allocated.set(buffer, kernel);
    return new (dtype === "f32" ? Float32Array : Uint16Array)(buffer, kernel.logits, length);
  }

  async softmaxTopK(logits: HostLogits, options: SoftmaxTopKOptions): Promise<SoftmaxTopK> {
    if (this.#disposed) throw disposedError("wasm backend");
    const resolved = resolveHostOptions(logits, options, this.limits.maxK);
    const { rows, k, vocab } = resolved;
    const problem: Problem = { logits, options: resolved, result: allocateResult(rows, k) };
    const bytes = rows * vocab * bytesPerElement[resolved.dtype];
    const workers = Math.min(this.#threads, Math.floor(bytes / this.#share)) - 1;
    if (workers > 0 && this.#hasThreads()) {
      await this.#inTurn((pool) => this.#withTeam(pool, workers, problem));
    } else if (this.#pending > 0) {
      await this.#inTurn(async () => this.#alone(problem)); // the threads may be at work, and this one
    } else {
      this.#alone(problem);
    }
    return problem.result;
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#turn;
    this.#pool?.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #alone(problem: Problem): void {
    const own = this.#allocated.get(problem.logits.buffer);
    solveAlone(own === undefined || this.#pool?.hasLost(own) ? this.#host : own, problem);
  }

  async #withTeam(pool: Pool, workers: number, problem: Problem): Promise<void> {
    const own = this.#allocated.get(problem.logits.buffer);
    const shared = own ?? this.#storeOrNone();
    if (pool.failure === undefined && shared !== undefined) {
      const team = pool.team(shared, workers);
      if (await solveWithTeam(own ?? this.#host, problem, team)) return;
    }
    this.#alone(problem);
  }

  /** `undefined` where there is no memory for it. */
  #storeOrNone(): Kernel | undefined {
    try {
      this.#store ??= instantiateKernel(this.#kernel, placesOf(this.#host, this.#threads - 1), this.#threads);
    } catch {}
    return this.#store;
  }

  /** Whether the threads have begun; starts them. */
  #hasThreads(): boolean {
    this.#pool ??= new this.#Threads(this.#kernel, this.#threads);
    this.#noThreads = this.#pool.failure?.message;
    return this.#noThreads === undefined && this.#pool.isReady;
  }

  /** Calls on the threads, and those made meanwhile, go one after another. */
  async #inTurn(work: (pool: Pool) => Promise<void>): Promise<void> {
    const pool = this.#pool!;
    this.#pending++;
    const done = this.#pending === 1 ? work(pool) : this.#turn.then(() => work(pool));
    const settle = () => {
      this.#pending--;
    };
    this.#turn = done.then(settle, settle);
    await done;
  }
}
