// The running selection of a row: a threshold and a candidate buffer in place of a sorted list. Exact for every input, in
// whatever order the logits come.
//
// A logit that does not come before the K-th best seen when the buffer was last cut costs one comparison. The others are
// appended; a full buffer is cut to its K best by quickselect, which raises the threshold.

import { greatest_lane } from "./exp";
import { BLOCK, candidates } from "./layout";
import { GROUP } from "./logits";
import { candidate_index, KEY_MINUS_INFINITY, logit_of_key, make_candidate } from "./row_state";

// Room for a block in which every logit is better than the last.
const ROOM: u32 = BLOCK;
// Between groups, while there is no threshold, and at the end of a block the buffer is cut if it holds so many beyond K, or
// twice K: an early threshold spares appends.
const SLACK: u32 = 64;

// The K-th best when the buffer was last cut; 0, which every candidate comes before, until then.
let worst: u64;
let k: u32;
let capacity: u32;
let soft_capacity: u32;
let held: u32; // candidates

export function clear(k_: u32): void {
  k = k_;
  capacity = k < ROOM ? k + ROOM : 2 * k;
  soft_capacity = k < SLACK ? k + SLACK : 2 * k;
  held = 0;
  worst = 0;
}

// Of a block whose first index is `first`, a logit can be among the K best only if it is greater; NaN where any can.
//
// A tie with the K-th best comes before it only at a lower index, so a block beyond that index needs to be greater. In the
// others it needs to be greater than the logit two keys below: one key may be that of -0, which equals +0. Keys below that of
// -inf are no number's. A block that has a floor keeps one, however the threshold rises: the loops over it rely on that.
export function floor_of(first: u32): f32 {
  const key = <u32>(worst >> 32);
  if (first > candidate_index(worst)) return logit_of_key(key);
  return key > KEY_MINUS_INFINITY ? logit_of_key(max(key - 2, KEY_MINUS_INFINITY)) : f32.NaN;
}

// Adds a logit, if it is among the K best so far.
function append(logit: f32, index: u32): void {
  append_candidate(make_candidate(logit, index));
}

export function append_candidate(candidate: u64): void {
  if (candidate <= worst) return;
  if (held === capacity) cut();
  set(held++, candidate);
}

// Offers groups of a block to the buffer, logit by logit, until the block has a floor, and returns how many. `length`: of the
// logits, of which the last group may have less than others.
export function fill(block: usize, length: u32, first: u32): u32 {
  let from: u32 = 0;
  for (; from < length && F32.isNaN(floor_of(first)); from += GROUP) {
    const end = min(length, from + GROUP);
    for (let i = from; i < end; i++) append(load<f32>(block + ((<usize>i) << 2)), first + i);
    settle();
  }
  return from / GROUP;
}

// At the end of a block.
export function settle(): void {
  if (held >= soft_capacity) cut();
}

// Offers groups with a floor, and returns their largest number, or the floor where that is greater. `first` is the index of
// their first logit.
//
// pmax is one instruction. It drops a NaN on its right, and what it begins with here is none: no NaN hides a logit.
export function offer(block: usize, groups: u32, first: u32): f32 {
  let highest = f32x4.splat(-f32.POSITIVE_INFINITY);
  let least = f32x4.splat(floor_of(first));
  for (let at = block, end = block + <usize>groups * GROUP * 4; at < end; at += GROUP * 4) {
    const a = f32x4.pmax(
      f32x4.pmax(f32x4.pmax(f32x4.pmax(least, v128.load(at)), v128.load(at, 16)), v128.load(at, 32)),
      v128.load(at, 48),
    );
    const b = f32x4.pmax(
      f32x4.pmax(f32x4.pmax(f32x4.pmax(least, v128.load(at, 64)), v128.load(at, 80)), v128.load(at, 96)),
      v128.load(at, 112),
    );
    const group_max = f32x4.pmax(a, b);
    highest = f32x4.pmax(highest, group_max);
    if (v128.any_true(f32x4.gt(group_max, least))) {
      const index = first + (<u32>(at - block) >>> 2);
      append_group(at, index, floor_of(first));
      least = f32x4.splat(floor_of(first));
    }
  }
  return greatest_lane(highest);
}

