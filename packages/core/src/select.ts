/**
 * The running selection of a row: a threshold and a candidate buffer in place of a sorted list.
 *
 * A logit that does not beat the threshold, the K-th best seen when the buffer was last cut, costs one comparison. The
 * others are appended; a full buffer is cut to its K best by quickselect, which raises the threshold. Exact for every
 * input, and O(vocab) even on ascending rows, since a cut is paid for by at least K appends.
 */
import { orderKey } from "./order.js";
import type { Candidate } from "./state.js";

const MIN_SLACK = 1024;

export class CandidateBuffer {
  /** A logit x can be among the K best only if `!(x <= threshold)`: NaN, the initial value, admits everything. */
  threshold = Number.NaN;
  readonly #k: number;
  readonly #logits: Float32Array;
  readonly #keys: Uint32Array;
  readonly #indices: Uint32Array;
  #length = 0;

  constructor(k: number, vocab: number) {
    const capacity = Math.min(vocab, Math.max(2 * k, k + MIN_SLACK));
    this.#k = k;
    this.#logits = new Float32Array(capacity);
    this.#keys = new Uint32Array(capacity);
    this.#indices = new Uint32Array(capacity);
  }

  clear(): void {
    this.#length = 0;
    this.threshold = Number.NaN;
  }

  /** Adds a logit. Within a row, indices must come in ascending order: the threshold lets later ties fall. */
  append(logit: number, index: number): void {
    if (this.#length === this.#keys.length) this.#cut();
    const at = this.#length++;
    this.#logits[at] = logit;
    this.#keys[at] = orderKey(logit);
    this.#indices[at] = index;
  }

  /** The K best appended since `clear`, best first. */
  top(): Candidate[] {
    if (this.#length > this.#k) this.#cut();
    const keys = this.#keys;
    const indices = this.#indices;
    const order = Uint32Array.from({ length: this.#length }, (_, i) => i);
    order.sort((a, b) => keys[b]! - keys[a]! || indices[a]! - indices[b]!);
    return Array.from(order, (at) => ({ logit: this.#logits[at]!, index: indices[at]! }));
  }

  #cut(): void {
    this.#quickselect(this.#k);
    this.#length = this.#k;
    let last = 0;
    for (let i = 1; i < this.#k; i++) if (this.#before(last, i)) last = i;
    this.threshold = this.#logits[last]!;
  }

  /** Hoare's quickselect: brings the `count` best to the front, in no order. (key, index) pairs are distinct. */
  #quickselect(count: number): void {
    const keys = this.#keys;
    const indices = this.#indices;
    let low = 0;
    let high = this.#length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#before(middle, low)) this.#swap(middle, low);
      if (this.#before(high, low)) this.#swap(high, low);
      if (this.#before(high, middle)) this.#swap(high, middle);
      const pivotKey = keys[middle]!;
      const pivotIndex = indices[middle]!;
      let i = low;
      let j = high;
      while (i <= j) {
        while (keys[i]! > pivotKey || (keys[i] === pivotKey && indices[i]! < pivotIndex)) i++;
        while (keys[j]! < pivotKey || (keys[j] === pivotKey && indices[j]! > pivotIndex)) j--;
        if (i <= j) this.#swap(i++, j--);
      }
      if (count - 1 <= j) high = j;
      else if (count - 1 >= i) low = i;
      else return;
    }
  }

  #before(a: number, b: number): boolean {
    return (
      this.#keys[a]! > this.#keys[b]! || (this.#keys[a] === this.#keys[b] && this.#indices[a]! < this.#indices[b]!)
    );
  }

  #swap(a: number, b: number): void {
    swap(this.#logits, a, b);
    swap(this.#keys, a, b);
    swap(this.#indices, a, b);
  }
}

function swap(array: Float32Array | Uint32Array, a: number, b: number): void {
  const held = array[a]!;
  array[a] = array[b]!;
  array[b] = held;
}
