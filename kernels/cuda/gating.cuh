// The gating kernel: many rows of a small vocabulary (at most 256), K at most 8, as a mixture of experts has them.
//
// Such rows are bound by instructions rather than by memory, so everything here saves those. A warp takes 32 rows, four
// at a time with 8 lanes each, or 16 where tiles of 32 would leave room for too few warps. Nothing is shared between
// warps, and there is no barrier.
//
// 1. Tile. The rows are copied to shared memory asynchronously, and padded with -inf to a power of two. A lane copies
//    what it will read first, so that it waits only for itself.
// 2. Groups. Four neighbouring logits are a group. The K best logits of a row lie in the K groups with the largest
//    maxima (ties: the lower group), because each of those has a logit that comes before everything in the groups left
//    out. So only group maxima are sorted, a quarter of the row.
// 3. Keys. A maximum and its place fit one signed 32-bit key, so a step of a sorting network is one min and one max.
//    16-bit logits: their order in the upper half, the inverted index below. Exact. f32: the bits of (row maximum -
//    logit), whose low bits give way to the index, all inverted. Narrow rows keep their precision that way, since the
//    difference is small; what the missing bits can hide is found in step 6.
// 4. Leaves. Each lane sorts the keys of its groups of a row, and sums exp2(x * scale - max * scale).
// 5. Merges that transpose. Lanes that differ in one bit exchange lists: one keeps the first row and sends the second,
//    the other the reverse, and each merges what it kept with what it got. No lane works twice, and after three such
//    steps every lane owns one row of the 32: its 8 best groups and its sum. The lists double until they are 8 long.
//    (Of 16 rows each is owned by two lanes, which merge once more, both ways, and share step 6.)
// 6. Finish. A lane reads the K best groups of its row again, sorts their logits in the same way, and writes K results.
//    With f32 keys, winners are put in their exact order; where the best key left out is like that of the last winner,
//    the warp looks at the row once more: if all logits with that key are equal, the index has decided rightly.
// 7. What is left is selected exactly, a warp a row: a tie that step 6 could not settle; and, with their sum, rows with
//    NaN, +inf or nothing but -inf, and rows whose scaled logits are too large for a float reference.
//
// The sum is a tree of chains of at most 8 floats. Deterministic, and a row's bits do not depend on its neighbours.
// Sorting networks: Knuth, TAOCP 3, 5.3.4. Merging two sorted lists by a bitonic half-cleaner: Batcher, 1968.
#pragma once

#include <climits>

#include "logits.cuh"
#include "problem.h"
#include "select.cuh"

namespace fused_topk {

constexpr uint32_t kGatingMaxVocab = 256;
constexpr uint32_t kGatingMaxK = 8;

constexpr int kGroup = 4;  // logits
constexpr int kLanesPerRow = 8;
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
__device__ __forceinline__ typename D::Storage narrow(float x) {
  if constexpr (D::kPerVector == 4) {
    return x;
  } else {
    return static_cast<uint16_t>(pack<D>(x, x));
  }
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

// One row in shared memory as one warp holds it: logit i of a lane has index i * 32 + lane.
template <class D, uint32_t kVocab>
struct WarpRow {
  static constexpr int kPerLane = kVocab / 32;
  static constexpr uint32_t kIndexMask = kVocab - 1;

  const Problem& problem;
  const uint32_t lane = threadIdx.x & 31;
  float logit[kPerLane];
  uint32_t left[kPerLane];  // order_key + 1; 0 where there is no logit, or it has won

  __device__ __forceinline__ explicit WarpRow(const Problem& problem, const typename D::Storage* row)
      : problem(problem) {
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const uint32_t index = i * 32 + lane;
      logit[i] = widen<D>(row[index]);
      left[i] = index < problem.vocab ? order_key(logit[i]) + 1 : 0;
    }
  }

  // Whether logits that differ share the float_key `key`, index bits aside.
  __device__ __forceinline__ bool hides_difference(int key, float max) const {
    uint32_t highest = 0, lowest = ~0u;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const bool like = ((float_key<kIndexMask>(logit[i], max, 0) ^ key) & ~kIndexMask) == 0 && left[i] != 0;
      highest = ::max(highest, like ? left[i] : 0);
      lowest = ::min(lowest, like ? left[i] : ~0u);
    }
    return warp_max(highest) != warp_min(lowest);
  }

