// The gating kernel: many rows of a small vocabulary (at most 256), K at most 8, as a mixture of experts has them.
//
// Such rows are bound by instructions, not by memory, so everything here saves those. A warp takes 32 rows, 8 lanes a
// row, four rows at a time; nothing is shared between warps and there is no barrier.
//
// 1. Groups. Four neighbouring logits are a group. The K best logits of a row lie in the K groups with the largest
//    maxima (ties: the lower group), because each of those groups has a logit that comes before everything in the
//    groups left out. So only group maxima are sorted, a quarter of the row.
// 2. Keys. A maximum and its place fit one signed 32-bit key, so a step of a sorting network is one min and one max.
//    16-bit logits: their order in the upper half, the inverted index below. Exact. f32: the bits of (row maximum -
//    logit), whose low bits give way to the index, all inverted. Narrow rows keep their precision that way, since the
//    difference is small; what the missing bits can hide is found in step 5.
// 3. Leaves. Each lane sorts the keys of its groups of a row, and sums exp2(x * scale - max * scale).
// 4. Merges that transpose. Lanes that differ in one bit exchange lists: one keeps the first row and sends the second,
//    the other the reverse, and each merges what it kept with what it got. No lane works twice, and after three such
//    steps every lane owns one row of the 32: its 8 best groups and its sum. The lists double until they are 8 long.
// 5. Finish. A lane loads the K best groups of its row again (they are in a cache), sorts their logits in the same way,
//    and writes K results. With f32 keys, winners are put in their exact order; where the best key left out looks like
//    that of the last winner, a warp looks at the row again: if all logits that look so are equal, the index has
//    decided rightly.
// 6. What is left goes to exact_row, a warp a row: an unsettled tie, NaN, +inf, nothing but -inf, and scaled logits too
//    large for a float reference.
//
// The sum is a tree of chains of at most 16 floats. Deterministic, and a row's bits do not depend on its neighbours.
// Sorting networks: Knuth, TAOCP 3, 5.3.4. Merging two sorted lists by a bitonic half-cleaner: Batcher, 1968.
#pragma once

#include <climits>

#include "logits.cuh"
#include "problem.h"
#include "select.cuh"

namespace fused_topk {

constexpr uint32_t kGatingMaxVocab = 256;
constexpr uint32_t kGatingMaxK = 8;

constexpr int kGroup = 4;        // logits
constexpr int kLanesPerRow = 8;  // and rows a lane sees before the merges
constexpr int kGatingThreads = 128;
constexpr float kGatingCoarse = 134217728.0f;  // 2^27: below it, a float reference is off by at most 4 powers of two

// 1 / temperature as a sum of two floats.
struct GatingPlan {
  float inverse_temperature, inverse_temperature_low;
  bool vectors;       // rows are whole, aligned 16-byte vectors
  bool wide_outputs;  // probs and indices can be written 16 bytes at a time where k is 8, 8 bytes where k is even
};

inline GatingPlan make_gating_plan(const Problem& problem, uint32_t per_vector) {
  const double inverse = 1.0 / problem.scale.temperature;
  const float high = static_cast<float>(inverse);
  const bool vectors = reinterpret_cast<uintptr_t>(problem.logits) % 16 == 0 && problem.row_stride % per_vector == 0 &&
                       problem.vocab % per_vector == 0;
  const uintptr_t outputs = reinterpret_cast<uintptr_t>(problem.probs) | reinterpret_cast<uintptr_t>(problem.indices);
  return {high, static_cast<float>(inverse - high), vectors, outputs % 16 == 0};
}

// --- Sorting, greatest first ---

__device__ __forceinline__ void sort_two(int& first, int& second) {
  const int greater = max(first, second);
  second = min(first, second);
  first = greater;
}

// Sorts a bitonic sequence.
template <int kCount>
__device__ __forceinline__ void sort_bitonic(int (&key)[kCount]) {
#pragma unroll
  for (int stride = kCount / 2; stride; stride /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; i++) {
      if ((i & stride) == 0) sort_two(key[i], key[i + stride]);
    }
  }
}

