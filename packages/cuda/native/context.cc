#include "context.h"

#include <algorithm>
#include <cstring>

#include "failure.h"

namespace fused_topk {
namespace {

// Host logits go through pinned memory in pieces of this size, two in turn: one is filled while the other is copied.
constexpr size_t kPieceBytes = 8 << 20;

// Memory that grows and is kept: on the device, or pinned on the host.
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
  ~Buffer() { Allocator::free(at_); }
  // True where the memory is new.
  bool reserve(size_t bytes, const char* doing) {
    if (bytes <= bytes_) return false;
    Allocator::free(at_);
    at_ = nullptr;
    bytes_ = 0;
    require(Allocator::allocate(&at_, bytes), doing);
    bytes_ = bytes;
    return true;
  }
  char* at(size_t offset = 0) const { return static_cast<char*>(at_) + offset; }

 private:
  void* at_ = nullptr;
  size_t bytes_ = 0;
};

// Copies bytes [begin, begin + count) of the rows laid end to end.
void pack_rows(char* to, const char* first_row, size_t row_bytes, size_t stride_bytes, size_t begin, size_t count) {
  if (row_bytes == stride_bytes) {
    std::memcpy(to, first_row + begin, count);
    return;
  }
  while (count > 0) {
    const size_t row = begin / row_bytes, in_row = begin % row_bytes, run = std::min(count, row_bytes - in_row);
    std::memcpy(to, first_row + row * stride_bytes + in_row, run);
    to += run;
    begin += run;
    count -= run;
  }
}

}  // namespace

// What one call at a time needs: a stream, its memory, and an event for each piece on its way.
class Lane {
 public:
  Lane() {
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "create a stream");
    for (cudaEvent_t* event : {&copied_[0], &copied_[1], &done_}) {
      require(cudaEventCreateWithFlags(event, cudaEventDisableTiming | cudaEventBlockingSync), "create an event");
    }
  }
  ~Lane() {
    cudaStreamSynchronize(stream_);
    for (cudaEvent_t event : {copied_[0], copied_[1], done_}) cudaEventDestroy(event);
    cudaStreamDestroy(stream_);
  }

  void run(const LogitsView& logits, const CallShape& shape, const CallResults& results,
           const DeviceProperties& device) {
    const size_t entries = size_t{shape.rows} * shape.k, lse_at = 2 * entries * 4, bytes = lse_at + shape.rows * 4ull;
    results_.reserve(bytes, "allocate device memory for the results");
    fetched_.reserve(bytes, "allocate pinned memory for the results");

    const size_t element = bytes_per_element(logits.dtype);
    const char* first_row = static_cast<const char*>(logits.data) + logits.offset * element;
    uint64_t row_stride = logits.row_stride;
    if (!logits.on_device) {
      send_rows(first_row, shape.vocab * element, row_stride * element, shape.rows);
      first_row = logits_.at();
      row_stride = shape.vocab;
    }
    float* const probs = reinterpret_cast<float*>(results_.at());
    const Problem problem{first_row,
                          row_stride,
                          shape.rows,
                          shape.vocab,
                          shape.k,
                          make_scale(shape.temperature),
                          probs,
                          reinterpret_cast<uint32_t*>(probs + entries),
                          probs + 2 * entries};
    const Plan chosen = plan(problem, logits.dtype, device);
    // Where tickets lie depends on the shape, so each call clears its own.
    scratch_.reserve(chosen.scratch_bytes, "allocate device memory for the parts of rows");
    if (chosen.ticket_bytes) {
      require(cudaMemsetAsync(scratch_.at(), 0, chosen.ticket_bytes, stream_), "clear the tickets");
    }
    require(launch(problem, logits.dtype, device, chosen, scratch_.at(), stream_), "launch the kernel");
    require(cudaMemcpyAsync(fetched_.at(), results_.at(), bytes, cudaMemcpyDeviceToHost, stream_), "fetch the results");
    wait();
    std::memcpy(results.probs, fetched_.at(), entries * 4);
    std::memcpy(results.indices, fetched_.at(entries * 4), entries * 4);
    std::memcpy(results.log_sum_exp, fetched_.at(lse_at), shape.rows * 4ull);
  }

  void send(void* to, const char* from, size_t bytes) {
    send_pieces(static_cast<char*>(to), from, bytes, bytes, bytes);
  }

  // Asleep: cudaStreamSynchronize may spin, and the threads of Node's pool are few.
  void wait() {
    require(cudaEventRecord(done_, stream_), "record an event");
    require(cudaEventSynchronize(done_), "finish the call");
  }

 private:
  void send_rows(const char* first_row, size_t row_bytes, size_t stride_bytes, size_t rows) {
    logits_.reserve(row_bytes * rows, "allocate device memory for the logits");
    send_pieces(logits_.at(), first_row, row_bytes, stride_bytes, row_bytes * rows);
  }

  void send_pieces(char* to, const char* first_row, size_t row_bytes, size_t stride_bytes, size_t bytes) {
    staging_.reserve(2 * std::min(bytes, kPieceBytes), "allocate pinned memory for the logits");
    const size_t half = std::min(bytes, kPieceBytes);
    for (size_t begin = 0, piece = 0; begin < bytes; begin += kPieceBytes, piece++) {
      const size_t count = std::min(kPieceBytes, bytes - begin);
      char* const stage = staging_.at(piece % 2 * half);
      if (piece >= 2) require(cudaEventSynchronize(copied_[piece % 2]), "copy the logits to the device");
      pack_rows(stage, first_row, row_bytes, stride_bytes, begin, count);
      require(cudaMemcpyAsync(to + begin, stage, count, cudaMemcpyHostToDevice, stream_), "copy the logits");
      require(cudaEventRecord(copied_[piece % 2], stream_), "record an event");
    }
  }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t copied_[2] = {}, done_ = nullptr;
  Buffer<DeviceAllocator> logits_, results_, scratch_;
  Buffer<PinnedAllocator> staging_, fetched_;
};

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
  lane->run(logits, shape, results, properties_);  // a lane whose call fails is not used again
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
    lane->send(memory, static_cast<const char*>(from), bytes);
    lane->wait();
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
  enter();
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
  if (cudaSetDevice(device_) != cudaSuccess)
    return;  // the process ends, or the device is lost: nothing is left to free
  idle_.clear();
  for (void* memory : uploads_) cudaFree(memory);
  uploads_.clear();
}

}  // namespace fused_topk
