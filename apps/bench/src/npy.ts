/**
 * Reads logits from a NumPy `.npy` file: `[rows, vocab]` of float32, float16, or uint16 that holds bfloat16 bits.
 *
 * Source of the format: NumPy enhancement proposal 1, "A simple file format for NumPy arrays".
 */
import type { DType, HostLogits } from "@fused-topk/core";
import { UsageError } from "./usage-error.js";

/** Logits of a file: dense rows, `Float32Array` for f32 and raw bits for the others. */
export interface LogitsFile {
  rows: number;
  vocab: number;
  dtype: DType;
  logits: HostLogits;
}

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]; // \x93NUMPY

/**
 * @param bytes the whole file.
 * @param name what to call the file in an error.
 * @param dtype what a uint16 array holds; NumPy has no bfloat16 of its own.
 * @throws {UsageError} when it is not such a file.
 */
export function parseNpy(bytes: Uint8Array, name: string, dtype?: DType): LogitsFile {
  const fail = (problem: string, fix: string) => new UsageError(`${name}: ${problem} ${fix}`);
  if (bytes.length < 10 || MAGIC.some((byte, i) => bytes[i] !== byte)) {
    throw fail("not a .npy file, its first bytes are wrong.", "Write it with numpy.save.");
  }
  const major = bytes[6]!;
  if (major < 1 || major > 3) throw fail(`version ${major} of the format is not known.`, "Write it with numpy.save.");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerStart = major === 1 ? 10 : 12;
  if (bytes.length < headerStart) throw fail("it ends within its header.", "Copy the file again.");
  const dataStart = headerStart + (major === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  if (bytes.length < dataStart) throw fail("it ends within its header.", "Copy the file again.");
  const header = new TextDecoder("latin1").decode(bytes.subarray(headerStart, dataStart));

  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  if (descr === undefined || order === undefined || shape === undefined) {
    throw fail("its header has no descr, fortran_order or shape of one plain array.", "Save a plain array of numbers.");
  }
  if (order === "True") {
    throw fail("the array is stored column by column.", "Save numpy.ascontiguousarray(logits).");
  }
  const sizes = shape.split(",").flatMap((size) => (size.trim() === "" ? [] : [Number(size)]));
  const [rows, vocab] = sizes;
  if (sizes.length !== 2 || !sizes.every((size) => Number.isInteger(size) && size >= 1)) {
    throw fail(`expected the shape [rows, vocab] but received (${shape.trim()}).`, "Reshape it to two dimensions.");
  }
  const fileType = typeOf(descr, dtype, fail);
  const length = rows! * vocab!;
  const size = length * (fileType === "f32" ? 4 : 2);
  if (bytes.length - dataStart !== size) {
    throw fail(
      `expected ${size} bytes of data for (${shape.trim()}) ${descr} but it has ${bytes.length - dataStart}.`,
      "Copy the file again.",
    );
  }
  // A copy, which is aligned. A Buffer of Node is a Uint8Array whose own slice would be a view.
  const data = new Uint8Array(bytes.subarray(dataStart)).buffer;
  return {
    rows: rows!,
    vocab: vocab!,
    dtype: fileType,
    logits: fileType === "f32" ? new Float32Array(data) : new Uint16Array(data),
  };
}

function typeOf(descr: string, dtype: DType | undefined, fail: (problem: string, fix: string) => UsageError): DType {
  switch (descr) {
    case "<f4":
      return "f32";
    case "<f2":
      return "f16";
    case "<u2":
      if (dtype === "bf16" || dtype === "f16") return dtype;
      throw fail(
        "it holds uint16, which may be the bits of bfloat16 or of float16.",
        "Say which with --dtype bf16 or --dtype f16.",
      );
    default:
      throw fail(
        `expected little-endian float32, float16 or uint16 but received ${descr}.`,
        'Save logits.astype("float32").',
      );
  }
}