// 19 comparators for 8 keys, 5 for 4, 1 for 2: the fewest there are.
template <int kCount>
__device__ __forceinline__ void sort_keys(int (&key)[kCount]) {
  static_assert(kCount == 2 || kCount == 4 || kCount == 8, "a network for each");
  constexpr int kEight[19][2] = {{0, 2}, {1, 3}, {4, 6}, {5, 7}, {0, 4}, {1, 5}, {2, 6}, {3, 7}, {0, 1}, {2, 3},
                                 {4, 5}, {6, 7}, {2, 4}, {3, 5}, {1, 4}, {3, 6}, {1, 2}, {3, 4}, {5, 6}};
  constexpr int kFour[5][2] = {{0, 1}, {2, 3}, {0, 2}, {1, 3}, {1, 2}};
  if constexpr (kCount == 8) {
#pragma unroll
    for (int i = 0; i < 19; i++) sort_two(key[kEight[i][0]], key[kEight[i][1]]);
  } else if constexpr (kCount == 4) {
#pragma unroll
    for (int i = 0; i < 5; i++) sort_two(key[kFour[i][0]], key[kFour[i][1]]);
  } else {
    sort_two(key[0], key[1]);
  }
}

// Merges two sorted lists of the 8 best into the first. The best key that falls out goes to `dropped`, where tracked.
template <bool kTrack>
__device__ __forceinline__ void merge_best(int (&best)[8], const int (&other)[8], int& dropped) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    if (kTrack) dropped = max(dropped, min(best[i], other[7 - i]));
    best[i] = max(best[i], other[7 - i]);
  }
  sort_bitonic(best);
}

// --- Two 16-bit logits in a word ---

template <class D>
__device__ __forceinline__ uint32_t pack(float low, float high) {
  if constexpr (std::is_same_v<D, BF16>) return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xFFFF0000u);
  return __half_as_ushort(__float2half(low)) | static_cast<uint32_t>(__half_as_ushort(__float2half(high))) << 16;
}
template <class D>
__device__ __forceinline__ float half_of(uint32_t pair, int i) {
  return element<D>(make_uint4(pair, 0, 0, 0), i);
}

// The larger of each half; a number where one is NaN.
template <class D>
__device__ __forceinline__ uint32_t pair_max(uint32_t a, uint32_t b) {
  uint32_t larger;
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<D, BF16>) {
    asm("max.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  } else {
    asm("max.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  }
#else
  larger = pack<D>(fmaxf(half_of<D>(a, 0), half_of<D>(b, 0)), fmaxf(half_of<D>(a, 1), half_of<D>(b, 1)));
#endif
  return larger;
}

// Halves that sort as signed integers in the order of the logits; -0 becomes +0. NaN anywhere.
template <class D>
__device__ __forceinline__ uint32_t order_pair(uint32_t pair) {
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<D, BF16>) {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(pair) : "r"(pair), "r"(0x3F803F80u), "r"(0u));
  } else {
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(pair) : "r"(pair), "r"(0u));
  }
#else
  pair = pack<D>(half_of<D>(pair, 0) + 0.0f, half_of<D>(pair, 1) + 0.0f);
#endif
  uint32_t sign;  // of each half, in all its bits
  asm("prmt.b32 %0, %1, 0, 0xBB99;" : "=r"(sign) : "r"(pair));
  return pair ^ (sign & 0x7FFF7FFFu);
}

// --- Keys: `inverted` is ~index in the low bits ---

template <class D>
__device__ __forceinline__ float logit_of_short_key(int key) {
  int half = key >> 16;
  half ^= (half >> 31) & 0x7FFF;
  return widen<D>(static_cast<uint16_t>(half));
}
__device__ __forceinline__ int low_key(uint32_t ordered_pair, uint32_t inverted) {
  return static_cast<int>((ordered_pair << 16) + inverted);
}
__device__ __forceinline__ int high_key(uint32_t ordered_pair, uint32_t inverted) {
  return static_cast<int>((ordered_pair & 0xFFFF0000u) | inverted);
}
template <uint32_t kIndexMask>
__device__ __forceinline__ int float_key(float logit, float max, uint32_t index) {
  return static_cast<int>(~((__float_as_uint(max - logit) & ~kIndexMask) | index));
}

