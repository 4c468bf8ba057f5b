// RowState, the monoid: what is known of a row after some of its logits were seen. See kernels/README.md.
//
// `top` lives in the candidate buffer (select.ts). The logits of a block are weighed in float32, four at a time; what
// outlives a block is float64, so that a sum of any length is a tree of short chains.
//
// Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); Herf, "Radix Tricks" (2001); Cody
// and Waite, "Software Manual for the Elementary Functions" (1980).

// The engine's own, in float64: a few calls a row.
declare function exp(x: f64): f64;
declare function log(x: f64): f64;

const KEY_NAN: u32 = 0;

// Maps a logit to an integer that sorts as the contract does: -0 equals +0, NaN after everything else.
export function order_key(logit: f32): u32 {
  if (F32.isNaN(logit)) return KEY_NAN;
  const bits = reinterpret<u32>(logit + 0); // -0 + 0 is +0
  return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

export function logit_of_key(key: u32): f32 {
  if (key === KEY_NAN) return f32.NaN;
  return reinterpret<f32>(key & 0x80000000 ? key & 0x7fffffff : ~key);
}

// A candidate is one integer: of two, the greater comes first.
export function make_candidate(logit: f32, index: u32): u64 {
  return ((<u64>order_key(logit)) << 32) | ~index;
}

export function candidate_logit(candidate: u64): f32 {
  return logit_of_key(<u32>(candidate >> 32));
}

export function candidate_index(candidate: u64): u32 {
  return ~(<u32>candidate);
}

// The state of the row that is being read. One row at a time: the module keeps it in its globals.
let max: f32;
let sum: f64;
let temperature: f64;

// What weight() needs of the temperature. With T = scale * temperature:
let scale: f32; // a power of two that keeps a difference of two scaled logits finite where it matters
let log2e_by_t: f32;
let t_ln2_high: f32; // T ln 2 in two pieces, of which n times the first is exact
let t_ln2_low: f32;

// At a temperature of 1e38 the two largest logits are 7 apart, and their difference is no float32: they are scaled first.
export function empty(temperature_: f64): void {
  max = -f32.POSITIVE_INFINITY;
  sum = 0;
  temperature = temperature_;
  const exponent: i32 = <i32>(reinterpret<u64>(temperature) >> 52) - 1023;
  const shift = exponent < 0 ? 0 : exponent > 126 ? 126 : exponent;
  scale = reinterpret<f32>((<u32>(127 - shift)) << 23);
  const t = temperature * <f64>scale;
  log2e_by_t = <f32>(Math.LOG2E / t);
  t_ln2_high = reinterpret<f32>(reinterpret<u32>(<f32>(t * Math.LN2)) & 0xfffff000);
  t_ln2_low = <f32>(t * Math.LN2 - <f64>t_ln2_high);
}

// Adds a block of logits, of which `block_max` is the largest number: `groups` of 16, from `logits`.
export function push(logits: usize, groups: u32, block_max: f32): void {
  if (F64.isNaN(sum)) return;
  // Before the first logit that is not masked, x - max would be NaN: weigh against 0 instead.
  const reference = max > block_max ? max : block_max;
  merge(block_max, block_weight(logits, groups, reference === -f32.POSITIVE_INFINITY ? 0 : reference));
}

// Merges the state of a block into the row's. `block_sum` is measured against the larger max of the two.
function merge(block_max: f32, block_sum: f64): void {
  if (block_max > max) {
    if (sum !== 0) sum *= exp((<f64>max - <f64>block_max) / temperature);
    max = block_max;
  }
  sum += max === f32.POSITIVE_INFINITY ? f64.NaN : block_sum;
}

// exp((logit - max) / temperature) / sum; 0 where every logit is masked, NaN where the row has no softmax.
export function probability(logit: f32): f32 {
  if (F64.isNaN(sum)) return f32.NaN;
  if (sum === 0) return 0;
  return <f32>(exp((<f64>logit - <f64>max) / temperature) / sum);
}

// log(sum over j of exp(x_j / temperature)); -inf where every logit is masked, NaN where the row has no softmax.
export function log_sum_exp(): f32 {
  if (sum === 0) return -f32.POSITIVE_INFINITY;
  return <f32>(<f64>max / temperature + log(sum));
}

// The sum of the weights of a block: 16 in float32, the rest in float64.
function block_weight(logits: usize, groups: u32, reference: f32): f64 {
  const s = f32x4.splat(scale);
  const r = f32x4.splat(reference * scale);
  const c = f32x4.splat(log2e_by_t);
  const high = f32x4.splat(t_ln2_high);
  const low = f32x4.splat(t_ln2_low);
  let even = f64x2.splat(0);
  let odd = f64x2.splat(0);
  for (const end = logits + ((<usize>groups) << 6); logits < end; logits += 64) {
    const w = f32x4.add(
      f32x4.add(weight(v128.load(logits), s, r, c, high, low), weight(v128.load(logits, 16), s, r, c, high, low)),
      f32x4.add(weight(v128.load(logits, 32), s, r, c, high, low), weight(v128.load(logits, 48), s, r, c, high, low)),
    );
    even = f64x2.add(even, f64x2.promote_low_f32x4(w));
    odd = f64x2.add(odd, f64x2.promote_low_f32x4(i64x2.shuffle(w, w, 1, 0)));
  }
  const all = f64x2.add(even, odd);
  return f64x2.extract_lane(all, 0) + f64x2.extract_lane(all, 1);
}

// 1.5 * 2^23: added to a small float32 it rounds that to an integer, which then stands in the low bits.
const ROUNDER: f32 = 12582912;
const LEAST_EXPONENT: f32 = -125;

// The coefficients of f to f^6 in the polynomial for 2^f.
const C1: f32 = 0.693147182;
const C2: f32 = 0.240226507;
const C3: f32 = 0.0555032715;
const C4: f32 = 0.00961805694;
const C5: f32 = 0.0013400428;
const C6: f32 = 0.000154614449;

// exp((x - reference) / temperature) for x <= reference: 0 for -inf and below 2^-125, NaN for NaN.
//
// With n = round((x - reference) / (T ln 2)) it is 2^n 2^f, where f is found from x - reference - n T ln 2, subtracted in two
// pieces: f straight from a rounded quotient would be wrong by an ulp of n + f. 2^f is the polynomial
// that meets it at the zeros of the 7th Chebyshev polynomial, 0 among them: within 2e-8 before rounding.
function weight(x: v128, s: v128, r: v128, c: v128, high: v128, low: v128): v128 {
  const difference = f32x4.sub(f32x4.mul(x, s), r);
  const exponent = f32x4.mul(difference, c);
  const rounded = f32x4.add(exponent, f32x4.splat(ROUNDER));
  const n = f32x4.sub(rounded, f32x4.splat(ROUNDER));
  const f = f32x4.mul(f32x4.sub(f32x4.sub(difference, f32x4.mul(n, high)), f32x4.mul(n, low)), c);
  const f2 = f32x4.mul(f, f);
  const p01 = f32x4.add(f32x4.splat(1), f32x4.mul(f, f32x4.splat(C1)));
  const p23 = f32x4.add(f32x4.splat(C2), f32x4.mul(f, f32x4.splat(C3)));
  const p45 = f32x4.add(f32x4.splat(C4), f32x4.mul(f, f32x4.splat(C5)));
  const p456 = f32x4.add(p45, f32x4.mul(f2, f32x4.splat(C6)));
  const p = f32x4.add(p01, f32x4.mul(f2, f32x4.add(p23, f32x4.mul(f2, p456))));
  const power = i32x4.add(i32x4.shl(rounded, 23), i32x4.splat(0x3f800000));
  return v128.andnot(f32x4.mul(p, power), f32x4.lt(exponent, f32x4.splat(LEAST_EXPONENT)));
}
