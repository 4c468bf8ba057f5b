/** What needs an NVIDIA GPU: runs with FUSED_TOPK_GPU=1, and is listed as not run without. */
import { Worker } from "node:worker_threads";
import { describeBackend } from "@fused-topk/conformance";
import { FusedTopKError, softmaxTopKReference } from "@fused-topk/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type CudaBackend, createCudaBackend } from "../src/index.js";
import { createCudaMeter } from "../src/meter.js";

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

  test("wrap refuses what is no device memory", () => {
    const wrap = (pointer: unknown) => () => backend.wrap(pointer as bigint, { length: 10, dtype: "f32" });
    for (const pointer of [0n, -4n, 4096, 6n, 2n ** 64n, 4096n]) expect(wrap(pointer)).toThrow(FusedTopKError);
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

  test("the meter's variants agree, on every path", async () => {
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
    for (const path of meter.paths.filter((path) => path !== "small")) {
      const { result } = await meter.measure({ ...request, template, variant: "fused", path });
      expect(result!.indices).toEqual(expected.indices);
    }
  });
});
