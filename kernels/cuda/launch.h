// The launcher: which kernel a shape runs on, what it needs, and the launch itself. No policy lives anywhere else.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "problem.h"

namespace fused_topk {

enum class DType : uint32_t { f32, f16, bf16 };

constexpr size_t bytes_per_element(DType dtype) { return dtype == DType::f32 ? 4 : 2; }

// Largest k, on every device.
constexpr uint32_t kMaxK = 4096;
// Most logits of a group of the streaming kernel, and so the longest row: what is counted in whole groups stays below 2^32.
constexpr uint32_t kMostGroupLogits = 1u << 24;
constexpr uint32_t kMaxVocab = 0xFFFFFFFFu - kMostGroupLogits;
// Most rows a call.
constexpr uint32_t kMaxRows = 0x7FFFFFFFu;

// What the choice of a regime depends on.
struct DeviceProperties {
  int major, minor;
  uint32_t multiprocessors;
  size_t shared_bytes;                 // of dynamic shared memory, most a block
  size_t shared_bytes_multiprocessor;  // of a multiprocessor
  double bytes_per_microsecond;        // of device memory; 0 where it is not known
  bool decode_clusters;                // whether the clusters of the decode kernel run on it
};

cudaError_t query_device(int device, DeviceProperties* properties);

// The ways to compute a call; the table in launch.cu says when.
enum class Regime : uint32_t { gating, small, decode, decode_parts, split, stream, stream_wide };
constexpr uint32_t kRegimes = 7;

// "gating", "small", "decode", "decode-parts", "split", "stream", "stream-wide".
const char* name_of(Regime regime);
// False where no regime has this name.
bool regime_of(const char* name, Regime* regime);

struct Plan {
  Regime regime;
  uint32_t parts;        // blocks a row, or clusters for decode-parts; 1 but for that and split
  uint32_t ctas;         // of a cluster; 0 but for decode and decode-parts
  uint32_t threads;      // of a block; 0 but for stream, stream-wide and split
  size_t scratch_bytes;  // of device memory; 0 but for decode-parts and split
  size_t ticket_bytes;   // how much of its beginning must be 0 before the first use; a launch leaves it 0
};

// The regime that the table picks.
Plan plan(const Problem& problem, DType dtype, const DeviceProperties& device);
// A given one. False where it cannot run this shape on this device, or only with more scratch memory than 64 MiB and 1 % of
// the logits.
bool plan_forced(const Problem& problem, DType dtype, const DeviceProperties& device, Regime regime, Plan* plan);

// Launches one kernel on the stream; capturable into a graph. `problem.rows` may not be 0; they may be some of the rows
// that the plan was made for, and then give the bits that all of them give. Calls that may overlap need scratch of their
// own.
cudaError_t launch(const Problem& problem, DType dtype, const DeviceProperties& device, const Plan& plan, void* scratch,
                   cudaStream_t stream);

}  // namespace fused_topk
