// Host logits on their way through the addon, on a machine without a GPU. Exit code 1 and a line for each broken promise.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "context.h"
#include "fake_cuda.h"
#include "lane.h"
#include "write_past_caches.h"

using namespace fused_topk;

static int failures = 0;

static void expect(bool holds, const char* promise) {
  if (holds) return;
  failures++;
  std::printf("broken: %s\n", promise);
}

struct Rows {
  uint32_t rows, vocab, k;
  uint64_t offset, stride;
};

static std::vector<float> logits_of(const Rows& r) {
  std::vector<float> logits(r.offset + (r.rows - 1) * r.stride + r.vocab);
  std::minstd_rand random(r.rows + r.vocab);
  for (float& x : logits) x = static_cast<float>(random() % 1024);
  return logits;
}

// Whether the results are what launch() of fake_cuda.cc makes of each row. `run` is softmax_topk of a context or run of a
// lane.
template <class Run>
static bool is_right(const std::vector<float>& logits, const Rows& r, const Run& run) {
  std::vector<float> probs(size_t{r.rows} * r.k), log_sum_exp(r.rows);
  std::vector<uint32_t> indices(probs.size());
  run(LogitsView{logits.data(), false, DType::f32, r.offset, r.stride}, CallShape{r.rows, r.vocab, r.k, 1.0},
      CallResults{probs.data(), indices.data(), log_sum_exp.data()});
  const uint32_t first = indices[0];
  for (uint32_t row = 0; row < r.rows; row++) {
    const float* const x = logits.data() + r.offset + row * r.stride;
    float sum = 0;
    for (uint32_t i = 0; i < r.vocab; i += 61) sum += x[i];
    if (log_sum_exp[row] != sum) return false;
    for (uint32_t i = 0; i < r.k; i++) {
      if (probs[size_t{row} * r.k + i] != x[r.vocab - 1 - i]) return false;
      // The row lies as it would in dense logits, modulo 256 bytes.
      if (indices[size_t{row} * r.k + i] != (first + uint64_t{row} * r.vocab * 4) % 256) return false;
    }
  }
  return true;
}

static bool call_is_right(Context& context, const std::vector<float>& logits, const Rows& r) {
  return is_right(logits, r, [&](const auto&... arguments) { context.softmax_topk(arguments...); });
}

static bool throws_failure(const std::function<void()>& action) {
  try {
    action();
    return false;
  } catch (const Failure&) {
    return true;
  }
}

// Five groups of three rows, the last of one, none of a whole number of chunks: more than the ring and both places hold.
static const Rows kGroups{13, 5'000'001, 3, 5, 5'000'004};
static const Rows kSmall[] = {{1, 1, 1, 0, 1},           {1, 128256, 50, 1, 128256},
                              {3, 100001, 7, 2, 100005}, {8, 128256, 50, 0, 128256},
                              {64, 20011, 20, 3, 20011}, {700, 9001, 5, 0, 9003}};

static void check_rows() {
  // More threads than this machine may have cores.
  CopyThreads threads(7);
  Lane lane;
  const auto arrives = [&](const std::vector<float>& logits, const Rows& r) {
    return is_right(logits, r, [&](const auto&... arguments) { lane.run(arguments..., DeviceProperties{}, threads); });
  };
  for (const Rows& r : kSmall) {
    const std::vector<float> logits = logits_of(r);
    expect(arrives(logits, r), "every row arrives whole, in one group");
    expect(arrives(logits, r), "and again, in memory that is kept");
  }
  expect(arrives(logits_of(kGroups), kGroups), "every row arrives whole, in several groups");
  expect(fake_cuda::device_bytes() <= 2 * kGroupBytes + (4 << 20), "device memory: two groups and the results");
  expect(fake_cuda::pinned_bytes() <= kRingChunks * kChunkBytes + (4 << 20), "pinned memory: the ring and the results");
}

static void check_results() {
  const Rows many{3000, 600, 500, 0, 600};
  Context context(0);
  expect(call_is_right(context, logits_of(many), many), "results of many pieces arrive whole");
}

