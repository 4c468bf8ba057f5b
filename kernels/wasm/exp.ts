// The weights of logits: exp, four at a time, in two forms.
//
// `exp2_weights` needs relaxed SIMD, whose multiply-add rounds once. With c = 1 / (T ln 2) and n = round(x c) a weight is
// 2^(n - reference) 2^f, and f = x c - n comes out of a multiply-add without an error to speak of, whatever the size of x, as
// long as n is a float32 with room for a fraction. The c that is used is a float32; row_state.ts says what that does to a sum.
//
// `exp_weights` is plain SIMD. There x c would be rounded before n is taken away, so the difference to the max is taken
// first, and n T ln 2 is subtracted from that in two pieces, of which n times the first is exact.
//
// Source of the second: Cody and Waite, "Software Manual for the Elementary Functions" (1980).
import { GROUP } from "./logits";

// log2(e) / T for a temperature T, as it is used: rounded.
export let log2e_by_t: f32;
// And with T = scale * temperature, for plain SIMD:
let scale: f32; // a power of two that keeps a difference of two scaled logits finite where it matters
let log2e_by_scaled_t: f32;
let t_ln2_high: f32; // T ln 2 in two pieces, of which n times the first is exact
let t_ln2_low: f32;

// Returns whether powers can be taken at this temperature.
export function set_temperature(temperature: f64): bool {
  log2e_by_t = <f32>(Math.LOG2E / temperature);
  // At a temperature of 1e38 the two largest logits are 7 apart, and their difference is no float32: they are scaled first.
  const exponent: i32 = <i32>(reinterpret<u64>(temperature) >> 52) - 1023;
  const shift = exponent < 0 ? 0 : exponent > 126 ? 126 : exponent;
  scale = reinterpret<f32>((<u32>(127 - shift)) << 23);
  const t = temperature * <f64>scale;
  log2e_by_scaled_t = <f32>(Math.LOG2E / t);
  t_ln2_high = reinterpret<f32>(reinterpret<u32>(<f32>(t * Math.LN2)) & 0xfffff000);
  t_ln2_low = <f32>(t * Math.LN2 - <f64>t_ln2_high);
  set_exps();
  set_powers();
  if (ASC_FEATURE_RELAXED_SIMD) return exponent > -64 && exponent < 64;
  return false;
}

// x log2(e) / T up to which a float32 has room for its fraction.
const REACH: f64 = 2097152;

// Whether this max may be measured in powers of two: the -inf of a row that is masked so far may.
export function in_reach(max: f32): bool {
  return max === -f32.POSITIVE_INFINITY || <f64>f32.abs(max * log2e_by_t) < REACH;
}

// 1.5 * 2^23: added to a small float32 it rounds that to an integer, which then stands in the low bits.
const ROUNDER: f32 = 12582912;

// Whether multiply-add rounds once here. Without the instruction an engine may take two.
export function fuses(): bool {
  if (ASC_FEATURE_RELAXED_SIMD) {
    const x = f32x4.splat(reinterpret<f32>(0x3f800800)); // 1 + 2^-12
    const square = f32x4.splat(reinterpret<f32>(0xbf801000)); // -(1 + 2^-11)
    return f32x4.extract_lane(f32x4.relaxed_madd(x, x, square), 0) !== 0;
  }
  return false;
}

// The coefficients of f to f^5 in the polynomial for 2^f, |f| <= 1/2, nearest in relative error by Remez's exchange, divided by
// its constant term and moved by some ulps: in float32 within 1.4e-7 of 2^f / POWER_SCALE. As variables: an
// engine makes a vector constant anew wherever it is used, which costs more than the multiply-add.
let d1: f32;
let d2: f32;
let d3: f32;
let d4: f32;
let d5: f32;
let one: f32;

export const POWER_SCALE: f64 = 1.0000000693;

function set_powers(): void {
  d1 = 0.693146944;
  d2 = 0.240221173;
  d3 = 0.0555070043;
  d4 = 0.00967560615;
  d5 = 0.00132763607;
  one = 1;
}

// Exponents above the reference that a logit may have: its weight is then finite, and so is a sum of any length in float64.
const HEADROOM: f64 = 60;

let rounder: f32; // n + 127 - reference in the low bits: the exponent of a float32
let least: f32; // counts for every logit below
// The largest logit that may be weighed against the reference.
export let limit: f32;

export function set_reference(reference: i32): void {
  rounder = ROUNDER + <f32>(<i32>127 - reference);
  least = <f32>(<f64>(reference - 124) / <f64>log2e_by_t);
  limit = <f32>(min(<f64>reference + HEADROOM, REACH) / <f64>log2e_by_t);
}

// What `exp2_weights` found beside the group that it returns.
export let weights: f64; // of the groups ahead of that
export let group_weights: f64; // of that
export let group_max: f32; // its largest number

