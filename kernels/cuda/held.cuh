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

constexpr uint32_t kSectorBytes = 32;  // what memory delivers at least: vectors are counted from such a boundary

__device__ __forceinline__ uint4 load_vector(const void* global) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global));
  return v;
}
template <class D>
__device__ __forceinline__ float load_shared_logit(uint32_t address) {
  if constexpr (sizeof(typename D::Storage) == 4) {
    float logit;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(logit) : "r"(address) : "memory");
    return logit;
  } else {
    uint16_t bits;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(bits) : "r"(address) : "memory");
    return widen<D>(bits);
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
  static constexpr int kVectors = kRegisters + kShared;        // a thread
  static constexpr int kGroup = kShared > 0 ? 2 : kRegisters;  // vectors that are worked on at once
  static constexpr int kGroups = kVectors / kGroup;
  static constexpr int kLogits = kGroup * D::kPerVector;  // of a group and thread
  static constexpr int kRegisterGroups = kRegisters / kGroup;
  // Groups under way at once. Fewer leave memory idle; with more, threads wait to ask in place of working.
  static constexpr int kWindow = 2;
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
  uint32_t shared;  // address of the vectors in shared memory; those of a thread are kThreads apart

  __device__ __forceinline__ uint32_t first_vector(uint32_t thread = threadIdx.x) const {
    const uint32_t turn = thread / kTurn * S::kCtas + cta;
    return turn * kTurn + thread % kTurn;
  }
  // The index in the row of the first logit of vector j; before the row it wraps, and is no less than `end`.
  __device__ __forceinline__ uint32_t first_index(uint32_t j, uint32_t thread = threadIdx.x) const {
    return (base + first_vector(thread) + j * kStride) * D::kPerVector - lead;
  }
  __device__ __forceinline__ uint32_t shared_vector(uint32_t j, uint32_t thread = threadIdx.x) const {
    return shared + ((j - kRegisters) * kThreads + thread) * sizeof(uint4);
  }

  // The row at `start`, and of it the part of `part_vectors` vectors from `base` on.
  __device__ __forceinline__ void place(const Problem& problem, uint32_t row, uint32_t first_of_part,
                                        uint32_t part_vectors) {
    start = static_cast<const Storage*>(problem.logits) + row * problem.row_stride;
    lead = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(start) % kSectorBytes) / sizeof(Storage);
    base = first_of_part;
    end = min(problem.vocab, (first_of_part + part_vectors) * D::kPerVector - lead);
  }

  // Whether vector j lies wholly in the part, or in part.
  __device__ __forceinline__ bool is_whole(uint32_t j) const {
    return first_index(j) < (end >= D::kPerVector ? end - (D::kPerVector - 1) : 0);
  }
  __device__ __forceinline__ bool is_partial(uint32_t j) const {
    return !is_whole(j) && first_index(j) + (D::kPerVector - 1) < end + (D::kPerVector - 1);
  }
  __device__ __forceinline__ const uint4* address_of(uint32_t j) const {
    return reinterpret_cast<const uint4*>(start - lead) + base + first_vector() + j * kStride;
  }
  __device__ __forceinline__ static uint4 masked() {
    return make_uint4(kMaskedWord<D>, kMaskedWord<D>, kMaskedWord<D>, kMaskedWord<D>);
  }

  // Asks for the first kWindow groups, or all that are in registers. What lies outside the part becomes -inf; no
  // byte outside the row is read.
  __device__ __forceinline__ void load() {
#pragma unroll
    for (int j = 0; j < kRegisters; j++) {
      v[j] = masked();
      if (is_whole(j)) v[j] = load_vector(address_of(j));
    }
    if constexpr (kShared > 0) {
#pragma unroll
      for (int g = kRegisterGroups; g < kWindow; g++) ask_for(g);
    }
    if (__builtin_expect(lead % D::kPerVector == 0 && end % D::kPerVector == 0, 1)) return;
#pragma unroll
    for (int j = 0; j < kRegisters; j++) {
      if (is_partial(j)) v[j] = load_partial<D>(start, end, first_index(j));
    }
#pragma unroll 1
    for (int j = kRegisters; j < kVectors; j++) {
      if (is_partial(j)) store_shared(shared_vector(j), load_partial<D>(start, end, first_index(j)));
    }
  }
  // Asks for group g, if there is one and it was not asked for, to come to shared memory. Partial vectors are there.
  __device__ __forceinline__ void ask_for(int g) const {
    if (g < kRegisterGroups) return;
    if (g < kGroups) {
#pragma unroll
      for (int i = 0; i < kGroup; i++) {
        const uint32_t j = g * kGroup + i;
        if (is_whole(j)) {
          copy_async(shared_vector(j), address_of(j));
        } else if (!is_partial(j)) {
          store_shared(shared_vector(j), masked());
        }
      }
    }
    close_copy_group();
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
    return fused_topk::logit_of<D>(group.v, i);
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
    double sum = 0;
#pragma unroll 1
    for (uint32_t g = 0; g < kGroups; g++) {
      const Group these = group(g);
#pragma unroll 1
      for (uint32_t i = 0; i < kLogits; i++) sum += weight(logit_of(these, i), max, scale);
    }
    return static_cast<float>(sum);
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