// A row that no fast way settles; one warp. With `tie` not 0 it is only suspected: results stand unless logits that
// differ share the key `tie`, index bits aside.
template <class D, uint32_t kVocab>
__device__ __noinline__ void exact_row(const Problem& problem, uint64_t row, float tie_max, int tie) {
  using Storage = typename D::Storage;
  constexpr int kPerLane = kVocab / 32;
  constexpr uint32_t kIndexMask = kVocab - 1;
  const uint32_t lane = threadIdx.x & 31, k = problem.k;
  const Storage* const start = static_cast<const Storage*>(problem.logits) + row * problem.row_stride;
  float logit[kPerLane];
  uint32_t left[kPerLane];  // order_key + 1; 0 where there is no logit, or it has won
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const uint32_t index = i * 32 + lane;
    logit[i] = index < problem.vocab ? load_logit<D>(start + index) : -infinity();
    left[i] = index < problem.vocab ? order_key(logit[i]) + 1 : 0;
  }
  if (tie != 0) {
    uint32_t highest = 0, lowest = ~0u;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const bool looks_so =
          left[i] != 0 && float_key<kIndexMask>(logit[i], tie_max, 0) == (tie | static_cast<int>(kIndexMask));
      highest = max(highest, looks_so ? left[i] : 0);
      lowest = min(lowest, looks_so ? left[i] : ~0u);
    }
    if (warp_max(highest) == warp_min(lowest)) return;
  }

  uint32_t highest = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; i++) highest = max(highest, left[i]);
  highest = warp_max(highest);
  const float max_logit = highest <= 1 ? -infinity() : logit_of_key(highest - 1);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; i++) sum += weight(logit[i], max_logit, problem.scale);
#pragma unroll
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  if (max_logit == infinity()) sum = quiet_nan();

  uint32_t own_key = 0, own_index = 0;  // of the winner whose rank is this lane
#pragma unroll 1
  for (uint32_t rank = 0; rank < k; rank++) {
    uint32_t best = 0, index = ~0u;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) best = max(best, left[i]);
    best = warp_max(best);
#pragma unroll
    for (int i = kPerLane - 1; i >= 0; i--) index = left[i] == best ? i * 32 + lane : index;
    index = warp_min(index);
#pragma unroll
    for (int i = 0; i < kPerLane; i++) left[i] = i * 32 + lane == index ? 0 : left[i];
    if (lane == rank) {
      own_key = best;
      own_index = index;
    }
  }
  if (lane < k) {
    const float x = own_key <= 1 ? quiet_nan() : logit_of_key(own_key - 1);
    problem.probs[row * k + lane] = probability(x, max_logit, 1.0f / sum, sum == 0, problem.scale);
    problem.indices[row * k + lane] = own_index;
  }
  if (lane == 0) problem.log_sum_exp[row] = log_sum_exp(max_logit, sum, problem.scale);
}

// A sorted list of group keys of a row, the best key that fell out of it, and a sum of exps.
template <int kCount>
struct GroupList {
  int key[kCount];
  int dropped;
  float sum;
};

// kVocab: `vocab` rounded up to 64, 128 or 256. kWhole: vocab is kVocab, and rows are aligned to 16 bytes.
// kBatch: how many rows a lane has in flight; a power of two up to 8.
template <class D, uint32_t kVocab, bool kWhole, int kBatch>
struct Gating {
  using Storage = typename D::Storage;
  static constexpr bool kFloat = D::kPerVector == 4;
  static constexpr int kVectors = kVocab / (kLanesPerRow * D::kPerVector);  // a lane and row
  static constexpr int kGroups = kVocab / (kLanesPerRow * kGroup);          // likewise
  static constexpr uint32_t kIndexMask = kVocab - 1;
  __host__ __device__ static constexpr int at_most_8(int count) { return count < 8 ? count : 8; }

  const Problem& problem;
  const GatingPlan& plan;
  const int lane = threadIdx.x & 31;
  const int sub = lane & (kLanesPerRow - 1);
  const Storage* next_row;  // the row that this lane loads next
  uint32_t rows_left;       // from next_row to the end; at least 1
  uint4 ahead[kBatch * kVectors];
  float own_max = 0;  // of the row this lane owns in the end

