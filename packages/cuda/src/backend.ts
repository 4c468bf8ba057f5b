/** The CUDA backend: validation, device-resident logits, lifetime. The work is the addon's. */
import {
  allocateResult,
  type Backend,
  bytesPerElement,
  type DType,
  disposedError,
  FusedTopKError,
  type HostLogits,
  hostMemory,
  invalidArgument,
  resolveHostOptions,
  resolveOptions,
  type SoftmaxTopK,
  type SoftmaxTopKOptions,
} from "@fused-topk/core";
import { type DeviceLogits, OwnLogits } from "./logits.js";
import { loadNative, type Native, type NativeContext, nativeError } from "./native.js";

export interface CudaBackendOptions {
  /** Index of the device, as CUDA counts them. Default 0. */
  device?: number;
}

/** fused-topk on an NVIDIA GPU. */
export interface CudaBackend extends Backend {
  readonly name: "cuda";
  /**
   * As `Backend.softmaxTopK`; the logits may also be DeviceLogits of this backend, which are read where they lie.
   *
   * A host array is copied by up to ten threads through pinned memory while the kernel runs on the rows that are there,
   * so it may be larger than the device's memory. For each call at a time the backend keeps, until it is disposed, at most
   * 32 MiB of pinned memory and 129 MiB of device memory for logits (beyond 64 MiB a row: two rows), less where the
   * arrays were smaller, up to 7 MiB of device memory for rows that are split, and as much as the results take in both. The array may not change before the promise settles.
   *
   * @throws {FusedTopKError} as a rejection: `ERR_INVALID_ARGUMENT`, `ERR_OUT_OF_MEMORY`, `ERR_DEVICE_LOST`,
   *   `ERR_DISPOSED`, `ERR_DEVICE`.
   */
  softmaxTopK(logits: HostLogits | DeviceLogits, options: SoftmaxTopKOptions): Promise<SoftmaxTopK>;
  /**
   * Copies logits to device memory that the result owns until `free()`, or until the backend is disposed.
   *
   * @param options `dtype` is required for a Uint16Array.
   * @throws {FusedTopKError} as a rejection: `ERR_INVALID_ARGUMENT`, `ERR_OUT_OF_MEMORY`, `ERR_DEVICE_LOST`,
   *   `ERR_DISPOSED`, `ERR_DEVICE`.
   */
  upload(logits: HostLogits, options?: { dtype?: DType }): Promise<DeviceLogits>;
  /**
   * Borrows device memory of another library in this process: it is read and never freed. It must stay allocated during
   * calls, and what writes it must have finished before a call.
   *
   * @param pointer address of the first element, in memory of this backend's device, aligned to the element.
   * @param options `length` in elements; that the first and the last are in the device's memory is checked.
   * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`, `ERR_DEVICE_LOST`, `ERR_DEVICE`
   */
  wrap(pointer: bigint, options: { length: number; dtype: DType }): DeviceLogits;
}

/**
 * Creates the CUDA backend.
 *
 * @throws {FusedTopKError} as a rejection: `ERR_BACKEND_UNAVAILABLE` with CUDA's reason and what to do,
 *   `ERR_INVALID_ARGUMENT`.
 */
export async function createCudaBackend(options: CudaBackendOptions = {}): Promise<CudaBackend> {
  const { native, context, device } = await openDevice(options);
  return new Implementation(native, context, device);
}

/** Loads the addon and opens a device. */
export async function openDevice(
  options: CudaBackendOptions,
): Promise<{ native: Native; context: NativeContext; device: string }> {
  requireObject(options, "Pass { device: 0 } or nothing.");
  const { device = 0 } = options;
  if (!Number.isInteger(device) || device < 0 || device > 0x7fffffff) {
    throw invalidArgument("device", "an integer >= 0", device, "Pass the index of a CUDA device; 0 is the first.");
  }
  const native = loadNative();
  try {
    return { native, ...(await native.open(device)) };
  } catch (failure) {
    throw nativeError(failure);
  }
}

function requireObject(options: unknown, fix: string): void {
  if (typeof options !== "object" || options === null) throw invalidArgument("options", "an object", options, fix);
}

/** The bytes of an array, whatever its type, in place. */
export function bytesOf(array: HostLogits): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

class Implementation implements CudaBackend {
  readonly name = "cuda";
  readonly device: string;
  readonly limits: { readonly maxK: number };
  readonly #native: Native;
  readonly #context: NativeContext;
  readonly #pending = new Set<Promise<unknown>>();
  #disposed: Promise<void> | undefined;

  constructor(native: Native, context: NativeContext, device: string) {
    this.#native = native;
    this.#context = context;
    this.device = device;
    this.limits = { maxK: native.maxK };
  }

