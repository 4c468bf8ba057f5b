// The laws of RowState on the CPU: row_state.cuh compiled by a host compiler. Exit code 1 and a line for each broken
// law.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "../row_state.cuh"

using namespace fused_topk;

constexpr int K = 5;
using State = RowState<K>;

static int failures = 0;

static void expect(bool holds, const char* law) {
  if (holds) return;
  failures++;
  std::printf("broken: %s\n", law);
}

static bool same_sum(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::fabs(a - b) <= 2e-6 * std::max(std::fabs(a), std::fabs(b));
}

// `max` and `top` exactly, `sum` up to rounding.
static bool same(const State& a, const State& b) {
  return a.max == b.max && std::equal(a.top, a.top + K, b.top) && same_sum(a.sum, b.sum);
}

static State state_of(const std::vector<float>& logits, size_t begin, size_t end, const Scale& scale) {
  State state = empty<K>();
  for (size_t i = begin; i < end; i++) push(state, logits[i], static_cast<uint32_t>(i), scale);
  return state;
}

static void check_order() {
  const float inf = infinity(), nan = quiet_nan(), tiny = float_from_bits(1);
  const float ascending[] = {nan,   -inf, -3e38f, -1.0f, -tiny, 0.0f, tiny, 1.0f, float_from_bits(0x3F800001),
                             3e38f, inf};
  for (size_t i = 0; i + 1 < std::size(ascending); i++) {
    expect(order_key(ascending[i]) < order_key(ascending[i + 1]), "order_key sorts as the contract");
  }
  expect(order_key(-0.0f) == order_key(0.0f), "-0 equals +0");
  expect(order_key(-nan) == order_key(nan), "NaN has one key, whatever its sign");
  expect(order_key(-inf) == kKeyNegativeInfinity && order_key(nan) == kKeyNaN, "the named keys");
  for (float x : {-inf, -2.5f, 0.0f, tiny, 7.0f, inf}) {
    expect(logit_of_key(order_key(x)) == x, "logit_of_key inverts order_key");
  }
  expect(make_candidate(1, 3) > make_candidate(1, 4), "of equal logits the lower index comes first");
  expect(candidate_index(make_candidate(1, 0xFFFFFFF0u)) == 0xFFFFFFF0u, "a candidate holds its index");
}

static void check_laws(std::mt19937& random) {
  std::normal_distribution<float> normal;
  for (int round = 0; round < 2000; round++) {
    const double temperature = round % 3 == 0 ? 1.0 : std::exp(2.0 * normal(random));
    const Scale scale = make_scale(temperature);
    std::vector<float> logits(random() % 20);
    for (float& x : logits) {
      const uint32_t kind = random() % 40;
      x = kind == 0                     ? -infinity()
          : kind == 1 && round % 5 == 0 ? quiet_nan()
          : kind == 2 && round % 7 == 0 ? infinity()
                                        : std::round(4 * normal(random)) / 2;
    }
    const size_t n = logits.size(), i = n ? random() % (n + 1) : 0, j = i + (n > i ? random() % (n - i + 1) : 0);
    const State a = state_of(logits, 0, i, scale), b = state_of(logits, i, j, scale), c = state_of(logits, j, n, scale);
    const State all = state_of(logits, 0, n, scale);
    expect(same(merge(empty<K>(), a, scale), a) && same(merge(a, empty<K>(), scale), a), "empty is the identity");
    expect(same(merge(a, b, scale), merge(b, a, scale)), "merge is commutative");
    expect(same(merge(merge(a, b, scale), c, scale), merge(a, merge(b, c, scale), scale)), "merge is associative");
    expect(same(merge(merge(a, b, scale), c, scale), all), "push and merge agree, for every split");
    if (n < K) continue;

    float probs[K], lse;
    uint32_t indices[K];
    finish(all, probs, indices, &lse, scale);
    std::vector<uint32_t> order(n);
    for (uint32_t at = 0; at < n; at++) order[at] = at;
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t x, uint32_t y) { return order_key(logits[x]) > order_key(logits[y]); });
    expect(std::equal(indices, indices + K, order.begin()), "finish gives the indices of a stable sort");
    double max = -infinity(), sum = 0;
    bool spoilt = false;
    for (float x : logits) {
      if (std::isnan(x) || x == infinity())
        spoilt = true;
      else
        max = std::max<double>(max, x);
    }
    for (float x : logits) {
      if (x > -infinity()) sum += std::exp((x - max) / temperature);
    }
    for (int at = 0; at < K; at++) {
      const double want = sum == 0 ? 0 : std::exp((logits[indices[at]] - max) / temperature) / sum;
      expect(spoilt ? std::isnan(probs[at]) : want < 1e-30 || std::fabs(probs[at] - want) <= 4e-6 * want,
             "probabilities");
    }
    const double want = max / temperature + std::log(sum);
    expect(spoilt     ? std::isnan(lse)
           : sum == 0 ? lse == -infinity()
                      : std::fabs(lse - want) <= 1e-5 * std::max(1.0, std::fabs(want)),
           "log_sum_exp");
  }
}

static void check_weight() {
  const Scale one = make_scale(1), hot = make_scale(3.4e38);
  for (float x = -69; x <= 0; x += 0.37f) {
    for (float max : {0.0f, 1.0f, 123.456f}) {
      const float logit = max + x;
      const double want = std::exp(static_cast<double>(logit) - max);
      expect(std::fabs(weight(logit, max, one) - want) <= 6e-7 * want, "weight to float precision");
    }
  }
  expect(std::fabs(weight(-3e38f, 3e38f, hot) - std::exp(-6.0 / 3.4)) < 1e-6, "weight where the difference overflows");
  expect(weight(-infinity(), 1, one) == 0, "a masked logit weighs nothing");
}

int main() {
  std::mt19937 random(20241107);
  check_order();
  check_laws(random);
  check_weight();
  if (failures == 0) std::printf("all laws hold\n");
  return failures != 0;
}
