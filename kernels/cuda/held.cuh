// What a CTA of a cluster holds of a row: the first vectors of each thread in registers, more of them in shared memory.
//
// The CTAs of a cluster take turns by a few lines, so that each has an even sample of a sorted row. All of it is asked
// for at once. A thread reads back only what it copied itself, so waiting for a copy takes no barrier.
#pragma once

#include "logits.cuh"
#include "problem.h"
#include "select.cuh"

namespace fused_topk {
namespace decode {

constexpr uint32_t kSectorBytes = 32;    // what memory delivers at least: vectors are counted from such a boundary
constexpr float kCoarse = 536870912.0f;  // 2^29: a scaled logit from here on has an ulp of 64 or more

template <class D>
constexpr uint32_t kMaskedWord = 0xFF800000u;  // -inf, as often as a word holds it
template <>
constexpr uint32_t kMaskedWord<F16> = 0xFC00FC00u;
template <>
constexpr uint32_t kMaskedWord<BF16> = 0xFF80FF80u;

__device__ __forceinline__ uint4 load_vector(const void* global) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global));
  return v;
}
__device__ __forceinline__ void store_shared(uint32_t address, const uint4& v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

// values[i], by selects: registers have no address.
template <int kCount>
__device__ __forceinline__ uint32_t pick(const uint32_t (&values)[kCount], uint32_t i) {
  if constexpr (kCount == 1) {
    return values[0];
  } else {
    constexpr int kHalf = kCount / 2;
    uint32_t half[kHalf];
#pragma unroll
    for (int at = 0; at < kHalf; at++) half[at] = i & kHalf ? values[at + kHalf] : values[at];
    return pick(half, i);
  }
}

// How a row, or a part of a long one, is spread over a cluster: its CTAs, their threads, and the 16-byte vectors of a
// thread, in registers and in shared memory.
template <int kCtas_, int kThreads_, int kRegisters_, int kShared_>
struct Spread {
  static constexpr int kCtas = kCtas_, kThreads = kThreads_, kRegisters = kRegisters_, kShared = kShared_;
  static constexpr int kWarps = kThreads / 32;
  // Vectors of a turn. Where a row is spread over few CTAs memory is busy, and longer runs suit it.
  static constexpr uint32_t kTurn = kCtas >= 16 ? 8 : 32;
};

// A row is cut into parts of whole vectors, a cluster each.
template <class D, class S>
struct Held {
  using Storage = typename D::Storage;
  static constexpr int kRegisters = S::kRegisters, kShared = S::kShared, kThreads = S::kThreads;
  static constexpr uint32_t kTurn = S::kTurn;
  static constexpr int kVectors = kRegisters + kShared;  // a thread
  // Vectors that are worked on at once: 16 logits, where the registers hold others meanwhile.
  static constexpr int kGroup = kShared > 0 && kRegisters * D::kPerVector > 16 ? 16 / D::kPerVector : kRegisters;
  static constexpr int kGroups = kVectors / kGroup;
  static constexpr int kLogits = kGroup * D::kPerVector;  // of a group and thread
  static constexpr int kRegisterGroups = kRegisters / kGroup;
  static_assert(kRegisters % kGroup == 0 && kShared % kGroup == 0, "whole groups");
  static_assert(kLogits <= 32, "a bit of a word for each logit of a group");
  // The vectors of a thread are kStride apart.
  static constexpr uint32_t kStride = S::kCtas * kThreads;
  static constexpr uint32_t kPartVectors = kVectors * kStride;  // a part, at most

  const Storage* start;  // of the row
  uint32_t lead;         // elements between the sector boundary before the row and its start
  uint32_t cta;
  uint32_t base;  // the first vector of the part, counted from that boundary
  uint32_t end;   // the index in the row after the last logit of the part
  uint4 v[kRegisters];
  uint32_t shared;  // address of this thread's first vector in shared memory; the next is kThreads further

  __device__ __forceinline__ uint32_t first_vector() const {
    const uint32_t turn = threadIdx.x / kTurn * S::kCtas + cta;
    return turn * kTurn + threadIdx.x % kTurn;
  }
  // The index in the row of the first logit of vector j; before the row it wraps, and is no less than `end`.
  __device__ __forceinline__ uint32_t first_index(uint32_t j) const {
    return (base + first_vector() + j * kStride) * D::kPerVector - lead;
  }
  __device__ __forceinline__ uint32_t shared_vector(uint32_t j) const {
    return shared + (j - kRegisters) * (kThreads * sizeof(uint4));
  }

  // The row at `start`, and of it the part of `part_vectors` vectors from `base` on.
  __device__ __forceinline__ void place(const Problem& problem, uint32_t row, uint32_t first_of_part,
                                        uint32_t part_vectors) {
    start = static_cast<const Storage*>(problem.logits) + row * problem.row_stride;
    lead = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(start) % kSectorBytes) / sizeof(Storage);
    base = first_of_part;
    end = min(problem.vocab, (first_of_part + part_vectors) * D::kPerVector - lead);
  }

  // Asks for all of it. What lies outside the part becomes -inf; no byte outside the row is read.
  __device__ __forceinline__ void load() {
    constexpr uint32_t kOthers = D::kPerVector - 1, kMasked = kMaskedWord<D>;
    const uint32_t whole_below = end > kOthers ? end - kOthers : 0;
    const uint4* const vectors = reinterpret_cast<const uint4*>(start - lead) + base + first_vector();
    const uint4 masked = make_uint4(kMasked, kMasked, kMasked, kMasked);
    const bool aligned = lead % D::kPerVector == 0 && end % D::kPerVector == 0;
#pragma unroll
    for (int j = kRegisters; j < kVectors; j++) {
      if (first_index(j) < whole_below) {
        copy_async(shared_vector(j), vectors + j * kStride);
      } else {
        store_shared(shared_vector(j), masked);
      }
      if (j % kGroup == kGroup - 1) close_copy_group();
    }
#pragma unroll
    for (int j = 0; j < kRegisters; j++) {
      v[j] = masked;
      if (first_index(j) < whole_below) v[j] = load_vector(vectors + j * kStride);
    }
    if (__builtin_expect(aligned, 1)) return;
    const auto partial = [&](uint32_t j) {
      const uint32_t first = first_index(j);
      return first >= whole_below && first + kOthers < end + kOthers;
    };
#pragma unroll 1
    for (int j = kRegisters; j < kVectors; j++) {
      if (partial(j)) store_shared(shared_vector(j), load_partial(first_index(j)));
    }
#pragma unroll
    for (int j = 0; j < kRegisters; j++) {
      if (partial(j)) v[j] = load_partial(first_index(j));
    }
  }

  // The vector whose first logit has index `first`, of which not all are in the row.
  __device__ __forceinline__ uint4 load_partial(uint32_t first) const {
    constexpr int kPerWord = D::kPerVector / 4;
    uint4 vector = {};
#pragma unroll 1
    for (int word = 0; word < 4; word++) {
      uint32_t bits = kMaskedWord<D>;
#pragma unroll
      for (int i = 0; i < kPerWord; i++) {
        const uint32_t index = first + word * kPerWord + i;
        if (index >= end) continue;
        if constexpr (kPerWord == 1) {
          bits = __float_as_uint(start[index]);
        } else {
          bits = __byte_perm(bits, start[index], i == 0 ? 0x3254 : 0x5410);
        }
      }
      vector = make_uint4(vector.y, vector.z, vector.w, bits);
    }
    return vector;
  }

  // Group `g` of the thread; the first kRegisterGroups are in registers. The others must have arrived.
  struct Group {
    uint4 v[kGroup];
    uint32_t first;  // of its vectors, counted in the thread
  };
  __device__ __forceinline__ Group group(uint32_t g) const {
    Group group;
    group.first = g * kGroup;
#pragma unroll
    for (int own = 0; own < kRegisterGroups; own++) {
#pragma unroll
      for (int j = 0; j < kGroup; j++) {
        if (own == 0 || g == own) group.v[j] = v[own * kGroup + j];
      }
    }
    if (kShared > 0 && g >= kRegisterGroups) {
#pragma unroll
      for (int j = 0; j < kGroup; j++) group.v[j] = load_shared(shared_vector(group.first + j));
    }
    return group;
  }

  // Logit i of a group, where i is no constant.
  __device__ __forceinline__ static float logit_of(const Group& group, uint32_t i) {
    constexpr uint32_t kPerWord = D::kPerVector / 4;
    uint32_t words[4 * kGroup];
#pragma unroll
    for (int w = 0; w < 4 * kGroup; w++) words[w] = word_of(group.v[w / 4], w % 4);
    const uint32_t word = pick(words, i / kPerWord);
    if constexpr (kPerWord == 1) {
      return __uint_as_float(word);
    } else {
      return widen<D>(static_cast<uint16_t>(i % 2 ? word >> 16 : word));
    }
  }
  __device__ __forceinline__ uint32_t index_of(const Group& group, uint32_t i) const {
    return first_index(group.first + i / D::kPerVector) + i % D::kPerVector;
  }

  // The sum of a thread's weights of a group against `reference`, which is scaled.
  __device__ __forceinline__ static float sum_against(const uint4 (&vectors)[kGroup], float scale, float reference) {
    float part[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < kLogits; i++) {
      part[i % 4] += exp2_fast(fmaf(element<D>(vectors[i / D::kPerVector], i % D::kPerVector), scale, -reference));
    }
    return (part[0] + part[1]) + (part[2] + part[3]);
  }
  // The sum of all weights of a thread against a maximum whose scaled value is too large for a float.
  __device__ __forceinline__ float sum_coarse(float max, const Scale& scale) const {
    float sum = 0;
#pragma unroll 1
    for (uint32_t g = 0; g < kGroups; g++) {
      const Group these = group(g);
#pragma unroll 1
      for (uint32_t i = 0; i < kLogits; i++) sum += weight(logit_of(these, i), max, scale);
    }
    return sum;
  }

  // A bit for each logit of a group that reaches a finite bound.
  __device__ __forceinline__ static uint32_t reaching(const Group& group, float bound) {
    uint32_t chosen = 0;
#pragma unroll
    for (int i = 0; i < kLogits; i++) {
      chosen |= element<D>(group.v[i / D::kPerVector], i % D::kPerVector) >= bound ? 1u << i : 0u;
    }
    return chosen;
  }

  // A key without the low bits that all logits of the dtype have alike.
  static constexpr int kLowBits = std::is_same_v<D, F32> ? 0 : std::is_same_v<D, F16> ? 13 : 16;
  // The place of a vector in the part, highest first; log2 of how many there are.
  static constexpr int log2(uint32_t n) { return n <= 1 ? 0 : 1 + log2(n / 2); }
  static constexpr int kPlaceBits = log2(kPartVectors - 1) + 1;
  __device__ __forceinline__ uint32_t place_of(uint32_t j) const {
    return (1u << kPlaceBits) - 1 - (first_vector() + j * kStride);
  }
  // Calls f(j, valid, keys) for each vector j of the thread; a bit of `valid` for each logit that is in the part.
  template <class F>
  __device__ __forceinline__ void each_vector(F f) const {
#pragma unroll 1
    for (uint32_t j = 0; j < kVectors; j++) {
      uint4 vector = v[0];
#pragma unroll
      for (int other = 1; other < kRegisters; other++) vector = j == other ? v[other] : vector;
      if (kShared > 0 && j >= kRegisters) vector = load_shared(shared_vector(j));
      const uint32_t first = first_index(j);
      uint32_t valid = 0, keys[D::kPerVector];
#pragma unroll
      for (int i = 0; i < D::kPerVector; i++) {
        keys[i] = order_key(element<D>(vector, i));
        valid |= first + i < end ? 1u << i : 0u;
      }
      f(j, valid, keys);
    }
  }
};

}  // namespace decode
}  // namespace fused_topk
