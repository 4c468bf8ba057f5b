#include "lane.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <mutex>

namespace fused_topk {
namespace {

struct Target {
  void* to;
  size_t bytes;
};

// Copies what lies end to end to its targets, by several threads where it is much: the targets are often memory that was
// never touched, and that is slow.
void hand_over(const char* from, std::initializer_list<Target> targets, CopyThreads& threads) {
  for (const Target& target : targets) {
    const size_t piece_bytes = target.bytes <= kLeastChunkBytes ? target.bytes : kPieceBytes;
    threads.run(divide_up(target.bytes, piece_bytes), [&](size_t piece) {
      const size_t begin = piece * piece_bytes;
      std::memcpy(static_cast<char*>(target.to) + begin, from + begin, std::min(piece_bytes, target.bytes - begin));
    });
    from += target.bytes;
  }
}

}  // namespace

// What the launches of a call share.
struct Lane::Call {
  DType dtype;
  CallShape shape;
  const DeviceProperties& device;
  Plan plan;
  float* probs;  // device memory: probs, indices, log_sum_exp of all rows
  uint32_t* indices;
  float* log_sum_exp;
};

Stream::Stream() { require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "create a stream"); }

Stream::~Stream() {
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

Event::Event() {
  require(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync), "create an event");
}

Event::~Event() { cudaEventDestroy(event_); }

void Lane::run(const LogitsView& logits, const CallShape& shape, const CallResults& results,
               const DeviceProperties& device, CopyThreads& threads) {
  const size_t entries = size_t{shape.rows} * shape.k, bytes = 2 * entries * 4 + shape.rows * 4ull;
  results_.reserve(bytes, "allocate device memory for the results");
  fetched_.reserve(bytes, "allocate pinned memory for the results");
  float* const probs = reinterpret_cast<float*>(results_.at());
  Call call{logits.dtype, shape, device, {}, probs, reinterpret_cast<uint32_t*>(probs + entries), probs + 2 * entries};

  const size_t element = bytes_per_element(logits.dtype);
  const char* const first_row = static_cast<const char*>(logits.data) + logits.offset * element;
  const uint64_t row_stride = logits.on_device ? logits.row_stride : shape.vocab;
  // One plan for the whole call, so that host logits give the bits that the same logits on the device give.
  call.plan = plan({logits.on_device ? first_row : nullptr, row_stride, shape.rows, shape.vocab, shape.k,
                    make_scale(shape.temperature), call.probs, call.indices, call.log_sum_exp},
                   logits.dtype, device);
  scratch_.reserve(call.plan.scratch_bytes, "allocate device memory for the parts of rows");
  if (logits.on_device) {
    launch_rows(call, first_row, row_stride, 0, shape.rows);
  } else {
    run_groups(call, {first_row, shape.vocab * element, logits.row_stride * element}, threads);
  }
  require(cudaMemcpyAsync(fetched_.at(), results_.at(), bytes, cudaMemcpyDeviceToHost, stream_), "fetch the results");
  wait();
  hand_over(fetched_.at(),
            {{results.probs, entries * 4}, {results.indices, entries * 4}, {results.log_sum_exp, shape.rows * 4ull}},
            threads);
}

void Lane::send(void* to, const void* from, size_t bytes, CopyThreads& threads) {
  const HostRows rows{static_cast<const char*>(from), bytes, bytes};
  ring_.send(rows, bytes, bytes, stream_, threads, [&](const char* pinned, size_t begin, size_t count) {
    require(cudaMemcpyAsync(static_cast<char*>(to) + begin, pinned, count, cudaMemcpyHostToDevice, stream_),
            "copy the logits");
  });
  wait();
}

void Lane::run_groups(const Call& call, const HostRows& rows, CopyThreads& threads) {
  const size_t bytes = rows.row_bytes * call.shape.rows;
  const size_t group_rows = std::min<size_t>(call.shape.rows, std::max<size_t>(1, kGroupBytes / rows.row_bytes));
  const size_t groups = divide_up(call.shape.rows, group_rows), group_bytes = group_rows * rows.row_bytes;
  const auto bytes_of = [&](size_t group) {
    return group < groups ? std::min(group_bytes, bytes - group * group_bytes) : 0;
  };

  // A row keeps its position modulo kAlignment, so that the kernel adds in the order in which it does on dense rows.
  constexpr size_t kAlignment = 256;
  const size_t place_bytes = groups == 1 ? group_bytes : (divide_up(group_bytes, kAlignment) + 1) * kAlignment;
  logits_.reserve(std::min<size_t>(groups, 2) * place_bytes, "allocate device memory for the logits");
  const auto place_of = [&](size_t group) {
    return logits_.at(group % 2 * place_bytes + group * group_bytes % kAlignment);
  };

  // Two streams cost a small call more than they gain.
  const cudaStream_t copies = groups == 1 ? stream_ : copies_;
  const auto launch_group = [&](size_t group) {
    if (groups > 1) {
      require(cudaEventRecord(arrived_[group % 2], copies), "record an event");
      require(cudaStreamWaitEvent(stream_, arrived_[group % 2]), "order the streams");
    }
    const size_t first = group * group_rows, count = std::min<size_t>(group_rows, call.shape.rows - first);
    launch_rows(call, place_of(group), call.shape.vocab, static_cast<uint32_t>(first), static_cast<uint32_t>(count));
    if (groups > 1) require(cudaEventRecord(read_[group % 2], stream_), "record an event");
  };

  // Whoever sends the last chunk of a group launches its kernel, and with it gives the place to the next group but one.
  // No chunk of that one is sent before, since a group is longer than the ring.
  size_t missing[2] = {bytes_of(0), bytes_of(1)};
  std::mutex mutex;
  ring_.send(rows, bytes, group_bytes, copies, threads, [&](const char* pinned, size_t begin, size_t count) {
    const size_t group = begin / group_bytes;
    if (group >= 2) require(cudaStreamWaitEvent(copies, read_[group % 2]), "order the streams");
    require(cudaMemcpyAsync(place_of(group) + begin % group_bytes, pinned, count, cudaMemcpyHostToDevice, copies),
            "copy the logits");
    const std::lock_guard<std::mutex> lock(mutex);
    missing[group % 2] -= count;
    if (missing[group % 2] > 0) return;
    launch_group(group);
    missing[group % 2] = bytes_of(group + 2);
  });
}

// Calls may overlap no other launch of this lane: scratch memory is one.
void Lane::launch_rows(const Call& call, const void* logits, uint64_t row_stride, uint32_t first_row, uint32_t rows) {
  const size_t first = size_t{first_row} * call.shape.k;
  const Problem problem{logits,
                        row_stride,
                        rows,
                        call.shape.vocab,
                        call.shape.k,
                        make_scale(call.shape.temperature),
                        call.probs + first,
                        call.indices + first,
                        call.log_sum_exp + first_row};
  // Where tickets lie depends on the shape, so each launch clears its own.
  if (call.plan.ticket_bytes) {
    require(cudaMemsetAsync(scratch_.at(), 0, call.plan.ticket_bytes, stream_), "clear the tickets");
  }
  require(launch(problem, call.dtype, call.device, call.plan, scratch_.at(), stream_), "launch the kernel");
}

// Asleep: cudaStreamSynchronize may spin, and the threads of Node's pool are few.
void Lane::wait() {
  require(cudaEventRecord(done_, stream_), "record an event");
  require(cudaEventSynchronize(done_), "finish the call");
}

}  // namespace fused_topk
