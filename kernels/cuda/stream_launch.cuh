// How the streaming kernel is cut to a shape and a device, and its launch.
#pragma once

#include <algorithm>

#include "launch.h"
#include "softmax_topk.cuh"

namespace fused_topk {

constexpr uint32_t kThreadsPerMultiprocessor = 1024;  // what the registers of the kernel are for
constexpr size_t kReservedShared = 1024;              // bytes that a block takes beside its own
constexpr uint32_t kLeastGroups = 2048;               // of a part, that a buffer must leave place for
constexpr size_t kMostExtra = 16 << 10;               // bytes by which a buffer is enlarged where they are free

constexpr uint32_t logits_a_tile(size_t bytes_per_logit) { return kTileVectors * 16 / bytes_per_logit; }

// Cuts shared memory into arrays: what a block needs at least, and what makes it fast as long as all the threads that a
// multiprocessor's registers are for find place. False where a block has not enough.
inline bool plan_stream(const Problem& p, size_t bytes_per_logit, const DeviceProperties& device, uint32_t parts,
                        uint32_t threads, int stages, StreamPlan* plan) {
  const size_t ring = size_t{threads} * kVectors * 16 * stages, list = list_length(p.k) * sizeof(uint16_t);
  const auto work_bytes = [&](size_t candidates) { return (candidates * sizeof(Candidate) + list + 15) / 16 * 16; };
  const size_t fixed = sizeof(StreamControl) + kBins * sizeof(uint32_t);
  const size_t share = device.shared_bytes_multiprocessor / (kThreadsPerMultiprocessor / threads) - kReservedShared;
  size_t buffer = std::max(1024u, 2 * p.k), room = p.k + kCrowded;
  if (work_bytes(buffer + room) <= ring) {
    buffer = (ring - list) / sizeof(Candidate) - room;
  } else if (work_bytes(buffer + room) + fixed + kLeastGroups * sizeof(uint32_t) > device.shared_bytes) {
    buffer = 1;
    while (buffer < p.k) buffer *= 2;  // what a bitonic sort of the K best takes
    buffer = std::max<size_t>(buffer, p.k + 64);
    room = 0;
  }
  size_t work = std::max(ring, work_bytes(buffer + room));
  if (work + fixed > device.shared_bytes) return false;

  const uint64_t lead = kLineBytes / bytes_per_logit - 1, tile = logits_a_tile(bytes_per_logit);
  const uint64_t tiles = (lead + p.vocab + tile - 1) / tile, tiles_a_part = (tiles + parts - 1) / parts;
  const auto groups = [&](uint32_t shift) {
    return shift <= 7 ? tiles_a_part << (7 - shift) : ((tiles_a_part - 1) >> (shift - 7)) + 1;
  };
  // A block that is large anyway may be the only one.
  const bool shares = work == ring && work + fixed < share;
  const size_t free = (shares ? std::min(share, device.shared_bytes) : device.shared_bytes) - work - fixed;
  const auto fits = [&](uint32_t shift) {
    return (groups(shift) + 4) * sizeof(uint32_t) <= free && groups(shift) <= 0xFFFF;  // a list has 16 bits a group
  };
  uint32_t shift = 2;  // 64 bytes, which is what a thread has of a tile
  // In 16 bits these are 32 logits, all of which reach the edge in a sorted row: half of them, where many are opened.
  if (bytes_per_logit == 2 && p.k > kFewK && threads <= 256) shift = 1;
  if (groups(2) < 4 * uint64_t{p.k}) shift = 0;  // or a quarter of the row would be opened
  // A group of several tiles spreads over the tiles of all parts.
  const auto logits_of_group = [&](uint32_t shift) { return (tile << shift >> 7) * (shift > 7 ? parts : 1); };
  while (!fits(shift)) {
    if (logits_of_group(++shift) > kMostGroupLogits) return false;
  }
  const size_t group_count = (groups(shift) + 4) / 4 * 4;  // the threads read four at a time

  // A larger buffer is cut more rarely.
  const size_t used = work + fixed + group_count * sizeof(uint32_t);
  const size_t extra = used < share ? std::min((share - used) / 16 * 16, kMostExtra) : 0;
  *plan = {};
  plan->parts = parts;
  plan->group_shift = shift;
  while (p.vocab - 1 > plan->index_mask) plan->index_mask = 2 * plan->index_mask + 1, plan->index_bits++;
  plan->groups = static_cast<uint32_t>(group_count);
  plan->capacity = static_cast<uint32_t>(buffer + extra / sizeof(Candidate));
  plan->room = static_cast<uint32_t>(room);
  plan->work_bytes = static_cast<uint32_t>(work + extra);
  return true;
}

// How many blocks a multiprocessor runs side by side.
inline uint32_t blocks_at_once(const StreamPlan& plan, const DeviceProperties& device, uint32_t threads) {
  const size_t by_shared = device.shared_bytes_multiprocessor / (stream_shared_bytes(plan) + kReservedShared);
  return static_cast<uint32_t>(std::max<size_t>(1, std::min<size_t>(kThreadsPerMultiprocessor / threads, by_shared)));
}

// Scratch of a row in parts: tickets, then the parts' states and candidates.
struct StreamScratch {
  size_t states, candidates, bytes;
  StreamScratch(uint64_t rows, uint64_t parts, uint32_t k) {
    states = (rows * sizeof(uint32_t) + 15) / 16 * 16;
    candidates = states + rows * parts * sizeof(PartState);
    bytes = candidates + rows * parts * published(k) * sizeof(Candidate);
  }
};

template <class D, int kThreads, int kStages>
cudaError_t launch_stages(const Problem& p, const DeviceProperties& device, const StreamPlan& plan,
                          cudaStream_t stream) {
  const auto kernel = softmax_topk_stream<D, kThreads, kStages>;
  // As much as there is, not as this launch needs: other threads launch the same kernel with other plans.
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(device.shared_bytes));
  if (status != cudaSuccess) return status;
  kernel<<<dim3(p.rows, plan.parts), kThreads, stream_shared_bytes(plan), stream>>>(p, plan);
  return cudaGetLastError();
}

