// Host memory to device memory, through a ring of pinned chunks.
//
// One core fills pinned memory at a fraction of the rate at which the device fetches from it, and the device fetches
// small pieces at a fraction of the rate of large ones. So several threads fill a chunk together, a piece each; the one
// that ends last enqueues its copy to the device, and while that is on its way they fill the next chunks of the ring.
#pragma once

#include <functional>

#include "copy_threads.h"
#include "memory.h"

namespace fused_topk {

constexpr size_t kPieceBytes = 128 << 10, kChunkBytes = 4 << 20, kRingChunks = 8;
// Up to so many bytes are one chunk that the caller fills alone: waking another thread takes as long. A call of a few
// such chunks is cut into chunks of this size, so that something is on its way soon.
constexpr size_t kLeastChunkBytes = 1 << 20;

inline size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }

// Rows in host memory. Positions count their bytes as if the rows lay end to end.
struct HostRows {
  const char* first_row;
  size_t row_bytes, stride_bytes;

  using Copy = void(char* to, const char* from, size_t bytes);
  void copy(char* to, size_t begin, size_t count, Copy* copy) const;
};

// For one call at a time. Memory: kRingChunks * kChunkBytes, less where no call so far needed as much.
class StagingRing {
 public:
  StagingRing() = default;
  StagingRing(const StagingRing&) = delete;
  ~StagingRing();

  // Enqueues on the stream the copy from pinned memory of bytes [begin, begin + count) of the rows.
  using Send = std::function<void(const char* pinned, size_t begin, size_t count)>;

  // Sends bytes [0, bytes) of the rows in chunks, none across a multiple of group_bytes. `send` runs on any thread, the
  // device selected, several chunks at the same time and in any order; but it has returned for the chunk that lies
  // kRingChunks before a chunk, and for all before that one, when that chunk is sent. When this returns everything is
  // enqueued and the rows may change; the next call may begin when the stream has done it.
  void send(const HostRows& rows, size_t bytes, size_t group_bytes, cudaStream_t stream, CopyThreads& threads,
            const Send& send);

 private:
  cudaEvent_t fetched_[kRingChunks] = {};  // the device has a chunk: its memory is free
  Buffer<PinnedAllocator> memory_;
};

// For most machines: enough to keep the fastest link busy, and not every core.
size_t copy_helpers();

}  // namespace fused_topk
