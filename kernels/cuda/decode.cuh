// The decode kernels: rows that fit the chip all at once, each spread over a thread-block cluster that holds it.
//
// At one to some sixty rows little is bound by bandwidth; the time is that of a chain of latencies: launch, one read of
// memory, and the exchanges by which the CTAs of a cluster agree. So a row is asked for at once and whole (held.cuh),
// two one-way exchanges (cluster.cuh) are all there is, and whatever can be is done while a message or a copy flies.
//
// 1. Load. Every thread has 8 to 32 logits of the row in registers. Where there are more rows, clusters are smaller and
//    keep the rest of their row in shared memory, so that all rows are under way at once.
// 2. Bound. Thread maxima meet in 512 slots a cluster. The ceil(K / CTAs)-th largest slot of a CTA is reached by as many
//    of its logits, so the smallest of these over the CTAs is reached by K of the row: none of the K best is below it.
//    Each CTA sends its slot, and its maximum, to all.
// 3. Sum. Meanwhile a warp adds the weights of its logits against its own maximum. Groups in shared memory are added
//    before that, as they arrive.
// 4. Survivors. The logits that reach the bound, about 2 K on random data, are collected by each CTA and sent to all,
//    along with its sums.
// 5. Rank. A CTA counts, for each of its own survivors, how many of all are better. That is its place in the result.
//
// Where the survivors are too many, as on a row of equal logits, or where no bound was found, since some slot saw
// nothing but masked logits, the CTAs `narrow` the choice, and 5 is done over. Each CTA looks for its own ceil(K /
// CTAs)-th best in (logit, index) order by a radix select of what it holds, by whole vectors in the index; the smallest
// of these is the new bound, which cuts ties by index. A CTA of which still more than a list holds survive keeps its
// own K best. Exact for every input.
//
// Long rows are cut into parts, a cluster each, in one launch. A part publishes its survivors to scratch memory, at
// least its K best, without ranking them. The cluster of the last CTA of a row to arrive, by a ticket, does 2, 4 and 5
// over, with what was published in place of logits. Nobody waits for a cluster that may not have started.
//
// Deterministic: sums are trees of fixed shape; survivors carry their index, so the order of arrival does not matter.
#pragma once

#include "cluster.cuh"
#include "held.cuh"

