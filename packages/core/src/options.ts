/** Validation: every bad input becomes a typed error here, before a backend does any work. */
import { FusedTopKError, invalidArgument } from "./errors.js";
import type { DType, HostLogits, SoftmaxTopK, SoftmaxTopKOptions } from "./types.js";

/** The options with every default filled in. */
export type ResolvedOptions = Required<SoftmaxTopKOptions>;

/** What the memory that holds the logits says about itself; absent where it does not know. */
export interface LogitsMemory {
  /** Elements from the start of the memory. */
  length?: number;
  /** Element type. */
  dtype?: DType;
}

const MAX_VOCAB = 2 ** 32 - 1;
const MIN_NORMAL_FLOAT32 = 2 ** -126;

/**
 * Checks the options against the contract and fills in the defaults.
 *
 * @param maxK the backend's `limits.maxK`.
 * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT`
 */
export function resolveOptions(
  options: SoftmaxTopKOptions,
  memory: LogitsMemory,
  maxK: number = MAX_VOCAB,
): ResolvedOptions {
  if (typeof options !== "object" || options === null) {
    throw invalidArgument("options", "an object", options, "Pass { rows, vocab, k }.");
  }
  const { rows, vocab, k } = options;
  requireInteger("rows", rows, 0, Number.MAX_SAFE_INTEGER, "Pass the number of rows; 0 gives an empty result.");
  requireInteger("vocab", vocab, 1, MAX_VOCAB, "Pass the number of logits a row.");
  requireInteger("k", k, 1, Number.MAX_SAFE_INTEGER, "Pass how many of the best to return, at least 1.");
  if (k > vocab) {
    throw invalidArgument("k", `at most vocab (${vocab})`, k, "Lower k to vocab or less.");
  }
  if (k > maxK) {
    throw invalidArgument("k", `at most limits.maxK (${maxK}) of this backend`, k, "Lower k or use the cpu backend.");
  }
  const dtype = resolveDType(options.dtype, memory.dtype);
  const offset = options.offset ?? 0;
  requireInteger("offset", offset, 0, Number.MAX_SAFE_INTEGER, "Pass the element at which row 0 begins.");
  const rowStride = options.rowStride ?? vocab;
  requireInteger("rowStride", rowStride, vocab, Number.MAX_SAFE_INTEGER, "Rows may not overlap: pass vocab or more.");
  const end = rows === 0 ? offset : offset + (rows - 1) * rowStride + vocab;
  if (memory.length !== undefined && offset > memory.length) {
    throw invalidArgument("offset", `at most the length of logits (${memory.length})`, offset, "Lower offset.");
  }
  if (memory.length !== undefined && end > memory.length) {
    throw new FusedTopKError(
      "ERR_INVALID_ARGUMENT",
      `Expected logits to hold ${end} elements (rows ${rows}, vocab ${vocab}, offset ${offset}, rowStride ${rowStride}) ` +
        `but they have ${memory.length}.`,
      { fix: "Pass more logits, or lower rows, vocab, offset or rowStride." },
    );
  }
  return { rows, vocab, k, dtype, offset, rowStride, temperature: resolveTemperature(options.temperature) };
}

/**
 * `resolveOptions` for logits in the memory of JavaScript: also checks the array and its dtype.
 *
 * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT`
 */
export function resolveHostOptions(logits: HostLogits, options: SoftmaxTopKOptions, maxK?: number): ResolvedOptions {
  return resolveOptions(options, hostMemory(logits, options?.dtype), maxK);
}

/**
 * The length and dtype of host logits.
 *
 * @param dtype what the caller says; required where the array holds raw bits.
 * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT` for another type of array, a detached one, or a dtype that does not fit.
 */
