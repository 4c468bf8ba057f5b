/** Logits and results in GPU buffers. */

import { compare } from "@fused-topk/conformance/cases";
import { type DType, encodeBFloat16, encodeFloat16, type HostLogits, softmaxTopKReference } from "@fused-topk/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createWebGPUBackend, type WebGPUBackend } from "../src/index.js";
import { gpu, poisonedBuffer, readBuffer, rejection, requestDevice, storageBuffer } from "./gpu.js";

let device: GPUDevice;
let backend: WebGPUBackend;

beforeAll(async () => {
  device = await requestDevice();
  backend = await createWebGPUBackend({ device, gpu });
});

afterAll(async () => {
  await backend.dispose();
  device.destroy();
});

const wave = (length: number) => Float32Array.from({ length }, (_, i) => 8 * Math.sin(i * i));

function encoded(
  values: Float32Array<ArrayBuffer>,
  dtype: DType,
): Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> {
  if (dtype === "f32") return values;
  return Uint16Array.from(values, dtype === "f16" ? encodeFloat16 : encodeBFloat16);
}

describe("logits in a GPUBuffer", () => {
  test.each<DType>(["f32", "f16", "bf16"])("%s, at every alignment, padded", async (dtype) => {
    const [rows, vocab, k] = [3, 301, 9];
    for (const offset of [0, 1, 2, 3, 5, 63, 130]) {
      for (const rowStride of [301, 302, 307]) {
        const logits = encoded(wave(offset + 2 * rowStride + vocab), dtype);
        const options = { rows, vocab, k, dtype, offset, rowStride };
        const buffer = storageBuffer(device, logits, 0, 1000);
        const actual = await backend.softmaxTopK(buffer, options);
        const { failure } = compare(actual, softmaxTopKReference(logits as HostLogits, options), vocab, "webgpu");
        expect(failure, JSON.stringify(options)).toBeUndefined();
        buffer.destroy();
      }
    }
  });

  test("a buffer shorter than a vector, and one that ends within a vector", async () => {
    for (const length of [1, 2, 3, 5, 67]) {
      const logits = wave(length);
      const options = { rows: 1, vocab: length, k: 1, dtype: "f32" as const };
      const actual = await backend.softmaxTopK(storageBuffer(device, logits), options);
      expect(actual.indices).toEqual(softmaxTopKReference(logits, options).indices);
    }
  });

  test("is left as it was", async () => {
    const logits = wave(5000);
    const buffer = storageBuffer(device, logits);
    await backend.softmaxTopK(buffer, { rows: 1, vocab: 5000, k: 5, dtype: "f32" });
    expect(new Float32Array(await readBuffer(device, buffer, logits.byteLength))).toEqual(logits);
  });

  test("a wrong one is a typed error that names it", async () => {
    const options = { rows: 2, vocab: 100, k: 5, dtype: "f32" as const };
    const good = storageBuffer(device, wave(200));
    const call = (buffer: GPUBuffer, change = {}) => rejection(backend.softmaxTopK(buffer, { ...options, ...change }));

    expect(await call(storageBuffer(device, wave(199)))).toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      message: expect.stringMatching(/^Expected at least 800 bytes for logits but received a GPUBuffer of 796\./),
    });
    expect(await call(device.createBuffer({ size: 800, usage: 8 }))).toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      message: expect.stringMatching(/^Expected usage STORAGE for logits/),
    });
    expect(await call(good, { dtype: undefined })).toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      message: expect.stringMatching(/ for dtype but received undefined/),
    });
    const other = await requestDevice();
    expect(await call(storageBuffer(other, wave(200)))).toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      message: expect.stringMatching(/^WebGPU refused the GPUBuffer logits: .+backend\.gpuDevice/s),
    });
    other.destroy();
    const destroyed = storageBuffer(device, wave(200));
    destroyed.destroy();
    expect(await call(destroyed)).toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
    const mapped = device.createBuffer({ size: 800, usage: 0x80, mappedAtCreation: true });
    expect(await call(mapped)).toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      message: expect.stringMatching(/^Expected an unmapped GPUBuffer for logits but .+ "mapped"\. Call its unmap\(\)/),
    });

    const after = await backend.softmaxTopK(good, options);
    expect(after.indices).toEqual(softmaxTopKReference(wave(200), options).indices);
  });
});