namespace fused_topk {
namespace decode {

constexpr int kClusterSlots = 512;  // where thread maxima meet
constexpr int kBisections = 16;     // of the keys in which a bound is looked for, at most
constexpr uint32_t kMostK = 256;
constexpr uint32_t kMostParts = 16;
constexpr uint32_t kOwnBest = kMostK + 8;  // at least K, and ties within one vector
constexpr uint32_t kSpare = 48;            // logits more than K / CTAs of a CTA that may reach its new bound
static_assert(kMostK <= kClusterSlots, "a bound needs K slots");

// Survivors that a CTA can send. The fewer CTAs, the more each has.
template <int kCtas>
constexpr uint32_t kListLength = kCtas >= 16 ? kOwnBest : 520;
// More survivors of a CTA, and of a row, are narrowed before they are ranked.
template <int kCtas>
constexpr uint32_t kMostRanked = kCtas >= 16 ? 160 : kListLength<kCtas>;
constexpr uint32_t kMaxSurvivors = 1024;

// What a CTA of a part publishes beside its list.
struct alignas(16) PartRecord {
  uint32_t length;   // of the list
  uint32_t highest;  // key of the part's maximum
  float sum;         // of the CTA's weights, against that maximum
};

// How a long row is cut, and its scratch memory.
struct PartPlan {
  uint32_t parts;       // clusters a row
  uint32_t vectors;     // of a part, from the row's first sector on
  uint32_t* tickets;    // [rows], 0 before and after a launch
  PartRecord* records;  // [rows, parts, CTAs]
  Candidate* lists;     // [rows, parts, CTAs, kListLength]; the first kEager of a list are written, however short it is
};

// The groups of this CTA that have survivors; of those in registers, what they hold.
constexpr uint32_t kMaxHits = 384;
struct Hits {
  uint4 vectors[kMaxHits][2];
  uint16_t group[kMaxHits];  // g * kThreads + thread
  uint32_t count;
};
struct NoHits {};

template <class S>
struct Shared {
  static constexpr int kCtas = S::kCtas, kWarps = S::kWarps;
  // Sent by all CTAs, at the place of the sender.
  Mailbox bound_mailbox, list_mailbox, arrival_mailbox;
  uint64_t bounds[kCtas];                     // key of the bound << 32 | key of the maximum; in `narrow` edges of CTAs
  alignas(16) uint32_t sums[kCtas * kWarps];  // float bits, against the maximum of the row
  uint32_t lengths[kCtas];                    // of the lists; one that is too long was not sent
  uint32_t arrivals[kCtas];                   // how many CTAs of the row had published before
  Candidate lists[kCtas][kListLength<kCtas> + 1];  // one more, so that a place of all lists is in different banks
  // Of this CTA.
  alignas(16) uint32_t slots[kClusterSlots / kCtas];
  float warp_sums[kWarps];
  uint32_t length;
  Candidate list[kListLength<kCtas>];
  std::conditional_t<(S::kShared > 0), Hits, NoHits> hits;
  // For `narrow`.
  uint32_t histogram[S::kThreads];
  uint32_t warp_total[kWarps];
  uint32_t digit, above, in_digit;
};

template <class D, class S, bool kParted>
struct Decode {
  using Held = decode::Held<D, S>;
  static constexpr int kCtas = S::kCtas, kThreads = S::kThreads, kWarps = S::kWarps, kRegisters = S::kRegisters;
  static constexpr int kGroups = Held::kGroups, kSlots = kClusterSlots / kCtas;
  static constexpr uint32_t kListLength = decode::kListLength<kCtas>;
  static constexpr uint32_t kMostRanked = decode::kMostRanked<kCtas>;
  static constexpr uint32_t kEager = kThreads / 8;
  static constexpr int kDigits = kThreads, kDigitBits = kDigits == 1024 ? 10 : 9;  // a thread has a digit
  static_assert(kDigits == 1 << kDigitBits && kEager <= kListLength, "sizes");

  const Problem& problem;
  const PartPlan& plan;
  Shared<S>& shared;
  const uint32_t row, part, cta;
  Held held;

  __device__ __forceinline__ uint32_t thread() const { return threadIdx.x; }
  __device__ __forceinline__ int lane() const { return threadIdx.x & 31; }
  __device__ __forceinline__ int warp() const { return threadIdx.x >> 5; }

  __device__ __forceinline__ uint32_t* slot() const { return &shared.slots[thread() % kSlots]; }
  __device__ __forceinline__ void clear_slots() {
    if (thread() >= kThreads - kSlots) *slot() = 0;
  }

  // The groups from `g` on, as they arrive: their maxima, and the sum of all but the last against a reference that
  // rises.
  template <int g>
  __device__ __forceinline__ void arrive(float (&maxima)[kGroups], float& reference, float& sum) const {
    if constexpr (g < kGroups) {
      if constexpr (g >= Held::kRegisterGroups) wait_copy_groups<Held::kWindow - 1>();
      const auto group = held.group(g);
      maxima[g] = max_of<D>(group.v);
      if constexpr (kGroups > 1) {
        asm volatile("" ::"f"(maxima[g]) : "memory");  // it is there before more is asked for
        held.ask_for(g + Held::kWindow);
      }
      if constexpr (g < kGroups - 1) {
        const float next = fmaxf(reference, fminf(maxima[g] * problem.scale.high, 2 * kCoarse));
        sum = sum * exp2_fast(reference - next) + Held::sum_against(group.v, problem.scale.high, next);
        reference = next;
        arrive<g + 1>(maxima, reference, sum);
      }
    }
  }

