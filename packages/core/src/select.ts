/**
 * The running selection of a row: a threshold and a candidate buffer in place of a sorted list.
 *
 * A logit that does not beat the threshold, the K-th best seen when the buffer was last cut, costs one comparison. The
 * others are appended; a full buffer is cut to its K best by quickselect, which raises the threshold. Exact for every
 * input, and O(vocab) even on ascending rows, since a cut is paid for by at least K appends.
 */
import { FusedTopKError } from "./errors.js";
import { logitOfKey, orderKey } from "./order.js";

const MIN_SLACK = 64;

/**
 * A candidate is one uint64, the complement of its order key above its index: ascending integers are the contract's order.
 * Selection reads the two halves, low half first as on every little-endian machine, and makes no BigInt; sorting is the
 * engine's own.
 */
export class CandidateBuffer {
  /** A logit x can be among the K best only if `!(x <= threshold)`: NaN, the initial value, admits everything. */
  threshold = Number.NaN;
  readonly #k: number;
  readonly #candidates: BigUint64Array;
  readonly #halves: Uint32Array;
  #length = 0;

  /** @throws {FusedTopKError} `ERR_OUT_OF_MEMORY` */
  constructor(k: number, vocab: number) {
    this.#k = k;
    try {
      this.#candidates = new BigUint64Array(Math.min(vocab, Math.max(2 * k, k + MIN_SLACK)));
    } catch (cause) {
      throw new FusedTopKError("ERR_OUT_OF_MEMORY", `Could not allocate the candidates of a row for k = ${k}.`, {
        fix: "Lower k.",
        cause,
      });
    }
    this.#halves = new Uint32Array(this.#candidates.buffer);
  }

  clear(): void {
    this.#length = 0;
    this.threshold = Number.NaN;
  }

  /** Adds a logit. Within a row, indices must come in ascending order: the threshold lets later ties fall. */
  append(logit: number, index: number): void {
    if (this.#length === this.#candidates.length) this.#cut();
    const at = 2 * this.#length++;
    this.#halves[at] = index;
    this.#halves[at + 1] = ~orderKey(logit);
  }

  /** Brings the K best appended since `clear` to the front, best first. */
  sort(): void {
    if (this.#length > this.#k) this.#cut();
    this.#candidates.subarray(0, this.#length).sort();
  }

  /** The logit at a place of the buffer. */
  logit(place: number): number {
    return logitOfKey(~this.#halves[2 * place + 1]! >>> 0);
  }

  /** The index at a place of the buffer. */
  index(place: number): number {
    return this.#halves[2 * place]!;
  }

  #cut(): void {
    const halves = this.#halves;
    quickselect(halves, this.#length, this.#k);
    this.#length = this.#k;
    let worst = 0;
    for (let i = 0; i < this.#k; i++) worst = Math.max(worst, halves[2 * i + 1]!);
    this.threshold = logitOfKey(~worst >>> 0);
  }
}

/** Hoare's quickselect over pairs (low half, high half): brings the `count` least to the front, in no order. */
function quickselect(halves: Uint32Array, length: number, count: number): void {
  let low = 0;
  let high = length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (less(halves, middle, low)) swap(halves, middle, low);
    if (less(halves, high, low)) swap(halves, high, low);
    if (less(halves, high, middle)) swap(halves, high, middle);
    const pivotLow = halves[2 * middle]!;
    const pivotHigh = halves[2 * middle + 1]!;
    let i = low;
    let j = high;
    while (i <= j) {
      while (halves[2 * i + 1]! < pivotHigh || (halves[2 * i + 1] === pivotHigh && halves[2 * i]! < pivotLow)) i++;
      while (halves[2 * j + 1]! > pivotHigh || (halves[2 * j + 1] === pivotHigh && halves[2 * j]! > pivotLow)) j--;
      if (i <= j) swap(halves, i++, j--);
    }
    if (count - 1 <= j) high = j;
    else if (count - 1 >= i) low = i;
    else return;
  }
}

function less(halves: Uint32Array, a: number, b: number): boolean {
  return (
    halves[2 * a + 1]! < halves[2 * b + 1]! ||
    (halves[2 * a + 1] === halves[2 * b + 1] && halves[2 * a]! < halves[2 * b]!)
  );
}

function swap(halves: Uint32Array, a: number, b: number): void {
  const low = halves[2 * a]!;
  const high = halves[2 * a + 1]!;
  halves[2 * a] = halves[2 * b]!;
  halves[2 * a + 1] = halves[2 * b + 1]!;
  halves[2 * b] = low;
  halves[2 * b + 1] = high;
}
