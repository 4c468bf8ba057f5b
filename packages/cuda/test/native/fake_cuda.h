// A stand-in for the CUDA runtime on a machine without a GPU: streams are threads that do what is enqueued, late and in
// order, so that memory which is reused too early is seen. What native/ calls is there, and nothing else.
#pragma once

#include <cstddef>

namespace fake_cuda {

// The call number `n` of a runtime function from now on fails; 0 for none.
void fail_call(size_t n);
// Blocks of device and pinned memory, streams and events that exist.
size_t alive();
// Bytes of device and pinned memory that exist.
size_t device_bytes();
size_t pinned_bytes();

}  // namespace fake_cuda
