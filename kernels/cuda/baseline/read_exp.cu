// What exp costs a kernel that reads each logit once: the read floor with the sum of the softmax on top, and nothing
// else. With one exp a logit, against a reference that stays; or with two, the online update sum * exp(old max - new
// max) + exp(x - new max) as it is written down. Whether either is slower than reading alone says whether exp, and not
// memory, bounds a fused kernel.
#include "../logits.cuh"
#include "baseline.h"

namespace fused_topk {
namespace {

constexpr int kLoads = 4;  // 16-byte loads in flight a thread

template <class D, bool kTwoExps>
__global__ void __launch_bounds__(kReadExpThreads)
    read_exp(const uint4* from, uint64_t vectors, float scale, float* sink) {
  const uint64_t first = static_cast<uint64_t>(blockIdx.x) * kReadExpThreads * kLoads + threadIdx.x;
  uint4 v[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; i++) {
    const uint64_t at = first + static_cast<uint64_t>(i) * kReadExpThreads;
    v[i] = at < vectors ? __ldcs(from + at) : make_uint4(0, 0, 0, 0);
  }
  float max = -1e30f, sum = 0;
#pragma unroll
  for (int i = 0; i < kLoads * D::kPerVector; i++) {
    const float x = element<D>(v[i / D::kPerVector], i % D::kPerVector) * scale;
    if constexpr (kTwoExps) {
      const float new_max = fmaxf(max, x);
      sum = sum * exp2_fast(max - new_max) + exp2_fast(x - new_max);
      max = new_max;
    } else {
      sum += exp2_fast(x);
    }
  }
  if (sum == 0.123456789f) *sink = sum;
}

template <class D>
cudaError_t launch_typed(const uint4* from, uint64_t vectors, bool two_exps, float* sink, cudaStream_t stream) {
  constexpr uint64_t a_block = uint64_t{kReadExpThreads} * kLoads;
  const auto grid = static_cast<uint32_t>((vectors + a_block - 1) / a_block);
  const float scale = make_scale(1.0).high;
  if (two_exps) {
    read_exp<D, true><<<grid, kReadExpThreads, 0, stream>>>(from, vectors, scale, sink);
  } else {
    read_exp<D, false><<<grid, kReadExpThreads, 0, stream>>>(from, vectors, scale, sink);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_read_exp(const void* from, uint64_t bytes, DType dtype, bool two_exps, float* sink,
                            cudaStream_t stream) {
  const auto* const vector = static_cast<const uint4*>(from);
  const uint64_t vectors = (bytes + 15) / 16;
  return dtype == DType::f32   ? launch_typed<F32>(vector, vectors, two_exps, sink, stream)
         : dtype == DType::f16 ? launch_typed<F16>(vector, vectors, two_exps, sink, stream)
                               : launch_typed<BF16>(vector, vectors, two_exps, sink, stream);
}

}  // namespace fused_topk
