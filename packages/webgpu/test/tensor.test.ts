/** Logits in a tensor as onnxruntime-web has it: where they are, and what its dims say that the options do not. */
import { compare } from "@fused-topk/conformance/cases";
import { encodeFloat16, softmaxTopKReference } from "@fused-topk/core";
import type { Tensor } from "onnxruntime-web";
import { afterAll, beforeAll, describe, expect, expectTypeOf, test } from "vitest";
import { createWebGPUBackend, type LogitsTensor, type WebGPUBackend } from "../src/index.js";
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

const [rows, vocab, k] = [3, 1001, 5];
const values = Float32Array.from({ length: rows * vocab }, (_, i) => 8 * Math.sin(i * i));
const halves = Uint16Array.from(values, encodeFloat16);

/** In a buffer that is larger than the tensor, and without host data, as an engine gives it. */
function onDevice(data: Float32Array | Uint16Array, dims: number[]): LogitsTensor {
  return {
    location: "gpu-buffer",
    type: data instanceof Float32Array ? "float32" : "float16",
    dims,
    gpuBuffer: storageBuffer(device, data, 0, 4096),
    get data(): never {
      throw new Error("The data is not on the CPU.");
    },
  };
}

/** In host memory, without a buffer. */
function onHost(data: Float32Array | Uint16Array, dims: number[]): LogitsTensor {
  return {
    location: "cpu",
    type: data instanceof Float32Array ? "float32" : "float16",
    dims,
    data,
    get gpuBuffer(): never {
      throw new Error("The data is not on the GPU.");
    },
  };
}

describe.each([
  ["on the GPU", onDevice],
  ["in host memory", onHost],
])("a tensor %s", (_, make) => {
  test.each([
    [[rows, vocab], {}, {}],
    [[1, rows, vocab], {}, {}],
    [[rows, 1, 1, vocab], {}, {}],
    [[rows * vocab], {}, { rows: 1, vocab: rows * vocab }],
    [[rows * vocab], { rows, vocab }, {}],
    [[1, rows, vocab], { rows: 1, offset: 2 * vocab }, {}],
    [[1, rows, vocab], { vocab: vocab - 40 }, { rowStride: vocab }],
  ])("of dims %j, with options %j", async (dims, given, meant) => {
    for (const [data, dtype] of [
      [values, "f32"],
      [halves, "f16"],
    ] as const) {
      const full = { rows, vocab, k, dtype, ...given, ...meant };
      const actual = await backend.softmaxTopK(make(data, dims), { k, ...given });
      const expected = softmaxTopKReference(data, full);
      expect(compare(actual, expected, full.vocab, "webgpu").failure).toBeUndefined();
    }
  });

  test("without rows gives an empty result", async () => {
    const actual = await backend.softmaxTopK(make(values, [1, 0, vocab]), { k });
    expect(actual).toMatchObject({ rows: 0, probs: new Float32Array(0) });
  });

  test("that holds fewer logits than the options say is refused, however large its buffer", async () => {
    const error = await rejection(backend.softmaxTopK(make(values, [rows, vocab]), { rows: rows + 1, k }));
    expect(error).toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      message: expect.stringMatching(/but they have 3003\./),
    });
  });

  test.each([
    [{ type: "int64" }, {}, 'Expected "float32" or "float16" for logits.type but received "int64".'],
    [{ location: "none" }, {}, 'Expected "gpu-buffer" or "cpu" for logits.location but received "none".'],
    [{ location: "texture" }, {}, 'Expected "gpu-buffer" or "cpu" for logits.location but received "texture".'],
    [{ dims: [] }, {}, "Expected at least one dimension for logits.dims but received none."],
    [{}, { dtype: "f16" }, 'Expected "f32", the type of logits, for dtype but received "f16".'],
    [{}, { k: undefined }, "Expected an integer >= 1 for k but received undefined."],
  ])("with %j and options %j is refused", async (change, options, message) => {
    const { type, dims } = make(values, [rows, vocab]);
    const tensor = Object.defineProperties(make(values, dims as number[]), {
      ...Object.getOwnPropertyDescriptors({ type, ...change }),
    });
    const error = await rejection(backend.softmaxTopK(tensor, { k, ...options } as never));
    expect(error).toMatchObject({ code: "ERR_INVALID_ARGUMENT", message: expect.stringContaining(message) });
  });
});

test("a tensor on the GPU goes into encode", async () => {
  const buffers = {
    logits: onDevice(halves, [1, rows, vocab]),
    probs: poisonedBuffer(device, rows * k * 4),
    indices: poisonedBuffer(device, rows * k * 4),
    logSumExp: poisonedBuffer(device, rows * 4),
  };
  const encoder = device.createCommandEncoder();
  backend.encode(encoder, buffers, { k });
  device.queue.submit([encoder.finish()]);
  const indices = new Uint32Array(await readBuffer(device, buffers.indices, rows * k * 4));
  expect(indices).toEqual(softmaxTopKReference(halves, { rows, vocab, k, dtype: "f16" }).indices);
});

test("a tensor in host memory does not go into encode", () => {
  const outputs = { probs: poisonedBuffer(device, 60), indices: poisonedBuffer(device, 60) };
  const buffers = { logits: onHost(values, [rows, vocab]), ...outputs, logSumExp: poisonedBuffer(device, 12) };
  expect(() => backend.encode(device.createCommandEncoder(), buffers, { k })).toThrow(
    /^Expected a GPUBuffer for logits/,
  );
});

test("onnxruntime-web's Tensor is one, to the compiler too", () => {
  expectTypeOf<Tensor>().toExtend<LogitsTensor>();
});
