/** The ways from a problem to the kernel: in its memory, through a tile, and on threads. */
import { bytesPerElement, type DType, type HostLogits, type ResolvedOptions, type SoftmaxTopK } from "@fused-topk/core";
import type { Kernel } from "./kernel.js";
import type { Pool } from "./pool.js";

export interface Problem {
  logits: HostLogits;
  options: ResolvedOptions;
  /** Where the results go. */
  result: SoftmaxTopK;
}

/** The codes of kernels/wasm/logits.ts. */
export const dtypeCode: Readonly<Record<DType, number>> = { f32: 0, f16: 1, bf16: 2 };

/** Bytes of host logits that are copied at a time, and read while they are in the first-level cache. */
export const TILE = 16384;
/** Bytes of host logits that are copied for the threads before they are all solved. */
export const STORE = 2 ** 25;
/** Bytes of host logits after which the threads are told of them. */
const PUBLISHED = 65536;

/** Logits that lie in the kernel's memory. */
export function solveInMemory(kernel: Kernel, { logits, options, result }: Problem): void {
  const { rows, rowStride, offset, dtype } = options;
  const size = bytesPerElement[dtype];
  const most = rowsOfJob(kernel, options);
  for (let row = 0; row < rows; row += most) {
    const count = Math.min(most, rows - row);
    const address = logits.byteOffset + (offset + row * rowStride) * size;
    post(kernel, options, address, rowStride, count, count);
    kernel.exports.solve(0);
    takeResults(kernel, result, row, count);
  }
}

/** Logits anywhere in memory, copied tile by tile: several short rows to a tile, or several tiles to a row. */
export function solveThroughTile(kernel: Kernel, problem: Problem): void {
  const { options, result } = problem;
  const { rows, vocab, rowStride, dtype } = options;
  const tile = bitsOf(kernel, TILE / bytesPerElement[dtype], dtype);
  if (vocab > tile.length) {
    for (let row = 0; row < rows; row++) solveLongRow(kernel, problem, tile, row);
    return;
  }
  const most = Math.min(rowsOfJob(kernel, options), Math.floor((tile.length - vocab) / rowStride) + 1);
  for (let row = 0; row < rows; row += most) {
    const count = Math.min(most, rows - row);
    tile.set(bitsOfRows(problem, row, count));
    post(kernel, options, kernel.logits, rowStride, count, count);
    kernel.exports.solve(0);
    takeResults(kernel, result, row, count);
  }
}

/** Tiles are visited like the blocks in them: see kernels/wasm/softmax_topk.ts. */
function solveLongRow(kernel: Kernel, problem: Problem, tile: Bits, row: number): void {
  const { exports, logits } = kernel;
  const { vocab, k, temperature, dtype } = problem.options;
  const bits = bitsOfRows(problem, row, 1);
  const tiles = Math.ceil(vocab / tile.length);
  const stride = exports.stride_of(tiles);
  exports.begin(k, temperature);
  for (let i = 0, at = 0; i < tiles; i++, at = (at + stride) % tiles) {
    const first = at * tile.length;
    const part = bits.subarray(first, first + tile.length);
    tile.set(part);
    exports.push_logits(logits, part.length, dtypeCode[dtype], first);
  }
  exports.finish(0);
  takeResults(kernel, problem.result, row, 1);
}

/** Logits that lie in the kernel's memory, on the threads of a pool. Returns whether the pool did it. */
export async function solveInMemoryOnThreads(kernel: Kernel, pool: Pool, problem: Problem): Promise<boolean> {
  const { logits, options, result } = problem;
  const { rows, rowStride, offset, dtype } = options;
  const most = rowsOfJob(kernel, options);
  for (let row = 0; row < rows; row += most) {
    const count = Math.min(most, rows - row);
    const address = logits.byteOffset + (offset + row * rowStride) * bytesPerElement[dtype];
    await pool.until(() => pool.isIdle);
    post(kernel, options, address, rowStride, count, count);
    pool.begin(kernel);
    if (!(await solveJob(kernel, pool, count))) return false;
    takeResults(kernel, result, row, count);
  }
  return true;
}

