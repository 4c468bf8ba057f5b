/** The contract in types: what a caller passes, what comes back, what a backend is. */

/** Element type of the logits. */
export type DType = "f32" | "f16" | "bf16";

/** The backends of fused-topk, in the order that `createBackend` tries them. */
export type BackendName = "cuda" | "webgpu" | "wasm" | "cpu";

/** The type `Float16Array`, or `never` where TypeScript's lib has none. */
type Float16ArrayIfKnown = typeof globalThis extends { Float16Array: { readonly prototype: infer T } } ? T : never;

/**
 * Logits in the memory of JavaScript.
 *
 * - `Float32Array`: dtype `f32`.
 * - `Float16Array`: dtype `f16` (where the engine has the type: Node 24, current browsers).
 * - `Uint16Array`: the raw bits of `f16` or `bf16`; `options.dtype` says which and is required.
 */
export type HostLogits = Float32Array | Float16ArrayIfKnown | Uint16Array;

/** What to compute. Sizes and positions are in elements, never in bytes. */
export interface SoftmaxTopKOptions {
  /** Number of rows, >= 0. Zero rows give an empty result. */
  rows: number;
  /** Logits a row, >= 1 and < 2^32. */
  vocab: number;
  /** How many of the best to return, 1 <= k <= min(vocab, backend.limits.maxK). */
  k: number;
  /** Element type. Defaults to that of the array; required where the array or buffer does not tell. */
  dtype?: DType;
  /** Position of the first logit of row 0. Default 0. */
  offset?: number;
  /** Distance from a row to the next, >= vocab. Default `vocab`. */
  rowStride?: number;
  /** Divides the logits before the softmax: > 0, finite, and a normal number in float32. Default 1. */
  temperature?: number;
}

/** The K best of each row, best first, with their probabilities under the softmax over the whole row. */
export interface SoftmaxTopK {
  /** Number of rows, as asked. */
  rows: number;
  /** Results a row, as asked. */
  k: number;
  /** `[rows * k]`: `exp((x - max) / temperature) / sum`, in the order of `indices`. */
  probs: Float32Array;
  /** `[rows * k]`: position within the row, by logit descending, then by index ascending. */
  indices: Uint32Array;
  /** `[rows]`: `log(sum over j of exp(x_j / temperature))`; a logprob is `x_i / temperature - logSumExp`. */
  logSumExp: Float32Array;
}

/** One implementation of the contract on one device. */
export interface Backend extends AsyncDisposable {
  /** Which implementation it is. */
  readonly name: BackendName;
  /** What a person calls the device, e.g. "NVIDIA H200". */
  readonly device: string;
  readonly limits: {
    /** The largest `k` this backend takes; a larger one is `ERR_INVALID_ARGUMENT`. */
    readonly maxK: number;
  };
  /**
   * Softmax and top-K of every row, fused: the logits are read, K results a row come back.
   *
   * The logits are never written. They must stay unchanged and attached until the promise settles. The result is
   * the caller's: no later call touches it.
   *
   * @param logits `rows x vocab` logits; row r begins at element `offset + r * rowStride`.
   * @throws {FusedTopKError} as a rejection: `ERR_INVALID_ARGUMENT`, `ERR_OUT_OF_MEMORY`, `ERR_DEVICE_LOST`,
   *   `ERR_DISPOSED`.
   */
  softmaxTopK(logits: HostLogits, options: SoftmaxTopKOptions): Promise<SoftmaxTopK>;
  /** Waits for the calls under way, then frees the device's resources. Safe to call twice. */
  dispose(): Promise<void>;
}
