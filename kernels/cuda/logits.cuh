// Logits in memory: the three dtypes, 16-byte vectors of them, and rows that begin at any element.
//
// A row is a head of scalars up to the first 128-byte boundary, a body of 16-byte vectors in warp tiles, and a tail of
// scalars. Head and tail together are shorter than one warp tile plus 128 bytes.
#pragma once

#include <cuda_fp16.h>

#include "row_state.cuh"

namespace fused_topk {

struct F32 {
  using Storage = float;
  static constexpr int kPerVector = 4;
};
struct F16 {
  using Storage = uint16_t;
  static constexpr int kPerVector = 8;
};
struct BF16 {
  using Storage = uint16_t;
  static constexpr int kPerVector = 8;
};

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

// One scalar, past the first-level cache.
template <class D>
__device__ __forceinline__ float load_logit(const typename D::Storage* at) {
  return widen<D>(__ldg(at));
}

// Elements before the first 128-byte boundary at or after `row`; at most `vocab`.
template <class D>
__device__ __forceinline__ uint32_t head_length(const typename D::Storage* row, uint32_t vocab) {
  const uint32_t bytes = (128u - (reinterpret_cast<uintptr_t>(row) & 127u)) & 127u;
  return min(bytes / static_cast<uint32_t>(sizeof(typename D::Storage)), vocab);
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
template <class D>
__device__ __forceinline__ float load_shared_logit(uint32_t address) {
  if constexpr (sizeof(typename D::Storage) == 4) {
    float x;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
    return x;
  } else {
    uint16_t bits;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(bits) : "r"(address) : "memory");
    return widen<D>(bits);
  }
}

// Asynchronous copies of 16 bytes from global to shared memory, in groups. A thread that reads only what it copied
// itself needs no barrier. Before sm_80 they are plain copies.
__device__ __forceinline__ void copy_async(uint32_t shared, const uint4* global) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
#else
  const uint4 v = __ldg(global);
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
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