  // Warp 0: the CTA's bound and maximum, to all.
  __device__ __forceinline__ void send_bound() {
    const uint32_t need = (problem.k + kCtas - 1) / kCtas;
    uint32_t bound, highest;
    if constexpr (kSlots == 32) {
      uint32_t slot = shared.slots[lane()];
      bound = highest = warp_max(slot);
      if (need <= 8) {  // strike out the largest need - 1 times
#pragma unroll 1
        for (uint32_t i = 1; i < need; i++) {
          const uint32_t holders = __ballot_sync(kFullWarp, slot == bound);
          if (lane() == __ffs(holders) - 1) slot = 0;
          bound = warp_max(slot);
        }
      } else {  // the smallest of those with fewer than `need` above
        uint32_t above = 0;
        const uint4* const all = reinterpret_cast<const uint4*>(shared.slots);
#pragma unroll
        for (int i = 0; i < 8; i++) {
          const uint4 other = all[i];
          above += (other.x > slot) + (other.y > slot) + (other.z > slot) + (other.w > slot);
        }
        bound = warp_min(above < need ? slot : 0xFFFFFFFFu);
      }
    } else {  // by bisection; an early end gives a lower bound
      uint32_t slots[kSlots / 32], high = 0, low = 0xFFFFFFFFu;
#pragma unroll
      for (int i = 0; i < kSlots / 32; i++) {
        slots[i] = shared.slots[i * 32 + lane()];
        high = max(high, slots[i]);
        low = min(low, slots[i]);
      }
      bound = warp_min(need <= 32 ? high : low);
      highest = high = warp_max(high);
#pragma unroll 1
      for (int step = 0; step < kBisections && bound < high; step++) {
        const uint32_t middle = bound + (high - bound + 1) / 2;
        uint32_t reaching = 0;
#pragma unroll
        for (int i = 0; i < kSlots / 32; i++) reaching += slots[i] >= middle;
        reaching = warp_sum(reaching);
        if (reaching >= need) bound = middle;
        if (reaching < need) high = middle - 1;
        if (reaching == need) break;
      }
    }
    if (lane() < kCtas) {
      shared.bound_mailbox.send(lane(), &shared.bounds[cta], static_cast<uint64_t>(bound) << 32 | highest);
    }
  }

  // Collects the logits that reach a finite bound.
  __device__ __forceinline__ void collect(float bound, const float (&maxima)[kGroups]) {
    if constexpr (kGroups == 1) {
      const auto group = held.group(0);
      append(group, Held::reaching(group, bound));
    } else {
      // Few threads have any, but most warps have one: so what those threads have is handed out to all.
#pragma unroll
      for (int g = 0; g < kGroups; g++) {
        if (!(maxima[g] >= bound)) continue;
        const uint32_t place = atomicAdd(&shared.hits.count, 1u);
        if (place >= kMaxHits) continue;
        shared.hits.group[place] = static_cast<uint16_t>(g * kThreads + thread());
        if (g >= Held::kRegisterGroups) continue;
#pragma unroll
        for (int j = 0; j < Held::kGroup; j++) shared.hits.vectors[place][j] = held.v[g * Held::kGroup + j];
      }
      __syncthreads();
      const uint32_t count = shared.hits.count;
      if (count > kMaxHits && thread() == 0) atomicAdd(&shared.length, kListLength + 1);  // to be narrowed
      constexpr uint32_t kLogits = Held::kLogits;
      for (uint32_t i = thread(); i < min(count, kMaxHits) * kLogits; i += kThreads) {
        const uint32_t hit = i / kLogits, of = shared.hits.group[hit] % kThreads, g = shared.hits.group[hit] / kThreads;
        const uint32_t j = i % kLogits / D::kPerVector, in_vector = i % D::kPerVector, vector = g * Held::kGroup + j;
        const uint32_t address =
            g < Held::kRegisterGroups ? shared_address(&shared.hits.vectors[hit][j]) : held.shared_vector(vector, of);
        const float logit = load_shared_logit<D>(address + in_vector * sizeof(typename Held::Storage));
        if (logit >= bound) append(make_candidate_of_number(logit, held.first_index(vector, of) + in_vector));
      }
    }
  }

