/** The worker threads: started once, asleep in a memory until tiles are handed to them there, stopped by `dispose`. */
import type { CompiledKernel, Kernel } from "./kernel.js";
import type { Team } from "./solve.js";
import { startWorker, type WorkerThread } from "./worker.js";

interface Member {
  thread: WorkerThread;
  hasBegun: boolean;
  /** Calls to do without it, after calls in which it was of no use. */
  rest: number;
  useless: number;
}

/** The most calls in a row that do without a worker: where processors are busy, waking one costs more than it brings. */
const LONGEST_REST = 64;

/** Milliseconds that a call waits for the tiles of others without letting go of its thread: they are nearly done by then. */
const PATIENCE = 1;

export class Pool {
  /** Why it cannot work, once that is known. */
  failure: Error | undefined;
  readonly #module: WebAssembly.Module;
  readonly #members: Member[] = [];
  /** Where the workers are. */
  #kernel: Kernel | undefined;

  /** `threads`: with the calling one. */
  constructor({ sharedModule }: CompiledKernel, threads: number) {
    this.#module = sharedModule;
    try {
      for (let i = 1; i < threads; i++) this.#start();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  /** Whether every worker has begun. */
  get isReady(): boolean {
    return this.failure === undefined && this.#members.every(({ hasBegun }) => hasBegun);
  }

  /** At most so many workers for a call, in this kernel's memory from now on. What they were handed before is done. */
  team(kernel: Kernel, workers: number): Team {
    const rested = this.#members.flatMap((member, i) => (member.rest-- <= 0 ? [i + 1] : []));
    const threads = rested.slice(0, workers);
    if (threads.length > 0 && kernel !== this.#kernel) this.#move(kernel);
    return {
      kernel,
      threads,
      judge: (thread, isUseful) => this.#judge(this.#members[thread - 1]!, isUseful),
      until: (condition) => this.#until(condition),
    };
  }

  /** Whether this kernel's memory has workers that were terminated in it, which may write there for a while yet. */
  hasLost(kernel: Kernel): boolean {
    return this.failure !== undefined && kernel === this.#kernel;
  }

  dispose(): void {
    for (const { thread } of this.#members.splice(0)) thread.terminate();
  }

  #move(kernel: Kernel): void {
    this.#members.forEach(({ thread }, i) => {
      this.#kernel?.exports.dismiss(i + 1);
      thread.post({ thread: i + 1, module: this.#module, memory: kernel.memory });
    });
    this.#kernel = kernel;
  }

  #judge(member: Member, isUseful: boolean): void {
    member.useless = isUseful ? 0 : member.useless + 1;
    member.rest = isUseful ? 0 : Math.min(2 ** member.useless, LONGEST_REST);
  }

  async #until(condition: () => boolean): Promise<boolean> {
    const end = performance.now() + PATIENCE;
    while (!condition()) {
      if (this.failure !== undefined) return false;
      if (performance.now() > end) await new Promise((resolve) => setTimeout(resolve));
    }
    return true;
  }

  #start(): void {
    const thread = startWorker((reply) => {
      if (reply !== true) this.#fail(reply);
      else member.hasBegun = true;
    });
    const member: Member = { thread, hasBegun: false, rest: 0, useless: 0 };
    this.#members.push(member);
  }

  #fail(error: Error): void {
    this.failure ??= error;
    this.dispose();
  }
}
