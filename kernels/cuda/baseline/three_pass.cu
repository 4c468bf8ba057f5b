// Baseline: the textbook fused kernel. One launch, three reads of the logits: max, sum, top-K. For finite rows.
#include "baseline.h"
#include "select_pass.cuh"

namespace fused_topk {
namespace {

template <class D>
__global__ void __launch_bounds__(kBaselineThreads) three_pass(const __grid_constant__ Problem p) {
  extern __shared__ __align__(16) unsigned char shared[];
  const uint64_t row = blockIdx.x;
  const auto* logits = static_cast<const typename D::Storage*>(p.logits) + row * p.row_stride;
  float max, sum;
  max_and_sum<D>(logits, p.vocab, p.scale, &max, &sum);
  const float inverse_sum = 1 / sum;
  if (threadIdx.x == 0) p.log_sum_exp[row] = log_sum_exp(max, sum, p.scale);
  float* const probs = p.probs + row * p.k;
  uint32_t* const indices = p.indices + row * p.k;
  select_pass(
      shared, p.vocab, p.k, [&](uint32_t i) { return load_logit<D>(logits + i); },
      [&](uint32_t rank, Candidate c) {
        probs[rank] = probability(candidate_logit(c), max, inverse_sum, sum == 0, p.scale);
        indices[rank] = candidate_index(c);
      });
}

template <class D>
cudaError_t launch_typed(const Problem& p, cudaStream_t stream) {
  const uint32_t bytes = baseline_shared_bytes(p.k);
  const cudaError_t status = cudaFuncSetAttribute(three_pass<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) return status;
  three_pass<D><<<p.rows, kBaselineThreads, bytes, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_three_pass(const Problem& p, DType dtype, cudaStream_t stream) {
  return dtype == DType::f32   ? launch_typed<F32>(p, stream)
         : dtype == DType::f16 ? launch_typed<F16>(p, stream)
                               : launch_typed<BF16>(p, stream);
}

}  // namespace fused_topk
