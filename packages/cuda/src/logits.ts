/** Logits in device memory. */
import { type DType, disposedError } from "@fused-topk/core";

/** Logits in the memory of a CUDA device, made by `CudaBackend.upload` or `CudaBackend.wrap`. */
export interface DeviceLogits {
  /** Elements. */
  readonly length: number;
  readonly dtype: DType;
  /**
   * Gives uploaded memory back once the calls under way have ended, and refuses later ones. Wrapped memory stays its
   * owner's. Safe to call twice.
   */
  free(): Promise<void>;
}

/** What a backend knows of its DeviceLogits. */
export class OwnLogits implements DeviceLogits {
  readonly length: number;
  readonly dtype: DType;
  readonly owner: object;
  readonly #pointer: bigint;
  readonly #release: (pointer: bigint) => Promise<void>;
  readonly #calls = new Set<Promise<unknown>>();
  #freed: Promise<void> | undefined;

  /** @param release frees the memory; does nothing for borrowed memory. */
  constructor(
    owner: object,
    pointer: bigint,
    length: number,
    dtype: DType,
    release: (pointer: bigint) => Promise<void>,
  ) {
    this.owner = owner;
    this.length = length;
    this.dtype = dtype;
    this.#pointer = pointer;
    this.#release = release;
  }

  /** @throws {FusedTopKError} `ERR_DISPOSED` after `free()`. */
  requireUsable(): void {
    if (this.#freed) throw disposedError("device logits");
  }

  /** Makes a call with the pointer, which `free` then waits for. */
  async use<T>(call: (pointer: bigint) => Promise<T>): Promise<T> {
    const promise = call(this.#pointer);
    this.#calls.add(promise);
    try {
      return await promise;
    } finally {
      this.#calls.delete(promise);
    }
  }

  free(): Promise<void> {
    this.#freed ??= Promise.allSettled(this.#calls).then(() => this.#release(this.#pointer));
    return this.#freed;
  }
}