  // Elements [first, first + kPerVector) of a row; -inf from vocab on.
  __device__ __forceinline__ uint4 load_vector(const Storage* row, uint32_t first) const {
    if (kWhole || (plan.vectors && first < problem.vocab)) return __ldg(reinterpret_cast<const uint4*>(row + first));
    constexpr int kPerWord = D::kPerVector / 4;
    return make_uint4(load_word(row, first), load_word(row, first + kPerWord), load_word(row, first + 2 * kPerWord),
                      load_word(row, first + 3 * kPerWord));
  }
  // A group, which is a vector of f32 or the half of a vector of 16-bit logits.
  __device__ __forceinline__ uint4 load_group(const Storage* row, uint32_t first) const {
    if constexpr (kFloat) return load_vector(row, first);
    if (kWhole || (plan.vectors && first < problem.vocab)) {
      const uint2 half = __ldg(reinterpret_cast<const uint2*>(row + first));
      return make_uint4(half.x, half.y, 0, 0);
    }
    return make_uint4(load_word(row, first), load_word(row, first + 2), 0, 0);
  }
  __device__ __forceinline__ uint32_t load_word(const Storage* row, uint32_t first) const {
    const uint32_t vocab = problem.vocab;
    const float low = first < vocab ? load_logit<D>(row + first) : -infinity();
    if constexpr (kFloat) return __float_as_uint(low);
    return pack<D>(low, first + 1 < vocab ? load_logit<D>(row + first + 1) : -infinity());
  }

  __device__ __forceinline__ void load_batch() {
#pragma unroll
    for (int b = 0; b < kBatch; b++) {
#pragma unroll
      for (int j = 0; j < kVectors; j++) {
        ahead[b * kVectors + j] = load_vector(next_row, (j * kLanesPerRow + sub) * D::kPerVector);
      }
      if (rows_left > 1) {
        next_row += problem.row_stride;
        rows_left--;
      }
    }
  }

  // This lane's part of one row: the sorted keys of its groups, and its sum.
  template <int kRow>
  __device__ __forceinline__ GroupList<kGroups> leaf(const uint4* v) {
    GroupList<kGroups> list;
    float max;
    if constexpr (kFloat) {
      float highest[kGroups];
#pragma unroll
      for (int g = 0; g < kGroups; g++) {
        highest[g] =
            fmaxf(fmaxf(element<D>(v[g], 0), element<D>(v[g], 1)), fmaxf(element<D>(v[g], 2), element<D>(v[g], 3)));
        max = g ? fmaxf(max, highest[g]) : highest[g];
      }
#pragma unroll
      for (int step = 1; step < kLanesPerRow; step *= 2) max = fmaxf(max, __shfl_xor_sync(kFullWarp, max, step));
#pragma unroll
      for (int g = 0; g < kGroups; g++) {
        list.key[g] = float_key<kIndexMask>(highest[g], max, (g * kLanesPerRow + sub) * kGroup);
      }
    } else {
      uint32_t pair;
#pragma unroll
      for (int g = 0; g < kGroups; g++) {
        const uint32_t highest = pair_max<D>(word_of(v[g / 2], g % 2 * 2), word_of(v[g / 2], g % 2 * 2 + 1));
        pair = g ? pair_max<D>(pair, highest) : highest;
        const uint32_t ordered = order_pair<D>(highest);
        const uint32_t inverted = ~((g / 2 * kLanesPerRow + sub) * 8u + g % 2 * kGroup) & kIndexMask;
        list.key[g] = ::max(low_key(ordered, inverted), high_key(ordered, inverted));
      }
#pragma unroll
      for (int step = 1; step < kLanesPerRow; step *= 2)
        pair = pair_max<D>(pair, __shfl_xor_sync(kFullWarp, pair, step));
      max = fmaxf(half_of<D>(pair, 0), half_of<D>(pair, 1));
    }
    if (sub == kRow) own_max = max;
    sort_keys(list.key);
    list.dropped = INT_MIN;

    const float scale = problem.scale.high, reference = max * scale;
    float chain[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < kVectors * D::kPerVector; i++) {
      chain[i % 4] += exp2_fast(fmaf(element<D>(v[i / D::kPerVector], i % D::kPerVector), scale, -reference));
    }
    list.sum = (chain[0] + chain[1]) + (chain[2] + chain[3]);
    return list;
  }

