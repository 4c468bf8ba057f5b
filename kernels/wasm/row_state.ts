// RowState, the monoid: what is known of a row after some of its logits were seen. See kernels/README.md.
//
// `top` lives in the candidate buffer (select.ts). The logits of a block are weighed in float32, four at a time (exp.ts); what
// outlives a group is float64, so that a sum of any length is a tree of short chains.
//
// Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); Herf, "Radix Tricks" (2001).
import {
  exp_weights,
  exp2_weights,
  group_max,
  group_weights,
  in_reach,
  limit,
  log2e_by_t,
  POWER_SCALE,
  set_reference,
  set_temperature,
  weights,
} from "./exp";
import { GROUP } from "./logits";

// The engine's own, in float64: a few calls a row.
declare function exp(x: f64): f64;
declare function log(x: f64): f64;

const KEY_NAN: u32 = 0;
export const KEY_MINUS_INFINITY: u32 = 0x007fffff;

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

// The state of the row that is being read. One row at a time: the instance keeps it in its globals.
export let max: f32;
// Of exp((x - max) / temperature); or, while `in_powers`, of 2^(x log2e_by_t - reference) / POWER_SCALE.
export let sum: f64;
let temperature: f64;
let in_powers: bool;
let reference: i32;
let count: f64; // logits that were weighed in powers, padding too: a row may have 2^32

export function empty(temperature_: f64): void {
  max = -f32.POSITIVE_INFINITY;
  sum = 0;
  temperature = temperature_;
  in_powers = set_temperature(temperature);
  count = 0;
}

// Adds logits of which `block_max` is the largest number: `groups` groups, from `logits`.
export function push(logits: usize, groups: u32, block_max: f32): void {
  if (F64.isNaN(sum)) return;
  if (block_max === f32.POSITIVE_INFINITY) {
    sum = f64.NaN;
    return;
  }
  // The first logits that are not masked set the reference.
  if (in_powers && !in_reach(max > block_max ? max : block_max)) measure_against_max();
  if (in_powers) push_in_powers(logits, groups, block_max);
  else push_against_max(logits, groups, block_max);
}

// Whether `push_until` may be called.
export function has_reference(): bool {
  return in_powers && max !== -f32.POSITIVE_INFINITY;
}

// Adds groups from `at` until one has a logit above the floor, that one too, and returns its address; `end` where none has. The
// floor is none above the max, so that no other group can change the reference.
export function push_until(at: usize, end: usize, floor: f32): usize {
  const found = exp2_weights(at, end, floor);
  sum += weights;
  if (found === end) {
    count += <f64>((end - at) >>> 2);
    return end;
  }
  count += <f64>((found - at) >>> 2);
  if (group_max > limit) {
    push(found, 1, group_max);
  } else {
    count += GROUP;
    sum += group_weights;
    if (group_max > max) max = group_max;
  }
  return found;
}

// Relaxed SIMD: 2^(x log2e_by_t - reference), where the reference is an integer, so that nothing is rounded on the way.
function push_in_powers(logits: usize, groups: u32, block_max: f32): void {
  if (block_max === -f32.POSITIVE_INFINITY) {
    if (has_nan(logits, groups)) sum = f64.NaN;
    return;
  }
  if (max === -f32.POSITIVE_INFINITY || block_max > limit) {
    const power = <i32>Math.ceil(<f64>block_max * <f64>log2e_by_t);
    if (sum !== 0) sum *= exp(<f64>(reference - power) * Math.LN2);
    reference = power;
    set_reference(reference);
  }
  if (block_max > max) max = block_max;
  exp2_weights(logits, logits + <usize>groups * GROUP * 4, f32.NaN);
  sum += weights;
  count += <f64>(groups * GROUP);
}

// Elsewhere, and where powers are out of reach: exp((x - max) / T).
function push_against_max(logits: usize, groups: u32, block_max: f32): void {
  if (block_max > max) {
    if (sum !== 0) sum *= exp((<f64>max - <f64>block_max) / temperature);
    max = block_max;
  }
  // Before the first logit that is not masked, x - max would be NaN: weigh against 0 instead.
  sum += exp_weights(logits, groups, max === -f32.POSITIVE_INFINITY ? 0 : max);
}

// The c of the powers is rounded: c (1 + e) with |e| <= 2^-24. A logit d T below the max then counts exp(-d (1 + e)), and the
// sum is 1 - e D of what it should be, D being the mean of d, weighed by exp(-d). With S for the sum over the max's weight
// and N logits, D lies between 0 and (1 - 1/S) log((N - 1) / (S - 1)), which N - 1 equal logits reach: 8.6 at N = 128256.
// Corrected for half of that, the sum is wrong by 2.6e-7 at most, and by 5e-7 where N is 2^28.
function measure_against_max(): void {
  in_powers = false;
  if (sum === 0) return;
  const c = <f64>log2e_by_t;
  sum *= POWER_SCALE * exp((<f64>reference - c * <f64>max) * Math.LN2);
  const others = sum - 1;
  if (others <= 0) return;
  const e = c * Math.LN2 * temperature - 1;
  sum *= 1 + 0.5 * e * (others / sum) * log(count / others);
}

function has_nan(logits: usize, groups: u32): bool {
  let unordered = i32x4.splat(0);
  for (const end = logits + ((<usize>groups) << 7); logits < end; logits += 16) {
    const x = v128.load(logits);
    unordered = v128.or(unordered, f32x4.ne(x, x));
  }
  return v128.any_true(unordered);
}

// Ahead of `probability` and `log_sum_exp`, and before max and sum are another's.
export function end(): void {
  if (in_powers) measure_against_max();
}

// Adds another state's max and sum.
export function merge(other_max: f32, other_sum: f64): void {
  end();
  const greater = max > other_max ? max : other_max;
  sum = rescaled(sum, max, greater) + rescaled(other_sum, other_max, greater);
  max = greater;
}

function rescaled(sum: f64, max: f32, greater: f32): f64 {
  return sum === 0 || max === greater ? sum : sum * exp((<f64>max - <f64>greater) / temperature);
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
