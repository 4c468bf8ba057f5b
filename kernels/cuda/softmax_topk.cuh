// The streaming kernel: a block reads a row, or a part of one, once, and holds its RowState as it goes.
//
// The body of the row is cut into warp tiles of kVectors x 32 vectors of 16 bytes. A warp copies its tiles into a ring
// in shared memory with asynchronous copies, kStages ahead. Each thread reads back only what it copied itself, so the
// stream has no barrier and its many bytes in flight cost no registers.
//
// Tiles are visited in a permuted order: position j of the visit is tile (j * stride) mod slots, where stride is
// coprime to slots and near the golden section of them. Any prefix of the visit is then an even sample of the row, and
// sorted rows cost no more than random ones. The threshold breaks ties by index, so the order of the visit is free.
//
// 1. Start. The first tiles arrive; each vector gives its maximum. The K-th largest of these is reached by K logits: a
//    first threshold. The block's largest one is the reference of the sum.
// 2. Stream. A tile costs a maximum, one comparison with the threshold and one exp2 a logit. Only a warp whose tile
//    beats the threshold appends (select.cuh), and only there can a logit be far above the reference.
// 3. Overflow. A warp that finds the buffer full goes to a barrier; the others follow at their next append or at the
//    end of their tiles. The block cuts the buffer, and every warp goes on with the tile it was at.
// 4. Finish. One part a row: sort, and write K results. Several: the part's RowState goes to scratch memory, and the
//    last block of the row to arrive, by a ticket, merges them.
//
// The sum. A tile's 16 or 32 weights are added in two float chains, tiles in double: no float chain is longer than 16.
// exp2(x * scale - reference) is one fused multiply-add, exact but for one rounding, whatever the size of x * scale, as
// long as the reference is that very float; the finish knows the true max and corrects for the difference. Where
// |max * scale| >= 2^29 a float is too coarse for that, and the row is summed again against its max: `sum_again`.
//
// Deterministic: what a thread adds, and in which order, depends on the shape alone; candidates carry their index, so
// the order in which they arrive does not matter.
#pragma once

#include <cfloat>

#include "logits.cuh"
#include "problem.h"
#include "select.cuh"

namespace fused_topk {

// What a part publishes beside its candidates.
struct PartState {
  PartialSum sum;
  uint32_t count;      // candidates
  uint32_t threshold;  // a key that K candidates of this part reach, or that of -inf
};

// How the launcher cuts the rows into parts and tiles.
struct StreamPlan {
  uint32_t parts;     // blocks a row
  uint32_t slots;     // tile positions a part: at least its tiles, however the row is aligned
  uint32_t stride;    // coprime to slots
  uint32_t capacity;  // of the candidate buffer, stream_capacity<kThreads>(k)
  // Scratch; unused where parts is 1. Tickets are 0 before and after a launch.
  PartState* states;      // [rows, parts]
  Candidate* candidates;  // [rows, parts, published(k)]
  uint32_t* tickets;      // [rows]
};

// Candidates a part may publish: the K best and some that only an exact cut would tell from them.
__host__ __device__ constexpr uint32_t published(uint32_t k) { return k + kCrowded; }

constexpr float kRescaleAbove = 8.0f;    // in powers of two over the reference
constexpr float kCoarse = 536870912.0f;  // 2^29: a scaled logit from here on has an ulp of 64 or more

constexpr int kVectors = 4;      // of 16 bytes, a thread and tile
constexpr int kFirstStages = 1;  // whose vectors give the first threshold
constexpr int kFirstPasses = 3;  // of the search for it, at most

// Bytes in flight hide the latency of memory; without asynchronous copies there are none, and the ring is kept short.
constexpr int ring_stages(int compute_capability_major) { return compute_capability_major >= 8 ? 2 : 1; }

template <int kThreads>
constexpr uint32_t ring_bytes(int compute_capability_major) {
  return kThreads * kVectors * 16 * ring_stages(compute_capability_major);
}

// Candidates a buffer holds: the K best, room to append, and a power of two to sort. The least fills the shared memory
// of a Hopper multiprocessor with as many blocks as its registers allow; more room means fewer cuts.
template <int kThreads>
constexpr uint32_t stream_capacity(uint32_t k) {
  uint32_t power = 1024;
  while (power < k) power *= 2;
  const uint32_t least = kThreads == 256 ? 2304 : 5376, room = k + 1024;
  const uint32_t needed = power > room ? power : room;
  return needed > least ? needed : least;
}

struct RowTotals {
  float max, inverse_sum;  // NaN where the row has no softmax
  bool masked;             // every logit is -inf
};

struct StreamControl {
  SelectControl select;
  PartialSum sums[32];
  uint32_t highest[32], lowest[32];  // keys, by warp
  RowTotals totals;
  uint32_t ticket;
};

template <int kThreads>
constexpr uint32_t stream_shared_bytes(uint32_t capacity, int compute_capability_major) {
  return ring_bytes<kThreads>(compute_capability_major) + sizeof(StreamControl) + kBins * sizeof(uint32_t) +
         capacity * sizeof(Candidate);
}

// The sum of the logits one thread has seen.
struct ThreadSum {
  float reference;  // scaled
  float limit;      // a logit from here on lies kRescaleAbove or more over the reference
  double sum;

