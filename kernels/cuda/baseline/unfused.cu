// Baseline: softmax -> top-K, two kernels. The softmax reads the logits for the max, for the sum and to write the
// probabilities, [rows, vocab] of them; the top-K reads those. Ranked by probability, as such stacks do. For finite
// rows.
#include "baseline.h"
#include "select_pass.cuh"

namespace fused_topk {
namespace {

template <class D>
__global__ void __launch_bounds__(kBaselineThreads) softmax(const __grid_constant__ Problem p, float* softmax_out) {
  const uint64_t row = blockIdx.x;
  const auto* logits = static_cast<const typename D::Storage*>(p.logits) + row * p.row_stride;
  float max, sum;
  max_and_sum<D>(logits, p.vocab, p.scale, &max, &sum);
  const float inverse_sum = 1 / sum;
  float* const out = softmax_out + row * p.vocab;
#pragma unroll 4
  for (uint64_t i = threadIdx.x; i < p.vocab; i += kBaselineThreads) {
    out[i] = exp2_fast((load_logit<D>(logits + i) - max) * p.scale.high) * inverse_sum;
  }
  if (threadIdx.x == 0) p.log_sum_exp[row] = log_sum_exp(max, sum, p.scale);
}

__global__ void __launch_bounds__(kBaselineThreads) top_k(const __grid_constant__ Problem p, const float* softmax_out) {
  extern __shared__ __align__(16) unsigned char shared[];
  const uint64_t row = blockIdx.x;
  const float* const in = softmax_out + row * p.vocab;
  float* const probs = p.probs + row * p.k;
  uint32_t* const indices = p.indices + row * p.k;
  select_pass(
      shared, p.vocab, p.k, [&](uint32_t i) { return __ldg(in + i); },
      [&](uint32_t rank, Candidate c) {
        probs[rank] = candidate_logit(c);
        indices[rank] = candidate_index(c);
      });
}

template <class D>
cudaError_t launch_typed(const Problem& p, float* softmax_out, cudaStream_t stream) {
  softmax<D><<<p.rows, kBaselineThreads, 0, stream>>>(p, softmax_out);
  const uint32_t bytes = baseline_shared_bytes(p.k);
  const cudaError_t status = cudaFuncSetAttribute(top_k, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) return status;
  top_k<<<p.rows, kBaselineThreads, bytes, stream>>>(p, softmax_out);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_unfused(const Problem& p, DType dtype, float* softmax_out, cudaStream_t stream) {
  return dtype == DType::f32   ? launch_typed<F32>(p, softmax_out, stream)
         : dtype == DType::f16 ? launch_typed<F16>(p, softmax_out, stream)
                               : launch_typed<BF16>(p, softmax_out, stream);
}

}  // namespace fused_topk
