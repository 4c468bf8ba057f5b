// The gating kernel: many rows of a small vocabulary (at most 256), K at most 8, as a mixture of experts has them.
//
// Such rows are bound by instructions rather than by memory, so everything here saves those. A warp takes 32 rows, four
// at a time with 8 lanes each, or 16 where tiles of 32 would leave room for too few warps. Nothing is shared between
// warps, and there is no barrier of a block.
//
// 1. Tile. The rows are copied to shared memory asynchronously, and padded with -inf to a power of two.
// 2. Groups. Four neighbouring logits are a group. The K best logits of a row lie in the K groups with the largest
//    maxima (ties: the lower group), because each of those has a logit that comes before everything in the groups left
//    out. So only group maxima are sorted, a quarter of the row.
// 3. Keys. A maximum and its place fit one signed 32-bit key, so a step of a sorting network is one min and one max.
//    16-bit logits: their order in the upper half, the inverted index below. Exact. f32: the bits of (row maximum -
//    logit), whose low bits give way to the index, all inverted. Narrow rows keep their precision that way, since the
//    difference is small; what the missing bits can hide is found in step 7.
// 4. Reductions that transpose. 8 lanes have a part each of 8 rows, and in the end each lane shall own one row whole.
//    Lane l takes the rows in the order l, l ^ 1, l ^ 2, ..., l ^ 7. Then of two neighbours in that order a lane always
//    keeps the first and sends the second, lane l ^ 1 sends it the other part of the same row, and so on with l ^ 2 and
//    l ^ 4: nothing is chosen, and no lane works twice. (Of 16 rows each is owned by two lanes, which merge once
//    more, both ways, and share step 6.)
// 5. Three things are reduced so. f32: the maxima, which the keys need. The lists of group keys: each lane sorts those
//    of its part, and merges double the lists until they are 8 long. Last, when the maximum is known, the sums of
//    exp2(x * scale - max * scale).
// 6. Finish. A lane reads the K best groups of its row again, sorts their logits in the same way, and writes K results.
//    The i-th best group comes after i - 1 maxima, so of the last two groups only two logits can win.
// 7. With f32 keys, winners are put in their exact order; where the best key left out is like that of the last winner,
//    the warp looks at the row once more: if all logits with that key are equal, the index has decided rightly.
// 8. What is left is selected exactly, a warp a row: a tie that step 7 could not settle; and, with their sum, rows with
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

