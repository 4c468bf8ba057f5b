// The running selection of a row: a threshold and a candidate buffer in place of a sorted list. Exact for every input.
//
// A logit that does not beat the threshold, the K-th best seen when the buffer was last cut, costs one comparison. The
// others are appended; a full buffer is cut to its K best by quickselect, which raises the threshold.
import { CANDIDATES } from "./layout";
import { candidate_logit, make_candidate } from "./row_state";

const MIN_SLACK: u32 = 64;

// A logit x can be among the K best only if !(x <= threshold): NaN, the initial value, admits everything.
export let threshold: f32 = f32.NaN;
let k: u32;
let capacity: u32;
let length: u32;

export function clear(k_: u32): void {
  k = k_;
  capacity = k < MIN_SLACK ? k + MIN_SLACK : 2 * k;
  length = 0;
  threshold = f32.NaN;
}

// Adds a logit. Indices come in ascending order: the threshold lets later ties fall.
export function append(logit: f32, index: u32): void {
  if (length === capacity) cut();
  set(length++, make_candidate(logit, index));
}

// Brings the K best appended since `clear` to the front of the buffer, best first.
export function sort_top(): void {
  if (length > k) cut();
  sort(0, length - 1);
}

export function candidate(i: u32): u64 {
  return load<u64>(CANDIDATES + ((<usize>i) << 3));
}

function set(i: u32, value: u64): void {
  store<u64>(CANDIDATES + ((<usize>i) << 3), value);
}

// Hoare's quickselect; then the K best are at the front, in no order.
function cut(): void {
  let low: u32 = 0;
  let high = length - 1;
  while (low < high) {
    const middle = partition(low, high);
    if (k - 1 <= middle) high = middle;
    else low = middle + 1;
  }
  length = k;
  let worst = candidate(0);
  for (let i: u32 = 1; i < k; i++) worst = candidate(i) < worst ? candidate(i) : worst;
  threshold = candidate_logit(worst);
}

const SHORT: u32 = 16;

// Quicksort, descending. The longer part is taken by the loop, so that the stack stays short.
function sort(low: u32, high: u32): void {
  while (high - low >= SHORT) {
    const middle = partition(low, high);
    if (middle - low < high - middle) {
      sort(low, middle);
      low = middle + 1;
    } else {
      sort(middle + 1, high);
      high = middle;
    }
  }
  for (let i = low + 1; i <= high; i++) {
    const held = candidate(i);
    let hole = i;
    for (; hole > low && candidate(hole - 1) < held; hole--) set(hole, candidate(hole - 1));
    set(hole, held);
  }
}

// Parts low..high in two, neither empty: none after the place returned comes before one up to it. Candidates are distinct,
// so the median of three is never the last of a range, which Hoare's scheme needs.
function partition(low: u32, high: u32): u32 {
  const pivot = median(candidate(low), candidate((low + high) >>> 1), candidate(high));
  let i = low;
  let j = high;
  while (true) {
    while (candidate(i) > pivot) i++;
    while (candidate(j) < pivot) j--;
    if (i >= j) return j;
    const held = candidate(i);
    set(i++, candidate(j));
    set(j--, held);
  }
}

function median(a: u64, b: u64, c: u64): u64 {
  const low = a < b ? a : b;
  const high = a < b ? b : a;
  return c < low ? low : c > high ? high : c;
}