  // Starts against `max`, or, where that is masked or too coarse, against the first logit that is not.
  __device__ __forceinline__ void start(float max, const Scale& scale) {
    const float scaled = max * scale.high;
    sum = 0;
    reference = fabsf(scaled) <= 2 * kCoarse ? scaled : 0.0f;
    limit = fabsf(scaled) <= 2 * kCoarse ? (scaled + kRescaleAbove) / scale.high : -FLT_MAX;
  }
  // Moves the reference up to a logit that has passed the limit.
  __device__ __forceinline__ void rescale(float max, const Scale& scale) {
    const float scaled = max * scale.high;
    if (!(max >= limit && fabsf(scaled) <= 2 * kCoarse)) return;
    if (sum != 0) sum *= exp2_fast(reference - scaled);  // the first reference may be far above: 0 times infinity
    reference = scaled;
    limit = (scaled + kRescaleAbove) / scale.high;
  }
  __device__ __forceinline__ float term(float logit, const Scale& scale) const {
    return exp2_fast(fmaf(logit, scale.high, -reference));
  }
};

// The sum over a warp. A lane that saw only masked logits has no say in the reference.
__device__ __forceinline__ PartialSum warp_merge(float reference, double sum) {
  const float common = logit_of_key(warp_max(sum == 0 ? kKeyNaN : order_key(reference)));
  if (sum != 0) sum *= exp2_fast(reference - common);
#pragma unroll
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  return {common, sum};
}

template <class D, int kThreads>
struct Stream {
  using Storage = typename D::Storage;
  static constexpr int kWarps = kThreads / 32;
  static constexpr uint32_t kTile = kVectors * 32 * D::kPerVector;
  static constexpr uint32_t kStageBytes = kVectors * 32 * 16;                                 // a warp
  static constexpr int kScalars = (kTile + 128 / sizeof(Storage) + kThreads - 1) / kThreads;  // a thread, head and tail
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  static constexpr int kStages = ring_stages(7);
#else
  static constexpr int kStages = ring_stages(8);
#endif

  const Problem& problem;
  const StreamPlan& plan;
  uint4* ring;
  StreamControl& control;
  Selection<kThreads> select;
  uint64_t row;
  uint32_t part;

  __device__ __forceinline__ uint32_t thread() const { return threadIdx.x; }
  __device__ __forceinline__ int lane() const { return threadIdx.x & 31; }
  __device__ __forceinline__ int warp() const { return threadIdx.x >> 5; }
  __device__ __forceinline__ const Storage* row_start() const {
    return static_cast<const Storage*>(problem.logits) + row * problem.row_stride;
  }

