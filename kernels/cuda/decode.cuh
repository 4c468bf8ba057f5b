// The decode kernel: a few rows, each spread over a thread-block cluster that holds it in registers.
//
// At one to eight rows nothing is bound by bandwidth; the time is that of a chain of latencies: launch, one read of
// memory, and the exchanges by which 16 CTAs agree. So the row is loaded at once and whole, two one-way exchanges
// (cluster.cuh) are all there is, and whatever can be is done while a message flies.
//
// 1. Load. Every thread has 8, 16 or 32 logits of the row. The CTAs take turns by 128-byte lines, so that sorted rows
//    are an even sample for each of them.
// 2. Bound. Thread maxima meet in 32 slots a CTA. The ceil(K / 16)-th largest slot of a CTA is reached by as many of
//    its logits, so the smallest of these over the CTAs is reached by K of the row: none of the K best is below it.
//    Each CTA sends its slot, and its maximum, to all.
// 3. Sum. Meanwhile a warp adds the weights of its logits against its own maximum.
// 4. Survivors. The logits that reach the bound, about 2 K on random data, are collected by each CTA and sent to all,
//    along with its sums.
// 5. Rank. A CTA counts, for each of its own survivors, how many of all are better. That is its place in the result.
//
// Where the survivors are too many, as on a row of equal logits, or where no bound was found, since some slot saw
// nothing but masked logits, the CTAs `narrow` the choice, and 4 and 5 are done over. Each CTA looks for its own
// K/16-th best in (logit, index) order by a radix select of its registers, by whole vectors in the index; the smallest
// of these is the new bound, which cuts ties by index. A CTA of which still more than a list holds survive keeps its
// own K best. Exact for every input.
//
// Deterministic: sums are trees of fixed shape; survivors carry their index, so the order of arrival does not matter.
#pragma once

#include "cluster.cuh"
#include "logits.cuh"
#include "problem.h"
#include "select.cuh"

namespace fused_topk {
namespace decode {

constexpr int kCtas = 16;  // a cluster, which has one row
constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr uint32_t kMaxK = 256;
constexpr uint32_t kListLength = kMaxK + 8;  // survivors that a CTA can send: K, and ties within one vector
constexpr uint32_t kMaxSurvivors = 1024;     // of a row, that are ranked without narrowing
constexpr uint32_t kCrowded = 160;           // survivors of a CTA that are too many before narrowing
constexpr uint32_t kEnough = 72;             // logits of a CTA that may reach its new bound, in place of K / 16
constexpr int kDigitBits = 9;
constexpr int kDigits = 1 << kDigitBits;
constexpr uint32_t kLineVectors = 8;     // 16-byte vectors in a line
constexpr uint32_t kSectorBytes = 32;    // what memory delivers at least: vectors are counted from such a boundary
constexpr float kCoarse = 536870912.0f;  // 2^29: a scaled logit from here on has an ulp of 64 or more
static_assert(kDigits == kThreads, "a thread has a digit");
static_assert(kMaxK <= 32 * kCtas, "a bound needs K slots");

struct Shared {
  // Sent by all CTAs, at the place of the sender.
  Mailbox bound_mailbox, list_mailbox;
  uint64_t bounds[kCtas];                     // key of the bound << 32 | key of the maximum; in `narrow` an edge
  alignas(16) uint32_t sums[kCtas * kWarps];  // float bits, against the maximum of the row
  uint32_t lengths[kCtas];                    // of the lists; one that is too long was not sent
  Candidate lists[kCtas][kListLength + 1];    // one more, so that a place of all lists is in different banks
  // Of this CTA.
  alignas(16) uint32_t slots[32];
  float warp_sums[kWarps];
  uint32_t length;
  Candidate list[kListLength];
  // For `narrow`.
  uint32_t histogram[kDigits];
  uint32_t warp_total[kWarps];
  uint32_t digit, above, in_digit;
};

template <class D>
constexpr uint32_t kMaskedWord = 0xFF800000u;  // -inf, as often as a word holds it
template <>
constexpr uint32_t kMaskedWord<F16> = 0xFC00FC00u;
template <>
constexpr uint32_t kMaskedWord<BF16> = 0xFF80FF80u;

__device__ __forceinline__ uint4 load_vector(const void* global) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global));
  return v;
}

