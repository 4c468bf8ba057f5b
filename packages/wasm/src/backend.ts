/** The WebAssembly backend: validation, tiles of host logits, memory that callers write their logits to. */
import {
  allocateResult,
  type Backend,
  bytesPerElement,
  type DType,
  disposedError,
  type HostLogits,
  invalidArgument,
  type ResolvedOptions,
  resolveHostOptions,
  type SoftmaxTopK,
  type SoftmaxTopKOptions,
} from "@fused-topk/core";
import { compileKernel, instantiateKernel, type Kernel } from "./kernel.js";

/** fused-topk in WebAssembly SIMD, on the calling thread. */
export interface WasmBackend extends Backend {
  readonly name: "wasm";
  /**
   * Room for `length` logits in WebAssembly memory. A call whose logits lie there copies nothing.
   *
   * The array has a memory of its own, which never grows: it stays attached, with what was written to it, for as long as
   * the caller holds it, whatever else is allocated and after `dispose()` too. Letting go of it frees it. An engine holds
   * some hundred such memories at a time: take a large one, and use subarrays of it, rather than many.
   *
   * @returns zeros; f16 and bf16 as raw bits, so pass the `dtype` with every call.
   * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT`, `ERR_OUT_OF_MEMORY`, `ERR_DISPOSED`
   */
  alloc(length: number, dtype: "f32"): Float32Array<ArrayBuffer>;
  alloc(length: number, dtype: "f16" | "bf16"): Uint16Array<ArrayBuffer>;
  alloc(length: number, dtype: DType): Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;
}

/**
 * Creates the WebAssembly backend.
 *
 * @throws {FusedTopKError} as a rejection: `ERR_BACKEND_UNAVAILABLE` where the engine has no WebAssembly SIMD.
 */
export async function createWasmBackend(): Promise<WasmBackend> {
  return new Implementation(await compileKernel());
}

/** Bytes of host logits that are copied at a time, and read while they are in the second-level cache. */
const TILE = 65536;
/** The codes of kernels/wasm/logits.ts. */
const dtypeCode: Readonly<Record<DType, number>> = { f32: 0, f16: 1, bf16: 2 };

class Implementation implements WasmBackend {
  readonly name = "wasm";
  readonly device = "WebAssembly SIMD, one thread";
  readonly limits: { readonly maxK: number };
  readonly #module: WebAssembly.Module;
  /** For logits that are not in memory of this backend. */
  readonly #host: Kernel;
  readonly #allocated = new WeakMap<ArrayBufferLike, Kernel>();
  #disposed = false;

  constructor(module: WebAssembly.Module) {
    this.#module = module;
    this.#host = instantiateKernel(module, TILE);
    this.limits = { maxK: this.#host.exports.max_k() };
  }

  alloc(length: number, dtype: "f32"): Float32Array<ArrayBuffer>;
  alloc(length: number, dtype: "f16" | "bf16"): Uint16Array<ArrayBuffer>;
  alloc(length: number, dtype: DType): Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> {
    if (this.#disposed) throw disposedError("wasm backend");
    if (!Number.isSafeInteger(length) || length < 0) {
      throw invalidArgument("length", "an integer >= 0", length, "Pass the number of logits.");
    }
    if (!Object.hasOwn(dtypeCode, dtype)) {
      throw invalidArgument("dtype", '"f32", "f16" or "bf16"', dtype, "Pass one of these.");
    }
    const kernel = instantiateKernel(this.#module, length * bytesPerElement[dtype]);
    const { buffer } = kernel.memory;
    this.#allocated.set(buffer, kernel);
    return new (dtype === "f32" ? Float32Array : Uint16Array)(buffer, kernel.exports.logits(), length);
  }

  async softmaxTopK(logits: HostLogits, options: SoftmaxTopKOptions): Promise<SoftmaxTopK> {
    if (this.#disposed) throw disposedError("wasm backend");
    const resolved = resolveHostOptions(logits, options, this.limits.maxK);
    const { rows, k, temperature } = resolved;
    const result = allocateResult(rows, k);
    const own = this.#allocated.get(logits.buffer);
    const { memory, exports } = own ?? this.#host;
    const push = own === undefined ? pushTiles : pushInPlace;
    const probs = new Float32Array(memory.buffer, exports.probs(), k);
    const indices = new Uint32Array(memory.buffer, exports.indices(), k);
    for (let row = 0; row < rows; row++) {
      exports.begin(k, temperature);
      push(own ?? this.#host, logits, resolved, row);
      result.logSumExp[row] = exports.finish();
      result.probs.set(probs, row * k);
      result.indices.set(indices, row * k);
    }
    return result;
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** Pushes a row that lies in the kernel's memory. */
function pushInPlace({ exports }: Kernel, logits: HostLogits, options: ResolvedOptions, row: number): void {
  const { vocab, dtype, offset, rowStride } = options;
  const address = logits.byteOffset + (offset + row * rowStride) * bytesPerElement[dtype];
  exports.push_logits(address, vocab, dtypeCode[dtype]);
}

/** Pushes a row of host memory through the tile. */
function pushTiles({ memory, exports }: Kernel, logits: HostLogits, options: ResolvedOptions, row: number): void {
  const { vocab, dtype, offset, rowStride } = options;
  const size = bytesPerElement[dtype];
  // Copied as integers: a copy of floats may change the bits of a NaN, and a Float16Array copies slowly.
  const bits = size === 4 ? Uint32Array : Uint16Array;
  const from = new bits(logits.buffer as ArrayBuffer, logits.byteOffset + (offset + row * rowStride) * size, vocab);
  const address = exports.logits();
  const tile = new bits(memory.buffer, address, TILE / size);
  for (let start = 0; start < vocab; start += tile.length) {
    const part = from.subarray(start, start + tile.length);
    tile.set(part);
    exports.push_logits(address, part.length, dtypeCode[dtype]);
  }
}
