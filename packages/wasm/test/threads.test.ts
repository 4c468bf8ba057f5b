/// <reference types="node" />
/** The worker threads: when there are some, what they cost when idle, and how they end. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker, type WorkerOptions } from "node:worker_threads";
import { type SoftmaxTopKOptions, softmaxTopKReference } from "@fused-topk/core";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createBackend } from "../src/backend.js";
import { createWasmBackend, type WasmBackend } from "../src/index.js";
import { startThreads } from "./threads.js";

const size = { rows: 24, vocab: 10_007, k: 100 };
const logits = new Float32Array(size.rows * size.vocab).map((_, i) => Math.sin(i * i) * 10);
const expected = softmaxTopKReference(logits, size).indices;

describe("with threads", () => {
  test("many calls at once, of host memory and of its own, are all right", async () => {
    await using backend = await startThreads(createWasmBackend({ threads: 3 }));
    const held = backend.alloc(logits.length, "f32") as Float32Array;
    held.set(logits);
    const few = { ...size, rows: 1 };
    const calls: [Float32Array, SoftmaxTopKOptions][] = [
      [logits, size],
      [held, size],
      [held, few],
      [logits, few],
      [held, size],
    ];
    const results = await Promise.all(calls.map((call) => backend.softmaxTopK(...call)));
    for (const { rows, indices } of results) expect(indices).toEqual(expected.subarray(0, rows * size.k));
  });

  test("more results than a job holds", async () => {
    await using backend = await startThreads(createWasmBackend({ threads: 2 }));
    const large = { rows: 20, vocab: 10_007, k: 10_000 };
    const { indices } = await backend.softmaxTopK(logits, large);
    expect(indices).toEqual(softmaxTopKReference(logits, large).indices);
    const held = backend.alloc(logits.length, "f32");
    held.set(logits);
    expect((await backend.softmaxTopK(held, large)).indices).toEqual(indices);
  });

  test("dispose waits for the calls on them", async () => {
    const backend = await startThreads(createWasmBackend({ threads: 3 }));
    const calls = [backend.softmaxTopK(logits, size), backend.softmaxTopK(logits, size)];
    await backend.dispose();
    for (const { indices } of await Promise.all(calls)) expect(indices).toEqual(expected);
  });

  test("a process ends by itself while they idle, and waits for a call", async () => {
    const program = `
      const { createWasmBackend } = await import("@fused-topk/wasm");
      const backend = await createWasmBackend({ threads: 3 });
      const size = { rows: 64, vocab: 10000, k: 10 };
      const logits = new Float32Array(size.rows * size.vocab);
      await backend.softmaxTopK(logits, size);
      await new Promise((resolve) => setTimeout(resolve, 200));
      const { indices } = await backend.softmaxTopK(logits, size);
      const before = process.cpuUsage();
      await new Promise((resolve) => setTimeout(resolve, 300));
      const { user, system } = process.cpuUsage(before);
      console.log(JSON.stringify([indices[639], (user + system) / 300_000]));`;
    const cwd = fileURLToPath(new URL("../", import.meta.url));
    const flags = ["--input-type=module", "-e", program];
    const { stdout } = await promisify(execFile)(process.execPath, flags, { cwd, timeout: 20_000 });
    const [last, load] = JSON.parse(stdout);
    expect(last).toBe(9);
    expect(load).toBeLessThan(0.2);
  });

  test("threads: 1 stays on the calling thread", async () => {
    await using backend = await startThreads(createBackend({ threads: 1 }, 0));
    expect(backend.device).toMatch(/, one thread$/);
    expect(backend.alloc(1, "f32").buffer).toBeInstanceOf(ArrayBuffer);
  });

  test.each([0, -1, 1.5, Number.NaN, "2"])("refuses threads: %s", async (threads) => {
    const creating = createWasmBackend({ threads: threads as number });
    await expect(creating).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
  });
});

describe("a worker that fails", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });

  /** Workers of which the program is another. */
  const edited = (edit: (program: string) => string) => {
    const { getBuiltinModule } = process;
    vi.spyOn(process, "getBuiltinModule").mockImplementation(((name: string) => {
      if (name !== "node:worker_threads") return getBuiltinModule(name);
      return {
        Worker: class extends Worker {
          constructor(program: string, options: WorkerOptions) {
            super(edit(program), options);
          }
        },
      };
    }) as typeof getBuiltinModule);
  };

  test.each([
    ["throws at a tile", "exp: Math.exp", 'exp: () => { throw new Error("Lost."); }', "Lost."],
    ["ends", /new WebAssembly.*/, "process.exit(3);", "The worker ended with code 3."],
  ])("and %s: that call and those after it are right", async (_, part, failing, reason) => {
    edited((program) => program.replace(part, failing));
    await using backend = await startThreads(createBackend({ threads: 3 }, 0));
    const held = backend.alloc(logits.length, "f32");
    held.set(logits);
    const device = new RegExp(`, one thread: ${reason}$`);
    const patience = performance.now() + 20_000; // on a busy machine a worker may come too late for many calls
    while (!device.test(backend.device) && performance.now() < patience) {
      expect((await backend.softmaxTopK(held, size)).indices).toEqual(expected);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(backend.device).toMatch(device);
    // It may write to that memory for a while yet: nothing is kept there.
    const memory = new Uint8Array(held.buffer);
    memory.fill(1, 0, held.byteOffset);
    const before = memory.slice();
    expect((await backend.softmaxTopK(held, size)).indices).toEqual(expected);
    expect(Buffer.compare(memory, before)).toBe(0);
  });

  test("where there is no shared memory for the tiles, a call stays on its thread", async () => {
    const { Memory } = WebAssembly;
    await using backend = await createBackend({ threads: 3 }, 0);
    vi.stubGlobal("WebAssembly", {
      Instance: WebAssembly.Instance,
      Memory: class extends Memory {
        constructor(descriptor: WebAssembly.MemoryDescriptor) {
          if (descriptor.shared) throw new RangeError("could not allocate memory");
          super(descriptor);
        }
      },
    });
    await startThreads(Promise.resolve(backend));
    expect((await backend.softmaxTopK(logits, size)).indices).toEqual(expected);
    expect(() => backend.alloc(1, "f32")).toThrow(expect.objectContaining({ code: "ERR_OUT_OF_MEMORY" }));
  });
});

describe("where there can be no threads", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });

  const expectOneThread = async (backend: WasmBackend, reason: string) => {
    expect(backend.device).toMatch(new RegExp(`^WebAssembly (relaxed )?SIMD, one thread: ${reason}$`));
    expect((await backend.softmaxTopK(logits, size)).indices).toEqual(expected);
  };

  test("a page that is not cross-origin isolated has one, and device says so", async () => {
    vi.spyOn(process, "getBuiltinModule").mockReturnValue(undefined);
    vi.stubGlobal("crossOriginIsolated", false);
    await using backend = await createWasmBackend({ threads: 4 });
    await expectOneThread(backend, "the page is not cross-origin isolated");
  });

  test("a page whose policy forbids workers too", async () => {
    vi.spyOn(process, "getBuiltinModule").mockReturnValue(undefined);
    vi.stubGlobal("crossOriginIsolated", true);
    vi.stubGlobal(
      "Worker",
      class {
        constructor() {
          throw new Error("Refused to create a worker.");
        }
      },
    );
    await using backend = await startThreads(createWasmBackend({ threads: 4 }));
    await expectOneThread(backend, "Refused to create a worker.");
  });
});
