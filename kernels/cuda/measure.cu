// Timing: a CUDA graph of one call on every input set, replayed between two events.
#include "measure.h"

#include <algorithm>
#include <functional>

#include "baseline/baseline.h"

namespace fused_topk {
namespace {

// Throws a cudaError_t; measure() catches it.
void require(cudaError_t status) {
  if (status != cudaSuccess) throw status;
}

// Frees what it holds when it goes.
struct DeviceMemory {
  void* at = nullptr;
  explicit DeviceMemory(size_t bytes) { require(cudaMalloc(&at, std::max<size_t>(bytes, 16))); }
  ~DeviceMemory() { cudaFree(at); }
  DeviceMemory(const DeviceMemory&) = delete;
  char* bytes() const { return static_cast<char*>(at); }
};
struct PinnedMemory {
  void* at = nullptr;
  explicit PinnedMemory(size_t bytes) { require(cudaMallocHost(&at, bytes)); }
  ~PinnedMemory() { cudaFreeHost(at); }
  PinnedMemory(const PinnedMemory&) = delete;
  const char* bytes() const { return static_cast<const char*>(at); }
};
struct Event {
  cudaEvent_t event = nullptr;
  Event() { require(cudaEventCreate(&event)); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  operator cudaEvent_t() const { return event; }
};
struct Stream {
  Event begin, end;
  cudaStream_t stream = nullptr;
  Stream() { require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream); }
};
// A graph of the calls that a stream captures.
struct Graph {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  Graph() = default;
  Graph(const Graph&) = delete;
  ~Graph() {
    if (executable) cudaGraphExecDestroy(executable);
    if (graph) cudaGraphDestroy(graph);
  }
  void capture(cudaStream_t stream, const std::function<void()>& calls) {
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    try {
      calls();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);  // a stream that captures cannot be destroyed
      throw;
    }
    require(cudaStreamEndCapture(stream, &graph));
    require(cudaGraphInstantiate(&executable, graph, 0));
  }
};

constexpr int kWarmUps = 2;
constexpr size_t kMostPinnedBytes = 256 << 20;    // more than the caches of a host hold
constexpr double kLeastGraphMicroseconds = 1000;  // a replay this long makes the two events' own cost vanish

// The mean microseconds of a call, a value a repeat: each is one replay of a graph that goes through all sets, as often
// as a first replay shows that it takes to fill a millisecond.
std::vector<double> replay(const Stream& s, uint32_t sets, uint32_t repeats,
                           const std::function<void(uint32_t)>& call) {
  const auto capture = [&](uint32_t rounds, Graph* graph) {
    graph->capture(s.stream, [&] {
      for (uint32_t i = 0; i < rounds * sets; i++) call(i % sets);
    });
  };
  const auto time = [&](const Graph& graph) {
    require(cudaEventRecord(s.begin, s.stream));
    require(cudaGraphLaunch(graph.executable, s.stream));
    require(cudaEventRecord(s.end, s.stream));
    require(cudaEventSynchronize(s.end));
    float milliseconds;
    require(cudaEventElapsedTime(&milliseconds, s.begin, s.end));
    return milliseconds * 1000.0;
  };
  Graph once, longer;
  capture(1, &once);
  for (int i = 0; i < kWarmUps; i++) time(once);
  const uint32_t rounds = std::max(1u, static_cast<uint32_t>(kLeastGraphMicroseconds / time(once)));
  if (rounds > 1) {
    capture(rounds, &longer);
    for (int i = 0; i < kWarmUps; i++) time(longer);
  }
  std::vector<double> microseconds;
  for (uint32_t i = 0; i < repeats; i++) microseconds.push_back(time(rounds > 1 ? longer : once) / (rounds * sets));
  return microseconds;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void fill_sets(const MeasureRequest& r, char* to, size_t set_bytes, cudaStream_t stream) {
  const size_t row_bytes = size_t{r.vocab} * bytes_per_element(r.dtype);
  const DeviceMemory rows(row_bytes * r.template_rows);
  require(cudaMemcpyAsync(rows.at, r.host_template, row_bytes * r.template_rows, cudaMemcpyHostToDevice, stream));
  for (uint32_t set = 0; set < r.sets; set++) {
    char* const first = to + set * set_bytes;
    // One turn of the template from row `set` on, which is two runs of rows; then doubling.
    const uint32_t turn = std::min(r.rows, r.template_rows);
    for (uint32_t row = 0; row < turn;) {
      const uint32_t from = (row + set) % r.template_rows, run = std::min(turn - row, r.template_rows - from);
      require(cudaMemcpyAsync(first + row * row_bytes, rows.bytes() + from * row_bytes, run * row_bytes,
                              cudaMemcpyDeviceToDevice, stream));
      row += run;
    }
    for (uint64_t have = r.template_rows; have < r.rows; have *= 2) {
      const uint64_t more = std::min<uint64_t>(have, r.rows - have);
      require(cudaMemcpyAsync(first + have * row_bytes, first, more * row_bytes, cudaMemcpyDeviceToDevice, stream));
    }
  }
  require(cudaStreamSynchronize(stream));
}

void run(const MeasureRequest& r, const DeviceProperties& device, Measurement* m, std::string* message) {
  const Stream s;
  const size_t logits_bytes = size_t{r.rows} * r.vocab * bytes_per_element(r.dtype);
  const size_t set_bytes = (logits_bytes + 255) / 256 * 256;
  const DeviceMemory logits(set_bytes * r.sets);
  fill_sets(r, logits.bytes(), set_bytes, s.stream);

  const size_t entries = size_t{r.rows} * r.k, result_bytes = (2 * entries + r.rows) * 4;
  const DeviceMemory results(result_bytes);
  float* const probs = static_cast<float*>(results.at);
  const auto problem = [&](uint32_t set) {
    return Problem{logits.bytes() + set * set_bytes,
                   r.vocab,
                   r.rows,
                   r.vocab,
                   r.k,
                   make_scale(1.0),
                   probs,
                   reinterpret_cast<uint32_t*>(probs) + entries,
                   probs + 2 * entries};
  };

  m->path = r.path;
  m->launches = 1;
  m->bytes_written = result_bytes;
  m->scratch_bytes = 0;
  std::function<void(uint32_t)> call;

  if (r.variant == Variant::read_floor) {
    double best = 0;
    for (int shape = 0; shape < kReadFloorShapes; shape++) {
      const auto read = [&](uint32_t set) {
        require(launch_read_floor(logits.bytes() + set * set_bytes, logits_bytes, shape,
                                  static_cast<uint32_t*>(results.at), s.stream));
      };
      std::vector<double> times = replay(s, r.sets, r.repeats, read);
      if (best != 0 && median(times) >= best) continue;
      best = median(times);
      m->microseconds = std::move(times);
      m->path = "shape " + std::to_string(shape);
    }
    m->bytes_written = 0;
    return;
  }
  if (r.variant == Variant::read_exp || r.variant == Variant::read_two_exps) {
    m->microseconds = replay(s, r.sets, r.repeats, [&](uint32_t set) {
      require(launch_read_exp(logits.bytes() + set * set_bytes, logits_bytes, r.dtype,
                              r.variant == Variant::read_two_exps, static_cast<float*>(results.at), s.stream));
    });
    m->bytes_written = 0;
    return;
  }

  if (r.variant == Variant::pinned_copy) {
    const size_t pinned_bytes = std::min(logits_bytes * r.sets, kMostPinnedBytes);
    const PinnedMemory pinned(pinned_bytes);
    size_t next = 0;  // the calls take turns through the pinned memory
    const auto copy = [&](uint32_t set) {
      for (size_t done = 0; done < logits_bytes;) {
        const size_t from = next % pinned_bytes, bytes = std::min(logits_bytes - done, pinned_bytes - from);
        require(cudaMemcpyAsync(logits.bytes() + set * set_bytes + done, pinned.bytes() + from, bytes,
                                cudaMemcpyHostToDevice, s.stream));
        done += bytes;
        next += bytes;
      }
    };
    m->microseconds = replay(s, r.sets, r.repeats, copy);
    m->path = "one copy";
    m->launches = 0;
    m->bytes_written = logits_bytes;
    return;
  }

  Plan chosen{};
  if (r.variant == Variant::fused) {
    Regime forced;
    if (r.path.empty()) {
      chosen = plan(problem(0), r.dtype, device);
    } else if (!regime_of(r.path.c_str(), &forced) || !plan_forced(problem(0), r.dtype, device, forced, &chosen)) {
      *message = "The path " + r.path + " cannot run " + std::to_string(r.rows) + " x " + std::to_string(r.vocab) +
                 ", k = " + std::to_string(r.k) + " on this device.";
      return;
    }
    m->path = name_of(chosen.regime);
    m->scratch_bytes = chosen.scratch_bytes;
    m->bytes_written += chosen.scratch_bytes;
  } else if (r.variant == Variant::unfused) {
    m->path = "softmax, top-k";
    m->launches = 2;
    m->scratch_bytes = size_t{r.rows} * r.vocab * sizeof(float);
    m->bytes_written += m->scratch_bytes;
  } else {
    m->path = "three-pass";
  }
  const DeviceMemory scratch(m->scratch_bytes);
  require(cudaMemsetAsync(scratch.at, 0, chosen.ticket_bytes, s.stream));
  call = [&](uint32_t set) {
    switch (r.variant) {
      case Variant::fused:
        return require(launch(problem(set), r.dtype, device, chosen, scratch.at, s.stream));
      case Variant::unfused:
        return require(launch_unfused(problem(set), r.dtype, static_cast<float*>(scratch.at), s.stream));
      default:
        return require(launch_three_pass(problem(set), r.dtype, s.stream));
    }
  };
  require(cudaMemsetAsync(results.at, 0xFF, result_bytes, s.stream));
  call(0);
  m->probs.resize(entries);
  m->indices.resize(entries);
  m->log_sum_exp.resize(r.rows);
  const auto fetch = [&](void* to, size_t from, size_t bytes) {
    require(cudaMemcpyAsync(to, results.bytes() + from, bytes, cudaMemcpyDeviceToHost, s.stream));
  };
  fetch(m->probs.data(), 0, entries * 4);
  fetch(m->indices.data(), entries * 4, entries * 4);
  fetch(m->log_sum_exp.data(), entries * 8, size_t{r.rows} * 4);
  require(cudaStreamSynchronize(s.stream));
  m->microseconds = replay(s, r.sets, r.repeats, call);
}

}  // namespace

MeasureStatus measure(const MeasureRequest& request, const DeviceProperties& device, Measurement* measurement) {
  MeasureStatus status;
  try {
    run(request, device, measurement, &status.message);
  } catch (cudaError_t error) {
    status.cuda = error;
  }
  return status;
}

}  // namespace fused_topk
