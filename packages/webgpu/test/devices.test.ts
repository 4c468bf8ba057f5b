/** Every device that WebGPU allows: default limits, small bindings, a device that goes away. */
import { compare } from "@fused-topk/conformance/cases";
import { softmaxTopKReference } from "@fused-topk/core";
import { describe, expect, test } from "vitest";
import { createWebGPUBackend } from "../src/index.js";
import { gpu, rejection, requestDevice, storageBuffer } from "./gpu.js";

const noise = (length: number) => Float32Array.from({ length }, (_, i) => 5 * Math.sin(i * i + i));

describe("limits", () => {
  test("the specification's defaults: 256 invocations, 16 KiB, 128 MiB bindings", async () => {
    const device = await requestDevice();
    expect(device.limits.maxComputeWorkgroupStorageSize).toBe(16384);
    const uncaptured: string[] = [];
    device.addEventListener("uncapturederror", (event) => uncaptured.push(event.error.message));
    for (const candidates of ["workgroup", "storage"] as const) {
      const backend = await createWebGPUBackend({ device, gpu, path: { candidates, workgroupSize: 256 } });
      expect(backend.limits.maxK).toBeGreaterThanOrEqual(1024);
      const logits = noise(12_000);
      for (const k of [1, 4096]) {
        const options = { rows: 1, vocab: 12_000, k };
        const actual = await backend.softmaxTopK(logits, options);
        expect(compare(actual, softmaxTopKReference(logits, options), 12_000, "webgpu").failure).toBeUndefined();
      }
      await backend.dispose();
    }
    expect(uncaptured).toEqual([]);
    device.destroy();
  });

  test.each([65_536, 262_144])("rows, and then a row, larger than a binding of %i bytes", async (bytes) => {
    // No adapter grants less than the default, so the limit is what the backend sees.
    const device = await requestDevice();
    const limits = new Proxy(device.limits, {
      get: (target, name) => (name === "maxStorageBufferBindingSize" ? bytes : Reflect.get(target, name, target)),
    });
    const seen: number[] = [];
    const limited = new Proxy(device, {
      get(target, name) {
        if (name === "limits") return limits;
        const value = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...args: never[]) => {
          if (name === "createBindGroup") {
            const { entries } = args[0] as GPUBindGroupDescriptor;
            for (const { resource } of entries) seen.push((resource as GPUBufferBinding).size ?? 0);
          }
          return value.apply(target, args);
        };
      },
    });
    await using backend = await createWebGPUBackend({ device: limited, gpu });
    for (const [rows, vocab, k] of [
      [50, 700, 11],
      [3, 40_000, 5],
      [1, 100_003, 30],
    ] as const) {
      const options = { rows, vocab, k, dtype: "f32" as const, offset: 3, rowStride: vocab + 1 };
      const logits = noise(3 + rows * (vocab + 1));
      const expected = softmaxTopKReference(logits, options);
      expect(compare(await backend.softmaxTopK(logits, options), expected, vocab, "webgpu").failure).toBeUndefined();
      const resident = await backend.softmaxTopK(storageBuffer(device, logits), options);
      expect(compare(resident, expected, vocab, "webgpu").failure).toBeUndefined();
    }
    expect(Math.max(...seen)).toBeLessThanOrEqual(bytes);
    device.destroy();
  });
});

describe("a device", () => {
  test("of the caller's stays open when the backend is disposed", async () => {
    const device = await requestDevice();
    const backend = await createWebGPUBackend({ device, gpu });
    expect(backend.gpuDevice).toBe(device);
    await backend.dispose();
    const outcome = await Promise.race([device.lost, device.queue.onSubmittedWorkDone()]);
    expect(outcome).toBeUndefined();
    device.destroy();
  });

  test("that is destroyed in the middle of calls rejects them all, in time, and a fresh one works", async () => {
    const options = { rows: 4, vocab: 30_000, k: 50 };
    const logits = noise(120_000);
    for (let cycle = 0; cycle < 3; cycle++) {
      const device = await requestDevice();
      const backend = await createWebGPUBackend({ device, gpu });
      if (cycle > 0) await backend.softmaxTopK(noise(100), { rows: 1, vocab: 100, k: 3 });
      const calls = Array.from({ length: 10 }, () => rejection(backend.softmaxTopK(logits, options)));
      const begin = Date.now();
      device.destroy();
      for (const error of await Promise.all(calls)) expect(error).toMatchObject({ code: "ERR_DEVICE_LOST" });
      expect(Date.now() - begin).toBeLessThan(2000);
      const later = await rejection(backend.softmaxTopK(logits, options));
      expect(later).toMatchObject({
        code: "ERR_DEVICE_LOST",
        message: expect.stringMatching(/Create a new device and a backend on it\.$/),
      });
      expect(() => backend.encode({} as GPUCommandEncoder, {} as never, options)).toThrow(/was lost/);
      await backend.dispose();
    }
    await using fresh = await createWebGPUBackend();
    const actual = await fresh.softmaxTopK(logits, options);
    expect(actual.indices).toEqual(softmaxTopKReference(logits, options).indices);
  });

  test.each([
    [{ device: 3 }, "Expected a GPUDevice for device but received 3."],
    [{ device: {} }, "Expected a GPUDevice for device but received an object of type Object."],
    [{ device: null }, "Expected a GPUDevice for device but received null."],
    [{ device: gpu }, "Expected a GPUDevice for device but received an object of type "],
    [{ gpu: {} }, "Expected a GPU for gpu but received an object of type Object."],
    [{ gpu: null }, "Expected a GPU for gpu but received null."],
    [null, "Expected an object for options but received null."],
    ["high", 'Expected an object for options but received "high".'],
  ])("and options of another type are refused: %o", async (options, message) => {
    const error = await rejection(createWebGPUBackend(options as never));
    expect(error).toMatchObject({ code: "ERR_INVALID_ARGUMENT", message: expect.stringContaining(message) });
  });

  test("that cannot be had says why and what to do", async () => {
    const none = { requestAdapter: async () => null, wgslLanguageFeatures: new Set() } as unknown as GPU;
    expect(await rejection(createWebGPUBackend({ gpu: none }))).toMatchObject({
      code: "ERR_BACKEND_UNAVAILABLE",
      message: expect.stringMatching(/^WebGPU is present but offers no adapter\. Install/),
    });
  });
});
