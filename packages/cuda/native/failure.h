// What can go wrong in native code, as the error that JavaScript sees.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace fused_topk {

// `code` is one of FusedTopKErrorCode.
struct Failure : std::runtime_error {
  std::string code;
  Failure(std::string code, const std::string& message) : std::runtime_error(message), code(std::move(code)) {}
};

// Throws a Failure unless the status is success; `doing` completes "CUDA failed to ...".
void require(cudaError_t status, const char* doing);

}  // namespace fused_topk
