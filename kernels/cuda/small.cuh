// The kernel for small vocabularies (expert gating): a warp a row, the row in registers.
//
// Lane l holds logits l, l + 32, ...; the max comes first, so a weight needs no rescaling. The K best are taken one by
// one: the warp's greatest key, among equals the lowest index. K <= 32, vocab <= 1024.
#pragma once

#include "logits.cuh"
#include "problem.h"
#include "select.cuh"

namespace fused_topk {

constexpr uint32_t kSmallVocab = 1024;
constexpr uint32_t kSmallK = 32;
constexpr int kSmallThreads = 128;

// Grid: a warp a row. kPerLane * 32 >= vocab.
template <class D, int kPerLane>
__global__ void __launch_bounds__(kSmallThreads) softmax_topk_small(const __grid_constant__ Problem problem) {
  const uint64_t row = (static_cast<uint64_t>(blockIdx.x) * kSmallThreads + threadIdx.x) / 32;
  if (row >= problem.rows) return;
  const uint32_t lane = threadIdx.x & 31, vocab = problem.vocab, k = problem.k;
  const Scale scale = problem.scale;
  const auto* const start = static_cast<const typename D::Storage*>(problem.logits) + row * problem.row_stride;

  float logit[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const uint32_t index = i * 32 + lane;
    logit[i] = index < vocab ? load_logit<D>(start + index) : -infinity();
  }
  // Keys one up, so that 0 means taken or past the end; the lane's greatest and its place.
  uint32_t key[kPerLane], highest = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    key[i] = i * 32 + lane < vocab ? order_key(logit[i]) + 1 : 0;
    highest = max(highest, key[i]);
  }
  uint32_t best = warp_max(highest);
  const float max = best == kKeyNaN + 1 ? -infinity() : logit_of_key(best - 1);

  float sums[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    // A masked logit weighs nothing, also where everything is masked; NaN and +inf spoil the sum.
    const float exponent = fmaf(0.5f, logit[i], -0.5f * max) * (2 * scale.high);  // halves: no overflow
    const float term = logit[i] == -infinity() ? 0.0f : exp2_fast(exponent);
    sums[i % 4] += i * 32 + lane < vocab ? term : 0.0f;
  }
  float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
#pragma unroll
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  if (max == infinity()) sum = quiet_nan();

  float my_logit = 0;
  uint32_t my_index = 0;
  for (uint32_t rank = 0; rank < k; rank++) {
    uint32_t candidate = kNotFound;
#pragma unroll
    for (int i = kPerLane - 1; i >= 0; i--) {
      if (key[i] == best) candidate = i * 32 + lane;
    }
    const uint32_t index = warp_min(candidate);
    if (lane == rank) {
      my_logit = logit_of_key(best - 1);
      my_index = index;
    }
    highest = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      if (i * 32 + lane == index) key[i] = 0;
      highest = ::max(highest, key[i]);
    }
    best = warp_max(highest);
  }
  if (lane < k) {
    problem.probs[row * k + lane] = probability(my_logit, max, 1.0f / sum, sum == 0, scale);
    problem.indices[row * k + lane] = my_index;
  }
  if (lane == 0) problem.log_sum_exp[row] = log_sum_exp(max, sum, scale);
}

}  // namespace fused_topk
