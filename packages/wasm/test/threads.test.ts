/// <reference types="node" />
/** The worker threads: when there are some, what they cost when idle, and how they end. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker, type WorkerOptions } from "node:worker_threads";
import { type SoftmaxTopKOptions, softmaxTopKReference } from "@fused-topk/core";
import { afterEach, describe, expect, test, vi } from "vitest";
import { SHARE } from "../src/backend.js";
import { createWasmBackend, type WasmBackend } from "../src/index.js";
import { createOnThreads } from "./threads.js";

const size = { rows: 24, vocab: 10_007, k: 100 };
const logits = new Float32Array(size.rows * size.vocab).map((_, i) => Math.sin(i * i) * 10);
const expected = softmaxTopKReference(logits, size).indices;

describe("with threads", () => {
  test("many calls at once, of host memory and of its own, are all right", async () => {
    const { backend: created, calls: onThreads } = await createOnThreads(3, SHARE);
    await using backend = created;
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
    expect(onThreads.map(({ tiles }) => tiles > 0)).toEqual([true, true, true]);
  });

  test("more results than a job holds", async () => {
    const { backend: created, calls } = await createOnThreads(2);
    await using backend = created;
    const large = { rows: 20, vocab: 10_007, k: 10_000 };
    const { indices } = await backend.softmaxTopK(logits, large);
    expect(indices).toEqual(softmaxTopKReference(logits, large).indices);
    const held = backend.alloc(logits.length, "f32");
    held.set(logits);
    expect((await backend.softmaxTopK(held, large)).indices).toEqual(indices);
    expect(calls.map(({ tiles }) => tiles > 0)).toEqual([true, true]);
  });

  test("one row over all of them, wherever its best logits lie", async () => {
    const { backend: created, calls } = await createOnThreads(4);
    await using backend = created;
    const vocab = 200_003;
    for (let best = 0; best < vocab; best += 40_009) {
      // The max lies in one tile, and most of the sum in others.
      const row = new Float32Array(vocab).map((_, i) => Math.sin(i * i) - (i < vocab / 2 ? 4 : 5));
      for (let i = 0; i < 100; i++) row[(best + i) % vocab] = 3 + i / 100;
      const problem = { rows: 1, vocab, k: 300, temperature: 0.7 };
      const { probs, indices, logSumExp } = await backend.softmaxTopK(row, problem);
      const right = softmaxTopKReference(row, problem);
      expect(indices).toEqual(right.indices);
      expect(Math.max(...probs.map((p, i) => Math.abs(p / right.probs[i]! - 1)))).toBeLessThan(1e-6);
      expect(Math.abs(logSumExp[0]! - right.logSumExp[0]!)).toBeLessThan(1e-6);
    }
    expect(calls.every(({ states }) => states === 3)).toBe(true);
  });

  test("logits that are detached while a call waits for them: the error says so, and the next call is right", async () => {
    const { backend: created } = await createOnThreads(2);
    await using backend = created;
    const jobs = { rows: 20, vocab: 10_007, k: 10_000 };
    const detached = [logits.slice(), logits.slice()];
    const calls = [backend.softmaxTopK(detached[0]!, jobs), backend.softmaxTopK(detached[1]!, size)];
    structuredClone(detached, { transfer: detached.map(({ buffer }) => buffer) });
    for (const call of calls) {
      await expect(call).rejects.toMatchObject({
        code: "ERR_INVALID_ARGUMENT",
        message: expect.stringContaining("The ArrayBuffer of logits is detached"),
      });
    }
    expect((await backend.softmaxTopK(logits, size)).indices).toEqual(expected);
  });

  test("dispose waits for the calls on them", async () => {
    const { backend } = await createOnThreads(3);
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
    await using backend = await createWasmBackend({ threads: 1 });
    expect((await backend.softmaxTopK(logits, size)).indices).toEqual(expected);
    expect(backend.device).toMatch(/, one thread$/);
    expect(backend.alloc(1, "f32").buffer).toBeInstanceOf(ArrayBuffer);
  });

  test.each([0, -1, 1.5, Number.NaN, "2", 257])("refuses threads: %s", async (threads) => {
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
    ["ends", "exp: Math.exp", "exp: () => process.exit(3)", "The worker ended with code 3."],
  ])("and %s: that call and those after it are right", async (_, part, failing, reason) => {
    edited((program) => program.replace(part, failing));
    const { backend: created, calls } = await createOnThreads(3);
    await using backend = created;
    const held = backend.alloc(logits.length, "f32");
    held.set(logits);
    for (let i = 0; i < 2; i++) expect((await backend.softmaxTopK(held, size)).indices).toEqual(expected);
    expect(calls).toEqual([expect.objectContaining({ tiles: expect.toSatisfy((tiles) => tiles > 0) })]);
    expect(backend.device).toMatch(new RegExp(`, one thread: ${reason}$`));
    // It may write to that memory for a while yet: nothing is kept there.
    const memory = new Uint8Array(held.buffer);
    memory.fill(1, 0, held.byteOffset);
    const before = memory.slice();
    expect((await backend.softmaxTopK(held, size)).indices).toEqual(expected);
    expect(Buffer.compare(memory, before)).toBe(0);
  });

  test("where there is no shared memory for the tiles, a call stays on its thread", async () => {
    const { Memory } = WebAssembly;
    const { backend: created } = await createOnThreads(3);
    await using backend = created;
    vi.stubGlobal("WebAssembly", {
      Instance: WebAssembly.Instance,
      Memory: class extends Memory {
        constructor(descriptor: WebAssembly.MemoryDescriptor) {
          if (descriptor.shared) throw new RangeError("could not allocate memory");
          super(descriptor);
        }
      },
    });
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

  /** A page that is cross-origin isolated, and its workers. Returns how many programs of workers are held. */
  const pageWith = (Workers: unknown) => {
    vi.spyOn(process, "getBuiltinModule").mockReturnValue(undefined);
    vi.stubGlobal("crossOriginIsolated", true);
    vi.stubGlobal("Worker", Workers);
    const held = new Set<string>();
    const { createObjectURL } = URL;
    vi.spyOn(URL, "createObjectURL").mockImplementation((blob) => {
      const url = createObjectURL(blob);
      held.add(url);
      return url;
    });
    vi.spyOn(URL, "revokeObjectURL").mockImplementation((url) => void held.delete(url));
    return held;
  };

  test("a page whose policy forbids workers too", async () => {
    const held = pageWith(
      class {
        constructor() {
          throw new Error("Refused to create a worker.");
        }
      },
    );
    await using backend = (await createOnThreads(4)).backend;
    await expectOneThread(backend, "Refused to create a worker.");
    expect(held.size).toBe(0);
  });

  test("a page whose workers never begin", async () => {
    const held = pageWith(
      class {
        terminate() {}
      },
    );
    const backend = await createWasmBackend({ threads: 4 });
    expect((await backend.softmaxTopK(logits, size)).indices).toEqual(expected);
    expect(held.size).toBe(3);
    await backend.dispose();
    expect(held.size).toBe(0);
  });
});
