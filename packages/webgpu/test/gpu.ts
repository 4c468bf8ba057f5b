/// <reference types="node" />
/** Devices for the tests: Dawn for Node on whatever adapter it finds, which must exist. */
import { create } from "webgpu";

const STORAGE = 0x80;
const COPY_SRC = 0x4;
const COPY_DST = 0x8;
const MAP_READ = 0x1;

export const gpu: GPU = create([]);

export async function requestDevice(requiredLimits: Record<string, number> = {}): Promise<GPUDevice> {
  const adapter = await gpu.requestAdapter();
  if (!adapter) throw new Error("These tests need a WebGPU adapter, software or not, and found none.");
  return adapter.requestDevice({ requiredLimits });
}

/** A storage buffer that holds `data` from byte `at` on, with `padding` bytes behind it. */
export function storageBuffer(device: GPUDevice, data: ArrayBufferView, at = 0, padding = 0): GPUBuffer {
  const size = Math.ceil((at + data.byteLength + padding) / 4) * 4;
  const buffer = device.createBuffer({ size, usage: STORAGE | COPY_SRC | COPY_DST });
  const bytes = new Uint8Array(size).fill(0x7f); // as f32, f16 or bf16: a NaN or a huge number
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
  device.queue.writeBuffer(buffer, 0, bytes);
  return buffer;
}

export function poisonedBuffer(device: GPUDevice, bytes: number): GPUBuffer {
  return storageBuffer(device, new Uint8Array(bytes).fill(0xff));
}

export async function readBuffer(device: GPUDevice, buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
  const readback = device.createBuffer({ size: bytes, usage: MAP_READ | COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, readback, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await readback.mapAsync(1);
  const copy = readback.getMappedRange().slice(0);
  readback.destroy();
  return copy;
}

/** The error a call rejects with. */
export async function rejection(call: Promise<unknown>): Promise<Error & { code?: string }> {
  return call.then(
    () => Promise.reject(new Error("Expected a rejection but the call succeeded.")),
    (error) => error,
  );
}
