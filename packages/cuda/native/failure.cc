// CUDA statuses to error codes.
#include "failure.h"

namespace fused_topk {
namespace {

const char* code_of(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
      return "ERR_OUT_OF_MEMORY";
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInitializationError:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorSystemNotReady:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorDevicesUnavailable:
    case cudaErrorInvalidDevice:
      return "ERR_BACKEND_UNAVAILABLE";
    // The context does not survive these.
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
      return "ERR_DEVICE_LOST";
    default:
      return "ERR_DEVICE";
  }
}

}  // namespace

void require(cudaError_t status, const char* doing) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that a later call does not report it again
  throw Failure(code_of(status), std::string("CUDA failed to ") + doing + ": " + cudaGetErrorName(status) + ", " +
                                     cudaGetErrorString(status) + ".");
}

}  // namespace fused_topk