export function hostMemory(logits: HostLogits, dtype?: DType): Required<LogitsMemory> {
  const own = arrayDType(logits);
  if (own === undefined && typeof (logits as { mapAsync?: unknown } | null)?.mapAsync === "function") {
    throw new FusedTopKError(
      "ERR_INVALID_ARGUMENT",
      "Expected a Float32Array, a Float16Array or a Uint16Array for logits but received a GPUBuffer.",
      { fix: "Only the webgpu backend takes one: pass it there, or copy it to a typed array." },
    );
  }
  if (own === undefined) {
    throw invalidArgument(
      "logits",
      "a Float32Array, a Float16Array or a Uint16Array",
      logits,
      "Pass one of these; other numbers can be converted with Float32Array.from.",
    );
  }
  if (isDetached(logits)) {
    throw new FusedTopKError("ERR_INVALID_ARGUMENT", "The ArrayBuffer of logits is detached, so its length is 0.", {
      fix: "Do not transfer the buffer to another thread before the call, or pass a copy.",
    });
  }
  if (own === "bits") {
    if (dtype === undefined) {
      throw invalidArgument(
        "dtype",
        '"f16" or "bf16"',
        dtype,
        "A Uint16Array holds raw bits: say which with options.dtype.",
      );
    }
    if (dtype === "f32") {
      throw invalidArgument("dtype", '"f16" or "bf16" with a Uint16Array', dtype, "Pass f32 logits as a Float32Array.");
    }
    return { length: logits.length, dtype: resolveDType(dtype, undefined) };
  }
  return { length: logits.length, dtype: own };
}

/**
 * The arrays of a result, zeroed.
 *
 * @throws {FusedTopKError} `ERR_OUT_OF_MEMORY`
 */
export function allocateResult(rows: number, k: number): SoftmaxTopK {
  try {
    return {
      rows,
      k,
      probs: new Float32Array(rows * k),
      indices: new Uint32Array(rows * k),
      logSumExp: new Float32Array(rows),
    };
  } catch (cause) {
    throw new FusedTopKError("ERR_OUT_OF_MEMORY", `Could not allocate the result of ${rows} rows with k = ${k}.`, {
      fix: "Split the rows over several calls.",
      cause,
    });
  }
}

function resolveDType(requested: DType | undefined, own: DType | undefined): DType {
  if (requested !== undefined && !["f32", "f16", "bf16"].includes(requested)) {
    throw invalidArgument("dtype", '"f32", "f16" or "bf16"', requested, "Pass one of these.");
  }
  if (own !== undefined && requested !== undefined && own !== requested) {
    throw invalidArgument(
      "dtype",
      `"${own}", the type of logits,`,
      requested,
      "Leave dtype out or pass matching logits.",
    );
  }
  const dtype = requested ?? own;
  if (dtype === undefined) {
    throw invalidArgument(
      "dtype",
      '"f32", "f16" or "bf16"',
      dtype,
      "A buffer does not tell: say which with options.dtype.",
    );
  }
  return dtype;
}

function resolveTemperature(temperature: number | undefined): number {
  if (temperature === undefined) return 1;
  const held = typeof temperature === "number" ? Math.fround(temperature) : Number.NaN;
  if (!(held >= MIN_NORMAL_FLOAT32 && held < Number.POSITIVE_INFINITY)) {
    throw invalidArgument(
      "temperature",
      "a finite number > 0 that float32 holds as a normal number (1.2e-38 to 3.4e38)",
      temperature,
      "Pass 1 for the plain softmax; for greedy decoding pass k = 1.",
    );
  }
  return temperature;
}

function requireInteger(name: string, value: unknown, least: number, most: number, fix: string): void {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return;
  const range = most === Number.MAX_SAFE_INTEGER ? `>= ${least}` : `from ${least} to ${most}`;
  throw invalidArgument(name, `an integer ${range}`, value, fix);
}

function arrayDType(logits: unknown): DType | "bits" | undefined {
  switch (Object.prototype.toString.call(logits)) {
    case "[object Float32Array]":
      return "f32";
    case "[object Float16Array]":
      return "f16";
    case "[object Uint16Array]":
      return "bits";
    default:
      return undefined;
  }
}

function isDetached(array: HostLogits): boolean {
  if (array.length > 0 || array.buffer.byteLength > 0) return false;
  try {
    new Uint8Array(array.buffer); // throws on a detached buffer; `ArrayBuffer.detached` is not in Node 20
    return false;
  } catch {
    return true;
  }
}
