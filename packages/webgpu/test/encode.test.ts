/** The conformance suite from buffer to buffer: an element that `encode` leaves out, or writes too much, shows. */
import { type Call, runCases } from "@fused-topk/conformance/cases";
import { type HostLogits, hostMemory, type SoftmaxTopK, type SoftmaxTopKOptions } from "@fused-topk/core";
import { expect, test } from "vitest";
import { createWebGPUBackend, type WebGPUBackend } from "../src/index.js";
import { gpu, poisonedBuffer, readBuffer, requestDevice, storageBuffer } from "./gpu.js";

const full = process.env.FUSED_TOPK_FULL === "1";
/** The families that tell most about where logits are read and results written. */
const telling = /every dtype|rows begin/;

test("the cases, from buffer to buffer", { timeout: full ? 3_600_000 : 180_000 }, async () => {
  // Not the backend's own, which it would destroy with results still to be read.
  const device = await requestDevice();
  await using backend = await createWebGPUBackend({ device, gpu });
  const set = full ? "full" : "quick";
  const filter = ({ promise }: { promise: string }) => full || telling.test(promise);
  const call: Call = (logits, options) => callByEncode(backend, logits, options);
  const report = await runCases(backend, { set, filter, call });
  expect(report.groups.flatMap(({ firstFailure }) => firstFailure ?? [])).toEqual([]);
  expect(report.passed).toBeGreaterThan(60);
  device.destroy();
});

const GUARD_BYTES = 64;

/** Solves a problem by `encode`, with padded logits on the device and results that are all ones before, and behind after. */
async function callByEncode(
  backend: WebGPUBackend,
  logits: HostLogits,
  options: SoftmaxTopKOptions,
): Promise<SoftmaxTopK> {
  const device = backend.gpuDevice;
  const { rows, k } = options;
  const bytes = { probs: rows * k * 4, indices: rows * k * 4, logSumExp: rows * 4 };
  const results = {
    probs: poisonedBuffer(device, bytes.probs + GUARD_BYTES),
    indices: poisonedBuffer(device, bytes.indices + GUARD_BYTES),
    logSumExp: poisonedBuffer(device, bytes.logSumExp + GUARD_BYTES),
  };
  const buffers = { logits: storageBuffer(device, logits, 0, GUARD_BYTES), ...results };
  const encoder = device.createCommandEncoder();
  const { dtype } = hostMemory(logits, options.dtype);
  backend.encode(encoder, buffers, { ...options, dtype });
  device.queue.submit([encoder.finish()]);
  const read = async (name: keyof typeof results) => {
    const all = await readBuffer(device, results[name], bytes[name] + GUARD_BYTES);
    const behind = new Uint8Array(all, bytes[name]);
    if (behind.some((byte) => byte !== 0xff)) throw new Error(`The call wrote behind its ${name}.`);
    return all.slice(0, bytes[name]);
  };
  const [probs, indices, logSumExp] = await Promise.all([read("probs"), read("indices"), read("logSumExp")]);
  for (const buffer of Object.values(buffers)) buffer.destroy();
  return {
    rows,
    k,
    probs: new Float32Array(probs),
    indices: new Uint32Array(indices),
    logSumExp: new Float32Array(logSumExp),
  };
}
