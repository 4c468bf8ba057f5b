// The kernel for small vocabularies (expert gating): a warp a row, the row in registers.
//
// Lane l holds logits l, l + 32, ...; the max comes first, so a weight needs no rescaling. For the selection a logit
// and its index become one 32-bit word: the order_key, its lowest bits replaced by the inverted index. Words are
// distinct, so a tie costs nothing. A lane sorts its words; then the warp takes the greatest head k times.
//
// The bits replaced are constant for 16-bit logits. For f32 they may decide: where two of the k + 1 greatest words
// agree in all other bits, the row is selected again on whole keys, ties by index. k <= 32, vocab <= 1024.
#pragma once

#include "logits.cuh"
#include "problem.h"
#include "select.cuh"

namespace fused_topk {

constexpr uint32_t kSmallVocab = 1024;
constexpr uint32_t kSmallK = 32;
constexpr int kSmallThreads = 128;

// Sorts in registers, greatest first. Source: Batcher's odd-even merge sort (1968).
template <int kCount>
__device__ __forceinline__ void sort_registers(uint32_t (&word)[kCount]) {
#pragma unroll
  for (int size = 1; size < kCount; size *= 2) {
#pragma unroll
    for (int stride = size; stride >= 1; stride /= 2) {
#pragma unroll
      for (int i = 0; i < kCount; i++) {
        const bool is_low = i >= stride % size && (i - stride % size) / stride % 2 == 0;
        const int j = i + stride;
        if (is_low && j < kCount && i / (2 * size) == j / (2 * size)) {
          const uint32_t low = min(word[i], word[j]);
          word[i] = max(word[i], word[j]);
          word[j] = low;
        }
      }
    }
  }
}

// Selection on whole keys: lane r < k gets the index of rank r. For rows that the packed words cannot order.
template <class D, int kPerLane>
__device__ __noinline__ uint32_t select_whole_keys(const typename D::Storage* start, uint32_t vocab, uint32_t k,
                                                   uint32_t lane) {
  uint32_t key[kPerLane], mine = 0;  // one up, so that 0 means taken or past the end
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const uint32_t index = i * 32 + lane;
    key[i] = index < vocab ? order_key(load_logit<D>(start + index)) + 1 : 0;
  }
  warp_select(key, k, lane, [&](uint32_t rank, uint32_t, uint32_t index) {
    if (lane == rank) mine = index;
  });
  return mine;
}

// Grid: a warp a row. kPerLane * 32 >= vocab.
template <class D, int kPerLane>
__global__ void __launch_bounds__(kSmallThreads) softmax_topk_small(const __grid_constant__ Problem problem) {
  const uint64_t row = (static_cast<uint64_t>(blockIdx.x) * kSmallThreads + threadIdx.x) / 32;
  if (row >= problem.rows) return;
  const uint32_t lane = threadIdx.x & 31, vocab = problem.vocab, k = problem.k;
  const Scale scale = problem.scale;
  const auto* const start = static_cast<const typename D::Storage*>(problem.logits) + row * problem.row_stride;
  constexpr uint32_t kIndexBits = 32 * kPerLane - 1;

  float logit[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const uint32_t index = i * 32 + lane;
    logit[i] = index < vocab ? load_logit<D>(start + index) : -infinity();
  }
  uint32_t word[kPerLane], highest = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const uint32_t key = order_key(logit[i]), index = i * 32 + lane;
    highest = max(highest, key);
    // Past the end: behind everything. There are at least k words before it.
    word[i] = index < vocab ? (key & ~kIndexBits) | (kIndexBits - index) : 0;
  }
  highest = warp_max(highest);
  const float max = highest == kKeyNaN ? -infinity() : logit_of_key(highest);

  // Masked logits weigh nothing, also where everything is masked; NaN and +inf spoil the sum. On halves: no overflow.
  const float half_max = max == -infinity() ? 0.0f : 0.5f * max;
  float sums[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    sums[i % 4] += exp2_fast(fmaf(0.5f, logit[i], -half_max) * (2 * scale.high));
  }
  float sum = warp_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  if (max == infinity()) sum = quiet_nan();

  sort_registers(word);
  uint32_t mine = 0, last = 0;
  bool ambiguous = false;
  const uint32_t rounds = min(k + 1, vocab);  // the next after the k best tells whether the k-th is in doubt
  for (uint32_t rank = 0; rank < rounds; rank++) {
    const uint32_t best = warp_max(word[0]);
    if (word[0] == best) {
#pragma unroll
      for (int i = 0; i + 1 < kPerLane; i++) word[i] = word[i + 1];
      word[kPerLane - 1] = 0;
    }
    if (lane == rank) mine = best;
    if constexpr (sizeof(typename D::Storage) == 4) {
      if (rank > 0 && ((best ^ last) & ~kIndexBits) == 0) ambiguous = true;
      last = best;
    }
  }
  uint32_t index = kIndexBits - (mine & kIndexBits);
  if (ambiguous) index = select_whole_keys<D, kPerLane>(start, vocab, k, lane);
  if (lane < k) {
    const float x = load_logit<D>(start + index);
    problem.probs[row * k + lane] = probability(x, max, 1.0f / sum, sum == 0, scale);
    problem.indices[row * k + lane] = index;
  }
  if (lane == 0) problem.log_sum_exp[row] = log_sum_exp(max, sum, scale);
}

}  // namespace fused_topk
