// What can go wrong in native code, as the error that JavaScript sees.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace fused_topk {

// `code` is one of FusedTopKErrorCode; `fix` says what to do, where that depends on more than the code.
struct Failure : std::runtime_error {
  std::string code, fix;
  Failure(std::string code, const std::string& message, std::string fix = "")
      : std::runtime_error(message), code(std::move(code)), fix(std::move(fix)) {}
};

// Throws a Failure unless the status is success; `doing` completes "CUDA failed to ...".
void require(cudaError_t status, const char* doing);

}  // namespace fused_topk