  __device__ __forceinline__ void append(const typename Held::Group& group, uint32_t chosen) {
    if (!chosen) return;
    uint32_t place = atomicAdd(&shared.length, __popc(chosen));
#pragma unroll 1
    for (; chosen && place < kListLength; chosen &= chosen - 1) {
      const uint32_t i = __ffs(chosen) - 1;
      shared.list[place++] = make_candidate(Held::logit_of(group, i), held.index_of(group, i));
    }
  }
  __device__ __forceinline__ void append(Candidate candidate) {
    const uint32_t place = atomicAdd(&shared.length, 1u);
    if (place < kListLength) shared.list[place] = candidate;
  }

  // The CTA's list, if it is no longer than `longest`, and sums, to all: warp w sends to CTA w.
  __device__ __forceinline__ void send_list(uint32_t longest) {
    static_assert(kWarps >= kCtas, "a warp for each CTA");
    constexpr int kSums = kParted ? 0 : kWarps;
    static_assert(kSums <= 32, "a lane for each sum");
    const uint32_t to = warp(), length = shared.length, sent = length <= longest ? length : 0;
    if (to >= kCtas) return;
    Mailbox& mailbox = shared.list_mailbox;
    if (lane() == 0) {
      mailbox.announce(to, sent * sizeof(Candidate) + (1 + kSums) * sizeof(uint32_t));
      mailbox.send(to, &shared.lengths[cta], length);
    }
#pragma unroll 1
    for (uint32_t i = lane(); i < sent; i += 32) mailbox.send(to, &shared.lists[cta][i], shared.list[i]);
    if (lane() < kSums) {
      mailbox.send(to, &shared.sums[cta * kWarps + lane()], __float_as_uint(shared.warp_sums[lane()]));
    }
  }

  // An edge, which is key << 32 | place, that at least `need` of this CTA's logits reach and at most `limit` >= need +
  // 7; or `lowest` where the CTA has fewer. Radix select on the key, between `lowest` and `highest`, then on the place. The
  // histogram is clear before and after.
  __device__ __forceinline__ uint64_t select(uint32_t need, uint32_t limit, uint32_t lowest, uint32_t highest) const {
    constexpr int kUnusedBits = D::kUnusedBits, kPerVector = D::kPerVector;
    constexpr uint32_t kAll = (1u << kPerVector) - 1;
    uint32_t edge = lowest >> kUnusedBits,
             span = (highest >> kUnusedBits) - edge;  // it is among edge, ..., edge + span
    uint32_t key = 0, above = 0, reached = 0xFFFFFFFFu;
    bool by_place = false;
    while (reached > limit) {
      if (span == 0) {
        if (by_place) break;
        by_place = true;
        key = edge;
        edge = 0;
        span = (1u << Held::kPlaceBits) - 1;
      }
      const int begin = max(0, 32 - __clz(span) - kDigitBits);
      held.each_vector([&](uint32_t j, uint32_t valid, const uint32_t(&keys)[kPerVector]) {
        if (by_place) {
          const uint32_t place = held.place_of(j), rest = place - edge;
          if (place < edge || rest > span) return;
#pragma unroll
          for (int i = 0; i < kPerVector; i++) valid &= keys[i] >> kUnusedBits == key ? ~0u : ~(1u << i);
          if (valid) atomicAdd(&shared.histogram[rest >> begin], __popc(valid));
          return;
        }
        const uint32_t digit = ((keys[0] >> kUnusedBits) - edge) >> begin;
        bool alike = true;
#pragma unroll
        for (int i = 0; i < kPerVector; i++) {
          const uint32_t rest = (keys[i] >> kUnusedBits) - edge;  // what is below the edge wraps, and is over the span
          if (rest > span) valid &= ~(1u << i);
          alike &= rest >> begin == digit;
        }
        if (!valid) return;
        if (alike && valid == kAll) {
          count_many(digit, kPerVector);
          return;
        }
#pragma unroll
        for (int i = 0; i < kPerVector; i++) {
          if (valid >> i & 1) atomicAdd(&shared.histogram[((keys[i] >> kUnusedBits) - edge) >> begin], 1u);
        }
      });
      __syncthreads();
      find_digit(need - above);
      edge += shared.digit << begin;
      above += shared.above;
      reached = above + shared.in_digit;
      span = (1u << begin) - 1;
    }
    return by_place ? static_cast<uint64_t>(key) << 32 | edge : static_cast<uint64_t>(edge) << 32;
  }