  async softmaxTopK(logits: HostLogits | DeviceLogits, options: SoftmaxTopKOptions): Promise<SoftmaxTopK> {
    this.#requireUsable();
    const own = logits instanceof OwnLogits ? this.#requireOwn(logits) : undefined;
    const { maxK } = this.limits;
    const resolved = own ? resolveOptions(options, own, maxK) : resolveHostOptions(logits as HostLogits, options, maxK);
    const { rows, vocab, k } = resolved;
    if (vocab > this.#native.maxVocab) {
      throw invalidArgument("vocab", `at most ${this.#native.maxVocab}`, vocab, "Split the rows.");
    }
    if (rows > this.#native.maxRows) {
      throw invalidArgument("rows", `at most ${this.#native.maxRows}`, rows, "Split the rows over several calls.");
    }
    const result = allocateResult(rows, k);
    if (rows === 0) return result;
    const call = (memory: Uint8Array | bigint) =>
      this.#run(() =>
        this.#native.softmaxTopK(this.#context, memory, resolved, result.probs, result.indices, result.logSumExp),
      );
    await (own ? own.use(call) : call(bytesOf(logits as HostLogits)));
    return result;
  }

  async upload(logits: HostLogits, options: { dtype?: DType } = {}): Promise<DeviceLogits> {
    this.#requireUsable();
    requireObject(options, 'Pass { dtype: "f16" } or nothing.');
    const { length, dtype } = hostMemory(logits, options.dtype);
    if (options.dtype !== undefined && options.dtype !== dtype) {
      throw invalidArgument("dtype", `"${dtype}", the type of logits,`, options.dtype, "Leave dtype out.");
    }
    const pointer = await this.#run(() => this.#native.upload(this.#context, bytesOf(logits)));
    return new OwnLogits(this, pointer, length, dtype, (memory) =>
      this.#disposed ? Promise.resolve() : this.#run(() => this.#native.free(this.#context, memory)),
    );
  }

  wrap(pointer: bigint, options: { length: number; dtype: DType }): DeviceLogits {
    this.#requireUsable();
    requireObject(options, 'Pass { length, dtype: "f16" }.');
    const { length, dtype } = options;
    if (!["f32", "f16", "bf16"].includes(dtype)) {
      throw invalidArgument("dtype", '"f32", "f16" or "bf16"', dtype, "Say what the memory holds.");
    }
    if (!Number.isSafeInteger(length) || length < 0) {
      throw invalidArgument("length", "an integer >= 0", length, "Pass the number of elements.");
    }
    if (typeof pointer !== "bigint" || pointer <= 0n || pointer >= 2n ** 64n) {
      throw invalidArgument("pointer", "a device address", pointer, "Pass the address as a bigint that is not 0.");
    }
    const element = BigInt(bytesPerElement[dtype]);
    if (pointer % element !== 0n) {
      throw invalidArgument("pointer", `an address aligned to ${dtype}`, pointer, "Pass the address of an element.");
    }
    if (!this.#isDeviceMemory(pointer)) {
      throw invalidArgument(
        "pointer",
        `an address in memory of ${this.device}`,
        pointer,
        "Pass memory that cudaMalloc gave on this device.",
      );
    }
    const end = pointer + BigInt(length) * element;
    if (length > 0 && (end > 2n ** 64n || !this.#isDeviceMemory(end - 1n))) {
      throw invalidArgument(
        "length",
        "at most the elements that the memory at pointer holds",
        length,
        "Pass the number of elements, not of bytes.",
      );
    }
    return new OwnLogits(this, pointer, length, dtype, () => Promise.resolve());
  }

  dispose(): Promise<void> {
    this.#disposed ??= Promise.allSettled(this.#pending).then(() => this.#native.dispose(this.#context));
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #isDeviceMemory(address: bigint): boolean {
    try {
      return this.#native.isDeviceMemory(this.#context, address);
    } catch (failure) {
      throw nativeError(failure);
    }
  }

  #requireUsable(): void {
    if (this.#disposed) throw disposedError("cuda backend");
  }

  #requireOwn(logits: OwnLogits): OwnLogits {
    if (logits.owner !== this) {
      throw new FusedTopKError("ERR_INVALID_ARGUMENT", "These DeviceLogits belong to another backend.", {
        fix: "Pass DeviceLogits that this backend uploaded or wrapped.",
      });
    }
    logits.requireUsable();
    return logits;
  }

  /** A native call that `dispose` waits for. */
  async #run<T>(start: () => Promise<T>): Promise<T> {
    const call = start();
    this.#pending.add(call);
    try {
      return await call;
    } catch (failure) {
      throw nativeError(failure);
    } finally {
      this.#pending.delete(call);
    }
  }
}
