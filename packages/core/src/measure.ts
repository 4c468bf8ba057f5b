/**
 * What the bench asks of a backend: timings of the fused kernel beside what it is compared with, on the same device, in
 * the same run, checked. Not public API; the backends implement it and `apps/bench` calls it.
 */
export { leastTiming, timeCall } from "./clock.js";

import type { HostLogits, SoftmaxTopK, SoftmaxTopKOptions } from "./types.js";

/**
 * - `fused`: this project's kernel.
 * - `unfused`: softmax written to memory, then top-K over it.
 * - `three-pass`: the textbook fused kernel: max, then sum, then top-K, three reads of the logits.
 * - `read-floor`: the fastest kernel that only reads the same logits once.
 * - `read-exp`, `read-two-exps`: a read of the logits with one, or with two, exp a logit: what exp costs.
 * - `pinned-copy`: the same logits copied once from pinned host memory to the device.
 */
export type Variant = "fused" | "unfused" | "three-pass" | "read-floor" | "read-exp" | "read-two-exps" | "pinned-copy";

/** What to time, and on what. */
export interface MeasureRequest {
  variant: Variant;
  /** Dense rows: no offset, `rowStride` = vocab. */
  options: Pick<SoftmaxTopKOptions, "rows" | "vocab" | "k" | "dtype">;
  /** `templateRows x vocab` logits; row r of input set s is template row `(r + s) % templateRows`. */
  template: HostLogits;
  /** Input sets that the calls rotate through, so that no call finds its logits in a cache. */
  sets: number;
  /** How many timings to take. */
  repeats: number;
  /** Forces one of the meter's `paths` of the fused kernel; by default the backend chooses. */
  path?: string;
}

/** What `Meter.measure` found. */
export interface Measurement {
  /** Microseconds a call, one entry a repeat. Time on the device alone: no upload, no readback, but for `pinned-copy`. */
  microseconds: number[];
  /** What the variant computed for input set 0; absent for the variants that only read or copy. */
  result?: SoftmaxTopK;
  /** Kernel launches (CUDA) or dispatches (WebGPU) a call. */
  launches: number;
  /** Bytes the call wrote to device memory, counted: results and intermediates. */
  bytesWritten: number;
  /** Bytes of device memory the call needs beyond logits and results. */
  scratchBytes: number;
  /** The path that ran. */
  path: string;
}

/** Times the variants on one device. */
export interface Meter extends AsyncDisposable {
  /** Those that this device can time. */
  readonly variants: readonly Variant[];
  /** The paths of the fused kernel that this device can be forced to take. */
  readonly paths: readonly string[];
  /** @throws {FusedTopKError} as a rejection, where the device cannot do what is asked. */
  measure(request: MeasureRequest): Promise<Measurement>;
  dispose(): Promise<void>;
}