  // Collects the logits that reach an edge.
  __device__ __forceinline__ void collect(uint64_t edge) {
    const uint32_t key = static_cast<uint32_t>(edge >> 32), place = static_cast<uint32_t>(edge);
    held.each_vector([&](uint32_t j, uint32_t valid, const uint32_t(&keys)[D::kPerVector]) {
      const uint32_t least = held.place_of(j) >= place ? key : key + 1, first = held.first_index(j);
      uint32_t chosen = 0;
#pragma unroll
      for (int i = 0; i < D::kPerVector; i++) chosen |= keys[i] >> D::kUnusedBits >= least ? 1u << i : 0u;
      chosen &= valid;
      if (!chosen) return;
      uint32_t at = atomicAdd(&shared.length, __popc(chosen));
#pragma unroll
      for (int i = 0; i < D::kPerVector; i++) {
        if (!(chosen >> i & 1)) continue;
        if (at < kListLength) shared.list[at] = static_cast<uint64_t>(keys[i]) << 32 | ~(first + i);
        at++;
      }
    });
  }

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

  // Collects anew what may be among the K best of the row, no more than a list holds. `edge_of(need, limit)` gives an
  // edge, which `collect_from(edge)` applies. All CTAs of the cluster together, or each `alone`: then its own K best.
  template <class EdgeOf, class CollectFrom>
  __device__ __forceinline__ void narrow(bool alone, EdgeOf edge_of, CollectFrom collect_from) {
    __syncthreads();  // the list was sent, its length read
    shared.histogram[thread()] = 0;
    if (thread() == 0) {
      shared.length = 0;
      if (!alone) shared.bound_mailbox.expect(sizeof shared.bounds);
    }
    __syncthreads();
    uint32_t need = alone ? problem.k : (problem.k + kCtas - 1) / kCtas, limit = alone ? kOwnBest : need + kSpare;
#pragma unroll 1
    while (true) {
      uint64_t edge = edge_of(need, limit);
      if (!alone) {
        if (thread() < kCtas) shared.bound_mailbox.send(thread(), &shared.bounds[cta], edge);
        shared.bound_mailbox.wait(kParted ? 0 : 1);
        edge = shared.bounds[0];
        for (int from = 1; from < kCtas; from++) edge = min(edge, shared.bounds[from]);
      }
      collect_from(edge);
      __syncthreads();
      if (alone || shared.length <= kListLength) return;
      __syncthreads();  // the length is read
      if (thread() == 0) shared.length = 0;
      alone = true;
      need = problem.k;
      limit = kOwnBest;
    }
  }

  // A survivor of this CTA: lane l of a warp has the one at warp + l kWarps of the list, if there is one.
  struct Survivor {
    Candidate candidate;
    float weight;
    uint32_t count;  // of the list
  };
  static_assert(kListLength <= 32 * kWarps, "a lane for each");
  __device__ __forceinline__ Survivor own_survivor(float max) const {
    Survivor own{0, 0, min(shared.length, kListLength)};
    const uint32_t at = warp() + lane() * kWarps;
    if (at < own.count) {
      own.candidate = shared.list[at];
      own.weight = weight(candidate_logit(own.candidate), max, problem.scale);
    }
    return own;
  }