// Takes groups from `at` until one has a logit above the floor, and returns that one; `end` where none has, or the floor is NaN.
// Their weights are 2^(x / (T ln 2) - reference); NaN where a logit is NaN. A masked logit counts 2^-124, which is nothing
// beside the one near 1. A group is summed in float32, the rest in float64.
//
// pmax is one instruction. It drops a NaN on its right, and the floor is none: no NaN hides a logit.
export function exp2_weights(at: usize, end: usize, floor_: f32): usize {
  if (!ASC_FEATURE_RELAXED_SIMD) return end;
  const c = f32x4.splat(log2e_by_t);
  const r = f32x4.splat(rounder);
  const lowest = f32x4.splat(least);
  const c1 = f32x4.splat(d1);
  const c2 = f32x4.splat(d2);
  const c3 = f32x4.splat(d3);
  const c4 = f32x4.splat(d4);
  const c5 = f32x4.splat(d5);
  const c0 = f32x4.splat(one);
  const floor = f32x4.splat(floor_);
  let sum = f64x2.splat(0);
  let of_group = f32x4.splat(0);
  let highest = floor;
  while (at < end) {
    of_group = f32x4.splat(0);
    highest = floor;
    const next = at + GROUP * 4;
    for (; at < next; at += 16) {
      const logit = v128.load(at);
      highest = f32x4.pmax(highest, logit);
      const x = f32x4.pmax(logit, lowest);
      const n = f32x4.relaxed_madd(x, c, r);
      const f = f32x4.relaxed_madd(x, c, f32x4.sub(r, n));
      let p = f32x4.relaxed_madd(f, c5, c4);
      p = f32x4.relaxed_madd(p, f, c3);
      p = f32x4.relaxed_madd(p, f, c2);
      p = f32x4.relaxed_madd(p, f, c1);
      p = f32x4.relaxed_madd(p, f, c0);
      of_group = f32x4.relaxed_madd(p, i32x4.shl(n, 23), of_group);
    }
    if (v128.any_true(f32x4.gt(highest, floor))) {
      group_weights = sum_of(widened(of_group));
      group_max = greatest_lane(highest);
      weights = sum_of(sum);
      return at - GROUP * 4;
    }
    sum = f64x2.add(sum, widened(of_group));
  }
  weights = sum_of(sum);
  return end;
}

// Those of f to f^6 in the polynomial that meets 2^f at the zeros of the 7th Chebyshev polynomial, 0 among them: within 2e-8
// before rounding.
let e1: f32;
let e2: f32;
let e3: f32;
let e4: f32;
let e5: f32;
let e6: f32;
let plain_rounder: f32;
let plain_one: f32;
let least_exponent: f32;

function set_exps(): void {
  e1 = 0.693147182;
  e2 = 0.240226507;
  e3 = 0.0555032715;
  e4 = 0.00961805694;
  e5 = 0.0013400428;
  e6 = 0.000154614449;
  plain_rounder = ROUNDER;
  plain_one = 1;
  least_exponent = -125;
}

// The sum of exp((x - reference) / T) over a block of which no logit is above the reference: 0 for -inf and below 2^-125,
// NaN for NaN.
//
// With n = round((x - reference) / (T ln 2)) a weight is 2^n 2^f, where f is found from x - reference - n T ln 2, subtracted
// in two pieces: f straight from a rounded quotient would be wrong by an ulp of n + f.
export function exp_weights(logits: usize, groups: u32, reference: f32): f64 {
  const s = f32x4.splat(scale);
  const r = f32x4.splat(reference * scale);
  const c = f32x4.splat(log2e_by_scaled_t);
  const high = f32x4.splat(t_ln2_high);
  const low = f32x4.splat(t_ln2_low);
  const rounder = f32x4.splat(plain_rounder);
  const c1 = f32x4.splat(e1);
  const c2 = f32x4.splat(e2);
  const c3 = f32x4.splat(e3);
  const c4 = f32x4.splat(e4);
  const c5 = f32x4.splat(e5);
  const c6 = f32x4.splat(e6);
  const one = f32x4.splat(plain_one);
  const least = f32x4.splat(least_exponent);
  let sum = f64x2.splat(0);
  for (const end = logits + <usize>groups * GROUP * 4; logits < end; ) {
    let of_group = f32x4.splat(0);
    for (const end = logits + GROUP * 4; logits < end; logits += 16) {
      const difference = f32x4.sub(f32x4.mul(v128.load(logits), s), r);
      const exponent = f32x4.mul(difference, c);
      const rounded = f32x4.add(exponent, rounder);
      const n = f32x4.sub(rounded, rounder);
      const f = f32x4.mul(f32x4.sub(f32x4.sub(difference, f32x4.mul(n, high)), f32x4.mul(n, low)), c);
      const f2 = f32x4.mul(f, f);
      const p12 = f32x4.add(c1, f32x4.mul(f, c2));
      const p34 = f32x4.add(c3, f32x4.mul(f, c4));
      const p56 = f32x4.add(c5, f32x4.mul(f, c6));
      const p = f32x4.mul(f, f32x4.add(p12, f32x4.mul(f2, f32x4.add(p34, f32x4.mul(f2, p56)))));
      const two_to_n = i32x4.add(i32x4.shl(rounded, 23), one);
      const weight = f32x4.add(two_to_n, f32x4.mul(p, two_to_n));
      of_group = f32x4.add(of_group, v128.andnot(weight, f32x4.lt(exponent, least)));
    }
    sum = f64x2.add(sum, widened(of_group));
  }
  return sum_of(sum);
}

// The four numbers as two float64, a pair to each.
function widened(x: v128): v128 {
  return f64x2.add(f64x2.promote_low_f32x4(x), f64x2.promote_low_f32x4(i64x2.shuffle(x, x, 1, 0)));
}

function sum_of(x: v128): f64 {
  return f64x2.extract_lane(x, 0) + f64x2.extract_lane(x, 1);
}

export function greatest_lane(x: v128): f32 {
  const pair = f32x4.pmax(x, i64x2.shuffle(x, x, 1, 0));
  const a = f32x4.extract_lane(pair, 0);
  const b = f32x4.extract_lane(pair, 1);
  return a > b ? a : b;
}
