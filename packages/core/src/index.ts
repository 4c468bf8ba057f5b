/**
 * fused-topk, the core: types, the contract's validation and errors, RowState, the float64 reference and the CPU backend.
 *
 * @packageDocumentation
 */
export { createCpuBackend } from "./cpu.js";
export {
  bytesPerElement,
  decodeBFloat16,
  decodeFloat16,
  encodeBFloat16,
  encodeFloat16,
} from "./dtypes.js";
export { disposedError, FusedTopKError, type FusedTopKErrorCode, invalidArgument } from "./errors.js";
export {
  allocateResult,
  hostMemory,
  type LogitsMemory,
  type ResolvedOptions,
  resolveHostOptions,
  resolveOptions,
} from "./options.js";
export { softmaxTopKReference } from "./reference.js";
export { type Candidate, empty, finish, merge, push, type RowState } from "./state.js";
export type {
  Backend,
  BackendName,
  DType,
  HostLogits,
  SoftmaxTopK,
  SoftmaxTopKOptions,
} from "./types.js";
