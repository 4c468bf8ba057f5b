// Logits in memory: the three dtypes, widened to float32, and blocks that end anywhere.
import { BLOCK, staged } from "./layout";

// Codes of the dtypes; bf16 is 2.
export const F32: u32 = 0;
export const F16: u32 = 1;

// Logits of a group: the step of every loop over a block.
export const GROUP: u32 = 32;

export function bytes_of(count: u32, dtype: u32): usize {
  return (<usize>count) << (dtype === F32 ? 2 : 1);
}

// The address of a block as float32 in whole groups: the logits themselves where they are that, or else a copy of which
// the last group ends with -inf.
export function stage(logits: usize, count: u32, dtype: u32): usize {
  if (dtype === F32 && count % GROUP === 0) return logits;
  // Ahead of the copy: it overwrites all but the end.
  const last = count & ~(GROUP - 1);
  if (last < BLOCK) {
    for (let i: usize = 0; i < GROUP * 4; i += 16)
      v128.store(staged + ((<usize>last) << 2) + i, f32x4.splat(-f32.POSITIVE_INFINITY));
  }
  if (dtype === F32) memory.copy(staged, logits, (<usize>count) << 2);
  else if (dtype === F16) widen_all(logits, count, true);
  else widen_all(logits, count, false);
  return staged;
}

function widen_all(logits: usize, count: u32, is_f16: bool): void {
  const to = staged;
  const whole = count & ~3;
  for (let i: u32 = 0; i < whole; i += 4) {
    const bits = v128.load16x4_u(logits + ((<usize>i) << 1));
    v128.store(to + ((<usize>i) << 2), is_f16 ? widen_f16(bits) : i32x4.shl(bits, 16));
  }
  for (let i = whole; i < count; i++) {
    const bits = i32x4.splat(load<u16>(logits + ((<usize>i) << 1)));
    const wide = is_f16 ? widen_f16(bits) : i32x4.shl(bits, 16);
    store<u32>(to + ((<usize>i) << 2), i32x4.extract_lane(wide, 0));
  }
}

// Moved to where a float32 has its exponent and fraction, a binary16 is 2^112 times too small, subnormals too; the product
// is exact. The exponent of infinity and NaN is set apart.
function widen_f16(bits: v128): v128 {
  const magnitude = i32x4.shl(v128.and(bits, i32x4.splat(0x7fff)), 13);
  const value = f32x4.mul(magnitude, f32x4.splat(reinterpret<f32>(0x77800000)));
  const is_special = i32x4.gt_s(magnitude, i32x4.splat(0x0f7fffff));
  const special = v128.and(is_special, i32x4.splat(0x7f800000));
  const sign = i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16);
  return v128.or(v128.or(value, special), sign);
}
