#include "staging.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "write_past_caches.h"

namespace fused_topk {
namespace {

void write_into_caches(char* to, const char* from, size_t bytes) { std::memcpy(to, from, bytes); }

// How bytes are cut: into groups, these into chunks, these into pieces; the last of each may be short.
struct Cut {
  size_t bytes, group_bytes, chunk_bytes, piece_bytes, chunk_pieces, group_chunks, chunks;

  Cut(size_t bytes, size_t group_bytes) : bytes(bytes), group_bytes(group_bytes) {
    const size_t quarter = divide_up(bytes / 4, kPieceBytes) * kPieceBytes;
    chunk_bytes = std::min(kChunkBytes, std::max(kLeastChunkBytes, quarter));
    piece_bytes = bytes <= kLeastChunkBytes ? kLeastChunkBytes : kPieceBytes;
    chunk_pieces = chunk_bytes / piece_bytes;
    group_chunks = divide_up(group_bytes, chunk_bytes);
    const size_t whole_groups = (bytes - 1) / group_bytes;
    chunks = whole_groups * group_chunks + divide_up(bytes - whole_groups * group_bytes, chunk_bytes);
  }
  size_t begin(size_t chunk) const { return chunk / group_chunks * group_bytes + chunk % group_chunks * chunk_bytes; }
  size_t count(size_t chunk) const {
    const size_t group_end = (chunk / group_chunks + 1) * group_bytes;
    return std::min(chunk_bytes, std::min(group_end, bytes) - begin(chunk));
  }
};

}  // namespace

size_t copy_helpers() {
  constexpr size_t kMost = 9;
  const size_t cores = std::thread::hardware_concurrency();  // 0 where it is not known
  return std::min(kMost, std::max<size_t>(cores, 1) - 1);
}

void HostRows::copy(char* to, size_t begin, size_t count, Copy* copy) const {
  if (row_bytes == stride_bytes) return copy(to, first_row + begin, count);
  while (count > 0) {
    const size_t row = begin / row_bytes, in_row = begin % row_bytes, run = std::min(count, row_bytes - in_row);
    copy(to, first_row + row * stride_bytes + in_row, run);
    to += run;
    begin += run;
    count -= run;
  }
}

StagingRing::~StagingRing() {
  for (cudaEvent_t event : fetched_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
}

void StagingRing::send(const HostRows& rows, size_t bytes, size_t group_bytes, cudaStream_t stream,
                       CopyThreads& threads, const Send& send) {
  int device;
  require(cudaGetDevice(&device), "find the device");
  for (cudaEvent_t& event : fetched_) {
    if (event != nullptr) continue;
    require(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "create an event");
  }

  const Cut cut(bytes, group_bytes);
  memory_.reserve(std::min(cut.chunks, kRingChunks) * std::min(cut.chunk_bytes, bytes), "allocate pinned memory");

  // A chunk is open when its memory is free. They open in order, so `send` has returned for all before what was there.
  struct Slot {
    std::atomic<size_t> missing;  // pieces of the chunk that is there
    bool sent;
  };
  Slot slots[kRingChunks];
  for (Slot& slot : slots) {
    slot.missing = cut.chunk_pieces;
    slot.sent = false;
  }
  std::atomic<size_t> open{std::min(cut.chunks, kRingChunks)};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::condition_variable opened, sent;

  const auto do_piece = [&](size_t chunk, size_t piece) {
    const size_t place = chunk % kRingChunks;
    Slot& slot = slots[place];
    if (chunk >= open) {
      std::unique_lock<std::mutex> lock(mutex);
      if (piece == 0) {
        // The thread with the first piece of a chunk opens it.
        sent.wait(lock, [&] { return failed || (open == chunk && slot.sent); });
        if (failed) return;
        lock.unlock();
        require(cudaEventSynchronize(fetched_[place]), "copy the logits to the device");
        lock.lock();
        slot.missing = cut.chunk_pieces;
        slot.sent = false;
        open = chunk + 1;
        opened.notify_all();
        sent.notify_all();
      } else {
        opened.wait(lock, [&] { return failed || chunk < open; });
        if (failed) return;
      }
    }
    char* const pinned = memory_.at(place * cut.chunk_bytes);
    const size_t begin = cut.begin(chunk), count = cut.count(chunk), from = piece * cut.piece_bytes;
    // In the first turn of the ring the device waits for each chunk and fetches it at once. Later a chunk waits for the
    // device, has left the second-level caches by then, and memcpy is the faster way.
    HostRows::Copy* const copy = chunk < kRingChunks ? write_past_caches : write_into_caches;
    if (from < count) rows.copy(pinned + from, begin + from, std::min(cut.piece_bytes, count - from), copy);
    if (--slot.missing > 0) return;
    send(pinned, begin, count);
    require(cudaEventRecord(fetched_[place], stream), "record an event");
    {
      const std::lock_guard<std::mutex> lock(mutex);
      slot.sent = true;
    }
    sent.notify_all();
  };
  threads.run(cut.chunks * cut.chunk_pieces, [&](size_t piece) {
    try {
      require(cudaSetDevice(device), "select the device");
      do_piece(piece / cut.chunk_pieces, piece % cut.chunk_pieces);
    } catch (...) {
      {
        const std::lock_guard<std::mutex> lock(mutex);
        failed = true;
      }
      opened.notify_all();
      sent.notify_all();
      throw;
    }
  });
}

}  // namespace fused_topk
