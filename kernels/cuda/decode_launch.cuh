// The decode kernels by how a row is spread, and their launch.
#pragma once

#include "decode.cuh"

namespace fused_topk {
namespace decode {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define FUSED_TOPK_CLUSTER_OF(ctas)
#else
#define FUSED_TOPK_CLUSTER_OF(ctas) __cluster_dims__(ctas)
#endif

// Dynamic shared memory of a CTA: the held vectors, then the rest.
template <class S>
constexpr uint32_t kSharedBytes = S::kShared * S::kThreads * sizeof(uint4) + sizeof(Shared<S>);

// 64 registers a thread: two blocks of 512 or one of 1024 an SM. Only so do 8 clusters of 16 find place at once. 32
// registers of logits leave place for one of 512.
template <class S>
constexpr int kBlocksPerSm = S::kRegisters > 4 ? 1 : 1024 / S::kThreads;

// Grid: rows * parts clusters of kCtas blocks. Empty before sm_90.
template <class D, class S, bool kParted>
__global__ void FUSED_TOPK_CLUSTER_OF(S::kCtas) __launch_bounds__(S::kThreads, kBlocksPerSm<S>)
    softmax_topk_decode(const __grid_constant__ Problem problem, const __grid_constant__ PartPlan plan) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ uint4 decode_shared[];
  Shared<S>& shared = *reinterpret_cast<Shared<S>*>(decode_shared + S::kShared * S::kThreads);
  const uint32_t cluster = blockIdx.x / S::kCtas, row = kParted ? cluster / plan.parts : cluster;
  Decode<D, S, kParted> kernel{problem, plan, shared, row, cluster - row * plan.parts, cta_rank()};
  kernel.held.shared = shared_address(decode_shared);
  kernel.run();
#endif
}

// A kernel and what its clusters take.
struct Kernel {
  void (*function)(Problem, PartPlan);
  uint32_t ctas, threads, shared_bytes;
};

template <class D, class S, bool kParted>
Kernel kernel_of() {
  return {softmax_topk_decode<D, S, kParted>, S::kCtas, S::kThreads, kSharedBytes<S>};
}

// The least kernel whose clusters of `ctas` hold `bytes` of a row; without a kernel where there is none.
template <class D, bool kParted>
Kernel kernel_for(uint32_t ctas, uint64_t bytes) {
  constexpr uint64_t kThread = sizeof(uint4);
  constexpr int kLeast = 8 / D::kPerVector;  // vectors of 8 logits
  if (ctas == 16) {
    constexpr uint64_t kVector = 16 * 512 * kThread;
    if constexpr (kParted) {
      if (bytes <= 2 * kVector) return kernel_of<D, Spread<16, 512, 2, 0>, true>();
      if (bytes <= 4 * kVector) return kernel_of<D, Spread<16, 512, 4, 0>, true>();
    } else {
      if (bytes <= kLeast * kVector) return kernel_of<D, Spread<16, 512, kLeast, 0>, false>();
      if (bytes <= 2 * kLeast * kVector) return kernel_of<D, Spread<16, 512, 2 * kLeast, 0>, false>();
      if (bytes <= 4 * kLeast * kVector) return kernel_of<D, Spread<16, 512, 4 * kLeast, 0>, false>();
    }
  }
  if (ctas == 4 && !kParted) {
    constexpr uint64_t kVector = 4 * 1024 * kThread;
    if (bytes <= 4 * kVector) return kernel_of<D, Spread<4, 1024, 2, 2>, false>();
    if (bytes <= 8 * kVector) return kernel_of<D, Spread<4, 1024, 4, 4>, false>();
  }
  if (ctas == 2 && !kParted) {
    constexpr uint64_t kVector = 2 * 1024 * kThread;
    if (bytes <= 8 * kVector) return kernel_of<D, Spread<2, 1024, 2, 6>, false>();
    if (bytes <= 16 * kVector) return kernel_of<D, Spread<2, 1024, 4, 12>, false>();
  }
  return {};
}

// Bytes of a row and of what precedes it in its first sector, at most.
template <class D>
uint64_t extent_of(const Problem& problem) {
  constexpr uint64_t kBytes = sizeof(typename D::Storage);
  const bool same_lead = problem.rows == 1 || problem.row_stride * kBytes % kSectorBytes == 0;
  return problem.vocab * kBytes +
         (same_lead ? reinterpret_cast<uintptr_t>(problem.logits) % kSectorBytes : kSectorBytes - kBytes);
}

// The vectors of a part, in whole turns of each CTA.
inline uint32_t part_vectors(uint64_t extent, uint32_t ctas, uint32_t parts) {
  const uint64_t turn = ctas * 32, vectors = (extent + sizeof(uint4) - 1) / sizeof(uint4);
  return static_cast<uint32_t>((vectors + parts * turn - 1) / (parts * turn) * turn);
}

struct Launch {
  cudaLaunchAttribute cluster;
  cudaLaunchConfig_t config;

