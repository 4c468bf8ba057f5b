/** A call that fails midway: whose fault it was, and nothing left behind on the caller's device. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createWebGPUBackend, type WebGPUBackend } from "../src/index.js";
import { gpu, rejection, requestDevice, storageBuffer } from "./gpu.js";

const options = { rows: 1, vocab: 500, k: 5, dtype: "f32" as const };
const logits = () => Float32Array.from({ length: 500 }, (_, i) => Math.sin(i * i));

/** Functions of the device that a test replaces for one call. */
const replaced: Partial<Record<keyof GPUDevice, (...args: never[]) => unknown>> = {};
let device: GPUDevice;
let backend: WebGPUBackend;
let open = 0;
let buffers: GPUBuffer[] = [];
let destroyed: Set<GPUBuffer>;

beforeAll(async () => {
  device = await requestDevice();
  const watched = new Proxy(device, {
    get(target, name: keyof GPUDevice) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...args: never[]) => {
        if (name === "pushErrorScope") open++;
        if (name === "popErrorScope") open--;
        const result: unknown = (replaced[name] ?? value).apply(target, args);
        if (name === "createBuffer") watch(result as GPUBuffer);
        return result;
      };
    },
  });
  backend = await createWebGPUBackend({ device: watched, gpu });
});

beforeEach(() => {
  for (const name of Object.keys(replaced)) delete replaced[name as keyof GPUDevice];
  buffers = [];
  destroyed = new Set();
});

afterAll(async () => {
  await backend.dispose();
  device.destroy();
});

function watch(buffer: GPUBuffer): void {
  buffers.push(buffer);
  const destroy = buffer.destroy;
  buffer.destroy = () => {
    destroyed.add(buffer);
    return destroy.call(buffer);
  };
}

const readbacks = () => buffers.filter(({ label }) => label === "fused-topk readback");

async function expectCleanAfter(error: Error): Promise<void> {
  expect(error.name).toBe("FusedTopKError");
  expect(open).toBe(0);
  for (const buffer of readbacks()) expect(destroyed).toContain(buffer);
  for (const name of Object.keys(replaced)) delete replaced[name as keyof GPUDevice];
  expect((await backend.softmaxTopK(logits(), options)).probs[0]).toBeGreaterThan(0);
}

describe("a call that fails midway", () => {
  test("logits detached while their kernel compiles are a bad argument", async () => {
    const detached = logits();
    const call = rejection(backend.softmaxTopK(detached, { ...options, temperature: 1e-30 }));
    structuredClone(detached, { transfer: [detached.buffer] });
    const error = await call;
    expect(error).toMatchObject({ code: "ERR_INVALID_ARGUMENT", message: expect.stringMatching(/is detached/) });
    await expectCleanAfter(error);
  });

  test("a device function that throws is ERR_DEVICE, with its words", async () => {
    replaced.createCommandEncoder = () => {
      throw new TypeError("no encoder today");
    };
    const error = await rejection(backend.softmaxTopK(logits(), options));
    expect(error).toMatchObject({ code: "ERR_DEVICE", message: expect.stringMatching(/no encoder today/) });
    await expectCleanAfter(error);
  });

  test("results that cannot be mapped are ERR_DEVICE", async () => {
    replaced.createBuffer = (descriptor: GPUBufferDescriptor) => {
      const buffer = device.createBuffer(descriptor);
      if (descriptor.label === "fused-topk readback") {
        buffer.getMappedRange = () => {
          throw new RangeError("no range today");
        };
      }
      return buffer;
    };
    const error = await rejection(backend.softmaxTopK(logits(), { ...options, k: 400 }));
    expect(readbacks().length).toBe(1);
    expect(error).toMatchObject({ code: "ERR_DEVICE", message: expect.stringMatching(/no range today/) });
    await expectCleanAfter(error);
  });

  test("a fault of the backend's own buffers is not blamed on logits that are right", async () => {
    const good = storageBuffer(device, logits());
    replaced.createBindGroup = (descriptor: GPUBindGroupDescriptor) => {
      const isCall = descriptor.layout.label.startsWith("fused-topk");
      return device.createBindGroup(isCall ? { ...descriptor, entries: [] } : descriptor);
    };
    const error = await rejection(backend.softmaxTopK(good, options));
    expect(error).toMatchObject({ code: "ERR_DEVICE" });
    await expectCleanAfter(error);
  });
});