// values[i], by selects: registers have no address.
template <int kCount>
__device__ __forceinline__ uint32_t pick(const uint32_t (&values)[kCount], uint32_t i) {
  if constexpr (kCount == 1) {
    return values[0];
  } else {
    constexpr int kHalf = kCount / 2;
    uint32_t half[kHalf];
#pragma unroll
    for (int at = 0; at < kHalf; at++) half[at] = i & kHalf ? values[at + kHalf] : values[at];
    return pick(half, i);
  }
}

template <class D, int kVectors>
struct Decode {
  using Storage = typename D::Storage;
  static constexpr int kElements = kVectors * D::kPerVector;
  static_assert(kElements <= 32, "a bit of a word for each logit of a thread");

  const Problem& problem;
  Shared& shared;
  const uint32_t row, cta;
  const Storage* start;  // of the row
  uint32_t lead;         // elements between the sector boundary before the row and its start
  uint4 v[kVectors];

  __device__ __forceinline__ uint32_t thread() const { return threadIdx.x; }
  __device__ __forceinline__ int lane() const { return threadIdx.x & 31; }
  __device__ __forceinline__ int warp() const { return threadIdx.x >> 5; }

  // The vectors of a thread are kStride apart.
  static constexpr uint32_t kStride = kCtas * kThreads;
  __device__ __forceinline__ uint32_t first_vector() const {
    const uint32_t line = (thread() / kLineVectors) * kCtas + cta;
    return line * kLineVectors + thread() % kLineVectors;
  }
  // The index in the row of the first logit of vector j; before the row it wraps, and is no less than vocab.
  __device__ __forceinline__ uint32_t first_index(uint32_t j) const {
    return (first_vector() + j * kStride) * D::kPerVector - lead;
  }
  __device__ __forceinline__ uint32_t index_of(uint32_t i) const {
    return first_index(i / D::kPerVector) + i % D::kPerVector;
  }

  // What lies outside the row becomes -inf. No byte outside is read.
  __device__ __forceinline__ void load() {
    constexpr uint32_t kOthers = D::kPerVector - 1, kMasked = kMaskedWord<D>;
    const uint32_t vocab = problem.vocab, whole_below = vocab > kOthers ? vocab - kOthers : 0;
    const uint4* const vectors = reinterpret_cast<const uint4*>(start - lead) + first_vector();
#pragma unroll
    for (int j = 0; j < kVectors; j++) {
      v[j] = make_uint4(kMasked, kMasked, kMasked, kMasked);
      if (first_index(j) < whole_below) v[j] = load_vector(vectors + j * kStride);
    }
    if (__builtin_expect(lead % D::kPerVector == 0 && vocab % D::kPerVector == 0, 1)) return;
#pragma unroll
    for (int j = 0; j < kVectors; j++) {
      const uint32_t first = first_index(j);
      if (first >= whole_below && first + kOthers < vocab + kOthers) v[j] = load_partial(first);
    }
  }

  // The vector whose first logit has index `first`, of which not all are in the row.
  __device__ __forceinline__ uint4 load_partial(uint32_t first) const {
    constexpr int kPerWord = D::kPerVector / 4;
    uint4 vector = {};
#pragma unroll 1
    for (int word = 0; word < 4; word++) {
      uint32_t bits = kMaskedWord<D>;
#pragma unroll
      for (int i = 0; i < kPerWord; i++) {
        const uint32_t index = first + word * kPerWord + i;
        if (index >= problem.vocab) continue;
        if constexpr (kPerWord == 1) {
          bits = __float_as_uint(start[index]);
        } else {
          bits = __byte_perm(bits, start[index], i == 0 ? 0x3254 : 0x5410);
        }
      }
      vector = make_uint4(vector.y, vector.z, vector.w, bits);
    }
    return vector;
  }

  // The sum of the warp's weights against `reference`, in all lanes.
  __device__ __forceinline__ float sum_against(float reference) const {
    const float scale = problem.scale.high;
    float part[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < kElements; i++) {
      part[i % 4] += exp2_fast(fmaf(element<D>(v[i / D::kPerVector], i % D::kPerVector), scale, -reference));
    }
    return warp_tree((part[0] + part[1]) + (part[2] + part[3]));
  }