  // The largest logit that is a number; -inf where there is none.
  __device__ __forceinline__ float max() const {
    uint32_t highest = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) highest = ::max(highest, left[i]);
    highest = warp_max(highest);
    return highest <= 1 ? -infinity() : logit_of_key(highest - 1);
  }

  __device__ __forceinline__ float sum(float max) const {
    if (max == infinity()) return quiet_nan();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) sum += weight(logit[i], max, problem.scale);
#pragma unroll
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
    return sum;
  }

  // Writes the K best. Each round takes the best logit that is left.
  __device__ __forceinline__ void select(uint64_t row, float max, float inverse_sum, bool masked) {
    const uint32_t k = problem.k;
    uint32_t own_key = 0, own_index = 0;  // of the winner whose rank is this lane
#pragma unroll 1
    for (uint32_t rank = 0; rank < k; rank++) {
      uint32_t best = 0, index = ~0u;
#pragma unroll
      for (int i = 0; i < kPerLane; i++) best = ::max(best, left[i]);
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
    if (lane >= k) return;
    const float x = own_key <= 1 ? quiet_nan() : logit_of_key(own_key - 1);
    problem.probs[row * k + lane] = probability(x, max, inverse_sum, masked, problem.scale);
    problem.indices[row * k + lane] = own_index;
  }
};

// A row whose last winner and best loser share the key `tie`. The result written so far stands if that hides nothing.
template <class D, uint32_t kVocab>
__device__ __noinline__ void settle_tie(const Problem& problem, const typename D::Storage* stored, uint64_t row,
                                        int tie, float max, float inverse_sum) {
  WarpRow<D, kVocab> warp_row(problem, stored);
  if (warp_row.hides_difference(tie, max)) warp_row.select(row, max, inverse_sum, false);
}

// A row with special values, or too large ones.
template <class D, uint32_t kVocab>
__device__ __noinline__ void irregular_row(const Problem& problem, const typename D::Storage* stored, uint64_t row) {
  WarpRow<D, kVocab> warp_row(problem, stored);
  const float max = warp_row.max(), sum = warp_row.sum(max);
  warp_row.select(row, max, 1.0f / sum, sum == 0);
  if (warp_row.lane == 0) problem.log_sum_exp[row] = log_sum_exp(max, sum, problem.scale);
}

// A sorted list of group keys of a row, the best key that fell out of it, and a sum of exps.
template <int kCount>
struct GroupList {
  int key[kCount];
  int dropped;
  float sum;
};

// kVocab: `vocab` rounded up to 64, 128 or 256. kRows: how many rows a lane sees before the merges: 8, or 4 where tiles
// of 32 rows would leave too few warps on a multiprocessor.
template <class D, uint32_t kVocab, int kRows>
struct Gating {
  static_assert(kRows == 8 || kRows == 4, "a row is owned by one lane or by two");
  using Storage = typename D::Storage;
  static constexpr bool kFloat = D::kPerVector == 4;
  static constexpr int kVectors = kVocab / (kLanesPerRow * D::kPerVector);  // a lane and row
  static constexpr int kGroups = kVocab / (kLanesPerRow * kGroup);          // likewise
  static constexpr uint32_t kIndexMask = kVocab - 1;
  static constexpr uint32_t kRowStride = kVocab + D::kPerVector;  // of the tile: spreads a column over the banks
  static constexpr uint32_t kTileRows = kRows * 32 / kLanesPerRow;
  static constexpr bool kShared = kRows == 4;  // two lanes own a row, one keeps its probs, the other its indices
  static constexpr int kWaits = kRows / 2;     // a lane waits for two rows at a time
  __host__ __device__ static constexpr int at_most_8(int count) { return count < 8 ? count : 8; }

