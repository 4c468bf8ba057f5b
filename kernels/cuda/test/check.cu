// Checks every regime of the launcher on a GPU against the contract, on data made to break selections.
//
//   check [tiny|quick|full] [data] [regime]    tiny: small enough for compute-sanitizer; `data` is the number of one kind,
//                                              -1 of all. Exit code 1 when anything is wrong.
//   check plans                                without a GPU: whether every k and vocab has a kernel on every generation.
//
// The check trusts no sort: a result is exact when its indices are strictly in the contract's order and exactly k
// logits of the row come no later than the last of them. Probabilities are compared with float64 over the whole row.
// Every call runs twice on outputs filled with poison, and must give the same bits. Build with -DREMOVE_ONE_BARRIER for
// the control that racecheck must catch.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../launch.h"
#include "../logits.cuh"

using namespace fused_topk;

#define CHECK(call)                                                                          \
  do {                                                                                       \
    const cudaError_t status_ = (call);                                                      \
    if (status_ != cudaSuccess) {                                                            \
      std::printf("%s:%d %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status_)); \
      std::exit(2);                                                                          \
    }                                                                                        \
  } while (0)

enum Data {
  kNormal,
  kAscending,
  kDescending,
  kEqual,
  kTwoValues,
  kFewValues,
  kNarrow,
  kOutlier,
  kUlpApart,
  kBestInResidue32,
  kBestInResidue1024,
  kBestInRun,
  kMask90,
  kFewFinite,
  kSpecialRows,
  kZeros,
  kSubnormal,
  kHuge,
  kHugeNarrow,
  kLateStart,
  kNearLevels,
  kAllButOneMasked,
  kLowestAmongMasked,
  kMaskedByLowest,
  kDataKinds
};
const char* const kDataNames[] = {"normal",
                                  "ascending",
                                  "descending",
                                  "equal",
                                  "two values",
                                  "few values",
                                  "narrow",
                                  "outlier",
                                  "ulp apart",
                                  "best in residue 32",
                                  "best in residue 1024",
                                  "best in run",
                                  "mask 90 %",
                                  "few finite",
                                  "special rows",
                                  "zeros",
                                  "subnormal",
                                  "huge",
                                  "huge narrow",
                                  "late start",
                                  "near levels",
                                  "one logit",
                                  "lowest among masked",
                                  "masked by the lowest"};

__device__ uint32_t hash(uint64_t x) {
  x ^= x >> 33, x *= 0xff51afd7ed558ccdull, x ^= x >> 33, x *= 0xc4ceb9fe1a85ec53ull, x ^= x >> 33;
  return static_cast<uint32_t>(x);
}
__device__ float normal(uint64_t i) {
  const float u = (hash(2 * i) + 1.0f) * 2.3283064e-10f, v = hash(2 * i + 1) * 2.3283064e-10f;
  return sqrtf(-2 * logf(fmaxf(u, 1e-9f))) * cospif(2 * v);
}

__device__ float value_of(int data, uint64_t row, uint32_t j, uint32_t vocab, uint32_t k) {
  const uint64_t i = row * 0x100000007ull + j;
  const float g = normal(i);
  switch (data) {
    case kNormal:
      return 3 * g;
    case kAscending:
      return -10 + 20 * (static_cast<float>(j) / vocab);
    case kDescending:
      return 10 - 20 * (static_cast<float>(j) / vocab);
    case kEqual:
      return 1.5f;
    case kTwoValues:
      return hash(i) & 1 ? 1.0f : 0.0f;
    case kFewValues:
      return rintf(2 * g) * 0.5f;
    case kNarrow:
      return 100 + 0.01f * g;
    case kOutlier:
      return j == vocab / 3 ? 1e9f : g;
    case kUlpApart:
      return __uint_as_float(0x3F800000u + hash(i) % 64);
    case kBestInResidue32:
      return g + (j % 32 == 7 ? 20.0f : 0.0f);
    case kBestInResidue1024:
      return g + (j % 1024 == 1001 ? 20.0f : 0.0f);
    case kBestInRun:
      return g + (j >= vocab / 2 && j < vocab / 2 + k ? 20.0f : 0.0f);
    case kMask90:
      return hash(i) % 10 ? -INFINITY : g;
    case kFewFinite:
      return hash(i) % vocab < k / 2 ? g : -INFINITY;
    case kSpecialRows:
      switch (row % 8) {
        case 0:
          return NAN;
        case 1:
          return j == vocab / 2 ? NAN : g;
        case 2:
          return j % 1000 == 3 ? INFINITY : g;
        case 3:
          return -INFINITY;
        case 4:
          return j < 5 ? g : NAN;
        case 5:
          return j == vocab - 1 ? 200.0f : g;
        case 6:
          return hash(i) % 3 == 0 ? NAN : hash(i) % 3 == 1 ? INFINITY : -INFINITY;
        default:
          return g;
      }
    case kZeros:
      return hash(i) & 1 ? 0.0f : -0.0f;
    case kSubnormal:
      return __uint_as_float((hash(i) & 0x80000000u) | (hash(i) % 1000));
    case kHuge:
      return g * 1e38f;
    case kHugeNarrow:
      return 1e30f * (1 + 1e-6f * g);
    case kLateStart:
      return j > vocab - vocab / 4 - 1 ? -1000 + g : -INFINITY;
    case kAllButOneMasked:
      return j == vocab - 1 ? 1.0f : -INFINITY;
    case kLowestAmongMasked:  // one in 32 bytes, in the first part of the row
      return j % 16 == 0 && j / 16 < k + k / 8 ? -65504.0f : -INFINITY;
    case kMaskedByLowest:  // keys from the bound to the maximum span 2^31, and -inf lies below
      if (j < vocab / 4) return -INFINITY;
      if (j < vocab / 4 * 3) return j % 64 < 60 ? -65504.0f : g;
      return j % 16 ? -INFINITY : -65504.0f;
    case kNearLevels: {  // more apart than equal, by less than a truncated key shows
      const float level = rintf(g * 16) / 16;
      return level == 0 ? 0 : __uint_as_float(__float_as_uint(level) + hash(i + 77) % 4);
    }
  }
  return 0;
}

template <class D>
__device__ typename D::Storage narrow(float x);
template <>
__device__ float narrow<F32>(float x) {
  return x;
}
template <>
__device__ uint16_t narrow<F16>(float x) {
  return __half_as_ushort(__float2half(x));
}
template <>
__device__ uint16_t narrow<BF16>(float x) {
  return __bfloat16_as_ushort(__float2bfloat16(x));
}

template <class D>
__global__ void generate(typename D::Storage* logits, uint64_t rows, uint64_t stride, uint32_t vocab, uint32_t k,
                         int data) {
  const uint64_t n = rows * vocab;
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < n; i += uint64_t{gridDim.x} * blockDim.x) {
    const uint64_t row = i / vocab;
    const uint32_t j = static_cast<uint32_t>(i % vocab);
    logits[row * stride + j] = narrow<D>(value_of(data, row, j, vocab, k));
  }
}

struct Faults {
  uint32_t index, order, count, probability, log_sum_exp, worst;  // worst: bits of the largest relative error
};

template <class D>
__global__ void judge(Problem p, Faults* faults) {
  constexpr int kBlock = 256;
  __shared__ double partial[kBlock];
  __shared__ float maxima[kBlock];
  __shared__ unsigned long long reaching;
  __shared__ int bad, spoilt;
  const uint32_t t = threadIdx.x;
  const uint64_t row = blockIdx.x;
  const auto* logits = static_cast<const typename D::Storage*>(p.logits) + row * p.row_stride;
  const float* probs = p.probs + row * p.k;
  const uint32_t* indices = p.indices + row * p.k;
  if (t == 0) reaching = bad = spoilt = 0;
  __syncthreads();
  for (uint32_t i = t; i < p.k; i += kBlock) {
    if (indices[i] >= p.vocab) bad = 1, atomicAdd(&faults->index, 1);
  }
  __syncthreads();
  if (bad) return;
  const auto candidate = [&](uint32_t index) { return make_candidate(load_logit<D>(logits + index), index); };
  for (uint32_t i = t; i + 1 < p.k; i += kBlock) {
    if (candidate(indices[i]) <= candidate(indices[i + 1])) atomicAdd(&faults->order, 1);
  }
  const Candidate last = candidate(indices[p.k - 1]);
  unsigned long long mine = 0;
  float max = -INFINITY;
  for (uint64_t i = t; i < p.vocab; i += kBlock) {
    const float x = load_logit<D>(logits + i);
    mine += make_candidate(x, static_cast<uint32_t>(i)) >= last;
    if (x != x || x == INFINITY) spoilt = 1;
    max = fmaxf(max, x);
  }
  atomicAdd(&reaching, mine);
  maxima[t] = max;
  __syncthreads();
  for (int i = 0; i < kBlock; i++) max = fmaxf(max, maxima[i]);
  double sum = 0;
  for (uint64_t i = t; i < p.vocab; i += kBlock) {
    const float x = load_logit<D>(logits + i);
    if (x > -INFINITY) sum += exp((static_cast<double>(x) - max) / p.scale.temperature);
  }
  partial[t] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < kBlock; i++) sum += partial[i];
  if (t == 0 && reaching != p.k) atomicAdd(&faults->count, 1);
  const bool masked = !spoilt && max == -INFINITY;
  for (uint32_t i = t; i < p.k; i += kBlock) {
    const float got = probs[i];
    const double want =
        masked ? 0 : exp((static_cast<double>(load_logit<D>(logits + indices[i])) - max) / p.scale.temperature) / sum;
    const double error = fabs(got - want) / want;
    const bool right = spoilt ? got != got : want < 1e-30 ? got >= 0 && got <= 1.1e-30f : error <= 4e-6;
    if (!right) atomicAdd(&faults->probability, 1);
    if (!spoilt && want >= 1e-30) atomicMax(&faults->worst, __float_as_uint(static_cast<float>(error)));
  }
  if (t == 0) {
    const double want = masked ? -INFINITY : max / p.scale.temperature + log(sum);
    const float got = p.log_sum_exp[row], rounded = static_cast<float>(want);
    const bool right = spoilt           ? got != got
                       : isinf(rounded) ? got == rounded
                                        : fabs(got - want) <= 1e-6 * fmax(1.0, fabs(want));
    if (!right) atomicAdd(&faults->log_sum_exp, 1);
  }
}

struct Shape {
  uint32_t rows, vocab, k;
};

struct Checker {
  DeviceProperties device;
  const char* only = nullptr;  // a regime
  char* logits = nullptr;
  size_t logits_bytes = 0;
  char* results = nullptr;
  size_t results_bytes = 0;
  char* scratch = nullptr;
  size_t scratch_bytes = 0;
  Faults* faults;
  uint64_t run = 0, failed = 0;
  float worst = 0;

  static void ensure(char** memory, size_t* have, size_t need) {
    if (*have >= need) return;
    CHECK(cudaFree(*memory));
    CHECK(cudaMalloc(memory, need));
    *have = need;
  }

  template <class D>
  void check(DType dtype, Shape shape, int data, double temperature, uint32_t offset, uint32_t gap) {
    const uint64_t stride = uint64_t{shape.vocab} + gap;
    using Storage = typename D::Storage;
    ensure(&logits, &logits_bytes, (offset + shape.rows * stride) * sizeof(Storage));
    Storage* const first = reinterpret_cast<Storage*>(logits) + offset;
    generate<D><<<2048, 256>>>(first, shape.rows, stride, shape.vocab, shape.k, data);
    CHECK(cudaGetLastError());
    const size_t entries = size_t{shape.rows} * shape.k, bytes = (2 * entries + shape.rows) * 4;
    ensure(&results, &results_bytes, bytes);
    Problem p{first,
              stride,
              shape.rows,
              shape.vocab,
              shape.k,
              make_scale(temperature),
              reinterpret_cast<float*>(results),
              reinterpret_cast<uint32_t*>(results) + entries,
              reinterpret_cast<float*>(results) + 2 * entries};
    for (uint32_t r = 0; r < kRegimes; r++) {
      Plan chosen;
      if (only && std::strcmp(only, name_of(static_cast<Regime>(r))) != 0) continue;
      if (!plan_forced(p, dtype, device, static_cast<Regime>(r), &chosen)) continue;
      if (chosen.scratch_bytes > scratch_bytes) {
        ensure(&scratch, &scratch_bytes, chosen.scratch_bytes);
      }
      if (chosen.ticket_bytes) CHECK(cudaMemset(scratch, 0, chosen.ticket_bytes));
      std::vector<char> once(bytes), twice(bytes);
      for (std::vector<char>* out : {&once, &twice}) {
        CHECK(cudaMemset(results, 0xFF, bytes));
        CHECK(launch(p, dtype, device, chosen, scratch, nullptr));
        CHECK(cudaDeviceSynchronize());
        CHECK(cudaMemcpy(out->data(), results, bytes, cudaMemcpyDeviceToHost));
      }
      const bool same = once == twice;
      CHECK(cudaMemset(faults, 0, sizeof *faults));
      judge<D><<<shape.rows, 256>>>(p, faults);
      Faults found;
      CHECK(cudaMemcpy(&found, faults, sizeof found, cudaMemcpyDeviceToHost));
      run++;
      const float error = float_from_bits(found.worst);
      if (error > worst) worst = error;
      if (found.index || found.order || found.count || found.probability || found.log_sum_exp || !same) {
        failed++;
        std::printf(
            "WRONG %s %u x %u k %u, %s, %s, t %g, offset %u gap %u: index %u order %u count %u prob %u (%.1e) lse "
            "%u%s\n",
            dtype == DType::f32   ? "f32"
            : dtype == DType::f16 ? "f16"
                                  : "bf16",
            shape.rows, shape.vocab, shape.k, name_of(chosen.regime), kDataNames[data], temperature, offset, gap,
            found.index, found.order, found.count, found.probability, error, found.log_sum_exp,
            same ? "" : ", differs between runs");
        std::fflush(stdout);
      }
    }
  }

  void all_dtypes(Shape shape, int data, double temperature, uint32_t offset, uint32_t gap) {
    if (shape.k > shape.vocab || shape.k > kMaxK) return;
    check<F32>(DType::f32, shape, data, temperature, offset, gap);
    check<F16>(DType::f16, shape, data, temperature, offset, gap);
    check<BF16>(DType::bf16, shape, data, temperature, offset, gap);
  }
};

// Whether the table picks a kernel that can be launched for every rows, k and vocab that launch.h allows, and whether the
// streaming kernel, which takes what no other does, always can.
int check_plans() {
  struct Generation {
    int major, minor;
    uint32_t multiprocessors, kilobytes, kilobytes_multiprocessor;
  };
  uint64_t run = 0, failed = 0;
  const auto check = [&](const Generation& g, const DeviceProperties& device, uint32_t rows, uint32_t k,
                         uint64_t vocab) {
    if (vocab < k) return;
    for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      Problem p{};
      p.rows = rows, p.vocab = static_cast<uint32_t>(vocab), p.row_stride = vocab, p.k = k;
      Plan chosen;
      const bool streams = plan_forced(p, dtype, device, Regime::stream, &chosen);
      const Regime picked = plan(p, dtype, device).regime;
      run++;
      if (streams && plan_forced(p, dtype, device, picked, &chosen)) continue;
      failed++;
      std::printf("NO PLAN sm_%d%d rows %u vocab %u k %u, %s\n", g.major, g.minor, rows, p.vocab, k, name_of(picked));
    }
  };
  for (const Generation& g : {Generation{7, 5, 40, 64, 64},
                              {8, 0, 108, 163, 164},
                              {8, 6, 84, 99, 100},
                              {9, 0, 132, 227, 228},
                              {10, 0, 148, 227, 228},
                              {12, 0, 170, 99, 100}}) {
    for (const bool clusters : {false, true}) {
      if (clusters && g.major < 9) continue;
      const DeviceProperties device{
          g.major, g.minor, g.multiprocessors, g.kilobytes * 1024, g.kilobytes_multiprocessor * 1024, 1e6, clusters};
      for (uint32_t rows : {1, 12, 27, 66, 200, 1000}) {
        for (uint32_t k = 1; k <= kMaxK; k += k < 64 || k > kMaxK - 80 ? 1 : 61) {
          for (uint64_t vocab :
               {uint64_t{k}, uint64_t{k} * 2, uint64_t{50257}, uint64_t{1000003}, uint64_t{kMaxVocab}}) {
            check(g, device, rows, k, vocab);
          }
        }
      }
    }
  }
  std::printf("plans: %llu checked, %llu without a kernel\n", static_cast<unsigned long long>(run),
              static_cast<unsigned long long>(failed));
  return failed ? 1 : 0;
}

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "quick";
  if (mode == "plans") return check_plans();
  const bool full = mode == "full", tiny = mode == "tiny";
  const int one = argc > 2 ? std::atoi(argv[2]) : -1;
  Checker checker;
  if (argc > 3) checker.only = argv[3];
  CHECK(cudaSetDevice(0));
  CHECK(query_device(0, &checker.device));
  CHECK(cudaMalloc(&checker.faults, sizeof(Faults)));

  const std::vector<Shape> quick = {
      {3, 1, 1},      {9, 31, 8},      {9, 33, 33},     {9, 64, 8},       {9, 100, 8},      {40, 104, 7},
      {9, 200, 5},    {8, 256, 8},     {9, 1000, 50},   {8, 1024, 32},    {9, 4097, 256},   {8, 5000, 4096},
      {9, 20011, 50}, {16, 20011, 50}, {8, 50257, 256}, {8, 40000, 1000}, {64, 6007, 1500}, {140, 40000, 600}};
  const std::vector<Shape> more = {{1, 128256, 50},  {8, 128256, 1},     {16, 50257, 7},     {8, 151936, 1024},
                                   {8, 262144, 64},  {9, 128256, 4096},  {3, 1000003, 256},  {65537, 33, 2},
                                   {65537, 255, 8},  {1024, 50257, 256}, {300, 32000, 2},    {8, 32000, 513},
                                   {8, 4096, 4096},  {2000, 2049, 1000}, {64, 128256, 1024}, {16, 128256, 50},
                                   {27, 70001, 256}, {64, 128256, 50}};
  // A row of one part and a part of a row reach every phase of a stream with one overflow of the buffer.
  const std::vector<Shape> tiny_shapes = {{2, 33, 8}, {33, 104, 8}, {2, 12007, 50}, {1, 6007, 1500}};
  for (int data = 0; data < kDataKinds; data++) {
    if (one >= 0 && one != data) continue;
    for (const Shape& shape : tiny ? tiny_shapes : quick) checker.all_dtypes(shape, data, 1.0, data % 5, data % 3);
    // Aligned rows, padded or not: gating copies these by vectors.
    for (uint32_t vocab : {64u, 104u, 200u, 256u}) checker.all_dtypes({35, vocab, 8}, data, 1.0, 0, 0);
    if (full) {
      for (const Shape& shape : more) checker.all_dtypes(shape, data, 1.0, data % 7, (data * 3) % 11);
    }
  }
  if (one < 0 && !tiny) {
    for (uint32_t k : {6u, 8u}) checker.all_dtypes({100003, 64, k}, kNearLevels, 1.0, 0, 0);
    for (double temperature : {0.01, 0.7, 3.0, 1e-30, 1e30, 1.2e-38, 3.4e38}) {
      for (int data : {kNormal, kHuge, kNarrow, kEqual, kSpecialRows, kHugeNarrow, kLateStart}) {
        checker.all_dtypes({8, 20011, 50}, data, temperature, 1, 0);
        checker.all_dtypes({8, 300, 10}, data, temperature, 1, 0);
      }
    }
    if (full) {
      checker.check<BF16>(DType::bf16, {20000, 151936, 20}, kNormal, 1.0, 3, 1);  // more than 2^31 logits
      checker.check<F32>(DType::f32, {2, 300000007, 100}, kNormal, 1.0, 1, 0);
      for (uint32_t offset = 0; offset < 33; offset++)
        checker.all_dtypes({5, 9001, 100}, kNormal, 1.0, offset, offset % 2);
    }
  }
  std::printf("%s: %llu calls checked, %llu wrong, largest relative error of a probability %.2e\n", mode.c_str(),
              static_cast<unsigned long long>(checker.run), static_cast<unsigned long long>(checker.failed),
              checker.worst);
  return checker.failed ? 1 : 0;
}
