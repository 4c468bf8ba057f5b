// What one call at a time needs: streams and memory, kept from call to call.
#pragma once

#include "context.h"
#include "staging.h"

namespace fused_topk {

// Host logits pass through the device in groups of rows of about this size, two in turn: the kernel reads one while the
// other arrives. A group takes about a millisecond to arrive, longer than the kernel needs for it.
constexpr size_t kGroupBytes = 64 << 20;
static_assert(kGroupBytes / 2 >= kRingChunks * kChunkBytes, "run_groups counts on groups that fill the ring");

class Stream {
 public:
  Stream();
  Stream(const Stream&) = delete;
  ~Stream();  // waits for what is on it
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Waited for asleep; without a time.
class Event {
 public:
  Event();
  Event(const Event&) = delete;
  ~Event();
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class Lane {
 public:
  // Computes, and waits for the results.
  void run(const LogitsView& logits, const CallShape& shape, const CallResults& results, const DeviceProperties& device,
           CopyThreads& threads);
  // Copies to device memory, and waits for it.
  void send(void* to, const void* from, size_t bytes, CopyThreads& threads);

 private:
  struct Call;

  void run_groups(const Call& call, const HostRows& rows, CopyThreads& threads);
  void launch_rows(const Call& call, const void* logits, uint64_t row_stride, uint32_t first_row, uint32_t rows);
  void wait();

  Buffer<DeviceAllocator> logits_, results_, scratch_;
  Buffer<PinnedAllocator> fetched_;
  StagingRing ring_;
  // Of the group in each of the two places: all of it is there; its kernel has read it.
  Event arrived_[2], read_[2];
  Event done_;
  Stream stream_, copies_;  // last, so that they are waited for before the memory goes
};

}  // namespace fused_topk
