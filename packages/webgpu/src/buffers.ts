/** The GPU memory of a backend: scratch that grows, parameters, and readback buffers that are used again. */
import { BufferUsage } from "./spec.js";

/** A buffer and its size: what a GPUBuffer says itself costs a call into native code each time. */
export interface SizedBuffer {
  buffer: GPUBuffer;
  size: number;
}

/**
 * Buffers by role, each replaced by a larger one when a call needs more. One of each serves every call, because a queue
 * executes its dispatches in order.
 */
export class Arena {
  readonly #device: GPUDevice;
  readonly #destroyReplaced: boolean;
  readonly #buffers = new Map<string, SizedBuffer>();
  #generation = 0;

  /** @param destroyReplaced false where command buffers that were not submitted yet may still use a replaced one. */
  constructor(device: GPUDevice, destroyReplaced: boolean) {
    this.#device = device;
    this.#destroyReplaced = destroyReplaced;
  }

  /** Another number whenever a buffer it gave is no longer the one it gives. */
  get generation(): number {
    return this.#generation;
  }

  /** The buffer for a role, of at least `bytes`. */
  get(role: string, bytes: number): GPUBuffer {
    const held = this.#buffers.get(role);
    if (held && held.size >= bytes) return held.buffer;
    if (held) this.#generation++;
    if (held && this.#destroyReplaced) held.buffer.destroy();
    const size = sizeClass(bytes, this.#device.limits.maxBufferSize);
    const usage = BufferUsage.STORAGE | BufferUsage.COPY_DST | BufferUsage.COPY_SRC;
    const buffer = this.#device.createBuffer({ label: `fused-topk ${role}`, size, usage });
    this.#buffers.set(role, { buffer, size });
    return buffer;
  }

  destroy(): void {
    for (const { buffer } of this.#buffers.values()) buffer.destroy();
    this.#buffers.clear();
    this.#generation++;
  }
}

/** Buffers to map, handed out to one call each. */
export class ReadbackPool {
  readonly #device: GPUDevice;
  readonly #idle: SizedBuffer[] = [];
  readonly #lent = new Set<SizedBuffer>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  acquire(bytes: number): SizedBuffer {
    const found = this.#idle.findIndex(({ size }) => size >= bytes);
    const readback = found >= 0 ? this.#idle.splice(found, 1)[0]! : this.#create(bytes);
    this.#lent.add(readback);
    return readback;
  }

  release(readback: SizedBuffer): void {
    this.#lent.delete(readback);
    if (this.#idle.length === MAX_IDLE) this.#idle.shift()!.buffer.destroy();
    this.#idle.push(readback);
  }

  /** In place of `release`, after a failure. */
  discard(readback: SizedBuffer): void {
    this.#lent.delete(readback);
    readback.buffer.destroy();
  }

  /** Those of calls that a lost device left hanging, too. */
  destroy(): void {
    for (const { buffer } of [...this.#idle, ...this.#lent]) buffer.destroy();
    this.#idle.length = 0;
    this.#lent.clear();
  }

  #create(bytes: number): SizedBuffer {
    const size = sizeClass(bytes, this.#device.limits.maxBufferSize);
    const usage = BufferUsage.MAP_READ | BufferUsage.COPY_DST;
    return { buffer: this.#device.createBuffer({ label: "fused-topk readback", size, usage }), size };
  }
}

/**
 * Uniform buffers by their content. They are never written again, so commands recorded with one stay valid whenever they
 * are submitted, and a call like an earlier one creates nothing.
 */
export class ParamsCache {
  readonly #device: GPUDevice;
  readonly #buffers = new Map<string, GPUBuffer>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  get(words: Uint32Array<ArrayBuffer>): GPUBuffer {
    const key = words.join();
    let buffer = this.#buffers.get(key);
    if (!buffer) {
      buffer = this.#device.createBuffer({
        label: "fused-topk params",
        size: words.byteLength,
        usage: BufferUsage.UNIFORM,
        mappedAtCreation: true,
      });
      new Uint32Array(buffer.getMappedRange()).set(words);
      buffer.unmap();
    } else {
      this.#buffers.delete(key);
    }
    this.#buffers.set(key, buffer);
    if (this.#buffers.size > MAX_PARAMS) this.#buffers.delete(this.#buffers.keys().next().value!);
    return buffer;
  }

  destroy(): void {
    for (const buffer of this.#buffers.values()) buffer.destroy();
    this.#buffers.clear();
  }
}

const MAX_IDLE = 8;
const MAX_PARAMS = 256;

/** At most a quarter more than asked, so that calls of similar shapes share. */
function sizeClass(bytes: number, most: number): number {
  const step = Math.max(256, 2 ** Math.floor(Math.log2(Math.max(bytes, 1))) / 4);
  return Math.min(Math.ceil(bytes / step) * step, most);
}
