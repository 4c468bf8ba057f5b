// A backend's hold on one device: streams and memory that calls reuse. Every method may run on any thread.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "launch.h"

namespace fused_topk {

// Where the logits of a call are and how they lie; `data` is host or device memory.
struct LogitsView {
  const void* data;
  bool on_device;
  DType dtype;
  uint64_t offset, row_stride;  // in elements
};

struct CallShape {
  uint32_t rows, vocab, k;
  double temperature;
};

// Host memory that receives the results of a call.
struct CallResults {
  float* probs;
  uint32_t* indices;
  float* log_sum_exp;
};

class Lane;
class CopyThreads;

class Context {
 public:
  // Creates the device's primary context where there is none yet, which takes its time.
  explicit Context(int device);
  ~Context();

  const std::string& name() const { return name_; }
  const DeviceProperties& properties() const { return properties_; }

  // Makes the device current on this thread.
  void enter() const;
  // Copies where needed, launches, waits. Calls on several threads overlap on the device.
  void softmax_topk(const LogitsView& logits, const CallShape& shape, const CallResults& results);
  // Device memory with a copy of host memory, until free_upload.
  void* upload(const void* from, size_t bytes);
  void free_upload(void* memory);
  // Whether the device can read at this address.
  bool is_device_memory(const void* address) const;
  // Waits for the device and frees everything; no call may be under way.
  void release();

 private:
  std::unique_ptr<Lane> take_lane();

  int device_;
  std::string name_;
  DeviceProperties properties_;
  std::unique_ptr<CopyThreads> copy_threads_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Lane>> idle_;
  std::set<void*> uploads_;
};

}  // namespace fused_topk
