#include "fake_cuda.h"

#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "launch.h"

namespace {

// The point of a stream that an event was recorded at.
struct Point {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false;

  void reach() {
    const std::lock_guard<std::mutex> lock(mutex);
    reached = true;
    changed.notify_all();
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return reached; });
  }
};

std::atomic<size_t> objects{0}, calls_left{0};

bool fails() {
  size_t left = calls_left;
  while (left > 0 && !calls_left.compare_exchange_weak(left, left - 1)) {
  }
  return left == 1;
}

struct Blocks {
  std::mutex mutex;
  std::map<void*, size_t> sizes;

  cudaError_t allocate(void** at, size_t bytes) {
    if (fails()) return cudaErrorMemoryAllocation;
    *at = std::malloc(bytes);
    const std::lock_guard<std::mutex> lock(mutex);
    sizes[*at] = bytes;
    return cudaSuccess;
  }
  cudaError_t release(void* at) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (at != nullptr && sizes.erase(at) == 0) return cudaErrorInvalidValue;
    std::free(at);
    return cudaSuccess;
  }
  size_t bytes() {
    const std::lock_guard<std::mutex> lock(mutex);
    size_t sum = 0;
    for (const auto& [at, size] : sizes) sum += size;
    return sum;
  }
  size_t count() {
    const std::lock_guard<std::mutex> lock(mutex);
    return sizes.size();
  }
};
Blocks device_blocks, pinned_blocks;

}  // namespace

struct CUevent_st {
  std::mutex mutex;
  std::shared_ptr<Point> point;  // none: never recorded

  std::shared_ptr<Point> last() {
    const std::lock_guard<std::mutex> lock(mutex);
    return point;
  }
};

struct CUstream_st {
  std::mutex mutex;
  std::condition_variable came;
  std::deque<std::function<void()>> work;
  bool stopping = false;
  std::thread thread{[this] {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      came.wait(lock, [&] { return stopping || !work.empty(); });
      if (work.empty()) return;
      const auto next = std::move(work.front());
      work.pop_front();
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(std::rand() % 200));
      next();
      lock.lock();
    }
  }};

  void enqueue(std::function<void()> action) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      work.push_back(std::move(action));
    }
    came.notify_one();
  }
};

namespace fake_cuda {

void fail_call(size_t n) { calls_left = n; }
size_t alive() { return objects + device_blocks.count() + pinned_blocks.count(); }
size_t device_bytes() { return device_blocks.bytes(); }
size_t pinned_bytes() { return pinned_blocks.bytes(); }

}  // namespace fake_cuda

extern "C" {

cudaError_t cudaMalloc(void** at, size_t bytes) { return device_blocks.allocate(at, bytes); }
cudaError_t cudaFree(void* at) { return device_blocks.release(at); }
cudaError_t cudaMallocHost(void** at, size_t bytes) { return pinned_blocks.allocate(at, bytes); }
cudaError_t cudaFreeHost(void* at) { return pinned_blocks.release(at); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (fails()) return cudaErrorUnknown;
  *stream = new CUstream_st;
  objects++;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream == nullptr) return cudaErrorInvalidValue;
  const auto point = std::make_shared<Point>();
  stream->enqueue([=] { point->reach(); });
  point->wait();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return cudaErrorInvalidValue;
  {
    const std::lock_guard<std::mutex> lock(stream->mutex);
    stream->stopping = true;
  }
  stream->came.notify_one();
  stream->thread.join();
  delete stream;
  objects--;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (fails()) return cudaErrorUnknown;
  *event = new CUevent_st;
  objects++;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return cudaErrorInvalidValue;
  delete event;
  objects--;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (fails()) return cudaErrorUnknown;
  const auto point = std::make_shared<Point>();
  {
    const std::lock_guard<std::mutex> lock(event->mutex);
    event->point = point;
  }
  stream->enqueue([=] { point->reach(); });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (fails()) return cudaErrorUnknown;
  if (const auto point = event->last()) point->wait();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (fails()) return cudaErrorUnknown;
  if (const auto point = event->last()) stream->enqueue([=] { point->wait(); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (fails()) return cudaErrorUnknown;
  stream->enqueue([=] {
    std::this_thread::sleep_for(std::chrono::nanoseconds(bytes / 4));  // slower than the threads that fill the ring
    std::memcpy(to, from, bytes);
  });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (fails()) return cudaErrorUnknown;
  stream->enqueue([=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "no GPU");
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes*, const void*) { return cudaErrorInvalidValue; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorFake"; }
const char* cudaGetErrorString(cudaError_t) { return "a failure that the test asked for"; }

}  // extern "C"

namespace fused_topk {

cudaError_t query_device(int, DeviceProperties* properties) {
  *properties = {9, 0, 132, 0, 0, 0, false};
  return cudaSuccess;
}

// The ticket and the scratch memory are those of a split row, so that launches which overlap are seen.
Plan plan(const Problem&, DType, const DeviceProperties&) { return {Regime::split, 2, 0, 512, 16, 8}; }

// Instead of softmax and top-k: a sum over each row, its last logits, and its place modulo 256 bytes. The sums are taken at
// once, the last logits so late that the next group but one would be there if nothing held it back.
cudaError_t launch(const Problem& problem, DType, const DeviceProperties&, const Plan&, void* scratch,
                   cudaStream_t stream) {
  if (fails()) return cudaErrorUnknown;
  stream->enqueue([=] {
    ++*static_cast<uint64_t*>(scratch);
    const auto row = [&](uint32_t r) { return static_cast<const float*>(problem.logits) + r * problem.row_stride; };
    for (uint32_t r = 0; r < problem.rows; r++) {
      float sum = 0;
      for (uint32_t i = 0; i < problem.vocab; i += 61) sum += row(r)[i];
      problem.log_sum_exp[r] = sum;
    }
    std::this_thread::sleep_for(std::chrono::nanoseconds(uint64_t{problem.rows} * problem.vocab * 4));
    for (uint32_t r = 0; r < problem.rows; r++) {
      for (uint32_t i = 0; i < problem.k; i++) {
        problem.probs[size_t{r} * problem.k + i] = row(r)[problem.vocab - 1 - i];
        problem.indices[size_t{r} * problem.k + i] = reinterpret_cast<uintptr_t>(row(r)) % 256;
      }
    }
  });
  return cudaSuccess;
}

}  // namespace fused_topk