// Appends those of a group that are above the floor.
export function append_group(group: usize, first: u32, floor_: f32): void {
  const floor = f32x4.splat(floor_);
  for (let above = above_of(group, floor) | (above_of(group + 64, floor) << 16); above !== 0; above &= above - 1) {
    const at = <u32>ctz(above);
    append(load<f32>(group + ((<usize>at) << 2)), first + at);
  }
}

// Which of 16 logits are above the floor, a bit each.
function above_of(logits: usize, floor: v128): u32 {
  const low = i16x8.narrow_i32x4_s(f32x4.gt(v128.load(logits), floor), f32x4.gt(v128.load(logits, 16), floor));
  const high = i16x8.narrow_i32x4_s(f32x4.gt(v128.load(logits, 32), floor), f32x4.gt(v128.load(logits, 48), floor));
  return i8x16.bitmask(i8x16.narrow_i16x8_s(low, high));
}

// The largest number of a block; -inf where there is none.
export function max_of(block: usize, groups: u32): f32 {
  let highest = f32x4.splat(-f32.POSITIVE_INFINITY);
  for (const end = block + <usize>groups * GROUP * 4; block < end; block += 16) {
    highest = f32x4.pmax(highest, v128.load(block));
  }
  return greatest_lane(highest);
}

// Leaves the K best and few more in the buffer, and returns how many.
export function keep_top(): u32 {
  if (held > k) cut();
  return held;
}

// Brings the K best appended since `clear` to the front of the buffer, best first.
export function sort_top(): void {
  sort(0, held - 1);
}

export function candidate(i: u32): u64 {
  return load<u64>(candidates + ((<usize>i) << 3));
}

function set(i: u32, value: u64): void {
  store<u64>(candidates + ((<usize>i) << 3), value);
}

// Hoare's quickselect, until at least K and few more are left: the least of them is the new threshold.
function cut(): void {
  const target = k - 1;
  let low: u32 = 0;
  let high = held - 1;
  let middle = target;
  while (low < high) {
    middle = partition(low, high);
    if (middle < target) low = middle + 1;
    else if (middle > target + (k >>> 2)) high = middle - 1;
    else break;
    middle = target;
  }
  held = middle + 1;
  worst = candidate(middle);
}

const SHORT: u32 = 16;

// Quicksort, descending, of the K best; parts that begin beyond them stay as they are. The longer part is taken by the loop, so
// that the stack stays short. Places are signed: a part may end before it begins.
function sort(low: i32, high: i32): void {
  while (high - low >= <i32>SHORT && low < <i32>k) {
    const middle = <i32>partition(low, high);
    if (middle - low < high - middle) {
      sort(low, middle - 1);
      low = middle + 1;
    } else {
      sort(middle + 1, high);
      high = middle - 1;
    }
  }
  if (low >= <i32>k) return;
  for (let i = low + 1; i <= high; i++) {
    const moved = candidate(i);
    let hole = i;
    for (; hole > low && candidate(hole - 1) < moved; hole--) set(hole, candidate(hole - 1));
    set(hole, moved);
  }
}

// Moves what comes before a pivot of low..high ahead of it and returns the pivot's place. Lomuto's scheme, without a branch
// that depends on the data: a mispredicted one costs more than the store it saves.
function partition(low: u32, high: u32): u32 {
  const middle = (low + high) >>> 1;
  const pivot = median(candidate(low), candidate(middle), candidate(high));
  const last = candidate(high);
  if (pivot !== last) {
    set(pivot === candidate(low) ? low : middle, last);
    set(high, pivot);
  }
  let place = candidates + ((<usize>low) << 3);
  const end = candidates + ((<usize>high) << 3);
  for (let at = place; at < end; at += 8) {
    const moved = load<u64>(at);
    store<u64>(at, load<u64>(place));
    store<u64>(place, moved);
    place += (<usize>(moved > pivot)) << 3;
  }
  store<u64>(end, load<u64>(place));
  store<u64>(place, pivot);
  return <u32>((place - candidates) >>> 3);
}

function median(a: u64, b: u64, c: u64): u64 {
  const low = a < b ? a : b;
  const high = a < b ? b : a;
  return c < low ? low : c > high ? high : c;
}