  // Reads the part: leaves its candidates in the buffer, counted, and its sum in control.sums by warp.
  __device__ void read_part() {
    const Scale scale = problem.scale;
    const Storage* const start = row_start();
    const uint32_t vocab = problem.vocab;
    const uint32_t head = head_length<D>(start, vocab);
    const uint32_t tiles = (vocab - head) / kTile;
    const uint32_t tail = head + tiles * kTile;
    const uint4* const body = reinterpret_cast<const uint4*>(start + head) + lane();

    // The visit: this warp's tiles are at positions warp, warp + kWarps, ... of the part.
    const uint32_t slots = plan.slots;
    const uint32_t visits = slots > warp() ? (slots - warp() + kWarps - 1) / kWarps : 0;
    const uint32_t hop = slots ? static_cast<uint32_t>(static_cast<uint64_t>(plan.stride) * kWarps % slots) : 0;
    uint32_t next_slot = slots ? static_cast<uint32_t>(static_cast<uint64_t>(plan.stride) * warp() % slots) : 0;
    uint32_t slot = next_slot;
    auto advance = [&](uint32_t& at) {
      at += hop;
      if (at >= slots) at -= slots;
    };
    auto tile_of = [&](uint32_t at) { return at * plan.parts + part; };
    const uint32_t own = shared_address(ring + warp() * (kStages * kVectors * 32) + lane());
    // Fills a stage of the ring with the tile at the next position; an empty group where there is none.
    auto fetch = [&](uint32_t visit, uint32_t stage) {
      if (visit < visits) {
        const uint32_t tile = tile_of(next_slot);
        if (tile < tiles) {
          const uint4* const from = body + static_cast<uint64_t>(tile) * (kVectors * 32);
#pragma unroll
          for (int u = 0; u < kVectors; u++) copy_async(stage + u * 512, from + u * 32);
        }
        advance(next_slot);
      }
      close_copy_group();
    };
#pragma unroll
    for (int i = 0; i < kStages; i++) fetch(i, own + i * kStageBytes);

    // Head and tail, by part 0.
    float scalar[kScalars];
    auto scalar_index = [&](int i) {
      const uint32_t at = thread() + i * kThreads;
      return at < head ? at : at - head + tail;
    };
    auto has_scalar = [&](int i) { return part == 0 && thread() + i * kThreads < head + (vocab - tail); };
#pragma unroll
    for (int i = 0; i < kScalars; i++) {
      scalar[i] = has_scalar(i) ? load_logit<D>(start + scalar_index(i)) : -infinity();
    }

    select.clear();
    ThreadSum total;
    total.start(first_threshold(slots, slot, hop, tiles, own, scalar), scale);

    // The threshold as the stream compares it: a logit is appended where it is >= at, or >= over in tiles that lie
    // wholly behind the index up to which ties count.
    float at, over;
    uint32_t tie_index;
    Candidate cut = 0;
    uint32_t adopted;
    auto adopt = [&](uint32_t key) {
      adopted = key;
      at = logit_of_key(key);
      over = logit_of_key(key + 1);
      tie_index = key == cut >> 32 ? candidate_index(cut) : kNotFound;
    };
    adopt(select.read_threshold());
    float highest = -infinity();  // of what this thread appended

    // The buffer is empty and holds more than a head and a tail.
#pragma unroll
    for (int i = 0; i < kScalars; i++) {
      if (!has_scalar(i)) continue;
      total.rescale(scalar[i], scale);
      if (scalar[i] >= at) {
        uint32_t place;
        if (select.claim(1, place)) select.put(place, scalar[i], scalar_index(i));
        highest = fmaxf(highest, scalar[i]);
      }
      total.sum += total.term(scalar[i], scale);
    }
    __syncthreads();  // a tile of a faster warp may not take a scalar's place

    // A refresh whenever the count of appended candidates passes a multiple of a power of two near k / 2.
    const int refresh_shift = max(5, 30 - __clz(problem.k));
    uint32_t visit = 0, stage = own;
    bool appended = false;
    while (true) {
      bool full = false;
#pragma unroll 1
      while (visit < visits) {
        wait_copy_groups<kStages - 1>();
        const uint32_t tile = tile_of(slot);
        if (tile < tiles) {
          uint4 v[kVectors];
#pragma unroll
          for (int u = 0; u < kVectors; u++) v[u] = load_shared(stage + u * 512);
          const uint32_t first = head + tile * kTile;
          const float max = max_of<D>(v);
          if (__any_sync(kFullWarp, max >= fminf(first > tie_index ? over : at, total.limit))) {
            total.rescale(max, scale);
            const uint32_t key = select.read_threshold();
            if (key != adopted) adopt(key);
            const float bar = first > tie_index ? over : at;
            bool cross = false;
            if (max >= bar && !appended) {
              uint32_t chosen = 0;
#pragma unroll
              for (int i = 0; i < kVectors * D::kPerVector; i++) {
                chosen |= element<D>(v[i / D::kPerVector], i % D::kPerVector) >= bar ? 1u << i : 0u;
              }
              const uint32_t n = __popc(chosen);
              uint32_t place;
              if (select.claim(n, place)) {
                cross = (place ^ (place + n)) >> refresh_shift != 0;
                const uint32_t lane_first = first + lane() * D::kPerVector;
                while (chosen) {
                  const uint32_t i = __ffs(chosen) - 1, u = i / D::kPerVector, in_vector = i % D::kPerVector;
                  chosen &= chosen - 1;
                  select.put(place++, load_shared_logit<D>(stage + u * 512 + in_vector * sizeof(Storage)),
                             lane_first + u * (32 * D::kPerVector) + in_vector);
                }
                appended = true;
                highest = fmaxf(highest, max);
              } else {
                full = true;
              }
            }
            __syncwarp();
            full = __any_sync(kFullWarp, full);
            if (full) break;
            if (__any_sync(kFullWarp, cross)) select.refresh();
          }
          fetch(visit + kStages, stage);
          float sums[2] = {0, 0};
#pragma unroll
          for (int i = 0; i < kVectors * D::kPerVector; i++) {
            sums[i % 2] += total.term(element<D>(v[i / D::kPerVector], i % D::kPerVector), scale);
          }
          total.sum += sums[0] + sums[1];
        } else {
          fetch(visit + kStages, stage);
        }
        appended = false;
        stage = stage + kStageBytes == own + kStages * kStageBytes ? own : stage + kStageBytes;
        visit++;
        advance(slot);
      }
      if (!__syncthreads_or(full)) break;
      const uint32_t n = select.filled();
      __syncthreads();
      select.cut(n);
      select.count_again(problem.k);
      cut = control.select.cut;
      adopt(static_cast<uint32_t>(cut >> 32));
    }
    const PartialSum sum = warp_merge(total.reference, total.sum);
    const uint32_t highest_key = warp_max(order_key(highest));
    if (lane() == 0) {
      control.sums[warp()] = sum;
      control.highest[warp()] = highest_key;
    }
  }