  // The same against the maximum of the row, for scaled logits too large for a float reference.
  __device__ __forceinline__ float sum_coarse(float max) const {
    float sum = 0;
#pragma unroll 1
    for (uint32_t i = 0; i < kElements; i++) sum += weight(logit_at(i), max, problem.scale);
    return warp_tree(sum);
  }

  __device__ __forceinline__ static float warp_tree(float sum) {
#pragma unroll
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
    return sum;
  }

  // Logit i of the thread, where i is no constant.
  __device__ __forceinline__ float logit_at(uint32_t i) const {
    constexpr uint32_t kPerWord = D::kPerVector / 4;
    uint32_t words[4 * kVectors];
#pragma unroll
    for (int w = 0; w < 4 * kVectors; w++) words[w] = word_of(v[w / 4], w % 4);
    const uint32_t word = pick(words, i / kPerWord);
    if constexpr (kPerWord == 1) {
      return __uint_as_float(word);
    } else {
      return widen<D>(static_cast<uint16_t>(i % 2 ? word >> 16 : word));
    }
  }

  // Warp 0: the CTA's bound and maximum, to all.
  __device__ __forceinline__ void send_bound() {
    const uint32_t rank = (problem.k + kCtas - 1) / kCtas;
    uint32_t slot = shared.slots[lane()];
    const uint32_t highest = warp_max(slot);
    uint32_t bound = highest;
    if (rank <= 8) {  // strike out the largest rank - 1 times
#pragma unroll 1
      for (uint32_t i = 1; i < rank; i++) {
        const uint32_t holders = __ballot_sync(kFullWarp, slot == bound);
        if (lane() == __ffs(holders) - 1) slot = 0;
        bound = warp_max(slot);
      }
    } else {  // the smallest of those with fewer than `rank` above
      uint32_t above = 0;
      const uint4* const all = reinterpret_cast<const uint4*>(shared.slots);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        const uint4 other = all[i];
        above += (other.x > slot) + (other.y > slot) + (other.z > slot) + (other.w > slot);
      }
      bound = warp_min(above < rank ? slot : 0xFFFFFFFFu);
    }
    if (lane() < kCtas) {
      shared.bound_mailbox.send(lane(), &shared.bounds[cta], static_cast<uint64_t>(bound) << 32 | highest);
    }
  }

  // A bit for each logit of the thread that reaches a finite bound.
  __device__ __forceinline__ uint32_t survivors(float bound) const {
    uint32_t chosen = 0;
#pragma unroll
    for (int i = 0; i < kElements; i++) {
      chosen |= element<D>(v[i / D::kPerVector], i % D::kPerVector) >= bound ? 1u << i : 0u;
    }
    return chosen;
  }

  __device__ __forceinline__ void append(uint32_t chosen) {
    if (!chosen) return;
    uint32_t place = atomicAdd(&shared.length, __popc(chosen));
#pragma unroll 1
    for (; chosen && place < kListLength; chosen &= chosen - 1) {
      const uint32_t i = __ffs(chosen) - 1;
      shared.list[place++] = make_candidate(logit_at(i), index_of(i));
    }
  }

  // The CTA's list, if it is no longer than `longest`, and sums, to all: warp w sends to CTA w.
  __device__ __forceinline__ void send_list(uint32_t longest) {
    static_assert(kWarps == kCtas, "a warp for each CTA");
    const uint32_t to = warp(), length = shared.length, sent = length <= longest ? length : 0;
    Mailbox& mailbox = shared.list_mailbox;
    if (lane() == 0) {
      mailbox.announce(to, sent * sizeof(Candidate) + (1 + kWarps) * sizeof(uint32_t));
      mailbox.send(to, &shared.lengths[cta], length);
    }
#pragma unroll 1
    for (uint32_t i = lane(); i < sent; i += 32) mailbox.send(to, &shared.lists[cta][i], shared.list[i]);
    if (lane() < kWarps) {
      mailbox.send(to, &shared.sums[cta * kWarps + lane()], __float_as_uint(shared.warp_sums[lane()]));
    }
  }

  // A key without the low bits that all logits of the dtype have alike.
  static constexpr int kLowBits = std::is_same_v<D, F32> ? 0 : std::is_same_v<D, F16> ? 13 : 16;
  // The place of a vector in the row, highest first; log2 of how many there are.
  static constexpr int kPlaceBits = 13 + (kVectors >= 2) + (kVectors >= 4) + (kVectors >= 8);
  static_assert(kVectors * kStride == 1 << kPlaceBits, "places are bits");
  __device__ __forceinline__ uint32_t place_of(uint32_t j) const {
    return (1u << kPlaceBits) - 1 - (first_vector() + j * kStride);
  }

  // Calls f(j, valid, keys) for each vector j of the thread; a bit of `valid` for each logit that is in the row.
  template <class F>
  __device__ __forceinline__ void each_vector(F f) const {
#pragma unroll 1
    for (uint32_t j = 0; j < kVectors; j++) {
      uint4 vector = v[0];
#pragma unroll
      for (int other = 1; other < kVectors; other++) vector = j == other ? v[other] : vector;
      const uint32_t first = first_index(j);
      uint32_t valid = 0, keys[D::kPerVector];
#pragma unroll
      for (int i = 0; i < D::kPerVector; i++) {
        keys[i] = order_key(element<D>(vector, i)) >> kLowBits;
        valid |= first + i < problem.vocab ? 1u << i : 0u;
      }
      f(j, valid, keys);
    }
  }

  // A bit for each logit of the thread whose key is `key`, or over it where `over`, and whose place is at least `place`
  // where it is `key`.
  __device__ __forceinline__ uint32_t reaching(uint32_t key, uint32_t place, bool over) const {
    uint32_t chosen = 0;
    each_vector([&](uint32_t j, uint32_t valid, const uint32_t(&keys)[D::kPerVector]) {
      const uint32_t least = place_of(j) >= place ? key : key + 1;
      uint32_t these = 0;
#pragma unroll
      for (int i = 0; i < D::kPerVector; i++) these |= keys[i] >= least && (over || keys[i] == key) ? 1u << i : 0u;
      chosen |= (these & valid) << j * D::kPerVector;
    });
    return chosen;
  }

  // An edge, which is key << 32 | place, that at least `need` of this CTA's logits reach and at most `limit` >= need +
  // 7; or 0 where the CTA has fewer. Radix select on the key, between `lowest` and `highest`, then on the place. The
  // histogram is clear before and after.
  __device__ __forceinline__ uint64_t select(uint32_t need, uint32_t limit, uint32_t lowest, uint32_t highest) const {
    uint32_t edge = lowest >> kLowBits, key = 0, ties = 0, above = 0, reached = 0xFFFFFFFFu;
    int end = 32 - __clz((highest >> kLowBits) - edge);  // one past the highest bit not yet decided
    bool by_place = false;
    while (reached > limit) {
      if (end == 0) {
        if (by_place) break;
        by_place = true;
        key = edge;
        ties = reaching(key, 0, false);
        edge = 0;
        end = kPlaceBits;
      }
      const int begin = max(0, end - kDigitBits);
      const uint32_t span = 0xFFFFFFFFu >> (32 - end);
      if (by_place) {
#pragma unroll
        for (int j = 0; j < kVectors; j++) {
          const uint32_t rest = place_of(j) - edge, count = __popc(ties >> j * D::kPerVector & kVectorMask);
          if (count && place_of(j) >= edge && rest <= span) atomicAdd(&shared.histogram[rest >> begin], count);
        }
      } else {
        each_vector([&](uint32_t, uint32_t valid, const uint32_t(&keys)[D::kPerVector]) {
          const uint32_t digit = (keys[0] - edge) >> begin;
          bool alike = true;
#pragma unroll
          for (int i = 0; i < D::kPerVector; i++) {
            if (keys[i] < edge || keys[i] - edge > span) valid &= ~(1u << i);
            alike &= (keys[i] - edge) >> begin == digit;
          }
          if (!valid) return;
          if (alike && valid == kVectorMask) {
            count_many(digit, D::kPerVector);
            return;
          }
#pragma unroll
          for (int i = 0; i < D::kPerVector; i++) {
            if (valid >> i & 1) atomicAdd(&shared.histogram[(keys[i] - edge) >> begin], 1u);
          }
        });
      }
      __syncthreads();
      find_digit(need - above);
      edge += shared.digit << begin;
      above += shared.above;
      reached = above + shared.in_digit;
      end = begin;
    }
    return by_place ? static_cast<uint64_t>(key) << 32 | edge : static_cast<uint64_t>(edge) << 32;
  }
  static constexpr uint32_t kVectorMask = (1u << D::kPerVector) - 1;

  // Adds to the histogram; in one step where all lanes that call have the same digit.
  __device__ __forceinline__ void count_many(uint32_t digit, uint32_t count) const {
    const uint32_t callers = __activemask();
    int same;
    __match_all_sync(callers, digit, &same);
    if (!same) {
      atomicAdd(&shared.histogram[digit], count);
    } else if (lane() == __ffs(callers) - 1) {
      atomicAdd(&shared.histogram[digit], count * __popc(callers));
    }
  }

  // The digit, from the highest, at which the count reaches `need`, or 0; a thread has a digit. Clears the histogram.
  __device__ __forceinline__ void find_digit(uint32_t need) const {
    const uint32_t digit = kDigits - 1 - thread(), count = shared.histogram[digit];
    shared.histogram[digit] = 0;
    const uint32_t inclusive = warp_scan(count, lane());
    if (lane() == 31) shared.warp_total[warp()] = inclusive;
    __syncthreads();
    const uint32_t above = warp_sum(lane() < warp() ? shared.warp_total[lane()] : 0) + inclusive - count;
    if (above < need && (need <= above + count || digit == 0)) {
      shared.digit = digit;
      shared.above = above;
      shared.in_digit = count;
    }
    __syncthreads();
  }

  // All CTAs: a bit for each logit of the thread that may be among the K best of the row, no more of a CTA than a list
  // holds. The keys of the K best lie in [lowest, highest].
  __device__ __forceinline__ uint32_t narrow(uint32_t lowest, uint32_t highest) {
    __syncthreads();  // the list is sent
    shared.histogram[thread()] = 0;
    if (thread() == 0) {
      shared.length = 0;
      shared.bound_mailbox.announce(cta, sizeof shared.bounds);
    }
    __syncthreads();
    uint32_t chosen = 0, need = (problem.k + kCtas - 1) / kCtas, limit = kEnough;
#pragma unroll 1
    while (true) {
      uint64_t edge = select(need, limit, lowest, highest);
      if (limit == kEnough) {
        if (thread() < kCtas) shared.bound_mailbox.send(thread(), &shared.bounds[cta], edge);
        shared.bound_mailbox.wait(1);
        edge = shared.bounds[0];
        for (int from = 1; from < kCtas; from++) edge = min(edge, shared.bounds[from]);
      }
      chosen = reaching(static_cast<uint32_t>(edge >> 32), static_cast<uint32_t>(edge), true);
      if (limit == kListLength || block_sum(__popc(chosen)) <= kListLength) return chosen;
      need = problem.k;
      limit = kListLength;
    }
  }

  __device__ __forceinline__ uint32_t block_sum(uint32_t value) const {
    const uint32_t own = warp_sum(value);
    if (lane() == 0) shared.warp_total[warp()] = own;
    __syncthreads();
    const uint32_t total = warp_sum(lane() < kWarps ? shared.warp_total[lane()] : 0);
    __syncthreads();
    return total;
  }

  // Ranks the survivors at first, first + kWarps, ... of this CTA, kAtOnce of them, by a warp, and writes those among
  // the K best.
  template <int kAtOnce, class Emit>
  __device__ __forceinline__ void rank(uint32_t first, uint32_t own, uint32_t longest, uint32_t length,
                                       Emit emit) const {
    constexpr uint32_t kStep = 32 / kCtas, kUnroll = 4;
    const Candidate* const list = shared.lists[lane() % kCtas];
    Candidate mine[kAtOnce];
    uint32_t better[kAtOnce];
#pragma unroll
    for (int h = 0; h < kAtOnce; h++) {
      const uint32_t at = first + h * kWarps;
      mine[h] = at < own ? shared.list[at] : ~Candidate{0};
      better[h] = 0;
    }
#pragma unroll 1
    for (uint32_t place = lane() / kCtas; place < longest; place += kStep * kUnroll) {
#pragma unroll
      for (uint32_t u = 0; u < kUnroll; u++) {
        const uint32_t at = place + u * kStep;
        const Candidate other = at < length ? list[at] : 0;
#pragma unroll
        for (int h = 0; h < kAtOnce; h++) better[h] += other > mine[h];
      }
    }
    Candidate emitted = mine[0];
    uint32_t its_rank = 0;
#pragma unroll
    for (int h = 0; h < kAtOnce; h++) {
      const uint32_t total = warp_sum(better[h]);
      if (lane() == h) {
        its_rank = total;
        emitted = mine[h];
      }
    }
    if (lane() < kAtOnce && first + lane() * kWarps < own && its_rank < problem.k) emit(its_rank, emitted);
  }

  __device__ __forceinline__ void run() {
    const Scale scale = problem.scale;
    start = static_cast<const Storage*>(problem.logits) + row * problem.row_stride;
    lead = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(start) % kSectorBytes) / sizeof(Storage);
    load();

    // While the row is on its way.
    if (warp() == 1) shared.slots[lane()] = 0;
    if (thread() == 0) {
      shared.length = 0;
      shared.bound_mailbox.open(1);
      shared.list_mailbox.open(kCtas);
      shared.bound_mailbox.announce(cta, sizeof shared.bounds);
    }
    __syncthreads();
    cluster_arrive();
    cluster_wait();

    // The row is first used together with this 0. Since it is read here, the compiler cannot move the use, and with it
    // the wait for the row, before the barriers.
    const uint32_t none = shared.length;
