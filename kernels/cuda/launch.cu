// Which kernel for which shape, and the launch.
#include "launch.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "decode.cuh"
#include "gating.cuh"
#include "softmax_topk.cuh"
#include "softmax_topk_small.cuh"

namespace fused_topk {
namespace {

constexpr int kNarrow = 256, kWide = 512;
constexpr uint32_t kDecodeRows = 12;    // as many as surely run at once
constexpr uint32_t kMostParts = 16;     // merging costs the more, the more parts there are
constexpr uint32_t kPartLogits = 8192;  // a part of fewer logits costs more in merging than it saves

bool decode_can_run(const Problem& p, DType dtype, const DeviceProperties& device) {
  if (!device.decode_clusters) return false;
  switch (dtype) {
    case DType::f32:
      return decode_fits<F32>(p, device.major);
    case DType::f16:
      return decode_fits<F16>(p, device.major);
    case DType::bf16:
      return decode_fits<BF16>(p, device.major);
  }
  return false;
}

// The table of regimes, first match wins.
//
//   regime       what runs                                   picked when
//   gating       eight lanes a row, tiles in shared memory   vocab <= 256, k <= 8
//   small        a warp a row, the row in registers          vocab <= 1024, k <= 32
//   decode       a cluster of 16 blocks a row, in registers  at most 12 rows; vocab to 262144, k <= 256; sm_90 and
//                                                            later, where such clusters run
//   split-wide   several blocks of 512 a row, one merge      fewer than half a row a multiprocessor
//   stream-wide  a block of 512 a row                        at most 2 rows a multiprocessor, or k > 512
//   stream       a block of 256 a row                        what is left
//   split        several blocks of 256 a row, one merge      instead of split-wide, where a block has not the shared
//                                                            memory for it; so stream instead of stream-wide
//
// Four blocks of 256 fit a multiprocessor, or two of 512: a wide one has twice the bytes in flight, and the buffer that
// a large k wants.
Regime pick(const Problem& p, DType dtype, const DeviceProperties& device, bool wide_fits) {
  if (gating_fits(p.vocab, p.k)) return Regime::gating;
  if (p.vocab <= kSmallVocab && p.k <= kSmallK) return Regime::small;
  if (p.rows <= kDecodeRows && decode_can_run(p, dtype, device)) return Regime::decode;
  if (p.vocab >= 2 * kPartLogits && p.rows < device.multiprocessors / 2) {
    return wide_fits ? Regime::split_wide : Regime::split;
  }
  const bool wide = p.k > 512 || p.rows <= 2 * device.multiprocessors;
  return wide && wide_fits ? Regime::stream_wide : Regime::stream;
}

const char* const kNames[kRegimes] = {"gating", "small", "decode", "stream", "split", "stream-wide", "split-wide"};

bool is_wide(Regime regime) { return regime == Regime::stream_wide || regime == Regime::split_wide; }
bool is_split(Regime regime) { return regime == Regime::split || regime == Regime::split_wide; }

uint32_t shared_bytes(const Problem& p, const DeviceProperties& device, bool wide) {
  return wide ? stream_shared_bytes<kWide>(stream_capacity<kWide>(p.k), device.major)
              : stream_shared_bytes<kNarrow>(stream_capacity<kNarrow>(p.k), device.major);
}

// Scratch of a split: tickets, then the parts' states and candidates.
struct ScratchLayout {
  size_t states, candidates, bytes;
  ScratchLayout(uint64_t rows, uint64_t parts, uint32_t k) {
    states = (rows * sizeof(uint32_t) + 15) / 16 * 16;
    candidates = states + rows * parts * sizeof(PartState);
    bytes = candidates + rows * parts * published(k) * sizeof(Candidate);
  }
};

uint32_t elements_a_tile(DType dtype) { return kVectors * 32 * (dtype == DType::f32 ? 4 : 8); }

Plan make_plan(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime) {
  if (!is_split(regime)) return {regime, 1, 0, 0};
  const uint32_t by_size = std::max(2u, p.vocab / kPartLogits), by_tiles = p.vocab / elements_a_tile(dtype);
  const uint32_t parts = std::max(2u, std::min({device.multiprocessors / p.rows, kMostParts, by_size, by_tiles}));
  const ScratchLayout scratch(p.rows, parts, p.k);
  return {regime, parts, scratch.bytes, scratch.states};
}

// The number coprime to `slots` that is nearest below their golden section, so that the first n positions of the visit
// are spread evenly for every n (the three-distance theorem).
uint32_t visit_stride(uint32_t slots) {
  uint32_t stride = std::max(1u, static_cast<uint32_t>(slots * 0.6180339887498949));
  while (std::gcd(stride, slots) != 1) stride--;
  return stride;
}

template <class Kernel, class... Arguments>
cudaError_t launch_kernel(Kernel kernel, uint32_t grid, uint32_t block, uint32_t shared, cudaStream_t stream,
                          Arguments... arguments) {
  if (shared > 48 * 1024) {
    const cudaError_t status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (status != cudaSuccess) return status;
  }
  kernel<<<grid, block, shared, stream>>>(arguments...);
  return cudaGetLastError();
}

template <class D>
cudaError_t launch_small(const Problem& p, cudaStream_t stream) {
  const uint32_t rows_a_block = kSmallThreads / 32, grid = (p.rows + rows_a_block - 1) / rows_a_block;
  const auto go = [&](auto kernel) { return launch_kernel(kernel, grid, kSmallThreads, 0, stream, p); };
  if (p.vocab <= 32) return go(softmax_topk_small<D, 1>);
  if (p.vocab <= 64) return go(softmax_topk_small<D, 2>);
  if (p.vocab <= 128) return go(softmax_topk_small<D, 4>);
  if (p.vocab <= 256) return go(softmax_topk_small<D, 8>);
  if (p.vocab <= 512) return go(softmax_topk_small<D, 16>);
  return go(softmax_topk_small<D, 32>);
}

template <class D, int kThreads>
cudaError_t launch_stream(const Problem& p, const DeviceProperties& device, const Plan& plan, void* scratch,
                          cudaStream_t stream) {
  StreamPlan stream_plan{};
  stream_plan.parts = plan.parts;
  const uint32_t tiles = p.vocab / (kVectors * 32 * D::kPerVector);
  stream_plan.slots = (tiles + plan.parts - 1) / plan.parts;
  stream_plan.stride = visit_stride(stream_plan.slots);
  stream_plan.capacity = stream_capacity<kThreads>(p.k);
  if (plan.parts > 1) {
    const ScratchLayout layout(p.rows, plan.parts, p.k);
    char* const base = static_cast<char*>(scratch);
    stream_plan.tickets = reinterpret_cast<uint32_t*>(base);
    stream_plan.states = reinterpret_cast<PartState*>(base + layout.states);
    stream_plan.candidates = reinterpret_cast<Candidate*>(base + layout.candidates);
  }
  return launch_kernel(softmax_topk_stream<D, kThreads>, p.rows * plan.parts, kThreads,
                       stream_shared_bytes<kThreads>(stream_plan.capacity, device.major), stream, p, stream_plan);
}

template <class D>
cudaError_t launch_typed(const Problem& p, const DeviceProperties& device, const Plan& plan, void* scratch,
                         cudaStream_t stream) {
  if (plan.regime == Regime::gating) return launch_gating<D>(p, stream);
  if (plan.regime == Regime::small) return launch_small<D>(p, stream);
  if (plan.regime == Regime::decode) return launch_decode<D>(p, stream);
  return is_wide(plan.regime) ? launch_stream<D, kWide>(p, device, plan, scratch, stream)
                              : launch_stream<D, kNarrow>(p, device, plan, scratch, stream);
}

}  // namespace

cudaError_t query_device(int device, DeviceProperties* properties) {
  const auto read = [&](cudaDeviceAttr attribute, auto* to) {
    int value = 0;
    const cudaError_t status = cudaDeviceGetAttribute(&value, attribute, device);
    *to = static_cast<std::remove_reference_t<decltype(*to)>>(value);
    return status;
  };
  cudaError_t status = read(cudaDevAttrComputeCapabilityMajor, &properties->major);
  if (status == cudaSuccess) status = read(cudaDevAttrComputeCapabilityMinor, &properties->minor);
  if (status == cudaSuccess) status = read(cudaDevAttrMultiProcessorCount, &properties->multiprocessors);
  if (status == cudaSuccess) status = read(cudaDevAttrMaxSharedMemoryPerBlockOptin, &properties->shared_bytes);
  if (status == cudaSuccess) {
    status = read(cudaDevAttrMaxSharedMemoryPerMultiprocessor, &properties->shared_bytes_multiprocessor);
  }
  Problem row{};
  row.rows = row.k = 1;
  row.vocab = row.row_stride = 131000;
  if (status == cudaSuccess) properties->decode_clusters = properties->major >= 9 && decode_rows_at_once<F32>(row) > 0;
  return status;
}

const char* name_of(Regime regime) { return kNames[static_cast<uint32_t>(regime)]; }

bool regime_of(const char* name, Regime* regime) {
  for (uint32_t i = 0; i < kRegimes; i++) {
    if (std::strcmp(name, kNames[i]) != 0) continue;
    *regime = static_cast<Regime>(i);
    return true;
  }
  return false;
}

Plan plan(const Problem& problem, DType dtype, const DeviceProperties& device) {
  const bool wide_fits = shared_bytes(problem, device, true) <= device.shared_bytes;
  return make_plan(problem, dtype, device, pick(problem, dtype, device, wide_fits));
}

bool plan_forced(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime, Plan* plan) {
  if (regime == Regime::gating) {
    if (!gating_fits(p.vocab, p.k)) return false;
  } else if (regime == Regime::small) {
    if (p.vocab > kSmallVocab || p.k > kSmallK) return false;
  } else if (regime == Regime::decode) {
    if (!decode_can_run(p, dtype, device)) return false;
  } else {
    if (shared_bytes(p, device, is_wide(regime)) > device.shared_bytes) return false;
    if (is_split(regime) && (p.vocab < 2 * elements_a_tile(dtype) || p.rows > kMaxRows / 2)) return false;
  }
  *plan = make_plan(p, dtype, device, regime);
  return plan->scratch_bytes <= std::max<size_t>(64u << 20, size_t{p.rows} * p.vocab * bytes_per_element(dtype) / 100);
}

cudaError_t launch(const Problem& problem, DType dtype, const DeviceProperties& device, const Plan& plan, void* scratch,
                   cudaStream_t stream) {
  switch (dtype) {
    case DType::f32:
      return launch_typed<F32>(problem, device, plan, scratch, stream);
    case DType::f16:
      return launch_typed<F16>(problem, device, plan, scratch, stream);
    case DType::bf16:
      return launch_typed<BF16>(problem, device, plan, scratch, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace fused_topk
