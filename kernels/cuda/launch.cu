// Which kernel for which shape, and the launch.
#include "launch.h"

#include <algorithm>
#include <cstring>
#include <cstdlib>
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
constexpr uint32_t kLeastGroups = 2048; // of a part, that a buffer must leave place for

// How many clusters of the decode kernel surely run at once: of 16 blocks, one or two to a group of 16 to 18
// multiprocessors; of 4 and 2 blocks, as many as fill five sixths of the multiprocessors, and all.
DecodeClusters decode_clusters_of(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime) {
  if (regime == Regime::decode_parts) {
    const uint64_t bytes = uint64_t{p.vocab} * bytes_per_element(dtype), whole = 512 * 1024;
    const uint64_t at_least = bytes / whole + 1, alone = (bytes + whole / 2 - 1) / (whole / 2);
    const uint64_t at_once = device.multiprocessors / 16 / p.rows;
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
//   cluster      a cluster of blocks of 256 a row            at most one row a multiprocessor and a few more; vocab from
//                                                            16384; sm_90 and later
//   split        several blocks of 256 a row, one merge      fewer than half a row a multiprocessor; vocab from 16384
//   stream-wide  a block of 512 a row                        at most 2 rows a multiprocessor, or k > 512
//   stream       a block of 256 a row                        what is left
Regime pick(const Problem& p, DType dtype, const DeviceProperties& device, bool wide_fits) {
  if (gating_fits(p.vocab, p.k)) return Regime::gating;
  if (p.vocab <= kSmallVocab && p.k <= kSmallK) return Regime::small;
  if (p.rows <= kDecodeRows || (p.rows <= device.multiprocessors / 2 && p.vocab >= 2 * kPartLogits)) {
    if (decode_can_run(p, dtype, device, Regime::decode)) return Regime::decode;
  }
  if (p.rows * decode_clusters_of(p, dtype, device, Regime::decode_parts).parts <= kDecodeRows &&
      decode_can_run(p, dtype, device, Regime::decode_parts)) {
    return Regime::decode_parts;
  }
  if (p.vocab >= 2 * kPartLogits) {
    if (device.major >= 9 && p.rows <= device.multiprocessors * 5 / 4) return Regime::cluster;
    if (p.rows < device.multiprocessors / 2) return Regime::split;
  }
  const bool wide = p.k > 512 || p.rows <= 2 * device.multiprocessors;
  return wide && wide_fits ? Regime::stream_wide : Regime::stream;
}

const char* const kNames[kRegimes] = {"gating", "small", "decode", "decode-parts", "cluster", "split", "stream", "stream-wide"};

bool is_split(Regime regime) { return regime == Regime::split || regime == Regime::cluster; }

// Scratch of a split: tickets, then the parts' states and candidates.
struct ScratchLayout {
  size_t states, candidates, bytes;
  ScratchLayout(uint64_t rows, uint64_t parts, uint32_t k) {
    states = (rows * sizeof(uint32_t) + 15) / 16 * 16;
    candidates = states + rows * parts * sizeof(PartState);
    bytes = candidates + rows * parts * published(k) * sizeof(Candidate);
  }
};

uint32_t logits_a_tile(DType dtype) { return kTileVectors * 16 / bytes_per_element(dtype); }

// Shared memory of a stream: what it needs at least, and what makes it fast while 1024 threads still fit a
// multiprocessor. False where a block has not enough of it.
bool plan_stream(const Problem& p, DType dtype, const DeviceProperties& device, uint32_t parts, uint32_t threads,
                 uint32_t blocks, int stages, StreamPlan* plan) {
  *plan = {};
  plan->parts = parts;
  const size_t ring = stream_ring_bytes(threads, stages), fixed = sizeof(StreamControl) + kBins * sizeof(uint32_t);
  const size_t list = list_length(p.k) * sizeof(uint16_t);
  const auto work = [&](size_t candidates) { return (candidates * sizeof(Candidate) + list + 15) / 16 * 16; };
  size_t buffer = std::max(1024u, 2 * p.k), room = p.k + kCrowded;
  if (work(buffer + room) <= ring) {
    buffer = (ring - list) / sizeof(Candidate) - room;
  } else if (work(buffer + room) + fixed + kLeastGroups * sizeof(uint32_t) > device.shared_bytes) {
    buffer = p.k + 64;
    room = 0;
  }
  const size_t work_bytes = std::max(ring, work(buffer + room));
  const uint64_t lead = kLineBytes / bytes_per_element(dtype) - 1;
  const uint64_t tiles = (lead + p.vocab + logits_a_tile(dtype) - 1) / logits_a_tile(dtype);
  const uint64_t tiles_a_part = (tiles + parts - 1) / parts;
  const auto groups = [&](uint32_t shift) {
    return shift <= 7 ? tiles_a_part << (7 - shift) : ((tiles_a_part - 1) >> (shift - 7)) + 1;
  };
  const size_t used = work_bytes + fixed, share = device.shared_bytes_multiprocessor / blocks - 1024;
  if (used > device.shared_bytes) return false;
  // A block that is large anyway may be the only one.
  const size_t budget = (work_bytes == ring && used < share ? std::min(share, device.shared_bytes)
                                                                  : device.shared_bytes) - used;
  const auto fits = [&](uint32_t shift) {
    return (groups(shift) + 4) * sizeof(uint32_t) <= budget && groups(shift) <= 0xFFFF;
  };
  plan->group_shift = groups(2) < 4 * uint64_t{p.k} && fits(0) ? 0 : 2;
  while (!fits(plan->group_shift)) {
    if (plan->group_shift++ == 40) return false;
  }
  plan->groups = static_cast<uint32_t>((groups(plan->group_shift) + 4) / 4 * 4);
  // A larger buffer is cut more rarely.
  const size_t whole = used + plan->groups * sizeof(uint32_t), crowd = device.shared_bytes_multiprocessor / (1024 / threads) - 1024;
  const size_t left = whole < crowd ? std::min((crowd - whole) / 16 * 16, size_t{16} << 10) : 0;
  plan->capacity = static_cast<uint32_t>(buffer + left / sizeof(Candidate));
  plan->room = static_cast<uint32_t>(room);
  plan->work_bytes = static_cast<uint32_t>(work_bytes + left);
  return true;
}

bool stream_fits(const Problem& p, DType dtype, const DeviceProperties& device, uint32_t parts, bool wide) {
  StreamPlan plan;
  return plan_stream(p, dtype, device, parts, wide ? kWide : kNarrow, wide ? 2 : 4, 1, &plan);
}

uint32_t parts_of(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime) {
  if (!is_split(regime)) return 1;
  const uint32_t by_size = std::max(2u, p.vocab / kPartLogits), by_tiles = p.vocab / logits_a_tile(dtype);
  const uint32_t most = std::min({device.multiprocessors / p.rows, kMostParts, by_size, by_tiles});
  if (regime == Regime::split) return std::max(2u, most);
  uint32_t parts = 2;
  while (2 * parts <= std::min(most, device.decode_clusters ? 16u : 8u)) parts *= 2;
  return parts;
}

Plan make_plan(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime) {
  if (regime == Regime::decode_parts) {
    const DecodeClusters clusters = decode_clusters_of(p, dtype, device, regime);
    const DecodeScratch scratch(p.rows, clusters);
    return {regime, clusters.parts, scratch.bytes, scratch.records};
  }
  const uint32_t parts = parts_of(p, dtype, device, regime);
  if (regime != Regime::split) return {regime, parts, 0, 0};
  const ScratchLayout scratch(p.rows, parts, p.k);
  return {regime, parts, scratch.bytes, scratch.states};
}

template <class Kernel, class... Arguments>
cudaError_t launch_kernel(Kernel kernel, uint32_t grid, uint32_t block, uint32_t cluster, uint32_t shared,
                          cudaStream_t stream, Arguments... arguments) {
  cudaError_t status = cudaSuccess;
  if (shared > 48 * 1024) {
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  }
  if (cluster > 8 && status == cudaSuccess) {
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = cluster;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = cluster > 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

template <class D>
cudaError_t launch_small(const Problem& p, cudaStream_t stream) {
  const uint32_t rows_a_block = kSmallThreads / 32, grid = (p.rows + rows_a_block - 1) / rows_a_block;
  const auto go = [&](auto kernel) { return launch_kernel(kernel, grid, kSmallThreads, 1, 0, stream, p); };
  if (p.vocab <= 32) return go(softmax_topk_small<D, 1>);
  if (p.vocab <= 64) return go(softmax_topk_small<D, 2>);
  if (p.vocab <= 128) return go(softmax_topk_small<D, 4>);
  if (p.vocab <= 256) return go(softmax_topk_small<D, 8>);
  if (p.vocab <= 512) return go(softmax_topk_small<D, 16>);
  return go(softmax_topk_small<D, 32>);
}

template <class D, int kThreads>
cudaError_t launch_stream(const Problem& p, DType dtype, const DeviceProperties& device, const Plan& plan,
                          void* scratch, cudaStream_t stream) {
  StreamPlan stream_plan;
  // Bytes in flight a multiprocessor: enough to keep memory busy, and no more, since more only make a queue, in which
  // whoever selects waits for its groups. Blocks that come one after another leave gaps and need twice as many.
  const uint64_t grid = uint64_t{p.rows} * plan.parts;
  const uint32_t most = 1024 / kThreads;
  const uint32_t blocks = std::min<uint64_t>(most, std::max<uint64_t>(1, (grid + device.multiprocessors / 2) / device.multiprocessors));
  const bool one_wave = grid <= uint64_t{most} * device.multiprocessors;
  int stages = device.major < 8 ? 1 : (one_wave ? 1 : 2) * most / blocks;
  if (getenv("STAGES")) stages = atoi(getenv("STAGES"));
  while (stages == 3 || !plan_stream(p, dtype, device, plan.parts, kThreads, blocks, stages, &stream_plan)) {
    if (stages == 1) return cudaErrorInvalidConfiguration;
    stages /= 2;
  }
  if (plan.regime == Regime::split) {
    const ScratchLayout layout(p.rows, plan.parts, p.k);
    char* const base = static_cast<char*>(scratch);
    stream_plan.tickets = reinterpret_cast<uint32_t*>(base);
    stream_plan.states = reinterpret_cast<PartState*>(base + layout.states);
    stream_plan.candidates = reinterpret_cast<Candidate*>(base + layout.candidates);
  }
  // Where the multiprocessors are filled more than once.
  const uint32_t at_once = device.multiprocessors * (1024 / kThreads);
  if (plan.parts == 1 && p.rows > at_once && !getenv("NOSTAGGER")) {
    stream_plan.multiprocessors = device.multiprocessors;
    stream_plan.first_blocks = at_once;
    const double row_bytes = double(p.vocab) * bytes_per_element(dtype);
    stream_plan.stagger = row_bytes * device.multiprocessors / 4500 * (getenv("ST") ? atof(getenv("ST")) : 1.0);
  }
  const auto go = [&](auto kernel) {
    return launch_kernel(kernel, p.rows * plan.parts, kThreads, plan.regime == Regime::cluster ? plan.parts : 1,
                         stream_shared_bytes(stream_plan), stream, p, stream_plan);
  };
  if (stages == 1) return go(softmax_topk_stream<D, kThreads, 1>);
  if (stages == 2) return go(softmax_topk_stream<D, kThreads, 2>);
  return go(softmax_topk_stream<D, kThreads, 4>);
}

template <class D>
cudaError_t launch_typed(const Problem& p, DType dtype, const DeviceProperties& device, const Plan& plan, void* scratch,
                         cudaStream_t stream) {
  if (plan.regime == Regime::gating) return launch_gating<D>(p, stream);
  if (plan.regime == Regime::small) return launch_small<D>(p, stream);
  if (plan.regime == Regime::decode || plan.regime == Regime::decode_parts) {
    return launch_decode<D>(p, decode_clusters_of(p, dtype, device, plan.regime), scratch, stream);
  }
  return plan.regime == Regime::stream_wide ? launch_stream<D, kWide>(p, dtype, device, plan, scratch, stream)
                              : launch_stream<D, kNarrow>(p, dtype, device, plan, scratch, stream);
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
  if (status == cudaSuccess) properties->decode_clusters = properties->major >= 9 && decode_rows_at_once<F32>(row, 16) > 0;
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
  const bool wide_fits = stream_fits(problem, dtype, device, 1, true);
  return make_plan(problem, dtype, device, pick(problem, dtype, device, wide_fits));
}

bool plan_forced(const Problem& p, DType dtype, const DeviceProperties& device, Regime regime, Plan* plan) {
  if (regime == Regime::gating) {
    if (!gating_fits(p.vocab, p.k)) return false;
  } else if (regime == Regime::small) {
    if (p.vocab > kSmallVocab || p.k > kSmallK) return false;
  } else if (regime == Regime::decode || regime == Regime::decode_parts) {
    if (!decode_can_run(p, dtype, device, regime)) return false;
  } else {
    if (is_split(regime) && (p.vocab < 2 * logits_a_tile(dtype) || p.rows > kMaxRows / 2)) return false;
    if (!stream_fits(p, dtype, device, parts_of(p, dtype, device, regime), regime == Regime::stream_wide)) {
      return false;
    }
    if (regime == Regime::cluster && device.major < 9) return false;
  }
  *plan = make_plan(p, dtype, device, regime);
  return plan->scratch_bytes <= std::max<size_t>(64u << 20, size_t{p.rows} * p.vocab * bytes_per_element(dtype) / 100);
}

cudaError_t launch(const Problem& problem, DType dtype, const DeviceProperties& device, const Plan& plan, void* scratch,
                   cudaStream_t stream) {
  switch (dtype) {
    case DType::f32:
      return launch_typed<F32>(problem, dtype, device, plan, scratch, stream);
    case DType::f16:
      return launch_typed<F16>(problem, dtype, device, plan, scratch, stream);
    case DType::bf16:
      return launch_typed<BF16>(problem, dtype, device, plan, scratch, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace fused_topk