#pragma unroll
    for (int j = 0; j < kVectors; j++) v[j].x |= none;

    const uint32_t key = order_key(max_of<D>(v));
    atomicMax(&shared.slots[lane()], key);
    const float scaled = logit_of_key(warp_max(key)) * scale.high;
    const float reference = fabsf(scaled) <= 2 * kCoarse ? scaled : 0.0f;
    __syncthreads();
    if (warp() == 0) send_bound();
    float sum = sum_against(reference);

    shared.bound_mailbox.wait(0);
    const uint64_t sent = shared.bounds[lane() % kCtas];
    const uint32_t bound = warp_min(static_cast<uint32_t>(sent >> 32));
    const uint32_t highest = warp_max(static_cast<uint32_t>(sent));
    const bool bounded = bound > kKeyNegativeInfinity;
    const float max = highest > kKeyNegativeInfinity ? logit_of_key(highest) : 0.0f;  // of masked rows, any number

    // From the warp's reference to the row's maximum, which need not be a float once scaled: one rounding.
    if (__builtin_expect(fabsf(max * scale.high) >= kCoarse && max < infinity(), 0)) {
      sum = sum_coarse(max);
    } else if (sum != 0) {
      sum *= exp2_fast(fmaf(-max, scale.high, reference));
    }
    if (lane() == 0) shared.warp_sums[warp()] = sum;

    uint32_t chosen = bounded ? survivors(logit_of_key(bound)) : 0;
    uint32_t length, longest;
    for (int round = 0;; round++) {
      append(chosen);
      __syncthreads();
      send_list(round == 0 ? kCrowded : kListLength);
      shared.list_mailbox.wait(round);
      length = shared.lengths[lane() % kCtas];
      longest = warp_max(length);
      if (round == 1) break;
      const uint32_t total = warp_sum(lane() < kCtas ? length : 0);
      if (__builtin_expect(bounded && longest <= kCrowded && total <= kMaxSurvivors, 1)) break;
      chosen = narrow(bounded ? bound : 0, highest);
    }

    float total = 0;
