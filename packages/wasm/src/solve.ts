/** The ways from a problem to the kernel: in its memory or through a tile, on the calling thread or with others. */
import {
  bytesPerElement,
  type DType,
  type HostLogits,
  type ResolvedOptions,
  resolveHostOptions,
  type SoftmaxTopK,
} from "@fused-topk/core";
import { Job, type Part, type Piece } from "./job.js";
import type { Kernel } from "./kernel.js";

export interface Problem {
  logits: HostLogits;
  options: ResolvedOptions;
  /** Where the results go. */
  result: SoftmaxTopK;
}

/** Other threads than the calling one, which take tiles from a memory that they share. */
export interface Team {
  kernel: Kernel;
  /** Their numbers, from 1. */
  threads: readonly number[];
  /** Says whether a thread was of use in a call. */
  judge(thread: number, isUseful: boolean): void;
  /** Resolves once `condition` holds, which the threads bring about, or one of them has failed: false. */
  until(condition: () => boolean): Promise<boolean>;
}

/** The codes of kernels/wasm/logits.ts. */
export const dtypeCode: Readonly<Record<DType, number>> = { f32: 0, f16: 1, bf16: 2 };

/** Bytes of host logits that are copied at a time, and read while they are in the first-level cache. */
export const TILE = 16384;
/** Bytes of a place for a tile, which begins anywhere in a word of 8. */
const PLACE = TILE + 8;
/** Logits of short rows that are taken together where they lie in the kernel's memory. */
const LOGITS_TOGETHER = 16384;

/** Milliseconds after which a thread should have done all that it was handed of a job, on average: a few tiles. */
const PROMPT = 0.05;

/** Words of the kernel's scratch. */
const SCRATCH = 1024;

/** Bytes that so many threads have room for, in a memory that host logits are copied to. */
export function placesOf({ exports }: Kernel, threads: number): number {
  return threads * exports.places() * PLACE;
}

/**
 * Solves a problem on the calling thread and with a team. A thread of it was of use if it had half its share of the tiles and
 * had done them in time.
 *
 * @param kernel for the calling thread; the team's too where the logits lie in its memory.
 * @returns whether it is solved; not where a thread has failed.
 */
export async function solveWithTeam(kernel: Kernel, problem: Problem, team: Team): Promise<boolean> {
  const { k, temperature, dtype } = problem.options;
  const { exports } = team.kernel;
  const counts = new Array<number>(Math.max(0, ...team.threads) + 1).fill(0); // tiles, by thread
  let early = 0; // milliseconds ahead of what is prompt
  for (const job of jobsOf(kernel, problem)) {
    for (const thread of team.threads) exports.hire(thread, k, dtypeCode[dtype], temperature);
    const states = solveJob(kernel, problem, job, team);
    for (const { threads } of job.shared) {
      for (const thread of threads) if (thread > 0) exports.ask(thread);
    }
    const end = performance.now();
    const busy = team.threads.filter((thread) => job.count(thread) > 0);
    if (!(await team.until(() => busy.every((thread) => exports.is_done(thread))))) return false;
    early += PROMPT - (performance.now() - end);
    for (const thread of [0, ...team.threads]) counts[thread]! += job.count(thread);
    takeFromTeam(kernel, problem, job, team, states);
  }
  const share = counts.reduce((a, b) => a + b) / (team.threads.length + 1);
  for (const thread of team.threads) team.judge(thread, early > 0 && counts[thread]! >= share / 2);
  return true;
}

/** Solves a problem on the calling thread. */
export function solveAlone(kernel: Kernel, problem: Problem): void {
  for (const job of jobsOf(kernel, problem)) solveJob(kernel, problem, job);
}

/** As many rows at a time as there is room for results. */
function* jobsOf(kernel: Kernel, problem: Problem): Iterable<Job> {
  const { rows, vocab, k, rowStride, dtype } = problem.options;
  const length = TILE / bytesPerElement[dtype];
  const most = isIn(kernel, problem) ? LOGITS_TOGETHER : length;
  const together = vocab > length ? 1 : Math.floor((most - vocab) / rowStride) + 1;
  const jobRows = Math.floor(kernel.exports.max_k() / k);
  for (let first = 0; first < rows; first += jobRows) {
    resolveHostOptions(problem.logits, problem.options); // a caller may have detached them while others were waited for
    yield new Job({ first, rows: Math.min(jobRows, rows - first), together, vocab, length });
  }
}