  // Lanes that differ in kBit have parts of both rows. The one without it goes on with the first, the other with the
  // second.
  template <int kBit, int kCount>
  __device__ __forceinline__ GroupList<at_most_8(2 * kCount)> exchange(const GroupList<kCount>& first,
                                                                       const GroupList<kCount>& second) const {
    const bool other_way = lane & kBit;
    auto kept = [&](auto a, auto b) { return other_way ? b : a; };
    auto got = [&](auto a, auto b) { return __shfl_xor_sync(kFullWarp, other_way ? a : b, kBit); };
    GroupList<at_most_8(2 * kCount)> merged;
    merged.sum = kept(first.sum, second.sum) + got(first.sum, second.sum);
    merged.dropped = INT_MIN;
    if constexpr (kCount < 8) {
#pragma unroll
      for (int i = 0; i < kCount; i++) {
        merged.key[i] = kept(first.key[i], second.key[i]);
        merged.key[2 * kCount - 1 - i] = got(first.key[i], second.key[i]);
      }
      sort_bitonic(merged.key);
    } else {
      int other[8];
#pragma unroll
      for (int i = 0; i < 8; i++) {
        merged.key[i] = kept(first.key[i], second.key[i]);
        other[i] = got(first.key[i], second.key[i]);
      }
      if (kFloat) merged.dropped = max(kept(first.dropped, second.dropped), got(first.dropped, second.dropped));
      merge_best<kFloat>(merged.key, other, merged.dropped);
    }
    return merged;
  }

  // Rows [kRow, kRow + kRows) of each eight, loaded at `v`.
  template <int kRow, int kRows>
  __device__ __forceinline__ GroupList<at_most_8(kGroups* kRows)> reduce_loaded(const uint4* v) {
    if constexpr (kRows == 1) {
      return leaf<kRow>(v);
    } else {
      const auto first = reduce_loaded<kRow, kRows / 2>(v);
      const auto second = reduce_loaded<kRow + kRows / 2, kRows / 2>(v + kRows / 2 * kVectors);
      return exchange<kRows / 2>(first, second);
    }
  }
  template <int kRow, int kRows>
  __device__ __forceinline__ GroupList<at_most_8(kGroups* kRows)> reduce() {
    if constexpr (kRows == kBatch) {
      uint4 v[kBatch * kVectors];
#pragma unroll
      for (int i = 0; i < kBatch * kVectors; i++) v[i] = ahead[i];
      if (kRow + kRows < kLanesPerRow) load_batch();
      return reduce_loaded<kRow, kRows>(v);
    } else {
      const auto first = reduce<kRow, kRows / 2>();
      const auto second = reduce<kRow + kRows / 2, kRows / 2>();
      return exchange<kRows / 2>(first, second);
    }
  }

  // The keys of the four logits of a group, from the key of the group.
  __device__ __forceinline__ void open_group(const uint4& stored, int group_key, int* key) const {
    const uint32_t inverted = group_key & kIndexMask;
    if constexpr (kFloat) {
#pragma unroll
      for (int i = 0; i < 4; i++)
        key[i] = float_key<kIndexMask>(element<D>(stored, i), own_max, (inverted ^ kIndexMask) + i);
    } else {
      const uint32_t first = order_pair<D>(stored.x), second = order_pair<D>(stored.y);
      key[0] = low_key(first, inverted);
      key[1] = high_key(first, inverted - 1);
      key[2] = low_key(second, inverted - 2);
      key[3] = high_key(second, inverted - 3);
    }
  }