  // The K-th largest of the maxima of the first vectors, down to the edge of its bin, becomes the threshold; the
  // largest, or that of the scalars where it is larger, is returned.
  __device__ float first_threshold(uint32_t slots, uint32_t slot, uint32_t hop, uint32_t tiles, uint32_t own,
                                   const float (&scalar)[kScalars]) {
    constexpr int kGroups = kVectors * kFirstStages;  // a thread
    uint32_t key[kGroups], highest = 0, lowest = kNotFound;
    wait_copy_groups<kStages - kFirstStages>();
#pragma unroll
    for (int s = 0; s < kFirstStages; s++) {
      const bool there = s * kWarps + warp() < slots && slot * plan.parts + part < tiles;
#pragma unroll
      for (int u = 0; u < kVectors; u++) {
        const uint4 v[1] = {load_shared(own + (s * kVectors + u) * 512)};
        key[s * kVectors + u] = there ? order_key(max_of<D>(v)) : kKeyNegativeInfinity;
        highest = max(highest, key[s * kVectors + u]);
        lowest = min(lowest, key[s * kVectors + u]);
      }
      slot += hop;
      if (slot >= slots) slot -= slots;
    }
    // kThreads maxima reach the lowest of the threads' largest.
    lowest = warp_min(problem.k <= kThreads ? highest : lowest);
#pragma unroll
    for (int i = 0; i < kScalars; i++) highest = max(highest, order_key(scalar[i]));
    highest = warp_max(highest);
    if (lane() == 0) {
      control.highest[warp()] = highest;
      control.lowest[warp()] = lowest;
    }
    __syncthreads();
    highest = warp_max(lane() < kWarps ? control.highest[lane()] : 0);
    lowest = warp_min(lane() < kWarps ? control.lowest[lane()] : kNotFound);
    const float max = logit_of_key(highest);
    uint32_t edge = kKeyNegativeInfinity;
    if (slots != 0 && problem.k <= kGroups * kThreads) {
      uint32_t range = highest - lowest, need = problem.k;
      edge = lowest;
      for (int pass = 0; pass < kFirstPasses; pass++) {
        const int shift = ::max(0, 22 - __clz(range | 1));  // at most kBins bins
#pragma unroll
        for (int i = 0; i < kGroups; i++) {
          if (key[i] - edge <= range) atomicAdd(&select.histogram[(key[i] - edge) >> shift], 1u);
        }
        __syncthreads();
        select.template find_bin<false>(need);
        const uint32_t above = control.select.above, in_bin = control.select.in_bin;
        edge += control.select.bin << shift;
        __syncthreads();
        if (shift == 0 || in_bin <= problem.k / 4 + 8) break;
        need -= above;
        range = (1u << shift) - 1;
      }
      if (thread() == 0 && edge > kKeyNegativeInfinity) control.select.threshold = edge;
    }
    select.binning = make_binning(logit_of_key(edge), max);
    __syncthreads();
    return max;
  }

