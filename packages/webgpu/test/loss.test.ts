/// <reference types="node" />
/** A device that goes away in the middle of calls, over and over: every promise settles, and no buffer stays behind. */
import { softmaxTopKReference } from "@fused-topk/core";
import { expect, test } from "vitest";
import { create } from "webgpu";
import { createWebGPUBackend } from "../src/index.js";
import { gpu, rejection, storageBuffer } from "./gpu.js";

/** Dawn's null backend has lifetimes and errors and computes nothing, so that a cycle takes milliseconds, not seconds. */
const nullGpu = create(["backend=null"]);
const CYCLES = 100;
const shapes = [
  { rows: 2, vocab: 64, k: 4 },
  { rows: 1, vocab: 3000, k: 40 },
];
const noise = (length: number) => Float32Array.from({ length }, (_, i) => 5 * Math.sin(i * i + i));

/** A device that counts the buffers it made and that nobody destroyed. */
function counted(device: GPUDevice): { device: GPUDevice; live: Set<string> } {
  const live = new Set<string>();
  let made = 0;
  const proxy = new Proxy(device, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...args: never[]) => {
        const result: unknown = value.apply(target, args);
        if (name === "createBuffer") {
          const buffer = result as GPUBuffer;
          const key = `${buffer.label} ${made++}`;
          live.add(key);
          const destroy = buffer.destroy;
          buffer.destroy = () => {
            live.delete(key);
            return destroy.call(buffer);
          };
        }
        return result;
      };
    },
  });
  return { device: proxy, live };
}

/** How far the calls have come when the device goes away. */
const moments: (() => Promise<unknown> | undefined)[] = [
  () => undefined,
  () => Promise.resolve(),
  () => new Promise((resolve) => setImmediate(resolve)),
  () => new Promise((resolve) => setTimeout(resolve, 1)),
  () => new Promise((resolve) => setTimeout(resolve, 10)),
];

const sources: [string, GPU][] = [["that computes nothing", nullGpu]];
if (process.env.FUSED_TOPK_FULL === "1") sources.push(["that computes", gpu]);

test.each(sources)(
  "a device %s, destroyed and created again in the middle of calls",
  { timeout: 600_000 },
  async (_, source) => {
    let completed = 0;
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const adapter = (await source.requestAdapter())!;
      const real = await adapter.requestDevice();
      const { device, live } = counted(real);
      const backend = await createWebGPUBackend({ device, gpu: source });
      const shape = shapes[cycle % 2]!;
      const logits = noise(shape.rows * shape.vocab);
      if (cycle % 4 === 0) {
        const { indices } = await backend.softmaxTopK(logits, shape);
        if (source === gpu) expect(indices).toEqual(softmaxTopKReference(logits, shape).indices);
      }
      const resident = storageBuffer(real, logits);
      const calls = [
        backend.softmaxTopK(logits, shape),
        backend.softmaxTopK(resident, { ...shape, dtype: "f32" }),
        backend.softmaxTopK(logits, { ...shape, temperature: 1e-31 }),
      ].map((call) =>
        call.then(
          () => completed++,
          (error) => expect(error).toMatchObject({ code: "ERR_DEVICE_LOST" }),
        ),
      );
      await moments[cycle % moments.length]!();
      real.destroy();
      await Promise.all(calls);
      expect(await rejection(backend.softmaxTopK(logits, shape))).toMatchObject({ code: "ERR_DEVICE_LOST" });
      await backend.dispose();
      expect([...live], `buffers left by cycle ${cycle}`).toEqual([]);
    }
    expect(completed).toBeLessThan(3 * CYCLES);
  },
);