  const Problem& problem;
  const GatingPlan& plan;
  Storage* const tile;  // [kTileRows][kRowStride]
  const int lane = threadIdx.x & 31;
  const int sub = lane & (kLanesPerRow - 1);
  const int first_seen = lane / kLanesPerRow * kRows;  // of the rows of the tile, by this lane
  const int owned = first_seen + sub % kRows;          // the row of the tile that this lane owns in the end
  float own_max = 0;                                   // of that row

  __device__ __forceinline__ uint4* vector_at(int row, int vector) const {
    return reinterpret_cast<uint4*>(tile + row * kRowStride) + vector * kLanesPerRow + sub;
  }

  // Rows past the end repeat the last one.
  __device__ __forceinline__ void fill_tile(uint64_t first_row) const {
    const Storage* const first = static_cast<const Storage*>(problem.logits) + first_row * problem.row_stride;
    const uint32_t last = static_cast<uint32_t>(::min(problem.rows - first_row, static_cast<uint64_t>(kTileRows))) - 1;
    if (plan.vectors) {
#pragma unroll
      for (int r = 0; r < kRows; r++) {
        const Storage* const row = first + ::min(static_cast<uint32_t>(first_seen + r), last) * problem.row_stride;
        const uint4* const from = reinterpret_cast<const uint4*>(row) + sub;
#pragma unroll
        for (int j = 0; j < kVectors; j++) {
          if (problem.vocab == kVocab || (j * kLanesPerRow + sub) * D::kPerVector < problem.vocab) {
            copy_async(shared_address(vector_at(first_seen + r, j)), from + j * kLanesPerRow);
          } else {
            const uint32_t word = kFloat ? 0xFF800000u : pack<D>(-infinity(), -infinity());
            *vector_at(first_seen + r, j) = make_uint4(word, word, word, word);
          }
        }
        if (r % 2) close_copy_group();
      }
    } else {
#pragma unroll 4
      for (uint32_t r = 0; r < kTileRows; r++) {
        const Storage* const row = first + ::min(r, last) * problem.row_stride;
#pragma unroll
        for (uint32_t j = 0; j < kVocab / 32; j++) {
          const uint32_t i = j * 32 + lane;
          tile[r * kRowStride + i] = i < problem.vocab ? __ldg(row + i) : narrow<D>(-infinity());
        }
      }
      __syncwarp();
    }
  }