  // One warp: the row's totals, from the parts' sums and the best candidates of the warps.
  template <class SumOf>
  __device__ void total_up(SumOf sum_of, uint32_t count) {
    PartialSum mine{0, 0};
    for (uint32_t i = lane(); i < count; i += 32) mine = merge(mine, sum_of(i));
    const PartialSum all = warp_merge(mine.reference, mine.sum);
    const float max = logit_of_key(warp_max(lane() < kWarps ? control.highest[lane()] : 0));
    // From the reference to the max: exact in double.
    const double shift = all.reference - static_cast<double>(max) * problem.scale.high;
    set_totals(max, all.sum == 0 ? 0.0 : all.sum * exp2(shift));
  }

  // One warp: `sum` against `max`.
  __device__ void set_totals(float max, double sum) {
    if (lane() != 0) return;
    if (max == infinity() || !(sum < infinity())) sum = quiet_nan();
    control.totals = {max, static_cast<float>(1.0 / sum), sum == 0};
    problem.log_sum_exp[row] = log_sum_exp(max, sum, problem.scale);
  }

  __device__ float probability_of(float logit) const {
    const RowTotals& totals = control.totals;
    return probability(logit, totals.max, totals.inverse_sum, totals.masked, problem.scale);
  }

  // Rows whose scaled logits are too large for a float reference: the sum once more, against the known max, and the
  // probabilities with it. The indices stand.
  __device__ void sum_again(uint32_t need) {
    const Storage* const start = row_start();
    const float max = control.totals.max;
    double sum = 0;
    for (uint64_t i = thread(); i < problem.vocab; i += kThreads) {
      const float x = load_logit<D>(start + i);
      sum += x == infinity() ? quiet_nan() : weight(x, max, problem.scale);
    }
    const PartialSum warps = warp_merge(0, sum);
    if (lane() == 0) control.sums[warp()] = warps;
    __syncthreads();
    if (warp() == 0) {
      set_totals(max, warp_merge(0, lane() < kWarps ? control.sums[lane()].sum : 0.0).sum);
    }
    __syncthreads();
    float* const probs = problem.probs + row * problem.k;
    const uint32_t* const indices = problem.indices + row * problem.k;
    for (uint32_t i = thread(); i < need; i += kThreads) probs[i] = probability_of(load_logit<D>(start + indices[i]));
  }

