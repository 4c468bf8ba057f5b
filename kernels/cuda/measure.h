// Times the fused kernel and its baselines on the current device. Used by the bench through the addon, and by test/.
#pragma once

#include <string>
#include <vector>

#include "launch.h"

namespace fused_topk {

enum class Variant : uint32_t { fused, unfused, three_pass, read_floor, read_exp, read_two_exps, pinned_copy };

struct MeasureRequest {
  Variant variant;
  DType dtype;
  uint32_t rows, vocab, k;
  const void* host_template;  // [template_rows, vocab]; row r of input set s is template row (r + s) % template_rows
  uint32_t template_rows;
  uint32_t sets;     // input sets the calls rotate through, so that no call finds its logits in a cache
  uint32_t repeats;  // timings to take
  std::string path;  // a regime's name, or "" for the table's choice; fused only
};

struct Measurement {
  std::vector<double> microseconds;  // a call; one a repeat: each the mean over one replay of a graph of all sets
  std::vector<float> probs;          // what the variant computed for set 0; empty for the variants that only read
  std::vector<uint32_t> indices;
  std::vector<float> log_sum_exp;
  uint32_t launches;
  uint64_t bytes_written, scratch_bytes;
  std::string path;
};

// What went wrong: a CUDA status, or a request that no path can run (`message`).
struct MeasureStatus {
  cudaError_t cuda = cudaSuccess;
  std::string message;
  bool ok() const { return cuda == cudaSuccess && message.empty(); }
};

MeasureStatus measure(const MeasureRequest& request, const DeviceProperties& device, Measurement* measurement);

}  // namespace fused_topk
