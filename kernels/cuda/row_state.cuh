// RowState in CUDA: the order of logits, the state of a part of a row, and its four verbs.
//
// Read kernels/README.md first. This header is the definition, kept plain; it compiles with a host C++17 compiler too,
// and its laws are tested there. The kernels hold the same state in another form:
//   - `top` as the maxima of groups of logits (softmax_topk.cuh), and at the end as a buffer of the `Candidate`s of this
//     file (select.cuh);
//   - `sum` as a PartialSum, against a reference that need not be the final max, so that a logit costs one exp.
// Both become a RowState's fields again in `finish`.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define FUSED_TOPK_FN __host__ __device__ __forceinline__
#else
#define FUSED_TOPK_FN inline
#endif

namespace fused_topk {

constexpr uint32_t kKeyNaN = 0u;
constexpr uint32_t kKeyNegativeInfinity = 0x007FFFFFu;

FUSED_TOPK_FN uint32_t float_bits(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(x);
#else
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
#endif
}

FUSED_TOPK_FN float float_from_bits(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
#endif
}

FUSED_TOPK_FN float infinity() { return float_from_bits(0x7F800000u); }
FUSED_TOPK_FN float quiet_nan() { return float_from_bits(0x7FC00000u); }

// A uint32 that sorts as the contract orders logits: -0 equals +0, NaN after everything else.
// Source: the radix-sort transform of IEEE floats (Michael Herf, "Radix Tricks", 2001). The `_of_number` forms are for
// logits that are known not to be NaN.
FUSED_TOPK_FN uint32_t order_key_of_number(float logit) {
  const uint32_t bits = float_bits(logit + 0.0f);  // -0 + 0 is +0
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}
FUSED_TOPK_FN uint32_t order_key(float logit) { return logit != logit ? kKeyNaN : order_key_of_number(logit); }

// The logit of an order_key; NaN for kKeyNaN.
FUSED_TOPK_FN float logit_of_key(uint32_t key) { return float_from_bits(key & 0x80000000u ? key ^ 0x80000000u : ~key); }

// A logit and its index in one word that sorts as candidates do: the greater logit first, then the lower index.
using Candidate = uint64_t;

FUSED_TOPK_FN Candidate make_candidate(float logit, uint32_t index) {
  return (static_cast<uint64_t>(order_key(logit)) << 32) | static_cast<uint32_t>(~index);
}
FUSED_TOPK_FN Candidate make_candidate_of_number(float logit, uint32_t index) {
  return (static_cast<uint64_t>(order_key_of_number(logit)) << 32) | static_cast<uint32_t>(~index);
}
FUSED_TOPK_FN float candidate_logit(Candidate c) { return logit_of_key(static_cast<uint32_t>(c >> 32)); }
FUSED_TOPK_FN uint32_t candidate_index(Candidate c) { return ~static_cast<uint32_t>(c); }

// log2(e) / temperature, which turns exp((x - m) / temperature) into exp2((x - m) * scale), and what it was made of.
struct Scale {
  float high;          // the scale rounded to float
  float low;           // what the rounding lost
  double temperature;  // > 0
};

inline Scale make_scale(double temperature) {
  const double scale = 1.4426950408889634 / temperature;
  const float high = static_cast<float>(scale);
  return {high, static_cast<float>(scale - high), temperature};
}

// 2^x: the special-function unit on a GPU, within 2^-22.
FUSED_TOPK_FN float exp2_fast(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

// exp((logit - max) / temperature) to float precision wherever it is a normal number: difference and product each carry
// their rounding error along, since an error of 2^-24 in an exponent of 100 would show in the sixth digit. Computed on
// halves, whose difference cannot overflow.
// Source: TwoSum (Knuth), and the error of a product by one fused multiply-add (Dekker, Ogita et al.).
FUSED_TOPK_FN float weight(float logit, float max, const Scale& scale) {
  const float a = 0.5f * logit, b = 0.5f * max, high = 2 * scale.high;
  const float difference = a - b;
  const float back = difference - a;
  const float lost = (a - (difference - back)) - (b + back);
  const float exponent = difference * high;
  if (!(exponent > -1000.0f)) return logit != logit ? logit : 0.0f;
  const float rest = std::fma(difference, high, -exponent) + (difference * (2 * scale.low) + lost * high);
  return exp2_fast(exponent) * (1.0f + rest * 0.69314718f);
}

// 2^29: from here on a scaled logit has an ulp of 64 or more, and is too coarse to be a reference.
constexpr float kCoarse = 536870912.0f;

// Sum of exp2(x * scale - reference) over some logits. The reference is one of their scaled logits, or near it.
struct PartialSum {
  float reference;
  double sum;
};

template <int K>
struct RowState {
  float max;         // the largest logit seen that is a number; -inf when there is none
  double sum;        // sum of exp((x - max) / temperature) over the logits seen; NaN once a NaN or +inf was seen
  Candidate top[K];  // the K best seen, best first; 0, which no logit makes, where there are fewer
};

template <int K>
FUSED_TOPK_FN RowState<K> empty() {
  RowState<K> state{-infinity(), 0.0, {}};
  return state;
}

template <int K>
FUSED_TOPK_FN RowState<K> merge(const RowState<K>& a, const RowState<K>& b, const Scale& scale) {
  RowState<K> out;
  out.max = a.max > b.max ? a.max : b.max;
  out.sum = 0;
  for (const RowState<K>* part : {&a, &b}) {
    out.sum += part->sum == 0 || part->sum != part->sum ? part->sum : part->sum * weight(part->max, out.max, scale);
  }
  for (int i = 0, taken_a = 0, taken_b = 0; i < K; i++) {
    const bool from_a = taken_b >= K || (taken_a < K && a.top[taken_a] >= b.top[taken_b]);
    out.top[i] = from_a ? a.top[taken_a++] : b.top[taken_b++];
  }
  return out;
}

template <int K>
FUSED_TOPK_FN void push(RowState<K>& state, float logit, uint32_t index, const Scale& scale) {
  RowState<K> one = empty<K>();
  if (logit == logit) one.max = logit;
  one.sum = logit == -infinity() ? 0.0 : logit < infinity() ? 1.0 : static_cast<double>(quiet_nan());
  one.top[0] = make_candidate(logit, index);
  state = merge(state, one, scale);
}

// exp((logit - max) / temperature) / sum; 0 where every logit is masked, NaN where the row has no softmax.
FUSED_TOPK_FN float probability(float logit, float max, float inverse_sum, bool masked, const Scale& scale) {
  if (inverse_sum != inverse_sum) return inverse_sum;
  return masked ? 0.0f : weight(logit, max, scale) * inverse_sum;
}

// log(sum over j of exp(x_j / temperature)); -inf where every logit is masked, NaN where the row has no softmax.
FUSED_TOPK_FN float log_sum_exp(float max, double sum, const Scale& scale) {
  if (sum != sum) return quiet_nan();
  return sum == 0 ? -infinity() : static_cast<float>(max / scale.temperature + std::log(static_cast<float>(sum)));
}

// Writes the results of one row: `probs` and `indices` hold K, `lse` one. The state must have seen at least K logits.
template <int K>
FUSED_TOPK_FN void finish(const RowState<K>& state, float* probs, uint32_t* indices, float* lse, const Scale& scale) {
  const float inverse_sum = static_cast<float>(1.0 / state.sum);
  for (int i = 0; i < K; i++) {
    probs[i] = probability(candidate_logit(state.top[i]), state.max, inverse_sum, state.sum == 0, scale);
    indices[i] = candidate_index(state.top[i]);
  }
  *lse = log_sum_exp(state.max, state.sum, scale);
}

}  // namespace fused_topk