constexpr int kGatingGroup = 4;  // logits
constexpr int kLanesPerRow = 8;
constexpr float kGatingNear = -32.0f;          // above it, an exponent's difference of logits may be rounded
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
__device__ __forceinline__ float logit_of_word_key(int key) {
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
    return warp_sum(sum);
  }

  // Writes the K best.
  __device__ __forceinline__ void select(uint64_t row, float max, float inverse_sum, bool masked) {
    const uint32_t k = problem.k;
    uint32_t own_key = 0, own_index = 0;  // of the winner whose rank is this lane
    warp_select(left, k, lane, [&](uint32_t rank, uint32_t key, uint32_t index) {
      if (lane != rank) return;
      own_key = key;
      own_index = index;
    });
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

// A sorted list of keys of a row, and the best key that fell out of it.
template <int kCount>
struct KeyList {
  int key[kCount];
  int dropped;
};

// kVocab: `vocab` rounded up to 64, 128 or 256. kRows: how many rows a lane sees before the merges: 8, or 4 where tiles
// of 32 rows would leave too few warps on a multiprocessor.
template <class D, uint32_t kVocab, int kRows>
struct Gating {
  static_assert(kRows == 8 || kRows == 4, "a row is owned by one lane or by two");
  using Storage = typename D::Storage;
  static constexpr bool kFloat = D::kPerVector == 4;
  static constexpr int kVectors = kVocab / (kLanesPerRow * D::kPerVector);  // a lane and row
  static constexpr int kGroups = kVocab / (kLanesPerRow * kGatingGroup);    // likewise
  static constexpr uint32_t kIndexMask = kVocab - 1;
  static constexpr uint32_t kRowBytes = kVocab * sizeof(Storage);
  static constexpr uint32_t kTileRows = kRows * 32 / kLanesPerRow;
  static constexpr bool kShared = kRows == 4;    // two lanes own a row
  static constexpr int kKept = kShared ? 4 : 8;  // results of it that a lane writes

  const Problem& problem;
  const GatingPlan& plan;
  Storage* const tiles;  // of the block: [warps][kTileRows][kVocab]
  const int lane = threadIdx.x & 31;
  const int sub = lane & (kLanesPerRow - 1);
  const int first_seen = lane / kLanesPerRow * kRows;  // of the rows of the tile, by this lane
  const int owned = first_seen + sub % kRows;          // the row of the tile that this lane owns in the end
  const uint32_t tile_at = threadIdx.x / 32 * kTileRows * kRowBytes;        // in bytes, like the next
  const uint32_t home = tile_at + owned * kRowBytes + sub * sizeof(uint4);  // the lane's first vector of its own row
  float row_max = 0;                                                        // of the row that it owns

  __device__ __forceinline__ char* bytes_at(uint32_t offset) const { return reinterpret_cast<char*>(tiles) + offset; }
  __device__ __forceinline__ const Storage* row_at(int row) const {
    return reinterpret_cast<const Storage*>(bytes_at(tile_at + row * kRowBytes));
  }

  // Slot s of a lane is the row owned ^ s. The rows are a power of two apart and the vectors of a row cover the banks,
  // so this is one exclusive or, and free of conflicts.
  __device__ __forceinline__ uint4 vector_of(int slot, int vector) const {
    return reinterpret_cast<const uint4*>(bytes_at(home ^ (slot * kRowBytes)))[vector * kLanesPerRow];
  }

  // The vectors of the tile that lie past the end of their row.
  __device__ __forceinline__ void pad_rows() const {
    const uint32_t word = kFloat ? 0xFF800000u : pack<D>(-infinity(), -infinity());
    const uint32_t vectors = problem.vocab / D::kPerVector;
#pragma unroll 1
    for (uint32_t i = lane; i < kTileRows * kVocab / D::kPerVector; i += 32) {
      if (i % (kVocab / D::kPerVector) >= vectors) {
        reinterpret_cast<uint4*>(bytes_at(tile_at))[i] = make_uint4(word, word, word, word);
      }
    }
  }

  // Rows past the end are left as they are; nobody reads what comes of them.
  __device__ __forceinline__ void fill_tile(uint64_t first_row) const {
    const Storage* const first = static_cast<const Storage*>(problem.logits) + first_row * problem.row_stride;
    const uint64_t left = problem.rows - first_row;
    const int rows = left < kTileRows ? static_cast<int>(left) : kTileRows;
    if (plan.vectors) {
      if (problem.vocab < kVocab) pad_rows();
      const int mine = rows - first_seen;
      const uint4* row = reinterpret_cast<const uint4*>(first + first_seen * problem.row_stride) + sub;
      const uint64_t stride = problem.row_stride / D::kPerVector;
      const uint32_t to = shared_address(bytes_at(tile_at + first_seen * kRowBytes + sub * sizeof(uint4)));
      bool inside[kVectors];
#pragma unroll
      for (int j = 0; j < kVectors; j++) inside[j] = (j * kLanesPerRow + sub) * D::kPerVector < problem.vocab;
#pragma unroll
      for (int r = 0; r < kRows; r++, row += stride) {
        if (r >= mine) break;
#pragma unroll
        for (int j = 0; j < kVectors; j++) {
          if (inside[j]) copy_async(to + r * kRowBytes + j * kLanesPerRow * sizeof(uint4), row + j * kLanesPerRow);
        }
      }
      close_copy_group();
      wait_copy_groups<0>();
    } else {
#pragma unroll 4
      for (int r = 0; r < rows; r++) {
        const Storage* const row = first + r * problem.row_stride;
        Storage* const to = reinterpret_cast<Storage*>(bytes_at(tile_at + r * kRowBytes));
#pragma unroll
        for (uint32_t j = 0; j < kVocab / 32; j++) {
          const uint32_t i = j * 32 + lane;
          to[i] = i < problem.vocab ? __ldg(row + i) : narrow<D>(-infinity());
        }
      }
    }
    __syncwarp();
  }

  // What the lane that differs in `bit` has.
  static __device__ __forceinline__ float received(float mine, int bit) {
    return bit ? __shfl_xor_sync(kFullWarp, mine, bit) : mine;
  }
  template <int kCount>
  static __device__ __forceinline__ KeyList<kCount> received(const KeyList<kCount>& mine, int bit) {
    KeyList<kCount> list;
#pragma unroll
    for (int i = 0; i < kCount; i++) list.key[i] = __shfl_xor_sync(kFullWarp, mine.key[i], bit);
    list.dropped = kFloat && kCount == 8 ? __shfl_xor_sync(kFullWarp, mine.dropped, bit) : INT_MIN;
    return list;
  }

  // `leaf(slot)` is this lane's part of a row; the result is `merge` over all lanes' parts of the row that it owns. A
  // lane keeps its first half of the slots and sends the second half to the lane whose first half has the same rows.
  template <int kSlot = 0, int kSlots = kRows, class Leaf, class Merge>
  static __device__ __forceinline__ auto reduce(const Leaf& leaf, const Merge& merge) {
    if constexpr (kSlots == 1) {
      return leaf(kSlot);
    } else {
      constexpr int kHalf = kSlots / 2;
      const auto kept = reduce<kSlot, kHalf>(leaf, merge);
      const auto all = merge(kept, received(reduce<kSlot + kHalf, kHalf>(leaf, merge), kHalf));
      if constexpr (kShared && kSlots == kRows) {
        return merge(all, received(all, kRows));
      } else {
        return all;
      }
    }
  }

  template <int kCount>
  static __device__ __forceinline__ auto merge_lists(const KeyList<kCount>& a, const KeyList<kCount>& b) {
    if constexpr (kCount < 8) {
      KeyList<2 * kCount> merged;
#pragma unroll
      for (int i = 0; i < kCount; i++) {
        merged.key[i] = a.key[i];
        merged.key[2 * kCount - 1 - i] = b.key[i];
      }
      merged.dropped = INT_MIN;
      sort_bitonic(merged.key);
      return merged;
    } else {
      KeyList<8> merged = a;
      if (kFloat) merged.dropped = max(a.dropped, b.dropped);
      merge_best<kFloat>(merged.key, b.key, merged.dropped);
      return merged;
    }
  }

  // The best groups of the row that the lane owns, and its maximum.
  __device__ __forceinline__ KeyList<8> best_groups() {
    const auto merge = [](const auto& a, const auto& b) { return merge_lists(a, b); };
    if constexpr (kFloat) {
      float highest[kRows][kGroups];
      const auto lane_max = [&](int slot) {
        float largest;
#pragma unroll
        for (int g = 0; g < kGroups; g++) {
          const uint4 v = vector_of(slot, g);
          highest[slot][g] =
              fmaxf(fmaxf(element<D>(v, 0), element<D>(v, 1)), fmaxf(element<D>(v, 2), element<D>(v, 3)));
          largest = g ? fmaxf(largest, highest[slot][g]) : highest[slot][g];
        }
        return largest;
      };
      row_max = reduce(lane_max, [](float a, float b) { return fmaxf(a, b); });
      const auto leaf = [&](int slot) {
        const float its_max = received(row_max, slot);
        KeyList<kGroups> list;
#pragma unroll
        for (int g = 0; g < kGroups; g++) {
          list.key[g] = float_key<kIndexMask>(highest[slot][g], its_max, (g * kLanesPerRow + sub) * kGatingGroup);
        }
        list.dropped = INT_MIN;
        sort_keys(list.key);
        return list;
      };
      return reduce(leaf, merge);
    } else {
      const auto leaf = [&](int slot) {
        KeyList<kGroups> list;
#pragma unroll
        for (int g = 0; g < kGroups; g++) {
          const uint4 v = vector_of(slot, g / 2);
          const uint32_t ordered = order_pair<D>(pair_max<D>(word_of(v, g % 2 * 2), word_of(v, g % 2 * 2 + 1)));
          const uint32_t inverted = ~((g / 2 * kLanesPerRow + sub) * 8u + g % 2 * kGatingGroup) & kIndexMask;
          list.key[g] = max(low_key(ordered, inverted), high_key(ordered, inverted));
        }
        list.dropped = INT_MIN;
        sort_keys(list.key);
        return list;
      };
      const KeyList<8> groups = reduce(leaf, merge);
      row_max = logit_of_word_key<D>(groups.key[0]);
      return groups;
    }
  }

  // The sum of exp2(x * scale - reference) over the row that the lane owns.
  __device__ __forceinline__ float sum_exps(float reference) const {
    __syncwarp();  // so that the tile is read again, and not kept in registers
    const float scale = problem.scale.high;
    const auto leaf = [&](int slot) {
      const float row_reference = received(reference, slot);
      float chain[4];
#pragma unroll
      for (int i = 0; i < kVectors * D::kPerVector; i++) {
        const float x = element<D>(vector_of(slot, i / D::kPerVector), i % D::kPerVector);
        const float term = exp2_fast(fmaf(x, scale, -row_reference));
        chain[i % 4] = i < 4 ? term : chain[i % 4] + term;
      }
      return (chain[0] + chain[1]) + (chain[2] + chain[3]);
    };
    return reduce(leaf, [](float a, float b) { return a + b; });
  }

  // The keys of the four logits of a group, from the key of the group.
  __device__ __forceinline__ void open_group(const uint4& stored, int group_key, int* key) const {
    const uint32_t inverted = group_key & kIndexMask;
    if constexpr (kFloat) {
#pragma unroll
      for (int i = 0; i < 4; i++)
        key[i] = float_key<kIndexMask>(element<D>(stored, i), row_max, (inverted ^ kIndexMask) + i);
    } else {
      const uint32_t first = order_pair<D>(stored.x), second = order_pair<D>(stored.y);
      key[0] = low_key(first, inverted);
      key[1] = high_key(first, inverted - 1);
      key[2] = low_key(second, inverted - 2);
      key[3] = high_key(second, inverted - 3);
    }
  }

  // The two keys of a pair of groups that can still win where all but two of the winners are maxima of better groups:
  // the best two of the first group, and the best of the second.
  __device__ __forceinline__ void best_two(const int (&key)[8], int& first, int& second, int& dropped) const {
    const int a = max(key[0], key[1]), b = min(key[0], key[1]), c = max(key[2], key[3]), d = min(key[2], key[3]);
    const int e = max(key[4], key[5]), f = max(key[6], key[7]);
    const int next = max(min(a, c), max(b, d)), other = max(e, f);
    first = max(a, c);
    second = max(next, other);
    if (kFloat) {
      const int lost = max(min(e, f), max(min(key[4], key[5]), min(key[6], key[7])));
      const int third = max(min(min(a, c), max(b, d)), min(b, d));
      dropped = max(max(dropped, min(next, other)), max(lost, third));
    }
  }

  // The best logits of the best groups, the first kBest at least. Lanes that share a row open every other group each.
  template <int kBest>
  __device__ __forceinline__ KeyList<8> open_groups(const KeyList<8>& groups) const {
    constexpr int kStep = kShared ? 2 : 1, kOpened = kBest / kStep;
    const Storage* const row = row_at(owned);
    const bool odd = kShared && sub >= kRows;
    KeyList<8> best;
    best.dropped = groups.dropped;
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
      if (!kShared && i && i + 2 == kBest) {
        int first, second;
        best_two(key, first, second, best.dropped);
        if (kFloat) best.dropped = max(best.dropped, max(min(best.key[i], second), min(best.key[i + 1], first)));
        best.key[i] = max(best.key[i], second);
        best.key[i + 1] = max(best.key[i + 1], first);
        sort_two(best.key[i], best.key[i + 1]);
        continue;
      }
      sort_keys(key);
      if (i == 0) {
#pragma unroll
        for (int j = 0; j < 8; j++) best.key[j] = key[j];
      } else {
        merge_best<kFloat>(best.key, key, best.dropped);
      }
    }
    if constexpr (kShared) best = merge_lists(best, received(best, kRows));
    return best;
  }

  // f32: true where the last winner and the best key left out are alike but for their index, and that may hide a
  // difference. Not where all logits alike are -inf, or all equal to the maximum.
  __device__ __forceinline__ bool looks_tied(const KeyList<8>& groups, const KeyList<8>& best, int& last) const {
    int next = best.dropped;
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
      const bool wins = i < problem.k;
      last = wins ? best.key[i] : last;
      next = max(next, wins ? INT_MIN : max(best.key[i], groups.key[i]));
    }
    if ((last ^ next) & ~kIndexMask) return false;
    const uint32_t difference = ~last & ~kIndexMask;
    const float size = fabsf(row_max);
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

  // probability() without the rounding error of the difference, which is below 2^-24 of an exponent that is small here.
  __device__ __forceinline__ float near_probability(float logit, float inverse_sum) const {
    const Scale& scale = problem.scale;
    const float difference = logit - row_max, exponent = difference * scale.high;
    const float rest = fmaf(difference, scale.low, fmaf(difference, scale.high, -exponent));
    const float rounded = exp2_fast(exponent) * inverse_sum;
    return fmaf(rounded, rest * 0.69314718f, rounded);
  }

  // Writes `value` to the entries of a row of results from `from` on, where there are so many.
  template <class T>
  __device__ __forceinline__ void store(T* to, int from, const T (&value)[kKept]) const {
    const int k = problem.k, count = k - from;
    to += from;
    if (k == 8 && plan.wide_outputs) {
#pragma unroll
      for (int i = 0; i < kKept; i += 4) {
        *reinterpret_cast<uint4*>(to + i) = *reinterpret_cast<const uint4*>(value + i);
      }
    } else if (k % 2 == 0 && plan.wide_outputs) {
#pragma unroll
      for (int i = 0; i < kKept; i += 2) {
        if (i < count) *reinterpret_cast<uint2*>(to + i) = *reinterpret_cast<const uint2*>(value + i);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kKept; i++) {
        if (i < count) to[i] = value[i];
      }
    }
  }

  __device__ __forceinline__ void run(uint64_t first_row) {
    fill_tile(first_row);
    const KeyList<8> groups = best_groups();
    const float scale = problem.scale.high, reference = row_max * scale;
    const float coarse_sum = sum_exps(reference);

    const uint64_t row = first_row + owned;
    const bool there = row < problem.rows;
    const bool irregular = !(coarse_sum < infinity() && fabsf(reference) < kGatingCoarse);
    KeyList<8> best;
    if constexpr (kShared) {
      best = open_groups<8>(groups);
    } else {
      best = problem.k > 6 ? open_groups<8>(groups) : open_groups<6>(groups);
    }
    uint32_t index[8];
    float logit[8];
#pragma unroll
    for (int i = 0; i < 8; i++) index[i] = ~best.key[i] & kIndexMask;
    int last = 0;
    bool tied = false;
    if constexpr (kFloat) {
#pragma unroll
      for (int i = 0; i < 8; i++) logit[i] = row_at(owned)[index[i]];
      tied = looks_tied(groups, best, last);
      sort_exactly(logit, index);
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++) logit[i] = logit_of_word_key<D>(best.key[i]);
    }

    // The sum was made with max * scale rounded; what that lost is exact here.
    const float sum = coarse_sum * exp2_fast(-fmaf(row_max, scale, -reference));
    const float inverse_sum = 1.0f / sum;
    const int from = kShared && sub >= kRows ? kKept : 0;
    alignas(16) uint32_t kept_index[kKept];
    alignas(16) float probs[kKept];
    float kept_logit[kKept];
#pragma unroll
    for (int i = 0; i < kKept; i++) {
      kept_index[i] = from ? index[8 - kKept + i] : index[i];
      kept_logit[i] = from ? logit[8 - kKept + i] : logit[i];
    }
    if ((logit[7] - row_max) * scale > kGatingNear) {
#pragma unroll
      for (int i = 0; i < kKept; i++) probs[i] = near_probability(kept_logit[i], inverse_sum);
    } else {
#pragma unroll
      for (int i = 0; i < kKept; i++) {
        probs[i] = probability(kept_logit[i], row_max, inverse_sum, false, problem.scale);
      }
    }
    if (there) {
      store(problem.indices + row * problem.k, from, kept_index);
      store(problem.probs + row * problem.k, from, probs);
    }
    const bool first_owner = from == 0;
    if (there && first_owner) {
      const float scaled = row_max * plan.inverse_temperature;
      const float rest = fmaf(row_max, plan.inverse_temperature, -scaled) + row_max * plan.inverse_temperature_low;
      problem.log_sum_exp[row] = scaled + (rest + logf(sum));
    }

    const uint32_t irregulars = __ballot_sync(kFullWarp, there && first_owner && irregular);
    __syncwarp();
    for (uint32_t todo = irregulars; todo; todo &= todo - 1) {
      const int of = __shfl_sync(kFullWarp, owned, __ffs(todo) - 1);
      irregular_row<D, kVocab>(problem, row_at(of), first_row + of);
    }
    if constexpr (kFloat) {
      uint32_t todo = __ballot_sync(kFullWarp, there && first_owner && tied && !irregular);
      for (; todo; todo &= todo - 1) {
        const int owner = __ffs(todo) - 1, of = __shfl_sync(kFullWarp, owned, owner);
        settle_tie<D, kVocab>(problem, row_at(of), first_row + of, __shfl_sync(kFullWarp, last, owner),
                              __shfl_sync(kFullWarp, row_max, owner), __shfl_sync(kFullWarp, inverse_sum, owner));
      }
    }
  }
};