  // This lane's part of one row: the sorted keys of its groups, and its sum.
  template <int kRow>
  __device__ __forceinline__ GroupList<kGroups> leaf() {
    uint4 v[kVectors];
#pragma unroll
    for (int j = 0; j < kVectors; j++) v[j] = *vector_at(first_seen + kRow, j);
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
    if (sub % kRows == kRow) own_max = max;
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

  // The rows [kRow, kRow + kCount) that the lane sees.
  template <int kRow, int kCount>
  __device__ __forceinline__ GroupList<at_most_8(kGroups* kCount)> reduce() {
    if constexpr (kCount == 1) {
      if constexpr (kRow % 2 == 0) wait_copy_groups<kWaits - 1 - kRow / 2>();
      return leaf<kRow>();
    } else {
      const auto first = reduce<kRow, kCount / 2>();
      const auto second = reduce<kRow + kCount / 2, kCount / 2>();
      return exchange<kCount / 2>(first, second);
    }
  }

  // Two lanes own the row, with a list each of half of it: both get the list of all.
  __device__ __forceinline__ void share(int (&best)[8], int& dropped) const {
    int other[8];
#pragma unroll
    for (int i = 0; i < 8; i++) other[i] = __shfl_xor_sync(kFullWarp, best[i], kRows);
    if (kFloat) dropped = max(dropped, __shfl_xor_sync(kFullWarp, dropped, kRows));
    merge_best<kFloat>(best, other, dropped);
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

  // The 8 best logits of the best groups, for the first k at least. Lanes that share a row open every other group.
  __device__ __forceinline__ void open_groups(const Storage* row, GroupList<8>& groups, int (&best)[8]) const {
    constexpr int kOpened = kShared ? 4 : 8, kStep = 8 / kOpened;
    const bool odd = kShared && sub >= kRows;
    int group[kOpened];
    uint4 stored[kOpened];
#pragma unroll
    for (int i = 0; i < kOpened; i++) {
      group[i] = odd ? groups.key[i * kStep + kStep - 1] : groups.key[i * kStep];
      const Storage* const at = row + (~group[i] & kIndexMask);
      if constexpr (kFloat) {
        stored[i] = *reinterpret_cast<const uint4*>(at);
      } else {
        const uint2 half = *reinterpret_cast<const uint2*>(at);
        stored[i] = make_uint4(half.x, half.y, 0, 0);
      }
    }
#pragma unroll
    for (int i = 0; i < kOpened; i += 2) {
      if (i * kStep >= problem.k) break;
      int key[8];
      open_group(stored[i], group[i], key);
      open_group(stored[i + 1], group[i + 1], key + 4);
      sort_keys(key);
      if (i == 0) {
#pragma unroll
        for (int j = 0; j < 8; j++) best[j] = key[j];
      } else {
        merge_best<kFloat>(best, key, groups.dropped);
      }
    }
    if constexpr (kShared) share(best, groups.dropped);
  }

  // f32: true where the last winner and the best key left out are alike but for their index, and that may hide a
  // difference. Not where all logits alike are -inf, or all equal to the maximum.
  __device__ __forceinline__ bool looks_tied(const GroupList<8>& groups, const int (&best)[8], int& last) const {
    int next = groups.dropped;
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
      const bool wins = i < problem.k;
      last = wins ? best[i] : last;
      next = max(next, wins ? INT_MIN : max(best[i], groups.key[i]));
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
    fill_tile(first_row);
    GroupList<8> groups = reduce<0, kRows>();
    if constexpr (kShared) {
      share(groups.key, groups.dropped);
      groups.sum += __shfl_xor_sync(kFullWarp, groups.sum, kRows);
    }
    __syncwarp();

    const uint64_t row = first_row + owned;
    const bool there = row < problem.rows;
    const Storage* const own_row = tile + owned * kRowStride;
    const float max = own_max, scale = problem.scale.high, reference = max * scale;
    const bool irregular = !(groups.sum < infinity() && fabsf(reference) < kGatingCoarse);
    int best[8];
    open_groups(own_row, groups, best);
    alignas(16) uint32_t index[8];
    alignas(16) float probs[8];
    float logit[8];
#pragma unroll
    for (int i = 0; i < 8; i++) index[i] = ~best[i] & kIndexMask;
    int last = 0;
    bool tied = false;
    if constexpr (kFloat) {
#pragma unroll
      for (int i = 0; i < 8; i++) logit[i] = own_row[index[i]];
      tied = looks_tied(groups, best, last);
      sort_exactly(logit, index);
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++) logit[i] = logit_of_short_key<D>(best[i]);
    }

    // The sum was made with max * scale rounded; what that lost is exact here.
    const float sum = groups.sum * exp2_fast(-fmaf(max, scale, -reference));
    const float inverse_sum = 1.0f / sum;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const float exponent = (logit[i] - max) * scale;
      probs[i] = exponent > -8.0f ? exp2_fast(exponent) * inverse_sum
                                  : probability(logit[i], max, inverse_sum, false, problem.scale);
    }
    const bool first_owner = !kShared || sub < kRows;
    if (there && (!kShared || sub >= kRows)) store(problem.indices + row * problem.k, index);
    if (there && first_owner) {
      store(problem.probs + row * problem.k, probs);
      const float scaled = max * plan.inverse_temperature;
      const float rest = fmaf(max, plan.inverse_temperature, -scaled) + max * plan.inverse_temperature_low;
      problem.log_sum_exp[row] = scaled + (rest + logf(sum));
    }

    const uint32_t irregulars = __ballot_sync(kFullWarp, there && first_owner && irregular);
    __syncwarp();
    for (uint32_t todo = irregulars; todo; todo &= todo - 1) {
      const int of = __shfl_sync(kFullWarp, owned, __ffs(todo) - 1);
      irregular_row<D, kVocab>(problem, tile + of * kRowStride, first_row + of);
    }
    if constexpr (kFloat) {
      uint32_t todo = __ballot_sync(kFullWarp, there && first_owner && tied && !irregular);
      for (; todo; todo &= todo - 1) {
        const int owner = __ffs(todo) - 1, of = __shfl_sync(kFullWarp, owned, owner);
        settle_tie<D, kVocab>(problem, tile + of * kRowStride, first_row + of, __shfl_sync(kFullWarp, last, owner),
                              __shfl_sync(kFullWarp, max, owner), __shfl_sync(kFullWarp, inverse_sum, owner));
      }
    }
  }
};

