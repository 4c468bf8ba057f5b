/** What the package exports on every platform, beside the two functions that select. */
export {
  type Backend,
  type BackendName,
  createCpuBackend,
  type DType,
  FusedTopKError,
  type FusedTopKErrorCode,
  type HostLogits,
  type SoftmaxTopK,
  type SoftmaxTopKOptions,
  softmaxTopKReference,
} from "@fused-topk/core";
export type { BackendTiming, RejectedBackend, Selection, SelectOptions } from "./select.js";
export type { Shape } from "./time.js";