describe("encode", () => {
  const outputs = (rows: number, k: number) => ({
    probs: poisonedBuffer(device, rows * k * 4),
    indices: poisonedBuffer(device, rows * k * 4),
    logSumExp: poisonedBuffer(device, rows * 4),
  });

  async function results(rows: number, k: number, buffers: ReturnType<typeof outputs>) {
    return {
      rows,
      k,
      probs: new Float32Array(await readBuffer(device, buffers.probs, rows * k * 4)),
      indices: new Uint32Array(await readBuffer(device, buffers.indices, rows * k * 4)),
      logSumExp: new Float32Array(await readBuffer(device, buffers.logSumExp, rows * 4)),
    };
  }

  test("two calls of different shapes and temperatures in one submit", async () => {
    const first = { rows: 2, vocab: 20000, k: 40, dtype: "f32" as const, temperature: 0.7 };
    const second = { rows: 3, vocab: 500, k: 500, dtype: "f32" as const, offset: 7 };
    const logits = wave(40000);
    const buffer = storageBuffer(device, logits);
    const [a, b] = [outputs(2, 40), outputs(3, 500)];
    const encoder = device.createCommandEncoder();
    backend.encode(encoder, { logits: buffer, ...a }, first);
    backend.encode(encoder, { logits: buffer, ...b }, second);
    device.queue.submit([encoder.finish()]);
    for (const [options, buffers] of [
      [first, a],
      [second, b],
    ] as const) {
      const actual = await results(options.rows, options.k, buffers);
      expect(compare(actual, softmaxTopKReference(logits, options), options.vocab, "webgpu").failure).toBeUndefined();
    }
  });

  test("commands recorded before other calls are right when they are submitted after them", async () => {
    const options = { rows: 1, vocab: 9000, k: 20, dtype: "f32" as const };
    const logits = wave(9000);
    const held = outputs(1, 20);
    const encoder = device.createCommandEncoder();
    backend.encode(encoder, { logits: storageBuffer(device, logits), ...held }, options);
    const commands = encoder.finish();
    const larger = wave(300_000);
    await backend.softmaxTopK(larger, { rows: 2, vocab: 150_000, k: 2000 });
    backend.encode(
      device.createCommandEncoder(),
      { logits: storageBuffer(device, larger), ...outputs(2, 2000) },
      { rows: 2, vocab: 150_000, k: 2000, dtype: "f32" },
    );
    device.queue.submit([commands]);
    const actual = await results(1, 20, held);
    expect(compare(actual, softmaxTopKReference(logits, options), 9000, "webgpu").failure).toBeUndefined();
  });

  test("a wrong buffer is a typed error that names it", () => {
    const options = { rows: 2, vocab: 100, k: 5, dtype: "f32" as const };
    const good = { logits: storageBuffer(device, wave(200)), ...outputs(2, 5) };
    const encode = (change: object) => () =>
      backend.encode(device.createCommandEncoder(), { ...good, ...change }, options);
    expect(encode({ probs: poisonedBuffer(device, 36) })).toThrow(/^Expected at least 40 bytes for probs but .+ 36\./);
    expect(encode({ indices: good.probs })).toThrow(
      /^Expected four different buffers but probs and indices are the same\./,
    );
    expect(encode({ logSumExp: device.createBuffer({ size: 8, usage: 8 }) })).toThrow(/usage STORAGE for logSumExp/);
    expect(encode({ logits: undefined })).toThrow(/^Expected a GPUBuffer for logits but received undefined\./);
    expect(encode({})).not.toThrow();
  });
});

describe("a call like an earlier one", () => {
  const shape = { rows: 2, vocab: 9000, k: 20, dtype: "f32" as const };
  const host = wave(18000);

  test.each<[string, () => () => unknown]>([
    ["of logits in host memory", () => () => backend.softmaxTopK(host, shape)],
    [
      "of logits in a GPUBuffer",
      () => {
        const logits = storageBuffer(device, host);
        return () => backend.softmaxTopK(logits, shape);
      },
    ],
    [
      "by encode",
      () => {
        const [probs, indices, logSumExp] = [160, 160, 8].map((bytes) => poisonedBuffer(device, bytes));
        const buffers = {
          logits: storageBuffer(device, host),
          probs: probs!,
          indices: indices!,
          logSumExp: logSumExp!,
        };
        return () => {
          const encoder = device.createCommandEncoder();
          backend.encode(encoder, buffers, shape);
          device.queue.submit([encoder.finish()]);
        };
      },
    ],
  ])("%s creates nothing on the device", async (_, prepare) => {
    const call = prepare();
    await call();
    const created = await creations(async () => {
      await call();
      await call();
    });
    expect(created).toEqual([]);
  });

  test("creates nothing when calls of a larger shape came between, once both were seen", async () => {
    const logits = storageBuffer(device, wave(300_000));
    const small = () => backend.softmaxTopK(logits, shape);
    const large = () => backend.softmaxTopK(logits, { ...shape, vocab: 150_000, k: 3000 });
    for (const call of [small, large, small]) await call();
    expect(await creations(async () => void [await large(), await small()])).toEqual([]);
  });

  /** What a piece of work creates on the device, encoders excepted. */
  async function creations(work: () => Promise<void>): Promise<string[]> {
    const created: string[] = [];
    const makers = [
      "createBuffer",
      "createBindGroup",
      "createBindGroupLayout",
      "createPipelineLayout",
      "createShaderModule",
      "createComputePipeline",
      "createComputePipelineAsync",
    ] as const;
    for (const name of makers) {
      const original = device[name];
      Object.defineProperty(device, name, {
        configurable: true,
        value: (...args: never[]) => {
          created.push(name);
          return (original as (...args: never[]) => unknown).apply(device, args);
        },
      });
    }
    try {
      await work();
    } finally {
      for (const name of makers) Reflect.deleteProperty(device, name);
    }
    return created;
  }
});