// `parts` blocks a row; scratch where they are several.
template <class D, int kThreads>
cudaError_t launch_stream(const Problem& p, const DeviceProperties& device, uint32_t parts, void* scratch,
                          cudaStream_t stream) {
  constexpr uint32_t kBlocks = kThreadsPerMultiprocessor / kThreads;  // a multiprocessor
  constexpr size_t kBytes = sizeof(typename D::Storage);
  const uint64_t grid = uint64_t{p.rows} * parts;
  // Bytes in flight: enough to keep memory busy, and no more, since more only make a queue, in which whoever selects
  // waits for its groups. 64 KiB a multiprocessor are enough where all blocks run at once; narrow ones that come one
  // after another leave gaps, and need twice as many.
  uint64_t stages = kBlocks >= 4 ? 2 : 1;
  if (grid <= uint64_t{kBlocks} * device.multiprocessors) {
    const uint64_t blocks = std::max<uint64_t>(1, (grid + device.multiprocessors / 2) / device.multiprocessors);
    stages = std::min<uint64_t>(2, kBlocks / blocks);
  }
  if (device.major < 8) stages = 1;  // there are no asynchronous copies
  StreamPlan plan;
  while (!plan_stream(p, kBytes, device, parts, kThreads, static_cast<int>(stages), &plan)) {
    if (stages == 1) return cudaErrorInvalidConfiguration;
    stages /= 2;
  }
  const uint64_t at_once = uint64_t{blocks_at_once(plan, device, kThreads)} * device.multiprocessors;
  if (parts > 1) {
    const StreamScratch layout(p.rows, parts, p.k);
    char* const base = static_cast<char*>(scratch);
    plan.tickets = reinterpret_cast<uint32_t*>(base);
    plan.states = reinterpret_cast<PartState*>(base + layout.states);
    plan.candidates = reinterpret_cast<Candidate*>(base + layout.candidates);
  } else if (grid > at_once && device.bytes_per_microsecond > 0) {
    const double row_bytes = static_cast<double>(p.vocab) * kBytes;
    plan.first_blocks = static_cast<uint32_t>(at_once);
    plan.multiprocessors = device.multiprocessors;
    plan.stagger = static_cast<uint32_t>(1000 * row_bytes * device.multiprocessors / device.bytes_per_microsecond);
  }
  if (stages == 1) return launch_stages<D, kThreads, 1>(p, device, plan, stream);
  if constexpr (kBlocks >= 2) return launch_stages<D, kThreads, 2>(p, device, plan, stream);
  return cudaErrorInvalidConfiguration;
}

}  // namespace fused_topk