/** Logits anywhere in memory, on the threads of a pool: this one copies rows to `store`, the others solve them meanwhile. */
export async function solveOnThreads(store: Kernel, pool: Pool, problem: Problem): Promise<boolean> {
  const { logits, options, result } = problem;
  const { rows, vocab, rowStride, offset, dtype } = options;
  const size = bytesPerElement[dtype];
  const bits = bitsOf(store, STORE / size, dtype);
  // Engines copy to shared memory a byte at a time, unless both ends have the same place in a word of 8 bytes.
  const word = 8 / size;
  const pitch = vocab + ((rowStride - vocab) % word);
  const most = Math.min(rowsOfJob(store, options), Math.floor((bits.length - word) / pitch));
  const batch = Math.max(1, Math.floor(PUBLISHED / (vocab * size)));
  for (let row = 0; row < rows; row += most) {
    const count = Math.min(most, rows - row);
    await pool.until(() => pool.isIdle);
    const shift = (logits.byteOffset / size + offset + row * rowStride) % word;
    post(store, options, store.logits + shift * size, pitch, count, 0);
    pool.begin(store);
    for (let i = 0; i < count; i++) {
      bits.set(bitsOfRows(problem, row + i, 1), shift + i * pitch);
      if ((i + 1) % batch === 0 || i + 1 === count) store.exports.publish(i + 1);
    }
    if (!(await solveJob(store, pool, count))) return false;
    takeResults(store, result, row, count);
  }
  return true;
}

async function solveJob(kernel: Kernel, pool: Pool, rows: number): Promise<boolean> {
  const { exports } = kernel;
  exports.solve(0);
  await pool.until(() => exports.done() === rows);
  return exports.done() === rows;
}

/** How many rows' results the kernel has room for. */
function rowsOfJob({ exports }: Kernel, { k }: ResolvedOptions): number {
  return Math.floor(exports.max_k() / k);
}

/** Rows that lie `rowStride` elements apart, from an address of the kernel's memory. */
function post(
  { exports }: Kernel,
  { vocab, k, dtype, temperature }: ResolvedOptions,
  address: number,
  rowStride: number,
  rows: number,
  ready: number,
): void {
  const rowBytes = rowStride * bytesPerElement[dtype];
  exports.post(address, rowBytes, rows, ready, vocab, k, dtypeCode[dtype], temperature);
}

export function takeResults({ memory, exports }: Kernel, result: SoftmaxTopK, row: number, rows: number): void {
  const { k, probs, indices, logSumExp } = result;
  probs.set(new Float32Array(memory.buffer, exports.probs(), rows * k), row * k);
  indices.set(new Uint32Array(memory.buffer, exports.indices(), rows * k), row * k);
  logSumExp.set(new Float32Array(memory.buffer, exports.log_sum_exps(), rows), row);
}

/** Logits are copied as integers: a copy of floats may change the bits of a NaN, and a Float16Array copies slowly. */
type Bits = Uint32Array | Uint16Array;

function bitsOf({ memory, logits }: Kernel, length: number, dtype: DType): Bits {
  return new (dtype === "f32" ? Uint32Array : Uint16Array)(memory.buffer, logits, length);
}

/** From the first element of row `row` to the last of the last of so many rows. */
function bitsOfRows({ logits, options }: Problem, row: number, rows: number): Bits {
  const { vocab, dtype, offset, rowStride } = options;
  const start = logits.byteOffset + (offset + row * rowStride) * bytesPerElement[dtype];
  const bits = dtype === "f32" ? Uint32Array : Uint16Array;
  return new bits(logits.buffer as ArrayBuffer, start, (rows - 1) * rowStride + vocab);
}