  // Ranks the survivors of lanes first, ..., first + kAtOnce - 1 by the whole warp, and writes those among the K best.
  template <int kAtOnce, class Emit>
  __device__ __forceinline__ void rank(uint32_t first, const Survivor& own, uint32_t longest, uint32_t length,
                                       Emit emit) const {
    constexpr uint32_t kStep = 32 / kCtas, kUnroll = 4;
    const Candidate* const list = shared.lists[lane() % kCtas];
    Candidate mine[kAtOnce];
    uint32_t better[kAtOnce];
#pragma unroll
    for (int h = 0; h < kAtOnce; h++) {
      mine[h] = __shfl_sync(kFullWarp, own.candidate, first + h);
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
    uint32_t its_rank = problem.k;
#pragma unroll
    for (int h = 0; h < kAtOnce; h++) {
      const uint32_t total = warp_sum(better[h]);
      if (lane() == first + h) its_rank = total;
    }
    if (warp() + lane() * kWarps < own.count && its_rank < problem.k) emit(its_rank);
  }

  // Where the CTA of this rank publishes in part `from`.
  __device__ __forceinline__ uint64_t published_at(uint32_t from) const {
    return (static_cast<uint64_t>(row) * plan.parts + from) * kCtas + cta;
  }

  // Publishes the list and the sum. True in the cluster of the row's last CTA to do so, which then sees what all
  // published.
  __device__ __forceinline__ bool publish_part(uint32_t highest) {
    const uint64_t at = published_at(part);
    const uint32_t length = shared.length;
    for (uint32_t i = thread(); i < max(length, kEager); i += kThreads) {
      plan.lists[at * kListLength + i] = i < length ? shared.list[i] : 0;
    }
    if (warp() == 0) {
      const float sum = warp_sum(lane() < kWarps ? shared.warp_sums[lane()] : 0.0f);
      if (lane() == 0) {
        reinterpret_cast<uint4&>(plan.records[at]) = make_uint4(length, highest, __float_as_uint(sum), 0);
      }
    }
    __syncthreads();
    const uint32_t last = plan.parts * kCtas - 1;
    if (warp() == 0) {
      uint32_t before = 0;
      if (lane() == 0) {  // the last increment wraps to 0
        asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                     : "=r"(before)
                     : "l"(plan.tickets + row), "r"(last)
                     : "memory");
      }
      before = __shfl_sync(kFullWarp, before, 0);
      __syncwarp();
      if (lane() < kCtas) {
        store_in(lane(), &shared.arrivals[cta], before);
        shared.arrival_mailbox.release(lane());
      }
    }
    shared.arrival_mailbox.wait(0);
    return __any_sync(kFullWarp, shared.arrivals[lane() % kCtas] == last);
  }

  // What other CTAs published is read past the first-level cache, which may hold what was there before.
  __device__ __forceinline__ static PartRecord read(const PartRecord* record) {
    const uint4 words = __ldcg(reinterpret_cast<const uint4*>(record));
    return {words.x, words.y, __uint_as_float(words.z)};
  }

  // What of a part's list this thread reads: places `first`, first + step, ... below `length`.
  struct Published {
    const Candidate* list;
    uint32_t first, step, length;
    Candidate eager;  // the one at `first`, fetched along with the length

    template <class F>
    __device__ __forceinline__ void each(F f) const {
      Candidate candidate = eager;
#pragma unroll 1
      for (uint32_t i = first; i < length;) {
        f(candidate);
        i += step;
        if (i < length) candidate = __ldcg(list + i);
      }
    }
  };
  // A warp reads from one part; where there are fewer parts than warps, several share its list.
  __device__ __forceinline__ Published published() const {
    const uint32_t warps = kWarps / plan.parts, from = warp() % plan.parts;
    Published own{nullptr, 0, 32 * warps, 0, 0};
    if (warp() >= warps * plan.parts) return own;
    const uint64_t at = published_at(from);
    own.list = plan.lists + at * kListLength;
    own.first = lane() + warp() / plan.parts * 32;
    if (own.first < kEager) own.eager = __ldcg(own.list + own.first);
    own.length = read(plan.records + at).length;
    if (own.first >= kEager && own.first < own.length) own.eager = __ldcg(own.list + own.first);
    return own;
  }
  static_assert(kMostParts <= kWarps, "a warp for each part");

