/** A backend of which every call that is worth its threads is solved by all of them. */
import { createWith, type SHARE } from "../src/backend.js";
import type { CompiledKernel, Kernel } from "../src/kernel.js";
import { Pool } from "../src/pool.js";
import type { Team } from "../src/solve.js";

export interface Counts {
  /** Tiles that workers had. */
  tiles: number;
  /** States of rows that they left, to be merged. */
  states: number;
}

/** `calls`: what workers did, by call on the threads. `share`: see `createWith`; 0 sends every call there. */
export async function createOnThreads(threads: number, share: 0 | typeof SHARE = 0) {
  const calls: Counts[] = [];
  let pool: Pool | undefined;

  /** Its workers are handed tiles whether they are awake or not, and none is left alone after a call that it came late for. */
  class PatientPool extends Pool {
    constructor(kernel: CompiledKernel, threads: number) {
      super(kernel, threads);
      pool = this;
    }

    override team(kernel: Kernel, workers: number): Team {
      const counts = { tiles: 0, states: 0 };
      calls.push(counts);
      const { exports } = kernel;
      const replaced: Kernel["exports"] = {
        ...exports,
        is_free: (thread) => exports.is_free(thread) || exports.is_done(thread),
        hand: (...tile) => {
          counts.tiles++;
          exports.hand(...tile);
        },
        ask: (thread) => {
          counts.states++;
          exports.ask(thread);
        },
      };
      return { ...super.team(kernel, workers), kernel: { ...kernel, exports: replaced }, judge: () => {} };
    }
  }

  const backend = await createWith({ threads }, share, PatientPool);
  const enough = { rows: 256, vocab: 1024, k: 1 };
  await backend.softmaxTopK(new Float32Array(enough.rows * enough.vocab), enough); // starts the threads, and does without
  while (pool?.failure === undefined && !pool?.isReady) await new Promise((resolve) => setTimeout(resolve, 1));
  return { backend, calls };
}
