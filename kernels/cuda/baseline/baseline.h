// What the bench compares the fused kernel with. Not public API.
#pragma once

#include "../launch.h"

namespace fused_topk {

constexpr int kReadFloorShapes = 12;
constexpr int kReadExpThreads = 256;

// Two launches. `softmax_out` holds rows * vocab floats.
cudaError_t launch_unfused(const Problem& problem, DType dtype, float* softmax_out, cudaStream_t stream);
// One launch.
cudaError_t launch_three_pass(const Problem& problem, DType dtype, cudaStream_t stream);
// One launch of one of kReadFloorShapes shapes. `from` is 16-byte aligned and readable up to a multiple of 16 bytes.
cudaError_t launch_read_floor(const void* from, uint64_t bytes, int shape, uint32_t* sink, cudaStream_t stream);
// One launch: reads, and adds one exp a logit to a sum, or updates it online with two. Memory as for launch_read_floor.
cudaError_t launch_read_exp(const void* from, uint64_t bytes, DType dtype, bool two_exps, float* sink,
                            cudaStream_t stream);

}  // namespace fused_topk
