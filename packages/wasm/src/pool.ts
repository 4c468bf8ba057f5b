/** The worker threads: started once, idle in their event loops until a job is posted, stopped by `dispose`. */
import type { CompiledKernel, Kernel } from "./kernel.js";
import { startWorker, type WorkerThread } from "./worker.js";

interface Member {
  thread: WorkerThread;
  isIdle: boolean;
  /** The memory it was given last. */
  memory?: WebAssembly.Memory;
}

export class Pool {
  /** Why it cannot work, once that is known. */
  failure: Error | undefined;
  readonly #module: WebAssembly.Module;
  readonly #members: Member[] = [];
  readonly #waiting: (() => void)[] = [];

  /** `threads`: with the calling one. */
  constructor({ sharedModule }: CompiledKernel, threads: number) {
    this.#module = sharedModule;
    try {
      for (let i = 1; i < threads; i++) this.#start();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  /** Whether every worker has begun and waits for a job. */
  get isIdle(): boolean {
    return this.failure === undefined && this.#members.every(({ isIdle }) => isIdle);
  }

  /** Sets the workers to the job that was posted in the kernel's memory. The pool is idle. */
  begin({ memory }: Kernel): void {
    this.#members.forEach((member, i) => {
      member.isIdle = false;
      member.thread.hold(true);
      member.thread.post({ thread: i + 1, ...(member.memory !== memory && { module: this.#module, memory }) });
      member.memory = memory;
    });
  }

  /** Resolves once `condition` holds, which the replies of workers bring about, or the pool has failed. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition() && this.failure === undefined) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  dispose(): void {
    for (const { thread } of this.#members.splice(0)) thread.terminate();
  }

  #start(): void {
    const thread = startWorker((reply) => {
      if (reply !== true) return this.#fail(reply);
      member.isIdle = true;
      member.thread.hold(false);
      this.#wake();
    });
    const member: Member = { thread, isIdle: false };
    this.#members.push(member);
  }

  #fail(error: Error): void {
    this.failure = error;
    this.dispose();
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