  // The last cluster: collects what reaches a bound over all that was published, and gives the maximum of the row and
  // its sum.
  __device__ __forceinline__ void merge_parts(const Published& own, float& max, float& total) {
    constexpr int kRecords = (kMostParts * kCtas + 31) / 32;  // a lane
    const PartRecord* const records = plan.records + (published_at(0) - cta);
    PartRecord record[kRecords];
#pragma unroll
    for (int i = 0; i < kRecords; i++) {
      const uint32_t at = lane() + i * 32;
      record[i] = {0, 0, 0};
      if (at < plan.parts * kCtas) record[i] = read(records + at);
    }
    uint32_t best = 0;
    own.each([&](Candidate c) { best = ::max(best, static_cast<uint32_t>(c >> 32)); });
    atomicMax(slot(), best);
    __syncthreads();
    if (warp() == 0) send_bound();

    uint32_t highest = 0;
#pragma unroll
    for (int i = 0; i < kRecords; i++) highest = ::max(highest, record[i].highest);
    highest = warp_max(highest);
    max = highest > kKeyNegativeInfinity ? logit_of_key(highest) : 0.0f;
    total = 0;
#pragma unroll
    for (int i = 0; i < kRecords; i++) {
      const float sum = record[i].sum;
      total += sum == 0 || sum != sum ? sum : sum * weight(logit_of_key(record[i].highest), max, problem.scale);
    }
    total = warp_sum(total);

    shared.bound_mailbox.wait(1);
    uint32_t bound = warp_min(static_cast<uint32_t>(shared.bounds[lane() % kCtas] >> 32));
    if (bound <= kKeyNegativeInfinity) bound = 0;
    own.each([&](Candidate c) {
      if (static_cast<uint32_t>(c >> 32) >= bound) append(c);
    });
  }

  // As `select`, of what was published. An edge is a candidate here.
  __device__ __forceinline__ uint64_t select_published(const Published& own, uint32_t need, uint32_t limit) const {
    uint64_t edge = 0;
    uint32_t above = 0, reached = 0xFFFFFFFFu;
#pragma unroll 1
    for (int end = 64; end > 0 && reached > limit;) {
      const int begin = max(0, end - kDigitBits);
      own.each([&](Candidate c) {
        const uint64_t rest = c ^ edge;
        if (end == 64 || rest >> end == 0) atomicAdd(&shared.histogram[c >> begin & (kDigits - 1)], 1u);
      });
      __syncthreads();
      find_digit(need - above);
      edge |= static_cast<uint64_t>(shared.digit) << begin;
      above += shared.above;
      reached = above + shared.in_digit;
      end = begin;
    }
    return edge;
  }

