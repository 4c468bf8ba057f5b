// RowState, the monoid: what is known of a row after some of its logits were seen. See kernels/README.md.
//
// Logits appear here as `bits`: their own bits, left-aligned in 32. What a float32 comparison would decide is decided on
// integers, because WGSL lets a compiler assume that no float is NaN or infinite.
//
//   raw_key     two instructions; sorts as the contract does but for -0 (just below +0) and NaN (beyond the infinities)
//   order_key   the contract's order, exactly
//
// Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); Herf, "Radix Tricks" (2001).

const KEY_NAN = 0u;
const KEY_ZERO = 0x80000000u;
const KEY_POSITIVE_INFINITY = 0x80000000u | INFINITY_BITS;
const KEY_NEGATIVE_INFINITY = 0x7fffffffu - INFINITY_BITS;

const LOWEST_FLOAT = -0x1.fffffep+127f;

fn raw_key(bits: vec4<u32>) -> vec4<u32> {
  return bits ^ (bitcast<vec4<u32>>(bitcast<vec4<i32>>(bits) >> vec4(31u)) | vec4(0x80000000u));
}

fn order_key(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > INFINITY_BITS) {
    return KEY_NAN;
  }
  if (bits == 0x80000000u) {
    return KEY_ZERO;
  }
  return select(bits ^ 0x80000000u, ~bits, bits > 0x80000000u);
}

fn order_keys(bits: vec4<u32>) -> vec4<u32> {
  let raw = raw_key(bits);
  let key = select(raw, vec4(KEY_ZERO), raw == vec4(KEY_ZERO - 1u));
  return select(key, vec4(KEY_NAN), (bits & vec4(0x7fffffffu)) > vec4(INFINITY_BITS));
}

// The logit of a key.
fn logit_of_key(key: u32) -> f32 {
  return widen(vec4(select(~key, key ^ 0x80000000u, key >= 0x80000000u))).x;
}

// A candidate: what compares by (key descending, index ascending).
fn make_candidate(bits: u32, index: u32) -> vec2<u32> {
  return vec2(order_key(bits), index);
}

// x * scale. A device may take subnormal floats for zero; where they matter, at tiny temperatures, integers scale them, and
// what would overflow becomes the largest float.
fn scaled(x: vec4<f32>) -> vec4<f32> {
  if (!TINY_TEMPERATURE) {
    return x * params.scale;
  }
  let bits = bitcast<vec4<u32>>(x) & vec4(0x7fffffffu);
  let subnormal = vec4<f32>(bits) * 0x1p-125f;
  let normal = bitcast<vec4<f32>>(min(bits + vec4(24u << 23u), vec4(0x7f7fffffu)));
  let magnitude = select(normal, subnormal, bits < vec4(0x00800000u));
  return select(magnitude, -magnitude, bitcast<vec4<u32>>(x) >= vec4(0x80000000u));
}

// Whether two different floats are so large that `scaled` makes them one. At a tiny temperature they are worlds apart.
fn is_lost(x: vec4<f32>, reference: f32) -> vec4<bool> {
  let other = scaled(vec4(reference));
  let is_same = bitcast<vec4<u32>>(x) == vec4(bitcast<u32>(reference));
  return (scaled(x) == other) & (abs(other) >= vec4(-LOWEST_FLOAT)) & !is_same;
}

// (x - reference) / temperature * log2(e), the exponent of a weight. The difference first: x / temperature alone would
// cost the bits that x shares with the reference.
fn exponent(x: vec4<f32>, reference: f32) -> vec4<f32> {
  if (!TINY_TEMPERATURE) {
    return fma(x, vec4(params.scale), vec4(-reference * params.scale)) * params.log2e_by_temperature;
  }
  let apart = select(vec4(LOWEST_FLOAT), vec4(-LOWEST_FLOAT), x > vec4(reference));
  let difference = select(scaled(x) - scaled(vec4(reference)), apart, is_lost(x, reference));
  return difference * params.log2e_by_temperature;
}

// What logits add to a sum kept against `reference`: exp((x - reference) / temperature).
fn weight(x: vec4<f32>, reference: f32) -> vec4<f32> {
  return exp2(exponent(x, reference));
}

// `top` lives in the group maxima and then in the candidate buffer (select.wgsl).
struct RowState {
  // `sum` is kept against this: a logit near the largest seen, or LOWEST_FLOAT before the first that is not masked.
  reference: f32,
  // The sum of exp((x - reference) / temperature) over the logits seen.
  sum: f32,
  // The order_key of the largest logit seen: the exact max.
  highest: u32,
  // 1 once a NaN was seen.
  has_nan: u32,
}

// The state with its sum measured against another reference.
fn rescaled(state: RowState, reference: f32) -> RowState {
  let factor = weight(vec4(state.reference), reference).x;
  // 0 * inf would be NaN: a state without weight stays without.
  return RowState(reference, select(state.sum * factor, 0.0, state.sum == 0.0), state.highest, state.has_nan);
}

fn empty() -> RowState {
  return RowState(LOWEST_FLOAT, 0.0, 0u, 0u);
}

// A sum may reach 2^HEADROOM times the number of its logits before its reference moves: each move costs an exp and its error.
const HEADROOM = 8.0;