// Grid: a warp for every kTileRows rows, kWarps a block.
template <class D, uint32_t kVocab, int kRows, int kWarps, int kBlocks>
__global__ void __launch_bounds__(kWarps * 32, kBlocks)
    softmax_topk_gating(const __grid_constant__ Problem problem, const __grid_constant__ GatingPlan plan) {
  using Kernel = Gating<D, kVocab, kRows>;
  __shared__ __align__(16) typename D::Storage tiles[kWarps * Kernel::kTileRows * kVocab];
  const uint64_t first_row = (static_cast<uint64_t>(blockIdx.x) * kWarps + threadIdx.x / 32) * Kernel::kTileRows;
  if (first_row >= problem.rows) return;
  Kernel kernel{problem, plan, tiles};
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

// One launch, no scratch memory. Expects gating_fits and at least one row. The geometries are the fastest that were
// measured (NOTES.md): warps enough to hide shared memory, registers enough to keep the lists.
template <class D>
cudaError_t launch_gating(const Problem& problem, cudaStream_t stream) {
  if constexpr (D::kPerVector == 4) {
    if (problem.vocab <= 64) return launch_gating_padded<D, 64, 8, 2, 12>(problem, stream);
    if (problem.vocab <= 128) return launch_gating_padded<D, 128, 4, 2, 10>(problem, stream);
    return launch_gating_padded<D, 256, 4, 2, 6>(problem, stream);
  } else {
    if (problem.vocab <= 64) return launch_gating_padded<D, 64, 8, 8, 4>(problem, stream);
    if (problem.vocab <= 128) return launch_gating_padded<D, 128, 4, 1, 27>(problem, stream);
    return launch_gating_padded<D, 256, 4, 2, 8>(problem, stream);
  }
}

}  // namespace fused_topk