  __device__ __forceinline__ void run() {
    const Scale scale = problem.scale;
    held.cta = cta;
    if constexpr (kParted) {
      held.place(problem, row, part * plan.vectors, plan.vectors);
    } else {
      held.place(problem, row, 0, Held::kPartVectors);
    }
    held.load();

    // While the row is on its way.
    clear_slots();
    if (thread() == 0) {
      shared.length = 0;
      if constexpr (kGroups > 1) shared.hits.count = 0;
      shared.bound_mailbox.open(1);
      shared.list_mailbox.open(kCtas);
      if (kParted) shared.arrival_mailbox.open(kCtas);
      shared.bound_mailbox.expect(sizeof shared.bounds);
    }
    __syncthreads();
    cluster_arrive_relaxed();
    cluster_wait();

    // The registers are first used together with this 0. Since it is read here, the compiler cannot move the use, and
    // with it the wait for the row, before the barriers.
    const uint32_t none = shared.length;
#pragma unroll
    for (int j = 0; j < kRegisters; j++) held.v[j].x |= none;
    float maxima[kGroups], early_reference = -2 * kCoarse, early_sum = 0;
    arrive<0>(maxima, early_reference, early_sum);
    float own_max = maxima[0];
#pragma unroll
    for (int g = 1; g < kGroups; g++) own_max = fmaxf(own_max, maxima[g]);

    const uint32_t key = order_key(own_max);
    atomicMax(slot(), key);
    const float scaled = logit_of_key(warp_max(key)) * scale.high;
    const float reference = fabsf(scaled) <= 2 * kCoarse ? scaled : 0.0f;
    __syncthreads();
    if (warp() == 0) send_bound();
    float sum = Held::sum_against(held.group(kGroups - 1).v, scale.high, reference);
    if (kGroups > 1 && early_sum != 0) sum += early_sum * exp2_fast(early_reference - reference);
    sum = warp_sum(sum);

    shared.bound_mailbox.wait(0);
    const uint64_t sent = shared.bounds[lane() % kCtas];
    const uint32_t bound = warp_min(static_cast<uint32_t>(sent >> 32));
    const uint32_t highest = warp_max(static_cast<uint32_t>(sent));
    const bool bounded = bound > kKeyNegativeInfinity;
    float max = highest > kKeyNegativeInfinity ? logit_of_key(highest) : 0.0f;  // of masked rows, any number

    // From the warp's reference to the row's maximum, which need not be a float once scaled: one rounding.
    if (__builtin_expect(fabsf(max * scale.high) >= kCoarse && max < infinity(), 0)) {
      sum = warp_sum(held.sum_coarse(max, scale));
    } else if (sum != 0) {
      sum *= exp2_fast(fmaf(-max, scale.high, reference));
    }
    if (lane() == 0) shared.warp_sums[warp()] = sum;

    if (bounded) collect(logit_of_key(bound), maxima);
    const auto narrow_held = [&](bool alone) {
      const uint32_t lowest = bounded ? bound : 0;
      narrow(
          alone, [&](uint32_t need, uint32_t limit) { return select(need, limit, lowest, highest); },
          [&](uint64_t edge) { collect(edge); });
    };
    float total = 0;
    [[maybe_unused]] Published own;
    if constexpr (kParted) {
      __syncthreads();
      if (!bounded || shared.length > kListLength) narrow_held(true);
      if (!publish_part(highest)) return;
      own = published();
      clear_slots();
      if (thread() == 0) {
        shared.length = 0;
        shared.bound_mailbox.expect(sizeof shared.bounds);
      }
      __syncthreads();
      merge_parts(own, max, total);
    }

    uint32_t length, longest;
    Survivor mine;
    for (int round = 0;; round++) {
      __syncthreads();
      send_list(round == 0 ? kMostRanked : kListLength);
      mine = own_survivor(max);
      shared.list_mailbox.wait(round);
      length = shared.lengths[lane() % kCtas];
      longest = warp_max(length);
      if (round == 1) break;
      const uint32_t survivors = warp_sum(lane() < kCtas ? length : 0);
      if (__builtin_expect((bounded || kParted) && longest <= kMostRanked && survivors <= kMaxSurvivors, 1)) break;
      if constexpr (kParted) {
        narrow(
            false, [&](uint32_t need, uint32_t limit) { return select_published(own, need, limit); },
            [&](uint64_t edge) { own.each([&](Candidate c) { c >= edge ? append(c) : void(); }); });
      } else {
        narrow_held(false);
      }
    }

    if constexpr (!kParted) {
      constexpr int kFours = kCtas * kWarps / 4;
#pragma unroll
      for (int i = 0; i < (kFours + 31) / 32; i++) {
        if (kFours % 32 != 0 && i * 32 + lane() >= kFours) continue;
        const float4 four = reinterpret_cast<const float4*>(shared.sums)[i * 32 + lane()];
        total += (four.x + four.y) + (four.z + four.w);
      }
      total = warp_sum(total);
    }
    if (!(total < infinity())) total = quiet_nan();
    const float inverse_sum = 1.0f / total;
    if (cta == 0 && thread() == kThreads - 1) problem.log_sum_exp[row] = log_sum_exp(max, total, scale);

    float* const probs = problem.probs + static_cast<uint64_t>(row) * problem.k;
    uint32_t* const indices = problem.indices + static_cast<uint64_t>(row) * problem.k;
    const auto emit = [&](uint32_t place) {
      probs[place] = total == 0 ? 0 : mine.weight * inverse_sum;
      indices[place] = candidate_index(mine.candidate);
    };
    uint32_t first = 0;
    for (; warp() + (first + 1) * kWarps < mine.count; first += 4) rank<4>(first, mine, longest, length, emit);
    if (warp() + first * kWarps < mine.count) rank<1>(first, mine, longest, length, emit);
  }
};

}  // namespace decode
}  // namespace fused_topk
