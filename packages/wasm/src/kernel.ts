/** The compiled module, and an instance of it with a memory of its own. */
import { FusedTopKError } from "@fused-topk/core";

/** What kernels/wasm/softmax_topk.ts exports. Addresses are in bytes. */
interface Exports {
  max_k(): number;
  fuses(): number;
  probs(): number;
  indices(): number;
  log_sum_exps(): number;
  logits_address(threads: number): number;
  begin(k: number, temperature: number): void;
  push_logits(address: number, count: number, dtype: number, first: number): void;
  merge(max: number, sum: number): void;
  scratch(): number;
  append_top(top: number, count: number): void;
  finish(row: number): void;
  solve(
    address: number,
    rowBytes: number,
    rows: number,
    vocab: number,
    k: number,
    dtype: number,
    temperature: number,
    row: number,
  ): void;
  hire(thread: number, k: number, dtype: number, temperature: number): void;
  is_free(thread: number): number;
  is_done(thread: number): number;
  places(): number;
  place(thread: number): number;
  hand(
    thread: number,
    address: number,
    count: number,
    first: number,
    row: number,
    rows: number,
    rowBytes: number,
    begins: boolean,
    finishes: boolean,
  ): void;
  ask(thread: number): void;
  dismiss(thread: number): void;
  leave_own(): void;
  left_top(thread: number): number;
  left_held(thread: number): number;
  left_max(thread: number): number;
  left_sum(thread: number): number;
}

/** A compiled kernel. */
export interface CompiledKernel {
  /** For memory of one thread. */
  module: WebAssembly.Module;
  /** For memory that threads share. */
  sharedModule: WebAssembly.Module;
  /** Multiply-add rounds once: the faster of the two forms. */
  isRelaxed: boolean;
}

/** An instance: a memory of fixed size, with room for logits from `logits` to its end. */
export interface Kernel {
  memory: WebAssembly.Memory;
  exports: Exports;
  /** Address. */
  logits: number;
}

const PAGE = 65536;
/** Bytes ahead of the logits, at most; of the candidate buffers, which have room for the largest k, a call touches its own. */
const SHARED_PAGES = 13;
const PAGES_A_THREAD = 17;
/** What row_state.ts imports. */
const functions = { exp: Math.exp, log: Math.log };

/** A module as it is inlined, and where in it a byte says that its memory is shared. */
interface InlinedModule {
  readonly base64: string;
  readonly sharedAt: number;
}

/**
 * @param forms with relaxed SIMD, and without.
 * @throws {FusedTopKError} as a rejection: `ERR_BACKEND_UNAVAILABLE` where the engine has no WebAssembly SIMD.
 */
export async function compileKernel([relaxed, plain]: readonly [
  InlinedModule,
  InlinedModule,
]): Promise<CompiledKernel> {
  try {
    if (WebAssembly.validate(decode(relaxed.base64))) {
      const kernel = await compile(relaxed, true);
      // On a processor without it the instruction multiplies, rounds, and adds.
      if (instantiateKernel(kernel, 0, 1).exports.fuses()) return kernel;
    }
    return await compile(plain, false);
  } catch (cause) {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", "This engine compiles no WebAssembly SIMD.", {
      fix: 'Use a current browser, Node or Deno, allow "wasm-unsafe-eval" in the page\'s policy, or use "cpu".',
      cause,
    });
  }
}

async function compile({ base64, sharedAt }: InlinedModule, isRelaxed: boolean): Promise<CompiledKernel> {
  const bytes = decode(base64);
  const sharedModule = await WebAssembly.compile(bytes);
  bytes[sharedAt] = 1;
  return { module: await WebAssembly.compile(bytes), sharedModule, isRelaxed };
}

function decode(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/**
 * @param bytes room for logits.
 * @param threads how many may work in this memory; more than 1 share it.
 * @throws {FusedTopKError} `ERR_OUT_OF_MEMORY`
 */
export function instantiateKernel(kernel: CompiledKernel, bytes: number, threads: number): Kernel {
  const shared = threads > 1;
  try {
    const pages = SHARED_PAGES + threads * PAGES_A_THREAD + Math.ceil(bytes / PAGE);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
    const module = shared ? kernel.sharedModule : kernel.module;
    const instance = new WebAssembly.Instance(module, { env: { memory }, row_state: functions });
    const exports = instance.exports as unknown as Exports;
    return { memory, exports, logits: exports.logits_address(threads) };
  } catch (cause) {
    throw new FusedTopKError("ERR_OUT_OF_MEMORY", `Could not allocate ${bytes} bytes of WebAssembly memory.`, {
      fix: "Allocate less at a time, and let go of arrays that are no longer needed.",
      cause,
    });
  }
}