#pragma unroll
    for (int i = 0; i < kCtas * kWarps / 128; i++) {
      const float4 four = reinterpret_cast<const float4*>(shared.sums)[i * 32 + lane()];
      total += (four.x + four.y) + (four.z + four.w);
    }
    total = warp_tree(total);
    if (!(total < infinity())) total = quiet_nan();
    const float inverse_sum = 1.0f / total;
    if (cta == 0 && thread() == kThreads - 1) problem.log_sum_exp[row] = log_sum_exp(max, total, scale);

    const uint32_t own = shared.length;
    float* const probs = problem.probs + static_cast<uint64_t>(row) * problem.k;
    uint32_t* const indices = problem.indices + static_cast<uint64_t>(row) * problem.k;
    auto emit = [&](uint32_t place, Candidate c) {
      probs[place] = probability(candidate_logit(c), max, inverse_sum, total == 0, scale);
      indices[place] = candidate_index(c);
    };
    uint32_t first = warp();
    for (; first + kWarps < own; first += 4 * kWarps) rank<4>(first, own, longest, length, emit);
    if (first < own) rank<1>(first, own, longest, length, emit);
  }
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define FUSED_TOPK_CLUSTER_OF(ctas)
#else
#define FUSED_TOPK_CLUSTER_OF(ctas) __cluster_dims__(ctas)
#endif