  // The 8 best logits of the best groups, for the first k at least.
  __device__ __forceinline__ void open_groups(const Storage* row, GroupList<8>& groups, int (&best)[8]) const {
    uint4 stored[8];
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
      stored[i] = make_uint4(0, 0, 0, 0);
      if (i / 2 * 2 >= problem.k) continue;
      stored[i] = load_group(row, ~groups.key[i] & kIndexMask);
    }
#pragma unroll
    for (uint32_t i = 0; i < 8; i += 2) {
      if (i >= problem.k) break;
      int key[8];
      open_group(stored[i], groups.key[i], key);
      open_group(stored[i + 1], groups.key[i + 1], key + 4);
      sort_keys(key);
      if (i == 0) {
#pragma unroll
        for (int j = 0; j < 8; j++) best[j] = key[j];
      } else {
        merge_best<kFloat>(best, key, groups.dropped);
      }
    }
  }

  // f32: true where the last winner and the best key left out are alike but for their index, and that may hide a
  // difference. Not where all logits alike are -inf, or all equal to the maximum.
  __device__ __forceinline__ bool looks_tied(const GroupList<8>& groups, const int (&best)[8], int& last) const {
    int next = groups.dropped;
    last = best[0];
#pragma unroll
    for (uint32_t i = 1; i <= 8; i++) {
      if (i == problem.k) last = best[i - 1];
      if (i == problem.k && i < 8) next = max(next, max(best[i], groups.key[i]));
    }
    if ((last ^ next) & ~kIndexMask) return false;
    const uint32_t difference = ~last & ~kIndexMask;
    const float size = fabsf(own_max);
    return !(size < 1e30f && ((difference == 0 && size > 1e-30f) || difference == (0x7F800000u & ~kIndexMask)));
  }

  // f32: the first k by their exact logits. They are sorted but for neighbours that share a key, among which the lower
  // index comes first; a stable sort leaves equal ones so. Few rows need it.
  __device__ __forceinline__ void sort_exactly(float (&logit)[8], uint32_t (&index)[8]) const {
    auto sort_pair = [&](uint32_t i) {
      const bool wrong = i + 1 < problem.k && logit[i] < logit[i + 1];
      const float low = logit[i];
      const uint32_t low_index = index[i];
      logit[i] = wrong ? logit[i + 1] : logit[i];
      logit[i + 1] = wrong ? low : logit[i + 1];
      index[i] = wrong ? index[i + 1] : index[i];
      index[i + 1] = wrong ? low_index : index[i + 1];
    };
    while (true) {
      bool wrong = false;
#pragma unroll
      for (uint32_t i = 0; i < 7; i++) wrong |= i + 1 < problem.k && logit[i] < logit[i + 1];
      if (!wrong) return;
#pragma unroll
      for (uint32_t i = 0; i < 7; i++) sort_pair(i);
#pragma unroll
      for (uint32_t i = 7; i > 0; i--) sort_pair(i - 1);
    }
  }

  template <class T>
  __device__ __forceinline__ void store(T* to, const T (&value)[8]) const {
    const uint32_t k = problem.k;
    if (k == 8 && plan.wide_outputs) {
      const uint4* const from = reinterpret_cast<const uint4*>(value);
      reinterpret_cast<uint4*>(to)[0] = from[0];
      reinterpret_cast<uint4*>(to)[1] = from[1];
    } else if (k % 2 == 0 && plan.wide_outputs) {
      const uint2* const from = reinterpret_cast<const uint2*>(value);
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) {
        if (2 * i < k) reinterpret_cast<uint2*>(to)[i] = from[i];
      }
    } else {
#pragma unroll
      for (uint32_t i = 0; i < 8; i++) {
        if (i < k) to[i] = value[i];
      }
    }
  }

  __device__ __forceinline__ void run(uint64_t first_row) {
    const Storage* const logits = static_cast<const Storage*>(problem.logits);
    const uint64_t last_row = problem.rows - 1;
    const uint64_t from =
        ::min(first_row + lane / kLanesPerRow * kLanesPerRow, last_row);
    next_row = logits + from * problem.row_stride;
    rows_left = static_cast<uint32_t>(last_row - from) + 1;
    load_batch();
    GroupList<8> groups = reduce<0, kLanesPerRow>();

    const uint64_t row = first_row + lane;
    const bool there = row <= last_row;
    const Storage* const start = logits + (there ? row : last_row) * problem.row_stride;
    const float max = own_max, scale = problem.scale.high, reference = max * scale;
    const bool irregular = !(groups.sum < infinity() && fabsf(reference) < kGatingCoarse);
    int best[8];
    open_groups(start, groups, best);
    uint32_t index[8];
    float logit[8], probs[8];
#pragma unroll
    for (int i = 0; i < 8; i++) index[i] = ~best[i] & kIndexMask;
    int last = 0;
    bool tied = false;
    if constexpr (kFloat) {
#pragma unroll
      for (uint32_t i = 0; i < 8; i++)
        logit[i] = i < problem.k && index[i] < problem.vocab ? load_logit<D>(start + index[i]) : 0;
      tied = looks_tied(groups, best, last);
      sort_exactly(logit, index);
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++) logit[i] = logit_of_short_key<D>(best[i]);
    }

    // The sum was made with max * scale rounded; the rest of it is exact here.
    const float sum = groups.sum * exp2_fast(-fmaf(max, scale, -reference));
    const float inverse_sum = 1.0f / sum;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const float exponent = (logit[i] - max) * scale;
      probs[i] = exponent > -8.0f ? exp2_fast(exponent) * inverse_sum
                                  : probability(logit[i], max, inverse_sum, false, problem.scale);
    }
    if (there) {
      store(problem.probs + row * problem.k, probs);
      store(problem.indices + row * problem.k, index);
      const float scaled = max * plan.inverse_temperature;
      const float rest = fmaf(max, plan.inverse_temperature, -scaled) + max * plan.inverse_temperature_low;
      problem.log_sum_exp[row] = scaled + (rest + logf(sum));
    }

    uint32_t todo = __ballot_sync(kFullWarp, there && (irregular || tied));
    __syncwarp();
    while (todo) {
      const int from_lane = __ffs(todo) - 1;
      todo &= todo - 1;
      const float row_max = __shfl_sync(kFullWarp, max, from_lane);
      const int tie = __shfl_sync(kFullWarp, irregular ? 0 : last, from_lane);
      exact_row<D, kVocab>(problem, first_row + from_lane, row_max, tie);
    }
  }
};

