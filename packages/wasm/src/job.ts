/** Which thread takes which logits: rows of a problem, in tiles. */

/** Whole rows, or a tile of one row. */
export interface Piece {
  part: Part;
  rows: number;
  /** Index of the first logit, and how many of each row. */
  first: number;
  count: number;
  /** Whether the thread has had none of the row before. */
  begins: boolean;
  /** Whether that is the end of the row, and no other thread has had a part of it. */
  finishes: boolean;
}

/** Rows that are handed out together, or one row in tiles. */
export interface Part {
  row: number;
  rows: number;
  /** The tile that is visited next. */
  at: number;
  /** Tiles that no thread has had. */
  left: number;
  /** Those that have had one. */
  threads: number[];
}

export interface JobSize {
  /** The first row, and how many. */
  first: number;
  rows: number;
  /** Rows that are handed out together. */
  together: number;
  vocab: number;
  /** Logits of a tile. */
  length: number;
}

/**
 * A thread has tiles of its row until there are none left, then of a new row; where no new row is left, it helps with the one
 * that is furthest from its end. A worker takes no more after that: it holds what it knows of the row. The calling thread, 0,
 * takes on until there is nothing left.
 */
export class Job {
  readonly first: number;
  readonly parts: Part[] = [];
  readonly #size: JobSize;
  readonly #tiles: number;
  readonly #stride: number;
  /** By thread. */
  readonly #current: (Part | undefined)[] = [];
  readonly #counts: number[] = [];
  #next: number;

  constructor(size: JobSize) {
    this.first = size.first;
    this.#size = size;
    this.#tiles = Math.ceil(size.vocab / size.length);
    this.#stride = strideOf(this.#tiles);
    this.#next = size.first;
  }

  /** What a thread does next. Threads are counted from 0. */
  take(thread: number): Piece | undefined {
    let part = this.#current[thread];
    if (part === undefined || part.left === 0) {
      if (thread > 0 && part !== undefined && part.threads.length > 1) return undefined;
      part = this.#open() ?? this.#longest(thread === 0 ? 1 : 2);
      if (part === undefined) return undefined;
      this.#current[thread] = part;
    }
    const { vocab, length } = this.#size;
    const begins = !part.threads.includes(thread);
    if (begins) part.threads.push(thread);
    const first = part.at * length;
    part.at = (part.at + this.#stride) % this.#tiles;
    part.left--;
    this.#counts[thread] = this.count(thread) + 1;
    const finishes = part.left === 0 && part.threads.length === 1;
    return { part, rows: part.rows, first, count: Math.min(length, vocab - first), begins, finishes };
  }

  /** How many tiles a thread has had. */
  count(thread: number): number {
    return this.#counts[thread] ?? 0;
  }

  /** The rows that several threads had tiles of. */
  get shared(): Part[] {
    return this.parts.filter(({ threads }) => threads.length > 1);
  }

  #open(): Part | undefined {
    const { first, rows, together } = this.#size;
    const left = first + rows - this.#next;
    if (left === 0) return undefined;
    const part = { row: this.#next, rows: Math.min(together, left), at: 0, left: this.#tiles, threads: [] };
    this.#next += part.rows;
    this.parts.push(part);
    return part;
  }

  /** The row of which most is left, if that is so many tiles. */
  #longest(least: number): Part | undefined {
    const [first, ...others] = this.parts.filter(({ left }) => left >= least);
    return others.reduce((a, b) => (b.left > a!.left ? b : a), first);
  }
}

/**
 * From a tile to the next, modulo their number: coprime to it, so that each is visited once, and near its golden section, so that
 * the first few lie all over the row and a sorted one has its threshold early.
 */
function strideOf(tiles: number): number {
  let stride = Math.round(tiles * 0.6180339887498949);
  while (greatestCommonDivisor(tiles, stride) > 1) stride++;
  return stride;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
