// What the two baselines share: one block reads a row and keeps its K best, one pass, a barrier a round.
#pragma once

#include "../logits.cuh"
#include "../problem.h"
#include "../select.cuh"

namespace fused_topk {

constexpr int kBaselineThreads = 512;
constexpr int kRoundItems = 4;  // logits a thread and round

__host__ __device__ constexpr uint32_t baseline_capacity(uint32_t k) {
  uint32_t power = 1024;
  while (power < k) power *= 2;
  const uint32_t round = k + kBaselineThreads * kRoundItems;
  return power > round ? power : round;
}
__host__ __device__ constexpr uint32_t baseline_shared_bytes(uint32_t k) {
  return sizeof(SelectControl) + kBins * sizeof(uint32_t) + (baseline_capacity(k) + k + kCrowded) * sizeof(Candidate);
}

// Calls emit(rank, candidate) for the k best of value(0), ..., value(vocab - 1), none of which is NaN.
template <class Value, class Emit>
__device__ void select_pass(unsigned char* shared, uint32_t vocab, uint32_t k, Value value, Emit emit) {
  auto& control = *reinterpret_cast<SelectControl*>(shared);
  auto* histogram = reinterpret_cast<uint32_t*>(&control + 1);
  auto* buffer = reinterpret_cast<Candidate*>(histogram + kBins);
  const uint32_t capacity = baseline_capacity(k);
  Selection<kBaselineThreads> select{control, histogram, buffer, capacity, k, ~Candidate{0}, {}};
  select.clear();
  __syncthreads();
  Candidate threshold = 0;
  for (uint64_t base = 0; base < vocab; base += kBaselineThreads * kRoundItems) {
    float x[kRoundItems];
#pragma unroll
    for (int i = 0; i < kRoundItems; i++) {
      const uint64_t at = base + i * kBaselineThreads + threadIdx.x;
      x[i] = at < vocab ? value(static_cast<uint32_t>(at)) : quiet_nan();
    }
#pragma unroll
    for (int i = 0; i < kRoundItems; i++) {
      const uint32_t at = static_cast<uint32_t>(base + i * kBaselineThreads + threadIdx.x);
      const Candidate c = make_candidate(x[i], at);
      if (x[i] == x[i] && c >= threshold) buffer[atomicAdd(&control.count, 1u)] = c;
    }
    __syncthreads();
    const uint32_t n = control.count;
    __syncthreads();
    if (n + kBaselineThreads * kRoundItems > capacity) {
      select.cut(n);
      threshold = control.cut;
    }
  }
  const uint32_t n = control.count;
  select.clear_histogram();
  __syncthreads();
  select.count_again(n);
  select.sort(n, min(n, k), buffer + capacity, k + kCrowded, emit);
}

// Sum or maximum over the block, for every thread.
template <class T, class Combine>
__device__ T block_reduce(T value, Combine combine) {
  __shared__ T parts[kBaselineThreads / 32];
  for (int step = 16; step; step /= 2) value = combine(value, __shfl_xor_sync(kFullWarp, value, step));
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = parts[0];
  for (int i = 1; i < kBaselineThreads / 32; i++) value = combine(value, parts[i]);
  return value;
}

// The row's max and the sum against it: two reads.
template <class D>
__device__ void max_and_sum(const typename D::Storage* row, uint32_t vocab, const Scale& scale, float* max,
                            float* sum) {
  float highest = -infinity();
#pragma unroll 4
  for (uint64_t i = threadIdx.x; i < vocab; i += kBaselineThreads) highest = fmaxf(highest, load_logit<D>(row + i));
  *max = block_reduce(highest, [](float a, float b) { return fmaxf(a, b); });
  float total = 0;
#pragma unroll 4
  for (uint64_t i = threadIdx.x; i < vocab; i += kBaselineThreads) {
    total += exp2_fast((load_logit<D>(row + i) - *max) * scale.high);
  }
  *sum = block_reduce(total, [](float a, float b) { return a + b; });
}

}  // namespace fused_topk
