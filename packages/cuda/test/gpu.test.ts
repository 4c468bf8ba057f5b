/** What needs an NVIDIA GPU: runs with FUSED_TOPK_GPU=1, and is listed as not run without. */
import { spawnSync } from "node:child_process";
import { Worker } from "node:worker_threads";
import { describeBackend } from "@fused-topk/conformance";
import { FusedTopKError, softmaxTopKReference } from "@fused-topk/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDevice } from "../src/backend.js";
import { type CudaBackend, createCudaBackend } from "../src/index.js";
import { createCudaMeter } from "../src/meter.js";

/** Logits from -8 to 8, the same on every run. */
function pseudoRandom(length: number): Float32Array {
  const logits = new Float32Array(length);
  for (let i = 0, state = 1; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    logits[i] = state * 2 ** -28;
  }
  return logits;
}

if (process.env.FUSED_TOPK_GPU === "1") describeBackend(() => createCudaBackend());

describe.skipIf(process.env.FUSED_TOPK_GPU !== "1")("on a GPU (FUSED_TOPK_GPU=1)", { timeout: 120_000 }, () => {
  let backend: CudaBackend;
  beforeAll(async () => {
    backend = await createCudaBackend();
  });
  afterAll(() => backend?.dispose());

  const logits = Float32Array.from({ length: 3 * 5000 }, (_, i) => Math.sin(i * 12.9898) * 10);
  const options = { rows: 3, vocab: 5000, k: 50 };

  test("uploaded logits give the bits that host logits give", async () => {
    const device = await backend.upload(logits);
    expect(device).toMatchObject({ length: logits.length, dtype: "f32" });
    expect(await backend.softmaxTopK(device, options)).toEqual(await backend.softmaxTopK(logits, options));
    await device.free();
    await device.free();
    await expect(backend.softmaxTopK(device, options)).rejects.toMatchObject({ code: "ERR_DISPOSED" });
  });

  // Host logits pass through the device in groups of rows: five, two of a small vocabulary, two of rows that are split, two
  // of which the second would run in larger blocks if it were a call of its own.
  for (const [rows, vocab, k] of [
    [1400, 50257, 256],
    [300_000, 64, 6],
    [64, 300_001, 50],
    [200, 128_256, 1024],
  ] as const) {
    test(`host logits of ${rows} x ${vocab}, in groups, give the bits that uploaded ones give`, async () => {
      const rowStride = vocab + 3;
      const large = pseudoRandom(1 + rows * rowStride);
      const options = { rows, vocab, k, offset: 1, rowStride };
      const dense = new Float32Array(rows * vocab);
      for (let r = 0; r < rows; r++) {
        dense.set(large.subarray(1 + r * rowStride, 1 + r * rowStride + vocab), r * vocab);
      }
      const device = await backend.upload(dense);
      const uploaded = await backend.softmaxTopK(device, { rows, vocab, k });
      await device.free();
      for (const host of [await backend.softmaxTopK(large, options), await backend.softmaxTopK(large, options)]) {
        for (const key of ["probs", "indices", "logSumExp"] as const) {
          expect(Buffer.compare(Buffer.from(host[key].buffer), Buffer.from(uploaded[key].buffer)), key).toBe(0);
        }
      }
    });
  }

  test("calls on host logits at the same time do not disturb each other", async () => {
    const all = pseudoRandom(12 * 16 * 30011);
    const options = { rows: 16, vocab: 30011, k: 20 };
    const parts = Array.from({ length: 12 }, (_, i) => all.subarray(i * 16 * 30011, (i + 1) * 16 * 30011));
    const results = await Promise.all(parts.map((part) => backend.softmaxTopK(part, options)));
    results.forEach((result, i) => {
      expect(result.indices).toEqual(softmaxTopKReference(parts[i]!, options).indices);
    });
  });

  test("calls of one kernel with different k at the same time do not disturb each other", async () => {
    const [rows, vocab] = [200, 50257];
    const device = await backend.upload(pseudoRandom(rows * vocab));
    const solve = (k: number) => backend.softmaxTopK(device, { rows, vocab, k });
    const [few, many] = [await solve(50), await solve(1024)];
    const calls = Array.from({ length: 40 }, (_, i) => solve(i % 2 ? 50 : 1024));
    (await Promise.all(calls)).forEach((result, i) => {
      expect(Buffer.compare(Buffer.from(result.indices.buffer), Buffer.from((i % 2 ? few : many).indices.buffer))).toBe(
        0,
      );
    });
    await device.free();
  });

  test("free waits for the calls under way", async () => {
    const device = await backend.upload(logits);
    const calls = [1, 2, 3].map(() => backend.softmaxTopK(device, options));
    await device.free();
    const expected = softmaxTopKReference(logits, options);
    for (const { indices } of await Promise.all(calls)) expect(indices).toEqual(expected.indices);
  });

  test("logits of another backend are refused", async () => {
    const other = await createCudaBackend();
    const device = await other.upload(logits);
    await expect(backend.softmaxTopK(device, options)).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
    await other.dispose();
  });

  test("a shape past the end of device logits is refused", async () => {
    const device = await backend.upload(logits);
    await expect(backend.softmaxTopK(device, { ...options, rows: 4 })).rejects.toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
    });
    await device.free();
  });

  test("upload refuses a dtype that is not the array's", async () => {
    await expect(backend.upload(logits, { dtype: "f16" })).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
  });

  test("wrap and upload refuse options that are no object", async () => {
    const none = null as unknown as { length: number; dtype: "f32" };
    expect(() => backend.wrap(4n, none)).toThrow(/Expected an object for options but received null/);
    await expect(backend.upload(logits, none)).rejects.toThrow(/Expected an object for options but received null/);
  });

  test("wrap refuses what is no device memory", () => {
    const wrap = (pointer: unknown) => () => backend.wrap(pointer as bigint, { length: 10, dtype: "f32" });
    for (const pointer of [0n, -4n, 4096, 6n, 2n ** 64n, 4096n]) expect(wrap(pointer)).toThrow(FusedTopKError);
  });

  test("wrap reads memory of another owner, and refuses a length past its end", async () => {
    const { native, context } = await openDevice({});
    const pointer = await native.upload(context, new Uint8Array(logits.buffer));
    const wrapped = backend.wrap(pointer, { length: logits.length, dtype: "f32" });
    expect(await backend.softmaxTopK(wrapped, options)).toEqual(await backend.softmaxTopK(logits, options));
    expect(() => backend.wrap(pointer, { length: 2 ** 40, dtype: "f32" })).toThrow(/for length but received/);
    await native.dispose(context);
  });

  test("a large call leaves the event loop its turns", async () => {
    const large = new Float32Array(64 * 128256).fill(1);
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await backend.softmaxTopK(large, { rows: 64, vocab: 128256, k: 50 });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(2);
  });

  test("worker threads have backends of their own", async () => {
    const module = new URL("../dist/index.js", import.meta.url).href;
    const source = `
      import { parentPort } from "node:worker_threads";
      const { createCudaBackend } = await import(${JSON.stringify(module)});
      const backend = await createCudaBackend();
      const { indices } = await backend.softmaxTopK(Float32Array.of(1, 3, 2), { rows: 1, vocab: 3, k: 2 });
      parentPort.postMessage([...indices]);`;
    const workers = Array.from(
      { length: 4 },
      () => new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`)),
    );
    const answers = workers.map(
      (worker) => new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject)),
    );
    expect(await Promise.all(answers)).toEqual(workers.map(() => [1, 2]));
    await Promise.all(workers.map((worker) => worker.terminate()));
  });

  test("a worker that ends with calls under way leaves the process alive", async () => {
    const module = new URL("../dist/index.js", import.meta.url).href;
    const worker = `
      import { parentPort } from "node:worker_threads";
      const { createCudaBackend } = await import(${JSON.stringify(module)});
      const backend = await createCudaBackend();
      const logits = new Float32Array(16 * 128256).fill(1);
      for (let i = 0; i < 16; i++) backend.softmaxTopK(logits, { rows: 16, vocab: 128256, k: 50 });
      parentPort.postMessage("under way");`;
    const main = `
      import { Worker } from "node:worker_threads";
      const worker = new Worker(new URL(${JSON.stringify(`data:text/javascript,${encodeURIComponent(worker)}`)}));
      worker.once("message", () => worker.terminate().then(() => console.log("alive")));`;
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", main], {
      encoding: "utf8",
    });
    expect(stdout, stderr).toBe("alive\n");
  });

  test("the meter's variants agree", async () => {
    await using meter = await createCudaMeter();
    const request = { options: { rows: 8, vocab: 20011, k: 20 }, template: logits, sets: 2, repeats: 3 };
    const template = Float32Array.from({ length: 4 * 20011 }, (_, i) => Math.sin(i * 78.233) * 10);
    const expected = softmaxTopKReference(
      Float32Array.from({ length: 8 * 20011 }, (_, i) => template[i % template.length]!),
      request.options,
    );
    for (const variant of meter.variants) {
      const { result, microseconds } = await meter.measure({ ...request, template, variant });
      expect(microseconds).toHaveLength(3);
      if (result) expect(result.indices).toEqual(expected.indices);
    }
  });

  // Elsewhere: decode needs compute capability 9.0.
  for (const [vocab, k, must, cannot] of [
    [20011, 20, ["stream", "split"], ["gating", "small"]],
    [200, 8, ["gating", "small", "stream"], ["split"]],
  ] as const) {
    test(`every path that runs gives the reference's indices: vocab ${vocab}, k ${k}`, async () => {
      await using meter = await createCudaMeter();
      const template = Float32Array.from({ length: 8 * vocab }, (_, i) => Math.sin(i * 78.233) * 10);
      const options = { rows: 8, vocab, k };
      const expected = softmaxTopKReference(template, options);
      const ran = new Set<string>();
      for (const path of meter.paths) {
        const request = { variant: "fused", options, template, sets: 2, repeats: 1, path } as const;
        const measurement = await meter.measure(request).catch((error: FusedTopKError) => {
          expect(error).toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
          expect(error.message).toContain(`The path ${path} cannot run`);
        });
        if (!measurement) continue;
        ran.add(path);
        expect(measurement.path).toBe(path);
        expect(measurement.result!.indices, path).toEqual(expected.indices);
      }
      expect([...ran]).toEqual(expect.arrayContaining([...must]));
      for (const path of cannot) expect(ran).not.toContain(path);
    });
  }

  test("the meter refuses a template shorter than a row", async () => {
    await using meter = await createCudaMeter();
    const options = { rows: 1, vocab: 100, k: 1 };
    const request = { variant: "fused", options, template: new Float32Array(99), sets: 1, repeats: 1 } as const;
    await expect(meter.measure(request)).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
  });

  test("a device that is not there is named, with those that are", async () => {
    await expect(createCudaBackend({ device: 999 })).rejects.toMatchObject({
      code: "ERR_BACKEND_UNAVAILABLE",
      message: expect.stringMatching(/^There is no CUDA device 999; the number of devices is \d+\. Pass /),
    });
  });
});