  // Writes the row from the candidates in the buffer, which the histogram has counted, and the `count` partial sums
  // that sum_of gives.
  template <class SumOf>
  __device__ void finish(SumOf sum_of, uint32_t count) {
    const uint32_t k = problem.k, n = select.filled(), need = min(n, k);
    float* const probs = problem.probs + row * k;
    uint32_t* const indices = problem.indices + row * k;
    if (need == 0) {  // no logit is a number
      if (thread() == 0) problem.log_sum_exp[row] = quiet_nan();
    } else {
      // The ring is free by now, and holds the sorted candidates.
      constexpr uint32_t room = kThreads * kVectors * kStages * 16 / sizeof(Candidate);
      select.sort(
          n, need, reinterpret_cast<Candidate*>(ring), room,
          [&] {
            if (warp() == kWarps - 1) total_up(sum_of, count);
          },
          [&](uint32_t rank, Candidate c) {
            probs[rank] = probability_of(candidate_logit(c));
            indices[rank] = candidate_index(c);
          });
      const float max = control.totals.max;
      if (fabsf(max * problem.scale.high) >= kCoarse && fabsf(max) < infinity()) {
        __syncthreads();
        sum_again(need);
      }
    }
    if (need < k) fill_with_nan(need, probs, indices);
  }

  // Fewer than K logits are numbers: the first NaNs of the row take the places from `rank` on. One warp.
  __device__ void fill_with_nan(uint32_t rank, float* probs, uint32_t* indices) {
    if (warp() != 0) return;
    const Storage* const start = row_start();
    for (uint64_t base = 0; base < problem.vocab && rank < problem.k; base += 32) {
      const uint64_t i = base + lane();
      float x = 0;
      if (i < problem.vocab) x = load_logit<D>(start + i);
      const uint32_t found = __ballot_sync(kFullWarp, x != x);
      const uint32_t place = rank + __popc(found & ((1u << lane()) - 1));
      if (x != x && place < problem.k) {
        probs[place] = quiet_nan();
        indices[place] = static_cast<uint32_t>(i);
      }
      rank += __popc(found);
    }
  }

  // Writes the part's RowState to scratch. True in the block that arrives last, which sees all of them.
  __device__ bool publish_part() {
    const uint32_t n = select.filled(), room = published(problem.k);
    const uint64_t slot = row * plan.parts + part;
    Candidate* const out = plan.candidates + slot * room;
    if (warp() == 0) {
      if (lane() == 0) control.select.kept = 0;
      select.refresh();
    }
    __syncthreads();
    const uint32_t threshold = control.select.threshold;
    for (uint32_t i = thread(); i < n; i += kThreads) {
      const Candidate c = select.buffer[i];
      if (c >> 32 < threshold) continue;
      const uint32_t place = atomicAdd(&control.select.kept, 1u);
      if (place < room) out[place] = c;
    }
    __syncthreads();
    uint32_t kept = control.select.kept;
    if (kept > room) {  // many in one bin
      __syncthreads();
      select.cut(n);
      kept = problem.k;
      for (uint32_t i = thread(); i < kept; i += kThreads) out[i] = select.buffer[i];
    }
    if (warp() == 0) {
      const PartialSum mine = lane() < kWarps ? control.sums[lane()] : PartialSum{0, 0};
      const PartialSum all = warp_merge(mine.reference, mine.sum);
      if (lane() == 0) plan.states[slot] = {all, kept, control.select.threshold};
    }
    __threadfence();
    __syncthreads();
    if (thread() == 0) control.ticket = atomicInc(plan.tickets + row, plan.parts - 1);
    __syncthreads();
    __threadfence();
    return control.ticket == plan.parts - 1;
  }

