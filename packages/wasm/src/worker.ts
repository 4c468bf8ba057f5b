/** One worker thread, the same in a browser, in Node and in Deno. */

/** What a worker is told: to attend, as that thread, in a memory. */
export interface Task {
  thread: number;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

export interface WorkerThread {
  post(task: Task): void;
  terminate(): void;
}

/** What a worker tells: `true` when it has begun, an error when it cannot go on, or has ended. */
export type OnReply = (reply: true | Error) => void;

/** The worker's program, as text: no bundler and no runtime has a file to find. */
const program = `
  const port = typeof require === "function" ? require("node:worker_threads").parentPort : self;
  port.onmessage = ({ data: { thread, module, memory } }) => {
    const row_state = { exp: Math.exp, log: Math.log };
    new WebAssembly.Instance(module, { env: { memory }, row_state }).exports.attend(thread);
  };
  port.onmessageerror = () => {
    throw new Error("The worker could not receive its memory.");
  };
  port.postMessage(true);`;

/** The part of node:worker_threads and node:os that is used. */
interface NodeModules {
  "node:worker_threads": {
    Worker: new (
      program: string,
      options: { eval: true },
    ) => {
      postMessage(task: Task): void;
      on(event: "message" | "messageerror" | "error" | "exit", listener: (value: unknown) => void): void;
      unref(): void;
      terminate(): Promise<number>;
    };
  };
  "node:os": { availableParallelism(): number };
}

/** A module of Node's, without an import that a bundler would follow; `undefined` in a browser. */
function nodeModule<Name extends keyof NodeModules>(name: Name): NodeModules[Name] | undefined {
  const { process } = globalThis as { process?: { getBuiltinModule?: (name: string) => unknown } };
  return process?.getBuiltinModule?.(name) as NodeModules[Name] | undefined;
}

/** How many threads the processor has. */
export function hardwareThreads(): number {
  return nodeModule("node:os")?.availableParallelism() ?? globalThis.navigator?.hardwareConcurrency ?? 1;
}

/** Why there can be no threads here; `undefined` where there can. */
export function noThreadsReason(): string | undefined {
  if (nodeModule("node:worker_threads") !== undefined) return undefined;
  if (!globalThis.crossOriginIsolated) return "the page is not cross-origin isolated";
  return "Worker" in globalThis ? undefined : "there are no workers here";
}

/** @throws where a page's policy forbids it; some engines report that to `onReply` instead. */
export function startWorker(onReply: OnReply): WorkerThread {
  const node = nodeModule("node:worker_threads");
  if (node !== undefined) {
    const worker = new node.Worker(program, { eval: true });
    worker.on("message", () => onReply(true));
    worker.on("error", (error) => onReply(error as Error));
    worker.on("messageerror", (error) => onReply(error as Error));
    worker.on("exit", (code) => onReply(new Error(`The worker ended with code ${code}.`)));
    worker.unref();
    return {
      post: (task) => worker.postMessage(task),
      terminate: () => void worker.terminate(),
    };
  }
  const url = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
  const revoke = () => URL.revokeObjectURL(url); // the program has been read, or will not be
  let worker: Worker;
  try {
    worker = new Worker(url);
  } catch (error) {
    revoke();
    throw error;
  }
  worker.onmessage = () => {
    revoke();
    onReply(true);
  };
  worker.onmessageerror = () => onReply(new Error("The worker's reply could not be read."));
  worker.onerror = ({ message }) => onReply(new Error(message || "The worker could not start."));
  return {
    post: (task) => worker.postMessage(task),
    terminate: () => {
      revoke();
      worker.terminate();
    },
  };
}
