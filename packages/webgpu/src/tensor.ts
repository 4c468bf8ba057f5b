/** Tensors of an inference engine, by their shape alone: no engine is a dependency. */
import {
  FusedTopKError,
  type HostLogits,
  invalidArgument,
  type LogitsMemory,
  type SoftmaxTopKOptions,
} from "@fused-topk/core";

/**
 * A tensor of logits as onnxruntime-web has it: `[..., vocab]`, densely packed, on the GPU or in host memory.
 *
 * A `Tensor` of onnxruntime-web is one. Nothing else of it is used, so an object with these properties does as well.
 */
export interface LogitsTensor {
  /** `"gpu-buffer"`: the logits are in `gpuBuffer`, which may be padded. `"cpu"` or `"cpu-pinned"`: they are in `data`. */
  readonly location: string;
  /** `"float32"` or `"float16"`. */
  readonly type: string;
  /** The last is the length of a row; the product of the others is the number of rows. */
  readonly dims: readonly number[];
  /** A GPUBuffer of the backend's device with usage STORAGE. Read only where `location` says so. */
  readonly gpuBuffer?: unknown;
  /** A Float32Array, or for float16 a Float16Array or a Uint16Array of raw bits. Read only where `location` says so. */
  readonly data?: unknown;
}

/**
 * The options of a call on a tensor: `rows` and `vocab` default to what its `dims` say, `dtype` is its type.
 *
 * With a `vocab` below the last of two or more dims, which a padded vocabulary has, `rowStride` defaults to that dim.
 */
export type TensorOptions = Omit<SoftmaxTopKOptions, "rows" | "vocab"> &
  Partial<Pick<SoftmaxTopKOptions, "rows" | "vocab">>;

/** What a call takes in place of a tensor. */
export interface OpenTensor {
  logits: HostLogits | GPUBuffer;
  options: SoftmaxTopKOptions;
  /** What the tensor says about its elements; its buffer may have more. */
  memory: LogitsMemory;
}

export function isTensor(logits: unknown): logits is LogitsTensor {
  if (typeof logits !== "object" || logits === null || ArrayBuffer.isView(logits)) return false;
  return "location" in logits && "dims" in logits && "type" in logits;
}

/** @throws {FusedTopKError} `ERR_INVALID_ARGUMENT` */
export function openTensor(tensor: LogitsTensor, options: TensorOptions): OpenTensor {
  const { type, dims, location } = tensor;
  if (type !== "float32" && type !== "float16") {
    throw invalidArgument("logits.type", '"float32" or "float16"', type, "Cast the logits in the model.");
  }
  const rowLength = dims.at(-1);
  if (rowLength === undefined) {
    throw new FusedTopKError(
      "ERR_INVALID_ARGUMENT",
      "Expected at least one dimension for logits.dims but received none.",
      { fix: "Pass a tensor of shape [..., vocab]." },
    );
  }
  if (typeof options !== "object" || options === null) {
    throw invalidArgument("options", "an object", options, "Pass { k }.");
  }
  const length = dims.reduce((product, dim) => product * dim, 1);
  const vocab = options.vocab ?? rowLength;
  const rows = options.rows ?? (rowLength === 0 ? 0 : length / rowLength);
  const isPadded = dims.length > 1 && vocab < rowLength;
  const rowStride = options.rowStride ?? (isPadded ? rowLength : vocab);
  const dtype = type === "float32" ? "f32" : "f16";
  if (options.dtype !== undefined && options.dtype !== dtype) {
    throw invalidArgument("dtype", `"${dtype}", the type of logits,`, options.dtype, "Leave dtype out.");
  }
  const opened = {
    options: { ...options, rows, vocab, rowStride, dtype } as const,
    memory: { length, dtype } as const,
  };
  switch (location) {
    case "gpu-buffer":
      return { ...opened, logits: tensor.gpuBuffer as GPUBuffer };
    case "cpu":
    case "cpu-pinned":
      return { ...opened, logits: tensor.data as HostLogits };
    default:
      throw invalidArgument(
        "logits.location",
        '"gpu-buffer" or "cpu"',
        location,
        'Create the session with preferredOutputLocation: "gpu-buffer", and pass the tensor before it is disposed.',
      );
  }
}
