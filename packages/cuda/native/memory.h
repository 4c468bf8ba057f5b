// Memory that grows and is kept: on the device, or pinned on the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "failure.h"

namespace fused_topk {

struct DeviceAllocator {
  static cudaError_t allocate(void** at, size_t bytes) { return cudaMalloc(at, bytes); }
  static cudaError_t free(void* at) { return cudaFree(at); }
};
struct PinnedAllocator {
  static cudaError_t allocate(void** at, size_t bytes) { return cudaMallocHost(at, bytes); }
  static cudaError_t free(void* at) { return cudaFreeHost(at); }
};

template <class Allocator>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  ~Buffer() { Allocator::free(at_); }
  void reserve(size_t bytes, const char* doing) {
    if (bytes <= bytes_) return;
    Allocator::free(at_);
    at_ = nullptr;
    bytes_ = 0;
    require(Allocator::allocate(&at_, bytes), doing);
    bytes_ = bytes;
  }
  char* at(size_t offset = 0) const { return static_cast<char*>(at_) + offset; }

 private:
  void* at_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace fused_topk