// Grid: rows clusters of kCtas blocks. Empty before sm_90.
template <class D, int kVectors, int kBlocksPerSm>
__global__ void FUSED_TOPK_CLUSTER_OF(kCtas) __launch_bounds__(kThreads, kBlocksPerSm)
    softmax_topk_decode(const __grid_constant__ Problem problem) {
#if __CUDA_ARCH__ >= 900
  __shared__ Shared shared;
  Decode<D, kVectors> kernel{problem, shared, blockIdx.x / kCtas, cta_rank()};
  kernel.run();
#endif
}

// 2 blocks an SM: only so do 8 clusters of 16 find place at once. Twice the row in registers leaves place for one.
constexpr uint32_t kReach = kCtas * kThreads * 32;  // elements, with 32 a thread
template <class D>
auto kernel_for(uint32_t extent) {
  constexpr int kVectors = 8 / D::kPerVector;
  if (extent <= kReach / 4) return softmax_topk_decode<D, kVectors, 2>;
  if (extent <= kReach / 2) return softmax_topk_decode<D, 2 * kVectors, 2>;
  constexpr int kBlocks = D::kPerVector == 4 ? 1 : 2;
  return softmax_topk_decode<D, 4 * kVectors, kBlocks>;
}

// Elements of a row and of what precedes it in its first sector, at most.
template <class D>
uint64_t extent_of(const Problem& problem) {
  constexpr uint64_t kPerSector = kSectorBytes / sizeof(typename D::Storage);
  const uint64_t start = reinterpret_cast<uintptr_t>(problem.logits) / sizeof(typename D::Storage);
  const bool same_lead = problem.rows == 1 || problem.row_stride % kPerSector == 0;
  return problem.vocab + (same_lead ? start % kPerSector : kPerSector - 1);
}

