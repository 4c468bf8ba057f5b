// What a kernel is asked to do, in device memory.
#pragma once

#include <cstdint>

#include "row_state.cuh"

namespace fused_topk {

struct Problem {
  const void* logits;   // row r begins at element r * row_stride
  uint64_t row_stride;  // in elements
  uint32_t rows, vocab, k;
  Scale scale;
  float* probs;        // [rows, k], best first
  uint32_t* indices;   // [rows, k]
  float* log_sum_exp;  // [rows]
};

}  // namespace fused_topk
