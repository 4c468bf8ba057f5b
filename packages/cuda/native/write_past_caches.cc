#include "write_past_caches.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

namespace fused_topk {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kLeastBytes = 4096;  // below, the fence costs more than the stores gain

__attribute__((target("avx512f"))) void write_lines(char* to, const char* from, size_t lines) {
  for (size_t i = 0; i < lines; i++) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i * kLine), _mm512_loadu_si512(from + i * kLine));
  }
  _mm_sfence();
}

}  // namespace

void write_past_caches(char* to, const char* from, size_t bytes) {
  if (bytes < kLeastBytes || !__builtin_cpu_supports("avx512f")) {
    std::memcpy(to, from, bytes);
    return;
  }
  const size_t head = std::min<size_t>(bytes, -reinterpret_cast<uintptr_t>(to) % kLine);
  const size_t lines = (bytes - head) / kLine, tail = head + lines * kLine;
  std::memcpy(to, from, head);
  write_lines(to + head, from + head, lines);
  std::memcpy(to + tail, from + tail, bytes - tail);
}

}  // namespace fused_topk

#else

namespace fused_topk {

void write_past_caches(char* to, const char* from, size_t bytes) { std::memcpy(to, from, bytes); }

}  // namespace fused_topk

#endif