struct Launch {
  cudaLaunchAttribute cluster;
  cudaLaunchConfig_t config;

  Launch(uint32_t rows, cudaStream_t stream) : cluster{}, config{} {
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = kCtas;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    config.gridDim = rows * kCtas;
    config.blockDim = kThreads;
    config.stream = stream;
    config.attrs = &cluster;
    config.numAttrs = 1;
  }
  Launch(const Launch&) = delete;
};

}  // namespace decode

// How many rows of this shape the current device works on at once; 0 where it has no such clusters. Asks the driver: to
// be called once a device and kept.
template <class D>
inline int decode_rows_at_once(const Problem& problem) {
  const auto kernel = decode::kernel_for<D>(decode::extent_of<D>(problem));
  const decode::Launch launch(1, nullptr);
  int clusters = 0;
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) != cudaSuccess ||
      cudaOccupancyMaxActiveClusters(&clusters, kernel, &launch.config) != cudaSuccess) {
    cudaGetLastError();  // not an error of the caller
    return 0;
  }
  return clusters;
}

// Whether the decode kernel can take a problem at all; for how many rows it is the fastest is another question.
template <class D>
inline bool decode_fits(const Problem& problem, int compute_capability_major) {
  return compute_capability_major >= 9 && problem.k <= decode::kMaxK &&
         decode::extent_of<D>(problem) <= decode::kReach && problem.rows <= 0x7FFFFFFFu / decode::kCtas;
}

// One launch on the caller's stream, without scratch memory; capturable in a graph. The problem must fit.
template <class D>
inline cudaError_t launch_decode(const Problem& problem, cudaStream_t stream) {
  const auto kernel = decode::kernel_for<D>(static_cast<uint32_t>(decode::extent_of<D>(problem)));
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (error != cudaSuccess) return error;
  const decode::Launch launch(problem.rows, stream);
  return cudaLaunchKernelEx(&launch.config, kernel, problem);
}

}  // namespace fused_topk
