// The kernel: a row is streamed once, in blocks that stay in the first-level cache.
//
// The caller begins a row, pushes its logits in one piece or in several, and finishes it. A block is read twice: for its
// largest logit and its candidates, then for its weights against that.
import { BLOCK, INDICES, LOGITS, MAX_K, PROBS } from "./layout";
import { F32, GROUP, stage } from "./logits";
import { candidate_index, candidate_logit, empty, log_sum_exp, probability, push } from "./row_state";
import { append, candidate, clear, sort_top, threshold } from "./select";

let k: u32;
let seen: u32;

export function max_k(): u32 {
  return MAX_K;
}
// Addresses: float32 probs and uint32 indices, K of each after `finish`; and the first byte that is the caller's.
export function probs(): usize {
  return PROBS;
}
export function indices(): usize {
  return INDICES;
}
export function logits(): usize {
  return LOGITS;
}

export function begin(k_: u32, temperature: f64): void {
  k = k_;
  seen = 0;
  empty(temperature);
  clear(k);
}

// The next `count` logits of the row, at any address. `dtype`: 0 f32, 1 f16, 2 bf16.
export function push_logits(address: usize, count: u32, dtype: u32): void {
  const size: usize = dtype === F32 ? 4 : 2;
  while (count > 0) {
    const length = count < BLOCK ? count : BLOCK;
    const block = stage(address, length, dtype);
    const groups = (length + GROUP - 1) / GROUP;
    push(block, groups, select_block(block, length, groups));
    seen += length;
    address += <usize>length * size;
    count -= length;
  }
}

// Writes the results of the row and returns its logSumExp. At least K logits were pushed.
export function finish(): f32 {
  sort_top();
  for (let i: u32 = 0; i < k; i++) {
    const best = candidate(i);
    store<f32>(PROBS + ((<usize>i) << 2), probability(candidate_logit(best)));
    store<u32>(INDICES + ((<usize>i) << 2), candidate_index(best));
  }
  return log_sum_exp();
}

// Offers a block to the candidate buffer and returns its largest number.
//
// pmax is one instruction. It drops a NaN on its right and keeps one on its left, hence a chain and no tree: a NaN among the
// first four of a group has the whole group searched, and the others hide nothing. A row with a NaN needs no exact max.
function select_block(block: usize, length: u32, groups: u32): f32 {
  let highest = f32x4.splat(-f32.POSITIVE_INFINITY);
  let least = f32x4.splat(threshold);
  for (let group: u32 = 0; group < groups; group++) {
    const at = block + ((<usize>group) << 6);
    const first = f32x4.pmax(v128.load(at), v128.load(at, 16));
    const group_max = f32x4.pmax(f32x4.pmax(first, v128.load(at, 32)), v128.load(at, 48));
    highest = f32x4.pmax(highest, group_max);
    if (!i32x4.all_true(f32x4.le(group_max, least))) {
      append_group(block, group * GROUP, length);
      least = f32x4.splat(threshold);
    }
  }
  const pair = f32x4.pmax(highest, i64x2.shuffle(highest, highest, 1, 0));
  const a = f32x4.extract_lane(pair, 0);
  const b = f32x4.extract_lane(pair, 1);
  return a > b ? a : b;
}

function append_group(block: usize, from: u32, length: u32): void {
  const end = length < from + GROUP ? length : from + GROUP;
  for (let i = from; i < end; i++) {
    const logit = load<f32>(block + ((<usize>i) << 2));
    if (!(logit <= threshold)) append(logit, seen + i);
  }
}
