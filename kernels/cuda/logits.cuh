// Logits in memory: the three dtypes, 16-byte vectors of them, and rows that begin at any element.
//
// A row is read by 16-byte vectors from an aligned address at or before its start; of those that straddle its ends only
// what lies in the row is read: `load_partial`, `load_masked`.
#pragma once

#include <cuda_fp16.h>

#include "row_state.cuh"

namespace fused_topk {

struct F32 {
  using Storage = float;
  static constexpr int kPerVector = 4, kUnusedBits = 0;  // of a float32, the low bits that tell no two logits apart
};
struct F16 {
  using Storage = uint16_t;
  static constexpr int kPerVector = 8, kUnusedBits = 13;
};
struct BF16 {
  using Storage = uint16_t;
  static constexpr int kPerVector = 8, kUnusedBits = 16;
};

// order_key without its unused bits, in which keys that follow each other are neighbours.
template <class D>
__device__ __forceinline__ uint32_t short_key(float logit) {
  return order_key(logit) >> D::kUnusedBits;
}
template <class D>
__device__ __forceinline__ uint32_t short_key_of_number(float logit) {
  return order_key_of_number(logit) >> D::kUnusedBits;
}
template <class D>
__device__ __forceinline__ float logit_of_short_key(uint32_t key) {
  const uint32_t whole = key << D::kUnusedBits;
  return logit_of_key(whole & 0x80000000u ? whole : whole | ((1u << D::kUnusedBits) - 1));
}
template <class D>
constexpr uint32_t kShortKeyNegativeInfinity = kKeyNegativeInfinity >> D::kUnusedBits;

template <class D>
__device__ __forceinline__ float widen(typename D::Storage stored);
template <>
__device__ __forceinline__ float widen<F32>(float stored) {
  return stored;
}
template <>
__device__ __forceinline__ float widen<F16>(uint16_t stored) {
  return __half2float(__ushort_as_half(stored));
}
template <>
__device__ __forceinline__ float widen<BF16>(uint16_t stored) {
  return __uint_as_float(static_cast<uint32_t>(stored) << 16);
}

__device__ __forceinline__ uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// Element `i` of a vector. `i` must be a compile-time constant after unrolling.
template <class D>
__device__ __forceinline__ float element(const uint4& v, int i) {
  if constexpr (D::kPerVector == 4) {
    return __uint_as_float(word_of(v, i));
  } else {
    const uint32_t word = word_of(v, i / 2);
    if constexpr (std::is_same_v<D, BF16>) return __uint_as_float(i % 2 ? word & 0xFFFF0000u : word << 16);
    return widen<F16>(static_cast<uint16_t>(i % 2 ? word >> 16 : word));
  }
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

// Logit `i` of some vectors, where i is no constant.
template <class D, int kCount>
__device__ __forceinline__ float logit_of(const uint4 (&v)[kCount], uint32_t i) {
  uint32_t words[4 * kCount];
#pragma unroll
  for (int w = 0; w < 4 * kCount; w++) words[w] = word_of(v[w / 4], w % 4);
  if constexpr (D::kPerVector == 4) {
    return __uint_as_float(pick(words, i));
  } else {
    const uint32_t word = pick(words, i / 2);
    return widen<D>(static_cast<uint16_t>(i % 2 ? word >> 16 : word));
  }
}

// Which of the logits of some vectors are at least `bound`, which need not be one of the dtype: bit w for the first or only
// logit of word w, bit w + 16 for the second; number_of_bit tells which one that is.
template <class D, int kCount>
__device__ __forceinline__ uint32_t reaching(const uint4 (&v)[kCount], float bound) {
  constexpr int kWords = 4 * kCount, kPerWord = D::kPerVector / 4;
  static_assert(kWords * kPerWord <= 32, "a bit for each");
#if __CUDA_ARCH__ >= 900
  constexpr bool kPairs = kPerWord == 2;
#else
  constexpr bool kPairs = false;
#endif
  uint32_t bits = 0, pair = 0;
  if constexpr (kPairs) {
    pair = std::is_same_v<D, BF16> ? __float_as_uint(bound) >> 16 : __half_as_ushort(__float2half_ru(bound));
    pair |= pair << 16;
  }
#pragma unroll
  for (int w = 0; w < kWords; w++) {
    const uint32_t word = word_of(v[w / 4], w % 4);
    uint32_t mask = 0;
    if constexpr (kPairs && std::is_same_v<D, BF16>) {
      asm("set.ge.u32.bf16x2 %0, %1, %2;" : "=r"(mask) : "r"(word), "r"(pair));
    } else if constexpr (kPairs) {
      asm("set.ge.u32.f16x2 %0, %1, %2;" : "=r"(mask) : "r"(word), "r"(pair));
    } else {
#pragma unroll
      for (int h = 0; h < kPerWord; h++) {
        if (element<D>(v[w / 4], w % 4 * kPerWord + h) >= bound) mask |= 1u << (w + 16 * h);
      }
    }
    bits |= mask & (1u << w | 1u << (w + 16));
  }
  return bits;
}
template <class D>
__device__ __forceinline__ uint32_t number_of_bit(uint32_t bit) {
  return D::kPerVector == 4 ? bit : bit % 16 * 2 + bit / 16;
}

// The largest element of some vectors that is a number; NaN when there is none.
template <class D, int kCount>
__device__ __forceinline__ float max_of(const uint4 (&v)[kCount]) {
#if __CUDA_ARCH__ >= 800
  if constexpr (D::kPerVector == 8) {  // two at a time
    uint32_t pair = v[0].x;
#pragma unroll
    for (int i = 1; i < 4 * kCount; i++) {
      const uint32_t other = word_of(v[i / 4], i % 4);
      if constexpr (std::is_same_v<D, BF16>) {
        asm("max.bf16x2 %0, %0, %1;" : "+r"(pair) : "r"(other));
      } else {
        asm("max.f16x2 %0, %0, %1;" : "+r"(pair) : "r"(other));
      }
    }
    const uint4 both = make_uint4(pair, 0, 0, 0);
    return fmaxf(element<D>(both, 0), element<D>(both, 1));
  }
#endif
  float max = element<D>(v[0], 0);
#pragma unroll
  for (int i = 1; i < D::kPerVector * kCount; i++) {
    max = fmaxf(max, element<D>(v[i / D::kPerVector], i % D::kPerVector));
  }
  return max;
}

// One scalar, through the read-only cache.
template <class D>
__device__ __forceinline__ float load_logit(const typename D::Storage* at) {
  return widen<D>(__ldg(at));
}

// -inf, as often as a word holds it.
template <class D>
constexpr uint32_t kMaskedWord = 0xFF800000u;
template <>
constexpr uint32_t kMaskedWord<F16> = 0xFC00FC00u;
template <>
constexpr uint32_t kMaskedWord<BF16> = 0xFF80FF80u;

// The vector whose first logit has index `first` in the row, which may lie before it: `first` wraps then. What is not
// in the row, whose logits are `vocab`, is -inf, and not read. This one is for the vectors that straddle an end.
template <class D>
__device__ __forceinline__ uint4 load_partial(const typename D::Storage* row, uint32_t vocab, uint32_t first) {
  constexpr uint32_t kPerWord = D::kPerVector / 4;
  uint4 vector = {};
#pragma unroll 1
  for (uint32_t word = 0; word < 4; word++) {
    uint32_t bits = kMaskedWord<D>;
#pragma unroll
    for (uint32_t i = 0; i < kPerWord; i++) {
      const uint32_t index = first + word * kPerWord + i;
      if (index >= vocab) continue;
      if constexpr (kPerWord == 1) {
        bits = __float_as_uint(row[index]);
      } else {
        bits = __byte_perm(bits, row[index], i == 0 ? 0x3254 : 0x5410);
      }
    }
    vector = make_uint4(vector.y, vector.z, vector.w, bits);
  }
  return vector;
}

// The same for any vector at an address that is 16-byte aligned.
template <class D>
__device__ __forceinline__ uint4 load_masked(const typename D::Storage* row, uint32_t vocab, uint32_t first) {
  constexpr uint32_t kOthers = D::kPerVector - 1, kMasked = kMaskedWord<D>;
  if (__builtin_expect(first < (vocab > kOthers ? vocab - kOthers : 0), 1)) {
    return __ldg(reinterpret_cast<const uint4*>(row + first));
  }
  if (first + kOthers < vocab + kOthers) return load_partial<D>(row, vocab, first);
  return make_uint4(kMasked, kMasked, kMasked, kMasked);
}

// Shared memory by its 32-bit address, which costs a register and no arithmetic to keep.
__device__ __forceinline__ uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}
__device__ __forceinline__ uint4 load_shared(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
__device__ __forceinline__ void store_shared(uint32_t address, const uint4& v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

// Asynchronous copies of 16 bytes from global to shared memory, in groups. A thread that reads only what it copied
// itself needs no barrier; one that reads what its warp copied needs a __syncwarp. Before sm_80 they are plain copies.
__device__ __forceinline__ void copy_async(uint32_t shared, const uint4* global) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
#else
  store_shared(shared, __ldg(global));
#endif
}
__device__ __forceinline__ void close_copy_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most `kPending` groups of this thread are under way.
template <int kPending>
__device__ __forceinline__ void wait_copy_groups() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

}  // namespace fused_topk