// Adds to the sum the logits that an invocation holds of a tile, of which `highest` is the largest order_key. Where keys
// are kept anyway, the caller knows the largest.
fn push(before: RowState, tile: Tile, highest: u32) -> RowState {
  var state = before;
  let tile_max = logit_of_key(highest);
  if (exponent(vec4(tile_max), state.reference).x > HEADROOM) {
    state = rescaled(state, tile_max);
  }
  state.sum += tile_weight(tile, state.reference);
  return state;
}

// A reference of so many powers of two at most may be multiplied out: exp(x - reference) by one multiply-add a logit. What is
// rounded then costs a weight 3e-6 at most.
const NEAR = 32.0;

// The sum of the weights of a tile.
fn tile_weight(tile: Tile, reference: f32) -> f32 {
  let start = -reference * params.log2e_by_temperature;
  var sum = vec4(0.0);
  if (!TINY_TEMPERATURE && params.scale == 1.0 && abs(start) <= NEAR) {
    sum = (near_weight(tile.a, start) + near_weight(tile.b, start)) + (near_weight(tile.c, start) + near_weight(tile.d, start));
  } else {
    for (var load = 0u; load < LOADS; load++) {
      sum += vector_weight(tile_words(tile, load), reference);
    }
  }
  return (sum.x + sum.y) + (sum.z + sum.w);
}

// The sums of the weights of a vector.
fn near_weight(words: vec4<u32>, start: f32) -> vec4<f32> {
  let low = exp2(fma(widen(slot_bits(words, 0u)), vec4(params.log2e_by_temperature), vec4(start)));
  if (LOGITS_PER_WORD == 1u) {
    return low;
  }
  return low + exp2(fma(widen(slot_bits(words, 1u)), vec4(params.log2e_by_temperature), vec4(start)));
}

fn vector_weight(words: vec4<u32>, reference: f32) -> vec4<f32> {
  let low = weight(widen(slot_bits(words, 0u)), reference);
  if (LOGITS_PER_WORD == 1u) {
    return low;
  }
  return low + weight(widen(slot_bits(words, 1u)), reference);
}

fn merge(a: RowState, b: RowState) -> RowState {
  let reference = max(a.reference, b.reference);
  let sum = rescaled(a, reference).sum + rescaled(b, reference).sum;
  return RowState(reference, sum, max(a.highest, b.highest), a.has_nan | b.has_nan);
}

fn has_softmax(state: RowState) -> bool {
  return state.highest < KEY_POSITIVE_INFINITY && state.has_nan == 0u;
}

// The largest logit of a key; LOWEST_FLOAT when it is masked.
fn row_max(highest: u32) -> f32 {
  if (highest <= KEY_NEGATIVE_INFINITY) {
    return LOWEST_FLOAT;
  }
  return logit_of_key(highest);
}

const NAN_BITS = 0x7fc00000u;

// The bits of a probability. WGSL allows exp an error of 3 + 2|x| ulp, too much at x = -69: hence exp_times.
fn probability(state: RowState, key: u32) -> u32 {
  if (!has_softmax(state)) {
    return NAN_BITS;
  }
  if (key <= KEY_NEGATIVE_INFINITY) {
    return 0u;
  }
  let logit = vec4(logit_of_key(key));
  if (TINY_TEMPERATURE && is_lost(logit, state.reference).x) {
    return 0u;
  }
  let x = scaled(logit).x;
  let m = scaled(vec4(state.reference)).x;
  let difference = x - m;
  let quotient = difference / params.temperature_high;
  if (quotient < -104.0) {
    return 0u;
  }
  // What the subtraction (Knuth's two-sum) and the division (a remainder by fma) rounded away.
  let lost = (x - (difference - (difference - x))) - (m + (difference - x));
  let remainder = fma(-quotient, params.temperature_high, difference) - quotient * params.temperature_low + lost;
  return bitcast<u32>(exp_times(quotient, remainder / params.temperature_high, 1.0 / state.sum));
}

// The bits of log(sum over j of exp(x_j / temperature)).
fn finish_log_sum_exp(state: RowState) -> u32 {
  if (!has_softmax(state)) {
    return NAN_BITS;
  }
  if (state.sum == 0.0) {
    return 0xff800000u;
  }
  let m = scaled(vec4(state.reference)).x;
  let quotient = m / params.temperature_high;
  if (abs(quotient) > 1e30) {
    return bitcast<u32>(quotient);
  }
  let remainder = fma(-quotient, params.temperature_high, m) - quotient * params.temperature_low;
  return bitcast<u32>(quotient + (remainder / params.temperature_high + log(state.sum)));
}

// exp(y + correction) * factor for -104 <= y <= 0 and a tiny correction: y = n ln 2 + r with ln 2 in two pieces, the first
// short enough that n times it is exact (Cody and Waite), the Taylor polynomial of exp(r), and n added to the exponent.
fn exp_times(y: f32, correction: f32, factor: f32) -> f32 {
  let n = round(y * 1.44269504);
  let r = fma(n, 2.12194440e-4, fma(n, -0.693359375, y)) + correction;
  var p = 1.0 / 5040.0;
  p = fma(p, r, 1.0 / 720.0);
  p = fma(p, r, 1.0 / 120.0);
  p = fma(p, r, 1.0 / 24.0);
  p = fma(p, r, 1.0 / 6.0);
  p = fma(p, r, 0.5);
  p = fma(p, r, 1.0);
  p = fma(p, r, 1.0);
  if (n < -126.0) {
    return 0.0;
  }
  return p * bitcast<f32>(u32(i32(n) + 127) << 23u) * factor;
}
