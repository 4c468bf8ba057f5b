// The read floor: kernels that only read, 16 bytes a load. No kernel that uses every logit can be faster than the best
// of these shapes. What was read is folded into a word that is written only if it has one value in 2^32.
#include "baseline.h"

namespace fused_topk {
namespace {

// One shot: every thread reads kLoads vectors, all in flight at once.
template <int kLoads>
__global__ void read_once(const uint4* from, uint64_t vectors, uint32_t* sink) {
  const uint64_t first = static_cast<uint64_t>(blockIdx.x) * blockDim.x * kLoads + threadIdx.x;
  uint4 v[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; i++) {
    const uint64_t at = first + static_cast<uint64_t>(i) * blockDim.x;
    v[i] = at < vectors ? __ldcs(from + at) : make_uint4(0, 0, 0, 0);
  }
  uint32_t folded = 0;
#pragma unroll
  for (int i = 0; i < kLoads; i++) folded ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
  if (folded == 0x9E3779B9u) *sink = folded;
}

struct Shape {
  int threads, loads;
};
constexpr Shape kShapes[kReadFloorShapes] = {{128, 1}, {128, 4}, {256, 1}, {256, 2}, {256, 4},  {256, 8},
                                             {512, 1}, {512, 2}, {512, 4}, {512, 8}, {1024, 1}, {1024, 2}};

}  // namespace

cudaError_t launch_read_floor(const void* from, uint64_t bytes, int shape, uint32_t* sink, cudaStream_t stream) {
  const uint64_t vectors = (bytes + 15) / 16;
  const auto [threads, loads] = kShapes[shape];
  const uint64_t a_block = static_cast<uint64_t>(threads) * loads;
  const auto grid = static_cast<uint32_t>((vectors + a_block - 1) / a_block);
  const auto* const vector = static_cast<const uint4*>(from);
  switch (loads) {
    case 1:
      read_once<1><<<grid, threads, 0, stream>>>(vector, vectors, sink);
      break;
    case 2:
      read_once<2><<<grid, threads, 0, stream>>>(vector, vectors, sink);
      break;
    case 4:
      read_once<4><<<grid, threads, 0, stream>>>(vector, vectors, sink);
      break;
    default:
      read_once<8><<<grid, threads, 0, stream>>>(vector, vectors, sink);
  }
  return cudaGetLastError();
}

}  // namespace fused_topk
