// Which kernel for which shape, and the launch.
#include "launch.h"

#include <algorithm>
#include <cstring>

#include "decode_launch.cuh"
#include "gating.cuh"
#include "softmax_topk_small.cuh"
#include "stream_launch.cuh"

namespace fused_topk {
namespace {

constexpr uint32_t kNarrow = 256, kWide = 512, kWidest = 1024;
constexpr uint32_t kManyK = 512;        // beyond which what comes after the stream outweighs it
constexpr uint32_t kDecodeRows = 12;    // as many as surely run at once
constexpr uint32_t kMostSplit = 16;     // merging costs the more, the more parts there are
constexpr uint32_t kPartLogits = 8192;  // a part of fewer logits costs more in merging than it saves

// How rows are spread over clusters, so that all of them surely run at once. Of clusters of 16 blocks one or two fit a group
// of 16 to 18 multiprocessors; of 4 and 2 blocks, as many as fill five sixths of the multiprocessors, and all.
DecodeClusters decode_clusters_of(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime) {
  if (regime == Regime::decode_parts) {
    const uint64_t bytes = uint64_t{p.vocab} * bytes_per_element(dtype), whole = 512 * 1024;
    const uint64_t at_least = bytes / whole + 1, alone = (bytes + whole / 2 - 1) / (whole / 2);
    const uint64_t at_once = device.multiprocessors / 16 / std::max(1u, p.rows);
    return {16, static_cast<uint32_t>(std::max({uint64_t{2}, at_least, std::min(alone, at_once)}))};
  }
  if (p.rows <= kDecodeRows) return {16, 1};
  return {p.rows * uint64_t{4} <= device.multiprocessors * 5 / 6 ? 4u : 2u, 1};
}

bool decode_can_run(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime) {
  if (!device.decode_clusters) return false;
  const DecodeClusters clusters = decode_clusters_of(p, dtype, device, regime);
  switch (dtype) {
    case DType::f32:
      return decode_fits<F32>(p, clusters, device.shared_bytes);
    case DType::f16:
      return decode_fits<F16>(p, clusters, device.shared_bytes);
    case DType::bf16:
      return decode_fits<BF16>(p, clusters, device.shared_bytes);
  }
  return false;
}

bool stream_fits(const Problem& p, DType dtype, const DeviceProperties& device, uint32_t parts, uint32_t threads) {
  StreamPlan plan;
  return plan_stream(p, bytes_per_element(dtype), device, parts, threads, 1, &plan);
}

// Whether narrow blocks have place for the maxima of groups of 64 bytes, as many as run side by side. Coarser groups cost
// much where many are opened.
bool narrow_is_fine(const Problem& p, DType dtype, const DeviceProperties& device) {
  StreamPlan plan;
  return plan_stream(p, bytes_per_element(dtype), device, 1, kNarrow, 2, &plan) && plan.group_shift <= 2 &&
         blocks_at_once(plan, device, kNarrow) == kThreadsPerMultiprocessor / kNarrow;
}

// The threads of a block of the streaming kernel.
uint32_t stream_threads(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime) {
  if (regime == Regime::stream) return kNarrow;
  const bool alone = regime == Regime::stream_wide && p.rows <= device.multiprocessors && p.k > kManyK;
  return alone && stream_fits(p, dtype, device, 1, kWidest) ? kWidest : kWide;
}

// Whether reading a row takes longer than merging its parts, which grows with k.
bool worth_splitting(const Problem& p, DType dtype) {
  const uint64_t row_bytes = uint64_t{p.vocab} * bytes_per_element(dtype);
  return p.vocab >= 2 * kPartLogits && row_bytes >= 300'000 + 1200 * uint64_t{p.k};
}

// The table of regimes, first match wins.
//
//   regime       what runs                                   picked when
//   gating       eight lanes a row, tiles in shared memory   vocab <= 256, k <= 8
//   small        a warp a row, the row in registers          vocab <= 1024, k <= 32
//   decode       a cluster of 16, 4 or 2 blocks a row, which at most 12 rows, or half a row a multiprocessor and vocab
//                they hold on the chip                       from 16384; a row to 512 KiB (1 MiB in f32 to 12 rows), k <=
//                                                            256; sm_90 and later, where such clusters run
//   decode-parts several such clusters of 16 a row, one      longer rows, as long as at most 12 clusters are needed
//                merge
//   split        several blocks of 512 a row, one merge      fewer than a third of a row a multiprocessor; vocab from
//                                                            16384, rows from 300 KB + 1.2 KB k
//   stream-wide  a block of 512 a row, of 1024 for k > 512   at most 2 rows a multiprocessor; or k > 128, if narrow blocks
//                where every row has a multiprocessor        have no place for maxima of 64 bytes
//   stream       a block of 256 a row                        what is left
Regime pick(const Problem& p, DType dtype, const DeviceProperties& device) {
  if (gating_fits(p.vocab, p.k)) return Regime::gating;
  if (p.vocab <= kSmallVocab && p.k <= kSmallK) return Regime::small;
  if (p.rows <= kDecodeRows || (p.rows <= device.multiprocessors / 2 && p.vocab >= 2 * kPartLogits)) {
    if (decode_can_run(p, dtype, device, Regime::decode)) return Regime::decode;
  }
  if (uint64_t{p.rows} * decode_clusters_of(p, dtype, device, Regime::decode_parts).parts <= kDecodeRows &&
      decode_can_run(p, dtype, device, Regime::decode_parts)) {
    return Regime::decode_parts;
  }
  if (p.rows < device.multiprocessors / 3 && worth_splitting(p, dtype)) return Regime::split;
  const bool wide = p.rows <= 2 * device.multiprocessors || (p.k > kFewK && !narrow_is_fine(p, dtype, device));
  return wide && stream_fits(p, dtype, device, 1, kWide) ? Regime::stream_wide : Regime::stream;
}

const char* const kNames[kRegimes] = {"gating", "small", "decode", "decode-parts", "split", "stream", "stream-wide"};

uint32_t parts_of(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime) {
  if (regime != Regime::split) return 1;
  const uint32_t by_size = std::max(2u, p.vocab / kPartLogits),
                 by_tiles = p.vocab / logits_a_tile(bytes_per_element(dtype));
  return std::max(2u, std::min({device.multiprocessors / p.rows, kMostSplit, by_size, by_tiles}));
}

Plan make_plan(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime) {
  Plan plan{regime, 1, 0, 0, 0, 0};
  if (regime == Regime::decode || regime == Regime::decode_parts) {
    const DecodeClusters clusters = decode_clusters_of(p, dtype, device, regime);
    plan.ctas = clusters.ctas;
    plan.parts = clusters.parts;
    if (regime == Regime::decode) return plan;
    const DecodeScratch scratch(p.rows, clusters);
    plan.scratch_bytes = scratch.bytes;
    plan.ticket_bytes = scratch.records;
  } else if (regime == Regime::stream || regime == Regime::stream_wide || regime == Regime::split) {
    plan.threads = stream_threads(p, dtype, device, regime);
    plan.parts = parts_of(p, dtype, device, regime);
    if (regime != Regime::split) return plan;
    const StreamScratch scratch(p.rows, plan.parts, p.k);
    plan.scratch_bytes = scratch.bytes;
    plan.ticket_bytes = scratch.states;
  }
  return plan;
}

template <class D>
cudaError_t launch_small(const Problem& p, cudaStream_t stream) {
  const uint32_t rows_a_block = kSmallThreads / 32, grid = (p.rows + rows_a_block - 1) / rows_a_block;
  const auto go = [&](auto kernel) {
    kernel<<<grid, kSmallThreads, 0, stream>>>(p);
    return cudaGetLastError();
  };
  if (p.vocab <= 32) return go(softmax_topk_small<D, 1>);
  if (p.vocab <= 64) return go(softmax_topk_small<D, 2>);
  if (p.vocab <= 128) return go(softmax_topk_small<D, 4>);
  if (p.vocab <= 256) return go(softmax_topk_small<D, 8>);
  if (p.vocab <= 512) return go(softmax_topk_small<D, 16>);
  return go(softmax_topk_small<D, 32>);
}

template <class D>
cudaError_t launch_typed(const Problem& p, const DeviceProperties& device, const Plan& plan, void* scratch,
                         cudaStream_t stream) {
  if (plan.regime == Regime::gating) return launch_gating<D>(p, stream);
  if (plan.regime == Regime::small) return launch_small<D>(p, stream);
  if (plan.ctas) return launch_decode<D>(p, {plan.ctas, plan.parts}, scratch, stream);
  if (plan.threads == kNarrow) return launch_stream<D, kNarrow>(p, device, plan.parts, scratch, stream);
  if (plan.threads == kWide) return launch_stream<D, kWide>(p, device, plan.parts, scratch, stream);
  return launch_stream<D, kWidest>(p, device, plan.parts, scratch, stream);
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
  int kilohertz = 0, bus_bits = 0;
  if (status == cudaSuccess) status = read(cudaDevAttrMemoryClockRate, &kilohertz);
  if (status == cudaSuccess) status = read(cudaDevAttrGlobalMemoryBusWidth, &bus_bits);
  properties->bytes_per_microsecond = 2.0 * kilohertz / 1000 * bus_bits / 8;  // twice a clock
  Problem row{};
  row.rows = row.k = 1;
  row.vocab = row.row_stride = 131000;
  if (status == cudaSuccess) {
    properties->decode_clusters = properties->major >= 9 && decode_clusters_run<F32>(row, 16);
  }
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
  return make_plan(problem, dtype, device, pick(problem, dtype, device));
}

bool plan_forced(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime, Plan* plan) {
  if (regime == Regime::gating) {
    if (!gating_fits(p.vocab, p.k)) return false;
  } else if (regime == Regime::small) {
    if (p.vocab > kSmallVocab || p.k > kSmallK) return false;
  } else if (regime == Regime::decode || regime == Regime::decode_parts) {
    if (!decode_can_run(p, dtype, device, regime)) return false;
  } else {
    const uint32_t tile = logits_a_tile(bytes_per_element(dtype));
    if (regime == Regime::split && p.vocab < 2 * tile) return false;
    const uint32_t parts = parts_of(p, dtype, device, regime);
    if (!stream_fits(p, dtype, device, parts, regime == Regime::stream ? kNarrow : kWide)) return false;
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