static void check_upload() {
  Context context(0);
  const std::vector<float> logits = logits_of({1, 20'000'001, 1, 0, 20'000'001});
  const size_t bytes = logits.size() * sizeof(float);
  const float* const memory = static_cast<const float*>(context.upload(logits.data(), bytes));
  expect(std::equal(logits.begin(), logits.end(), memory), "an upload arrives whole");
}

static void check_concurrency() {
  Context context(0);
  std::vector<std::thread> threads;
  bool right[4];
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      const Rows r{50, 60001u + t, 4, 0, 60001u + t};
      const std::vector<float> logits = logits_of(r);
      right[t] = call_is_right(context, logits, r) && call_is_right(context, logits, r);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const bool each : right) expect(each, "calls of several threads do not disturb each other");
}

static void check_failures() {
  Context context(0);
  const Rows large = kGroups, small = kSmall[3];
  const std::vector<float> logits = logits_of(large), few = logits_of(small);
  for (const size_t n : {1, 3, 20, 30, 40, 60, 90, 120, 150}) {
    fake_cuda::fail_call(n);
    expect(throws_failure([&] { call_is_right(context, logits, large); }),
           "a failure in the middle of a call is thrown");
    fake_cuda::fail_call(0);
    expect(call_is_right(context, few, small), "the call after a failure is right");
  }
  // With threads that wait for each other when the failure comes.
  CopyThreads threads(7);
  for (size_t n = 20; n < 120; n += 7) {
    Lane lane;
    const auto run = [&](const auto&... arguments) { lane.run(arguments..., DeviceProperties{}, threads); };
    fake_cuda::fail_call(n);
    expect(throws_failure([&] { is_right(logits, large, run); }), "a failure wakes those who wait");
    fake_cuda::fail_call(0);
  }
  for (size_t n = 1; n <= 7; n++) {
    fake_cuda::fail_call(n);
    const size_t alive = fake_cuda::alive();
    expect(throws_failure([] { Lane lane; }), "a failure while a lane is made is thrown");
    expect(fake_cuda::alive() == alive, "a lane that was not made leaves nothing");
    fake_cuda::fail_call(0);
  }
  const size_t before = fake_cuda::device_bytes();
  fake_cuda::fail_call(25);
  expect(throws_failure([&] { context.upload(logits.data(), logits.size() * sizeof(float)); }),
         "a failure in the middle of an upload is thrown");
  fake_cuda::fail_call(0);
  expect(fake_cuda::device_bytes() <= before, "a failed upload keeps no memory");
}

static void check_copy_threads() {
  CopyThreads threads(3);
  std::vector<int> done(1000);
  threads.run(done.size(), [&](size_t piece) { done[piece]++; });
  expect(std::count(done.begin(), done.end(), 1) == 1000, "each piece is done once");
  std::string caught;
  try {
    threads.run(done.size(), [](size_t piece) {
      if (piece == 500) throw std::runtime_error("piece 500");
    });
  } catch (const std::exception& error) {
    caught = error.what();
  }
  expect(caught == "piece 500", "what a piece throws reaches the caller");
}

static void check_write_past_caches() {
  std::vector<char> from(10000), to(11000);
  for (size_t i = 0; i < from.size(); i++) from[i] = static_cast<char>(i * 7 + 1);
  bool right = true;
  for (size_t skip = 0; skip < 70; skip++) {
    for (const size_t bytes : {0, 1, 65, 4095, 4096, 4160, 5001, 9999}) {
      std::fill(to.begin(), to.end(), 0);
      write_past_caches(to.data() + skip, from.data() + skip % 2, bytes);
      right &= std::equal(to.begin() + skip, to.begin() + skip + bytes, from.begin() + skip % 2);
      right &= std::count(to.begin(), to.begin() + skip, 0) == static_cast<long>(skip);
      right &= std::count(to.begin() + skip + bytes, to.end(), 0) == static_cast<long>(to.size() - skip - bytes);
    }
  }
  expect(right, "write_past_caches writes what memcpy writes, at every alignment");
}

int main() {
  check_copy_threads();
  check_write_past_caches();
  check_rows();
  check_results();
  check_upload();
  check_concurrency();
  check_failures();
  expect(fake_cuda::alive() == 0, "nothing is left when the contexts are gone");
  if (failures == 0) std::printf("all promises hold\n");
  return failures > 0;
}