// Grid: a warp for every kTileRows rows, kWarps a block.
template <class D, uint32_t kVocab, int kRows, int kWarps, int kBlocks>
__global__ void __launch_bounds__(kWarps * 32, kBlocks)
    softmax_topk_gating(const __grid_constant__ Problem problem, const __grid_constant__ GatingPlan plan) {
  using Kernel = Gating<D, kVocab, kRows>;
  __shared__ __align__(16) typename D::Storage tiles[kWarps][Kernel::kTileRows * Kernel::kRowStride];
  const uint64_t first_row = (static_cast<uint64_t>(blockIdx.x) * kWarps + threadIdx.x / 32) * Kernel::kTileRows;
  if (first_row >= problem.rows) return;
  Kernel kernel{problem, plan, tiles[threadIdx.x / 32]};
  kernel.run(first_row);
}

// True where the kernel can take the problem: every dtype, alignment, stride and number of rows, on every device.
inline bool gating_fits(uint32_t vocab, uint32_t k) { return vocab <= kGatingMaxVocab && k <= kGatingMaxK; }

template <class D, uint32_t kVocab, int kRows, int kWarps, int kBlocks>
cudaError_t launch_gating_padded(const Problem& problem, cudaStream_t stream) {
  constexpr uint64_t kBlockRows = kWarps * Gating<D, kVocab, kRows>::kTileRows;
  const auto kernel = softmax_topk_gating<D, kVocab, kRows, kWarps, kBlocks>;
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100);
  if (status != cudaSuccess) return status;
  const uint32_t blocks = static_cast<uint32_t>((problem.rows + kBlockRows - 1) / kBlockRows);
  kernel<<<blocks, kWarps * 32, 0, stream>>>(problem, make_gating_plan(problem, D::kPerVector));
  return cudaGetLastError();
}

// One launch, no scratch memory. Expects gating_fits and at least one row.
template <class D>
cudaError_t launch_gating(const Problem& problem, cudaStream_t stream) {
  constexpr int kHalves = 4 / sizeof(typename D::Storage);  // a 16-bit tile is half as large
  constexpr bool kWhole = kHalves == 1;
  constexpr int kBlocks64 = kWhole ? 12 : 8, kBlocks128 = kWhole ? 10 : 8, kBlocks256 = kWhole ? 6 : 8;
  if (problem.vocab <= 64) return launch_gating_padded<D, 64, 8, 2 * kHalves, kBlocks64>(problem, stream);
  if (problem.vocab <= 128) return launch_gating_padded<D, 128, 4 * kHalves, 2, kBlocks128>(problem, stream);
  return launch_gating_padded<D, 256, 4, 2, kBlocks256>(problem, stream);
}

}  // namespace fused_topk