// Grid: a warp for every 32 rows.
template <class D, uint32_t kVocab, bool kWhole, int kBatch, int kBlocks>
__global__ void __launch_bounds__(kGatingThreads, kBlocks)
    softmax_topk_gating(const __grid_constant__ Problem problem, const __grid_constant__ GatingPlan plan) {
  const uint64_t first_row = (static_cast<uint64_t>(blockIdx.x) * (kGatingThreads / 32) + threadIdx.x / 32) * 32;
  if (first_row >= problem.rows) return;
  Gating<D, kVocab, kWhole, kBatch> kernel{problem, plan};
  kernel.run(first_row);
}

// True where the kernel can take the problem: every dtype, alignment, stride and number of rows, on every device.
inline bool gating_fits(uint32_t vocab, uint32_t k) { return vocab <= kGatingMaxVocab && k <= kGatingMaxK; }

template <class D, uint32_t kVocab, int kBatch, int kBlocks>
cudaError_t launch_gating_padded(const Problem& problem, cudaStream_t stream) {
  const GatingPlan plan = make_gating_plan(problem, D::kPerVector);
  const uint32_t blocks =
      static_cast<uint32_t>((static_cast<uint64_t>(problem.rows) + kGatingThreads - 1) / kGatingThreads);
  if (plan.vectors && problem.vocab == kVocab) {
    softmax_topk_gating<D, kVocab, true, kBatch, kBlocks><<<blocks, kGatingThreads, 0, stream>>>(problem, plan);
  } else {
    softmax_topk_gating<D, kVocab, false, 1, kBlocks><<<blocks, kGatingThreads, 0, stream>>>(problem, plan);
  }
  return cudaGetLastError();
}

// One launch, no scratch memory. Expects gating_fits and at least one row.
template <class D>
cudaError_t launch_gating(const Problem& problem, cudaStream_t stream) {
  constexpr bool kFloat = D::kPerVector == 4;
  if (problem.vocab <= 64) return launch_gating_padded < D, 64, kFloat ? 4 : 8, 4 > (problem, stream);
  if (problem.vocab <= 128) return launch_gating_padded < D, 128, kFloat ? 2 : 4, 4 > (problem, stream);
  return launch_gating_padded < D, 256, kFloat ? 1 : 2, 4 > (problem, stream);
}

}  // namespace fused_topk
