#include "context.h"

#include <algorithm>

#include "failure.h"
#include "lane.h"
#include "staging.h"

namespace fused_topk {

namespace {

// A device, current on this thread until the end of a scope: the thread is JavaScript's, and other libraries use it too.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    if (cudaGetDevice(&before_) != cudaSuccess) before_ = device;
    status_ = cudaSetDevice(device);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  ~DeviceGuard() {
    if (status_ == cudaSuccess) cudaSetDevice(before_);
  }
  cudaError_t status() const { return status_; }

 private:
  int before_;
  cudaError_t status_;
};

}  // namespace

Context::Context(int device) : device_(device) {
  int count = 0;
  require(cudaGetDeviceCount(&count), "find a device");
  if (device < 0 || device >= count) {
    throw Failure("ERR_BACKEND_UNAVAILABLE",
                  "There is no CUDA device " + std::to_string(device) + "; the number of devices is " +
                      std::to_string(count) + ".",
                  count == 1 ? "Pass device 0." : "Pass a device from 0 to " + std::to_string(count - 1) + ".");
  }
  enter();
  require(cudaFree(nullptr), "open the device");
  require(query_device(device, &properties_), "query the device");
  if (properties_.major * 10 + properties_.minor < 75) {
    throw Failure("ERR_BACKEND_UNAVAILABLE",
                  "Device " + std::to_string(device) + " has compute capability " + std::to_string(properties_.major) +
                      "." + std::to_string(properties_.minor) + ".",
                  "This GPU is too old: Turing (compute capability 7.5) or later is needed.");
  }
  cudaDeviceProp all;
  require(cudaGetDeviceProperties(&all, device), "query the device");
  name_ = all.name;
  copy_threads_ = std::make_unique<CopyThreads>(copy_helpers());
}

Context::~Context() { release(); }

void Context::enter() const { require(cudaSetDevice(device_), "select the device"); }

std::unique_ptr<Lane> Context::take_lane() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Lane> lane = std::move(idle_.back());
      idle_.pop_back();
      return lane;
    }
  }
  return std::make_unique<Lane>();
}

void Context::softmax_topk(const LogitsView& logits, const CallShape& shape, const CallResults& results) {
  enter();
  std::unique_ptr<Lane> lane = take_lane();
  lane->run(logits, shape, results, properties_, *copy_threads_);  // a lane whose call fails is not used again
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(std::move(lane));
}

void* Context::upload(const void* from, size_t bytes) {
  enter();
  void* memory = nullptr;
  require(cudaMalloc(&memory, std::max<size_t>(bytes, 1)), "allocate device memory for the logits");
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    uploads_.insert(memory);
  }
  if (bytes == 0) return memory;
  try {
    std::unique_ptr<Lane> lane = take_lane();
    lane->send(memory, from, bytes, *copy_threads_);
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(lane));
  } catch (...) {
    free_upload(memory);
    throw;
  }
  return memory;
}

void Context::free_upload(void* memory) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (uploads_.erase(memory) == 0) return;
  }
  enter();
  require(cudaFree(memory), "free device memory");
}

bool Context::is_device_memory(const void* address) const {
  const DeviceGuard guard(device_);
  require(guard.status(), "select the device");
  cudaPointerAttributes attributes;
  const cudaError_t status = cudaPointerGetAttributes(&attributes, address);
  if (status == cudaErrorInvalidValue) {
    cudaGetLastError();
    return false;
  }
  require(status, "look the address up");
  return attributes.devicePointer != nullptr &&
         (attributes.type == cudaMemoryTypeManaged ||
          (attributes.type == cudaMemoryTypeDevice && attributes.device == device_));
}

void Context::release() {
  const std::lock_guard<std::mutex> lock(mutex_);
  const DeviceGuard guard(device_);
  if (guard.status() != cudaSuccess) return;  // the process ends, or the device is lost: nothing is left to free
  idle_.clear();
  copy_threads_.reset();
  for (void* memory : uploads_) cudaFree(memory);
  uploads_.clear();
}

}  // namespace fused_topk
