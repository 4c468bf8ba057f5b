/** The compiled module, and an instance of it with a memory of its own. */
import { FusedTopKError } from "@fused-topk/core";
import { base64 } from "./generated/module.js";

/** What kernels/wasm/softmax_topk.ts exports. Addresses are in bytes. */
interface Exports {
  max_k(): number;
  probs(): number;
  indices(): number;
  logits(): number;
  begin(k: number, temperature: number): void;
  push_logits(address: number, count: number, dtype: number): void;
  finish(): number;
}

/** An instance: a memory of fixed size, with room for logits from `exports.logits()` to its end. */
export interface Kernel {
  memory: WebAssembly.Memory;
  exports: Exports;
}

const PAGE = 65536;
/** Bytes ahead of the logits, at most: the candidate buffer and the results of the largest k, of which a call touches its own. */
const FIXED_PAGES = 25;

/** @throws {FusedTopKError} as a rejection: `ERR_BACKEND_UNAVAILABLE` where the engine has no WebAssembly SIMD. */
export async function compileKernel(): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
  } catch (cause) {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", "This engine compiles no WebAssembly SIMD.", {
      fix: 'Use a current browser, Node, Deno or Bun, allow "wasm-unsafe-eval" in the page\'s policy, or use "cpu".',
      cause,
    });
  }
}

/**
 * @param bytes room for logits.
 * @throws {FusedTopKError} `ERR_OUT_OF_MEMORY`
 */
export function instantiateKernel(module: WebAssembly.Module, bytes: number): Kernel {
  try {
    const pages = FIXED_PAGES + Math.ceil(bytes / PAGE);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const { exports } = new WebAssembly.Instance(module, {
      env: { memory },
      row_state: { exp: Math.exp, log: Math.log },
    });
    return { memory, exports: exports as unknown as Exports };
  } catch (cause) {
    throw new FusedTopKError("ERR_OUT_OF_MEMORY", `Could not allocate ${bytes} bytes of WebAssembly memory.`, {
      fix: "Allocate less at a time, and let go of arrays that are no longer needed.",
      cause,
    });
  }
}
