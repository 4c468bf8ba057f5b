// The textbook fused kernel: max, then sum, then top-K, three reads of the logits.
import { BLOCK } from "../layout";
import { bytes_of, GROUP, stage } from "../logits";
import { push } from "../row_state";
import { fill, max_of, offer, settle } from "../select";
import { begin, finish } from "../softmax_topk";

// Writes the results of a row as those of row `row`.
export function three_pass(address: usize, vocab: u32, k: u32, dtype: u32, row: u32): void {
  begin(k, 1);
  let max = -f32.POSITIVE_INFINITY;
  for (let from: u32 = 0; from < vocab; from += BLOCK) {
    const length = min(BLOCK, vocab - from);
    const of_block = max_of(stage(address + bytes_of(from, dtype), length, dtype), groups_of(length));
    if (of_block > max) max = of_block;
  }
  for (let from: u32 = 0; from < vocab; from += BLOCK) {
    const length = min(BLOCK, vocab - from);
    push(stage(address + bytes_of(from, dtype), length, dtype), groups_of(length), max);
  }
  for (let from: u32 = 0; from < vocab; from += BLOCK) {
    const length = min(BLOCK, vocab - from);
    const block = stage(address + bytes_of(from, dtype), length, dtype);
    const filled = fill(block, length, from);
    const rest = block + <usize>filled * GROUP * 4;
    offer(rest, groups_of(length) - filled, from + filled * GROUP);
    settle();
  }
  finish(row);
}

function groups_of(length: u32): u32 {
  return (length + GROUP - 1) / GROUP;
}
