// The kernel: a row is streamed once, in blocks. A logit is loaded once, to be weighed (exp.ts) and compared with the threshold
// (select.ts); without relaxed SIMD twice, the second time from the first-level cache.
//
// A row is pushed in tiles of a few blocks: begin, push_logits, finish. Tiles come in any order (packages/wasm/src/job.ts). Of a
// tile the last block is visited first, then the others in sequence, so that a sorted row has its threshold early, whichever way
// it is sorted. Where several threads have tiles of a row (threads.ts), their states are merged before it is finished: merge,
// append_top.
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

// A tile: `count` logits of the row from index `first`, at least one, at any address. `dtype`: 0 f32, 1 f16, 2 bf16.
export function push_logits(address: usize, count: u32, dtype: u32, first: u32): void {
  const last = (count - 1) / BLOCK;
  push_block(address, count, dtype, first, last);
  for (let block: u32 = 0; block < last; block++) push_block(address, count, dtype, first, block);
}

// Searches and weighs block `number` of those logits.
function push_block(address: usize, count: u32, dtype: u32, first_of_all: u32, number: u32): void {
  const from = number * BLOCK;
  const first = first_of_all + from;
  const length = min(count - from, BLOCK);
  const groups = (length + GROUP - 1) / GROUP;
  const block = stage(address + bytes_of(from, dtype), length, dtype);
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
