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
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
      return "ERR_DEVICE_LOST";
    default:
      return "ERR_DEVICE";
  }
}

// What to do where no device can be opened.
const char* fix_of(cudaError_t status) {
  switch (status) {
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "The addon was built for other GPUs: build it on this machine, or use another backend.";
    case cudaErrorDevicesUnavailable:
      return "Wait until the process that holds the GPU for itself ends, or pass another device.";
    default:
      return "Install an NVIDIA driver (580 or later) on a machine with an NVIDIA GPU, or use another backend.";
  }
}

}  // namespace

void require(cudaError_t status, const char* doing) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that a later call does not report it again
  const std::string code = code_of(status);
  throw Failure(code,
                std::string("CUDA failed to ") + doing + ": " + cudaGetErrorName(status) + ", " +
                    cudaGetErrorString(status) + ".",
                code == "ERR_BACKEND_UNAVAILABLE" ? fix_of(status) : "");
}

}  // namespace fused_topk