  // Merges the states of all parts into the buffer.
  __device__ void merge_parts() {
    const uint32_t parts = plan.parts, room = published(problem.k);
    const PartState* const states = plan.states + row * parts;
    const Candidate* const candidates = plan.candidates + row * parts * room;
    uint32_t* const counts = reinterpret_cast<uint32_t*>(ring);  // free by now
    __syncthreads();                                             // the ticket has been read
    select.clear();
    if (thread() == 0) control.ticket = 0;
    __syncthreads();
    uint32_t total = 0, threshold = 0;
    for (uint32_t i = thread(); i < parts; i += kThreads) {
      total += counts[i] = __ldcg(&states[i].count);
      threshold = max(threshold, __ldcg(&states[i].threshold));
    }
    threshold = warp_max(threshold);
    total = warp_sum(total);
    if (lane() == 0) {
      atomicMax(&control.select.threshold, threshold);
      atomicAdd(&control.ticket, total);
    }
    __syncthreads();
    threshold = control.select.threshold;
    const bool all_fit = control.ticket <= plan.capacity;
    const uint64_t slots = static_cast<uint64_t>(parts) * room;
#pragma unroll 4
    for (uint64_t base = 0; base < slots; base += kThreads) {
      const uint64_t at = base + thread();
      if (at < slots) {
        const uint32_t from = static_cast<uint32_t>(at / room);
        if (at - static_cast<uint64_t>(from) * room < counts[from]) {
          const Candidate c = __ldcg(candidates + at);
          if (c >> 32 >= threshold && c >= control.select.cut) {
            select.buffer[atomicAdd(&control.select.count, 1u)] = c;
          }
        }
      }
      if (all_fit) continue;
      __syncthreads();
      const uint32_t n = control.select.count;
      __syncthreads();
      if (n + kThreads > plan.capacity) select.cut(n);
    }
    __syncthreads();
    const uint32_t n = control.select.count;
    if (n == 0) return;
    const uint32_t highest = select.count_again(n);
    if (lane() == 0) control.highest[warp()] = highest;
    __syncthreads();
  }

  __device__ void run() {
    read_part();
    __syncthreads();
    if (plan.parts == 1) {
      finish([&](uint32_t i) { return control.sums[i]; }, kWarps);
    } else if (publish_part()) {
      merge_parts();
      finish([&](uint32_t i) { return plan.states[row * plan.parts + i].sum; }, plan.parts);
    }
  }
};

// Grid: rows * parts blocks. Dynamic shared memory: stream_shared_bytes<kThreads>.
template <class D, int kThreads>
__global__ void __launch_bounds__(kThreads, 1024 / kThreads)
    softmax_topk_stream(const __grid_constant__ Problem problem, const __grid_constant__ StreamPlan plan) {
  extern __shared__ __align__(128) unsigned char shared[];
  using Kernel = Stream<D, kThreads>;
  constexpr uint32_t kRing = kThreads * kVectors * 16 * Kernel::kStages;
  StreamControl& control = *reinterpret_cast<StreamControl*>(shared + kRing);
  uint32_t* const histogram = reinterpret_cast<uint32_t*>(&control + 1);
  Candidate* const buffer = reinterpret_cast<Candidate*>(histogram + kBins);
  const uint64_t row = blockIdx.x / plan.parts;
  Kernel kernel{problem,
                plan,
                reinterpret_cast<uint4*>(shared),
                control,
                {control.select, histogram, buffer, plan.capacity, problem.k, {0, 0}},
                row,
                static_cast<uint32_t>(blockIdx.x - row * plan.parts)};
  kernel.run();
}

}  // namespace fused_topk
