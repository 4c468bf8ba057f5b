// A small native bench: the shapes named on the command line, every variant, as a table. The full one is apps/bench.
//
//   bench DTYPE:ROWS:VOCAB:K[:DATA[:PATH,PATH...]] ...     DATA: normal, ascending, descending, equal, two, mask, ulp,
//   narrow
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "../measure.h"

using namespace fused_topk;

static std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> fields;
  std::stringstream stream(text);
  for (std::string field; std::getline(stream, field, at);) fields.push_back(field);
  return fields;
}

static float value(const std::string& data, float g, uint32_t j, uint32_t vocab) {
  if (data == "ascending") return -10 + 20 * (static_cast<float>(j) / vocab);
  if (data == "descending") return 10 - 20 * (static_cast<float>(j) / vocab);
  if (data == "equal") return 1.5f;
  if (data == "two") return g > 0 ? 1.0f : 0.0f;
  if (data == "mask") return g > 1.2816f ? g : -INFINITY;
  if (data == "ulp") return float_from_bits(0x3F800000u + static_cast<uint32_t>(std::fabs(g) * 20));
  if (data == "narrow") return 100 + 0.01f * g;
  return 3 * g;
}

static double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

int main(int argc, char** argv) {
  DeviceProperties device;
  if (query_device(0, &device) != cudaSuccess) return std::printf("no device\n"), 2;
  constexpr uint32_t kTemplate = 61;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> noise(1 << 20);
  for (float& g : noise) g = normal(random);
  double floor = 0;
  std::string floor_of;
  for (int a = 1; a < argc; a++) {
    const auto f = split(argv[a], ':');
    MeasureRequest r{};
    r.dtype = f[0] == "f32" ? DType::f32 : f[0] == "f16" ? DType::f16 : DType::bf16;
    r.rows = std::stoul(f[1]), r.vocab = std::stoul(f[2]), r.k = std::stoul(f[3]);
    const std::string data = f.size() > 4 ? f[4] : "normal";
    const auto paths = f.size() > 5 ? split(f[5], ',') : std::vector<std::string>{""};
    r.template_rows = std::min(kTemplate, r.rows * 3);
    const size_t n = size_t{r.template_rows} * r.vocab;
    std::vector<float> wide(n);
    std::vector<uint16_t> half(r.dtype == DType::f32 ? 0 : n);
    for (size_t i = 0; i < n; i++) {
      wide[i] = value(data, noise[(i * 2654435761u ^ i >> 7) & (noise.size() - 1)], i % r.vocab, r.vocab);
      if (r.dtype == DType::f16) half[i] = __half_as_ushort(__float2half(wide[i]));
      if (r.dtype == DType::bf16) half[i] = __bfloat16_as_ushort(__float2bfloat16(wide[i]));
    }
    r.host_template = r.dtype == DType::f32 ? static_cast<const void*>(wide.data()) : half.data();
    const double bytes = double(r.rows) * r.vocab * bytes_per_element(r.dtype);
    r.sets = std::max(2.0, std::ceil(3e8 / bytes));
    r.repeats = 9;
    const auto show = [&](Variant variant, const char* label, const std::string& path) {
      r.variant = variant;
      r.path = path;
      Measurement m;
      const MeasureStatus status = measure(r, device, &m);
      if (!status.ok()) {
        std::printf("  %s %s: %s %s\n", label, path.c_str(), cudaGetErrorString(status.cuda), status.message.c_str());
        return;
      }
      const double us = median(m.microseconds);
      if (variant == Variant::read_floor) floor = us;
      std::printf("  %s %.2f us (%.2f)%s%s", label, us, us / floor, m.path.empty() ? "" : " ", m.path.c_str());
    };
    const std::string shape = f[0] + ":" + f[1] + ":" + f[2] + ":" + f[3];
    std::printf("%s %s:", shape.c_str(), data.c_str());
    if (floor_of != f[0] + f[1] + ":" + f[2]) {
      floor_of = f[0] + f[1] + ":" + f[2];
      show(Variant::read_floor, "floor", "");
    }
    for (const std::string& path : paths) show(Variant::fused, "fused", path);
    if (data == "normal" && f.size() < 6) {
      show(Variant::three_pass, "three-pass", "");
      show(Variant::unfused, "unfused", "");
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}