/** Hands tiles to the team, before it runs out of them, and takes the others. Returns what it knows of rows that are shared. */
function solveJob(kernel: Kernel, problem: Problem, job: Job, team?: Team): Map<Part, State> {
  const { vocab, k, rowStride, temperature, dtype } = problem.options;
  const { exports } = kernel;
  const code = dtypeCode[dtype];
  const rowBytes = rowStride * bytesPerElement[dtype];
  const states = new Map<Part, State>();
  let current: Part | undefined;
  while (true) {
    if (team !== undefined) handTiles(team, problem, job);
    const piece = job.take(0);
    if (current !== piece?.part && current !== undefined && current.threads.length > 1) {
      exports.leave_own();
      states.set(current, stateOf(kernel, 0));
    }
    if (piece === undefined) return states;
    current = piece.part;
    const { part, rows, first, count, begins, finishes } = piece;
    const row = part.row - job.first;
    const address = addressIn(kernel, problem, piece, kernel.logits);
    if (count === vocab) {
      exports.solve(address, rowBytes, rows, vocab, k, code, temperature, row);
    } else {
      if (begins) exports.begin(k, temperature);
      exports.push_logits(address, count, code, first);
      if (finishes) exports.finish(row);
    }
    if (finishes) takeResults(kernel, problem.result, part.row, rows, row);
  }
}

/** A tile to each thread that will soon have none. */
function handTiles({ kernel, threads }: Team, problem: Problem, job: Job): void {
  const { rowStride, dtype } = problem.options;
  const { exports, logits } = kernel;
  for (const thread of threads) {
    if (!exports.is_free(thread)) continue;
    const piece = job.take(thread);
    if (piece === undefined) continue;
    const { part, rows, first, count, begins, finishes } = piece;
    // Engines copy to shared memory a byte at a time, unless both ends have the same place in a word of 8 bytes.
    const place =
      logits + placesOf(kernel, thread - 1) + exports.place(thread) * PLACE + (sourceOf(problem, piece) % 8);
    const address = addressIn(kernel, problem, piece, place);
    const rowBytes = rowStride * bytesPerElement[dtype];
    exports.hand(thread, address, count, first, part.row - job.first, rows, rowBytes, begins, finishes);
  }
}

/** The rows that others than the calling thread have solved, or had tiles of. */
function takeFromTeam(kernel: Kernel, problem: Problem, job: Job, team: Team, states: Map<Part, State>): void {
  const { k, temperature } = problem.options;
  for (const { row, rows, threads } of job.parts) {
    if (threads.length === 1 && threads[0] !== 0) {
      takeResults(team.kernel, problem.result, row, rows, row - job.first);
    }
  }
  for (const part of job.shared) {
    kernel.exports.begin(k, temperature);
    for (const thread of part.threads) {
      merge(kernel, thread === 0 ? states.get(part)! : stateOf(team.kernel, thread));
    }
    kernel.exports.finish(0);
    takeResults(kernel, problem.result, part.row, 1, 0);
  }
}

/** What a thread knows of a row: its RowState, of which `top` are candidates as the kernel has them. */
interface State {
  top: Uint32Array;
  max: number;
  sum: number;
}

/** The state that a thread left behind. */
function stateOf({ memory, exports }: Kernel, thread: number): State {
  const top = new Uint32Array(memory.buffer, exports.left_top(thread), 2 * exports.left_held(thread)).slice();
  return { top, max: exports.left_max(thread), sum: exports.left_sum(thread) };
}

/** Merges a state into that of the row that the kernel is at. */
function merge({ memory, exports }: Kernel, { top, max, sum }: State): void {
  exports.merge(max, sum);
  const scratch = new Uint32Array(memory.buffer, exports.scratch(), SCRATCH);
  for (let at = 0; at < top.length; at += SCRATCH) {
    const part = top.subarray(at, at + SCRATCH);
    scratch.set(part);
    exports.append_top(scratch.byteOffset, part.length / 2);
  }
}

/** Of so many rows, of which the first is the kernel's row `at`. */
export function takeResults(
  { memory, exports }: Kernel,
  result: SoftmaxTopK,
  row: number,
  rows: number,
  at: number,
): void {
  const { k, probs, indices, logSumExp } = result;
  probs.set(new Float32Array(memory.buffer, exports.probs() + 4 * at * k, rows * k), row * k);
  indices.set(new Uint32Array(memory.buffer, exports.indices() + 4 * at * k, rows * k), row * k);
  logSumExp.set(new Float32Array(memory.buffer, exports.log_sum_exps() + 4 * at, rows), row);
}

/** Where a piece lies in the buffer of the logits, in bytes. */
function sourceOf({ logits, options }: Problem, { part, first }: Piece): number {
  return logits.byteOffset + (options.offset + part.row * options.rowStride + first) * bytesPerElement[options.dtype];
}

/** Whether the logits lie in a kernel's memory. */
function isIn({ memory }: Kernel, { logits }: Problem): boolean {
  return logits.buffer === memory.buffer;
}

/**
 * The address of a piece in a kernel's memory: where it lies, or `place`, where it is copied to. As integers: a copy of floats
 * may change the bits of a NaN, and a Float16Array copies slowly.
 */
function addressIn(kernel: Kernel, problem: Problem, piece: Piece, place: number): number {
  const source = sourceOf(problem, piece);
  if (isIn(kernel, problem)) return source;
  const { dtype, rowStride } = problem.options;
  const bits = dtype === "f32" ? Uint32Array : Uint16Array;
  const length = (piece.rows - 1) * rowStride + piece.count;
  new bits(kernel.memory.buffer, place, length).set(new bits(problem.logits.buffer as ArrayBuffer, source, length));
  return place;
}
