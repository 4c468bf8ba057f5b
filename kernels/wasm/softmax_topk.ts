// The kernel: a row is streamed once, in blocks. A logit is loaded once, to be weighed (exp.ts) and compared with the threshold
// (select.ts); without relaxed SIMD twice, the second time from the first-level cache.
//
// Blocks are visited in a permuted order: a fixed stride, near the golden section of their number and coprime to it. Any
// prefix of the visit is then an even sample of the row, and a sorted row costs no more than a random one.
//
// A row is pushed in one piece or in several: begin, push_logits, finish. Where several threads have pieces of it (threads.ts),
// their states are merged before it is finished: merge, append_top.
import { BLOCK, INDICES, LOG_SUM_EXP, logits_address, MAX_K, PROBS, staged } from "./layout";
import { bytes_of, GROUP, stage } from "./logits";
import {
  candidate_index,
  candidate_logit,
  empty,
  end,
  has_reference,
  log_sum_exp,
  probability,
  push,
  push_until,
} from "./row_state";
import {
  append_candidate,
  append_group,
  candidate,
  clear,
  fill,
  floor_of,
  max_of,
  offer,
  settle,
  sort_top,
} from "./select";

export { fuses } from "./exp";
export { merge } from "./row_state";
export * from "./threads";
export { logits_address };

let k: u32;

export function max_k(): u32 {
  return MAX_K;
}
// Addresses of the results: row r of a job has its K at r K.
export function probs(): usize {
  return PROBS;
}
export function indices(): usize {
  return INDICES;
}
export function log_sum_exps(): usize {
  return LOG_SUM_EXP;
}

export function begin(k_: u32, temperature: f64): void {
  k = k_;
  empty(temperature);
  clear(k);
}

// `count` logits of the row from index `first`, at any address. `dtype`: 0 f32, 1 f16, 2 bf16.
export function push_logits(address: usize, count: u32, dtype: u32, first: u32): void {
  const blocks = (count + BLOCK - 1) / BLOCK;
  const stride = stride_of(blocks);
  let block: u32 = 0;
  for (let i: u32 = 0; i < blocks; i++) {
    const from = block * BLOCK;
    const length = count - from < BLOCK ? count - from : BLOCK;
    const groups = (length + GROUP - 1) / GROUP;
    const next = block + stride < blocks ? block + stride : block + stride - blocks;
    prefetch(address + bytes_of(next * BLOCK, dtype), bytes_of(min(BLOCK, count - next * BLOCK), dtype));
    const at = stage(address + bytes_of(from, dtype), length, dtype);
    push_block(at, length, groups, first + from);
    block = next;
  }
}

// Searches and weighs a block of which the first index is `first`.
function push_block(block: usize, length: u32, groups: u32, first: u32): void {
  const filled = fill(block, length, first);
  let at = block + <usize>filled * GROUP * 4;
  const end = block + <usize>groups * GROUP * 4;
  if (filled > 0) push(block, filled, max_of(block, filled));
  while (at < end && has_reference()) {
    const floor = floor_of(first);
    at = push_until(at, end, floor);
    if (at === end) break;
    append_group(at, first + (<u32>(at - block) >>> 2), floor);
    at += GROUP * 4;
  }
  if (at < end) {
    const left = <u32>(end - at) / (GROUP * 4);
    push(at, left, offer(at, left, first + (<u32>(at - block) >>> 2)));
  }
  settle();
}

const CACHE_LINE: usize = 64;

// Asks for the block that is visited next: the hardware foresees no jump. A load is kept though nothing needs it, since it
// might trap; the loads of a block wait for memory together.
function prefetch(address: usize, bytes: usize): void {
  for (const end = address + bytes; address < end; address += CACHE_LINE) load<u8>(address);
}

// Writes the results of the row as those of row `row`. At least K logits were pushed.
export function finish(row: u32): void {
  end();
  sort_top();
  const to = (<usize>(row * k)) << 2;
  for (let i: u32 = 0; i < k; i++) {
    const best = candidate(i);
    store<f32>(PROBS + to + ((<usize>i) << 2), probability(candidate_logit(best)));
    store<u32>(INDICES + to + ((<usize>i) << 2), candidate_index(best));
  }
  store<f32>(LOG_SUM_EXP + ((<usize>row) << 2), log_sum_exp());
}

// Room for candidates on their way to `append_top`: a block of float32.
export function scratch(): usize {
  return staged;
}

// Adds candidates to those of the row.
export function append_top(top: usize, count: u32): void {
  for (let i: u32 = 0; i < count; i++) append_candidate(load<u64>(top + ((<usize>i) << 3)));
}

// Whole rows, `row_bytes` apart, of which the first is row `row`.
export function solve(
  address: usize,
  row_bytes: usize,
  rows: u32,
  vocab: u32,
  k: u32,
  dtype: u32,
  temperature: f64,
  row: u32,
): void {
  for (let i: u32 = 0; i < rows; i++) {
    begin(k, temperature);
    push_logits(address + <usize>i * row_bytes, vocab, dtype, 0);
    finish(row + i);
  }
}

// A step that is coprime to `count` and near its golden section.
export function stride_of(count: u32): u32 {
  let stride = <u32>Math.round(<f64>count * 0.6180339887498949);
  while (greatest_common_divisor(count, stride) > 1) stride++;
  return stride;
}

function greatest_common_divisor(a: u32, b: u32): u32 {
  while (b !== 0) {
    const rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}