  Launch(const Kernel& kernel, uint32_t clusters, cudaStream_t stream) : cluster{}, config{} {
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = kernel.ctas;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    config.gridDim = clusters * kernel.ctas;
    config.blockDim = kernel.threads;
    config.dynamicSmemBytes = kernel.shared_bytes;
    config.stream = stream;
    config.attrs = &cluster;
    config.numAttrs = 1;
  }
  Launch(const Launch&) = delete;
};

inline cudaError_t allow(const Kernel& kernel) {
  cudaError_t status = cudaSuccess;
  if (kernel.ctas > 8)
    status = cudaFuncSetAttribute(kernel.function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (status != cudaSuccess || kernel.shared_bytes <= 48 * 1024) return status;
  return cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(kernel.shared_bytes));
}

}  // namespace decode

// How a row is spread: over `parts` clusters of `ctas` (16, 4 or 2; of several parts 16).
struct DecodeClusters {
  uint32_t ctas, parts;
};

// Whether the kernels hold rows of this problem, spread so.
template <class D>
inline bool decode_fits(const Problem& problem, DecodeClusters clusters, size_t shared_bytes_a_block) {
  using namespace decode;
  const uint64_t extent = extent_of<D>(problem);
  if (problem.k > kMostK || clusters.parts > kMostParts) return false;
  if (problem.rows > 0x7FFFFFFFu / 16 / kMostParts) return false;
  const Kernel kernel =
      clusters.parts == 1
          ? kernel_for<D, false>(clusters.ctas, extent)
          : kernel_for<D, true>(clusters.ctas,
                                sizeof(uint4) * uint64_t{part_vectors(extent, clusters.ctas, clusters.parts)});
  return kernel.function && kernel.shared_bytes <= shared_bytes_a_block;
}

// The scratch memory of several parts: tickets, which must be 0 before the first launch and are after
// each, records and lists.
struct DecodeScratch {
  size_t records, lists, bytes;
  DecodeScratch(uint64_t rows, DecodeClusters clusters) {
    const uint64_t ctas = rows * clusters.parts * clusters.ctas;
    records = (rows * sizeof(uint32_t) + 15) / 16 * 16;
    lists = records + ctas * sizeof(decode::PartRecord);
    bytes = lists + ctas * decode::kListLength<16> * sizeof(Candidate);
  }
};

// Whether clusters of so many blocks run on the current device. Asks the driver: to be called once a device and kept.
template <class D>
inline bool decode_clusters_run(const Problem& problem, uint32_t ctas) {
  const decode::Kernel kernel = decode::kernel_for<D, false>(ctas, decode::extent_of<D>(problem));
  const decode::Launch launch(kernel, 1, nullptr);
  int clusters = 0;
  if (decode::allow(kernel) != cudaSuccess ||
      cudaOccupancyMaxActiveClusters(&clusters, kernel.function, &launch.config) != cudaSuccess) {
    cudaGetLastError();  // not an error of the caller
    return false;
  }
  return clusters > 0;
}

// One launch on the caller's stream; capturable in a graph. The problem must fit. `scratch` is unused for one part.
template <class D>
inline cudaError_t launch_decode(const Problem& problem, DecodeClusters clusters, void* scratch, cudaStream_t stream) {
  using namespace decode;
  const uint64_t extent = extent_of<D>(problem);
  PartPlan plan{};
  Kernel kernel;
  if (clusters.parts == 1) {
    kernel = kernel_for<D, false>(clusters.ctas, extent);
  } else {
    plan.parts = clusters.parts;
    plan.vectors = part_vectors(extent, clusters.ctas, clusters.parts);
    kernel = kernel_for<D, true>(clusters.ctas, uint64_t{plan.vectors} * sizeof(uint4));
    const DecodeScratch layout(problem.rows, clusters);
    char* const base = static_cast<char*>(scratch);
    plan.tickets = reinterpret_cast<uint32_t*>(base);
    plan.records = reinterpret_cast<PartRecord*>(base + layout.records);
    plan.lists = reinterpret_cast<Candidate*>(base + layout.lists);
  }
  const cudaError_t status = allow(kernel);
  if (status != cudaSuccess) return status;
  const Launch launch(kernel, problem.rows * clusters.parts, stream);
  return cudaLaunchKernelEx(&launch.config, kernel.function, problem, plan);
}

}  // namespace fused_topk
