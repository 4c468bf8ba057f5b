// The streaming kernel: a block reads a row, or a part of one, once, and holds its RowState as it goes.
//
// A group of consecutive logits leaves one number behind: its largest. A group is 64 bytes, less where many groups will be
// opened, more where shared memory has no place for as many numbers (stream_launch.cuh). That is enough, since the K best
// logits of a row lie in its K best groups, by (largest logit, lower index) like logits: the largest logits of K better
// groups are K better logits. So nothing in the stream depends on the data but a rare rescaling, and masked or narrow rows
// cost what random ones do. The K best groups are opened once more at the end, mostly out of the second-level cache.
//
// The row is cut into warp tiles of kVectors x 32 vectors of 16 bytes, from the 128-byte line in which it begins. A warp
// copies its tiles into a ring in shared memory with asynchronous copies, kStages ahead, so that many bytes in flight
// cost no registers. No warp waits for another until its tiles are done.
//
// 1. Stream. A tile costs a thread a maximum, which it stores, and one exp2 a logit. Only where a logit lies far above
//    the reference of the thread's sum is the sum rescaled.
// 2. Select. A radix select over the maxima (select.cuh) gives an edge that K groups reach, and few more.
// 3. Open. The logits of these groups that reach the edge go to a buffer. Where they are too many for it, as in rows of
//    many ties, the block cuts the buffer to its K best and goes on.
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

constexpr int kVectors = 4;                       // of 16 bytes, a thread and tile
constexpr uint32_t kTileVectors = kVectors * 32;  // a warp
constexpr uint32_t kLineBytes = 128;              // tiles are counted from such a boundary
constexpr uint32_t kFewK = 128;                   // so few that groups to spare cost less than to find a closer edge
constexpr float kRescaleAbove = 8.0f;             // in powers of two over the reference

// What a part publishes beside its candidates.
struct PartState {
  PartialSum sum;
  uint32_t count;    // candidates
  uint32_t highest;  // short key of the largest logit
  uint32_t edge;     // one that K candidates of this part reach, or that of -inf
};

// How the launcher cuts the rows into parts and groups, and shared memory into arrays.
struct StreamPlan {
  uint32_t parts;  // blocks a row, at most 32
  // log2 of the vectors of a group: 0, a vector; 2, what a thread has of a tile; 1, half of that; to 7, a tile; more,
  // several tiles of the part.
  uint32_t group_shift;
  uint32_t index_bits, index_mask;         // as many bits as an index of the row has
  uint32_t groups;                         // a part: at least its own, however the row is aligned
  uint32_t capacity;                       // of the candidate buffer
  uint32_t room;                           // candidates for which there is place beside the buffer
  uint32_t work_bytes;                     // of the ring, which later is buffer, room and the list of opened groups
  uint32_t first_blocks, multiprocessors;  // blocks that start at once; 0 where no start is delayed
  uint32_t stagger;                        // nanoseconds between the starts on a multiprocessor
  // Scratch; unused where parts is 1. Tickets are 0 before and after a launch.
  PartState* states;      // [rows, parts]
  Candidate* candidates;  // [rows, parts, published(k)]
  uint32_t* tickets;      // [rows]
};

// Groups that are opened beside the K best, so that the select needs not be exact.
__host__ __device__ constexpr uint32_t spare_groups(uint32_t k) { return k / 4 + 32; }
// Groups that a list holds: those, and what the threads' largest logits let through beside them.
__host__ __device__ constexpr uint32_t list_length(uint32_t k) { return k + k / 4 + 256; }
// Candidates a part may publish: the K best and some that only an exact cut would tell from them.
__host__ __device__ constexpr uint32_t published(uint32_t k) { return k + k / 2 + kCrowded; }

// A Candidate in as few bits as it needs: the short key of its logit, then the index, of index_bits, turned. So bins over
// a range of them are as fine among equal logits as among different ones.
template <class D>
struct Packing {
  uint32_t index_bits, index_mask;

  __device__ __forceinline__ Candidate lowest(uint32_t key) const { return static_cast<Candidate>(key) << index_bits; }
  __device__ __forceinline__ Candidate highest(uint32_t key) const { return lowest(key) | index_mask; }
  __device__ __forceinline__ Candidate operator()(float number, uint32_t index) const {
    return lowest(short_key_of_number<D>(number)) | (index ^ index_mask);
  }
  __device__ __forceinline__ uint32_t key(Candidate c) const { return static_cast<uint32_t>(c >> index_bits); }
  __device__ __forceinline__ float logit(Candidate c) const { return logit_of_short_key<D>(key(c)); }
  __device__ __forceinline__ uint32_t index(Candidate c) const { return ~static_cast<uint32_t>(c) & index_mask; }
};

struct RowTotals {
  float max, sum, inverse_sum;  // the sum is against the max; NaN where the row has no softmax
};

struct StreamControl {
  SelectControl select;
  PartialSum sums[32];              // by warp
  uint32_t bound[32], highest[32];  // short keys, by warp: what its share of K groups reach; its largest logit
  uint32_t listed;
  uint32_t ticket;
};

constexpr uint32_t stream_shared_bytes(const StreamPlan& plan) {
  return plan.work_bytes + sizeof(StreamControl) + (kBins + plan.groups) * sizeof(uint32_t);
}

__device__ __forceinline__ uint64_t global_nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

// The sum of the logits one thread has seen.
struct ThreadSum {
  float reference;  // scaled
  float limit;      // a logit from here on lies kRescaleAbove or more over the reference
  double sum;

  // The first logit that is neither masked nor too coarse will be the reference.
  __device__ __forceinline__ void start() {
    sum = reference = 0;
    limit = -FLT_MAX;
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
  return {common, warp_sum(sum)};
}

template <class D, int kThreads, int kStages>
struct Stream {
  using Storage = typename D::Storage;
  static constexpr int kWarps = kThreads / 32;
  static constexpr uint32_t kStageBytes = kTileVectors * 16;  // a warp
  static constexpr uint32_t kTile = kTileVectors * D::kPerVector;
  const Problem& problem;
  const StreamPlan& plan;
  unsigned char* work;
  StreamControl& control;
  uint32_t* maxima;  // short keys, by group of the part
  Selection<kThreads> select;
  uint64_t row;
  uint32_t part;
  const Storage* start;  // of the row
  uint32_t lead;         // logits between the line in which the row begins and its start
  uint32_t tiles;        // of the part; its j-th is the row's (j * parts + part)-th
  uint32_t highest;      // short key of the largest logit
  ThreadSum total;       // of this thread

  __device__ __forceinline__ uint32_t thread() const { return threadIdx.x; }
  __device__ __forceinline__ int lane() const { return threadIdx.x & 31; }
  __device__ __forceinline__ int warp() const { return threadIdx.x >> 5; }

  __device__ __forceinline__ void find_row() {
    start = static_cast<const Storage*>(problem.logits) + row * problem.row_stride;
    lead = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(start) % kLineBytes) / sizeof(Storage);
    const uint32_t of_row = static_cast<uint32_t>((static_cast<uint64_t>(lead) + problem.vocab + kTile - 1) / kTile);
    tiles = of_row > part ? (of_row - part - 1) / plan.parts + 1 : 0;
  }
  __device__ __forceinline__ const uint4* vectors() const { return reinterpret_cast<const uint4*>(start - lead); }
  __device__ __forceinline__ Packing<D> packing() const { return {plan.index_bits, plan.index_mask}; }

  // Reads the part: its group maxima, and the thread's sum. Each warp leaves a bound that its share of K groups reach.
  __device__ __forceinline__ void read_part() {
    const Scale scale = problem.scale;
    // Tiles first_whole, ..., end_whole - 1 lie in the row whole.
    const uint32_t first_whole = lead != 0, end_whole = (lead + problem.vocab) / kTile;
    const uint32_t ring = shared_address(work) + warp() * (kStages * kStageBytes);
    // A thread reads vectors that its neighbours copied, four in sequence. So that eight threads meet in no bank, two
    // bits of a vector's place are turned by its reader.
    const uint32_t to = ring + ((lane() & ~3) | ((lane() ^ (lane() >> 3)) & 3)) * 16;
    const uint32_t from = ring + lane() * (kVectors * 16) + ((lane() >> 1) & 3) * 16;

    uint32_t next = warp();
    auto fetch = [&](uint32_t stage) {
      if (next < tiles) {
        const uint32_t tile = next * plan.parts + part;
        const uint32_t vector = tile * kTileVectors + lane();
        if (tile >= first_whole && tile < end_whole) {
          const uint4* const global = vectors() + vector;
#pragma unroll
          for (int u = 0; u < kVectors; u++) copy_async(to + stage + u * 512, global + u * 32);
        } else {
#pragma unroll 1
          for (int u = 0; u < kVectors; u++) {
            store_shared(to + stage + u * 512,
                         load_masked<D>(start, problem.vocab, (vector + u * 32) * D::kPerVector - lead));
          }
        }
      }
      next += kWarps;
      close_copy_group();
    };
#pragma unroll
    for (int i = 0; i < kStages; i++) fetch(i * kStageBytes);

    total.start();
    float largest = quiet_nan(), of_others = quiet_nan();  // of every second tile
    uint32_t stage = 0;
#pragma unroll 1
    for (uint32_t tile = warp(); tile < tiles; tile += kWarps) {
      wait_copy_groups<kStages - 1>();
      __syncwarp();
      uint4 v[kVectors];
#pragma unroll
      for (int u = 0; u < kVectors; u++) v[u] = load_shared((from + stage) ^ (u * 16));
      __syncwarp();
      fetch(stage);
      stage = stage + kStageBytes == kStages * kStageBytes ? 0 : stage + kStageBytes;

      const float max = max_of<D>(v);
      const float swapped = of_others;
      of_others = fmaxf(largest, max);
      largest = swapped;
      if (plan.group_shift == 2) {
        maxima[tile * 32 + lane()] = short_key<D>(max);
      } else {
        store_maxima(tile, max, v);
      }
      if (max >= total.limit) total.rescale(max, scale);
      float sums[2] = {0, 0};
#pragma unroll
      for (int i = 0; i < kVectors * D::kPerVector; i++) {
        sums[i % 2] += total.term(element<D>(v[i / D::kPerVector], i % D::kPerVector), scale);
      }
      total.sum += sums[0] + sums[1];
    }
    const uint32_t a = short_key<D>(largest), b = short_key<D>(of_others), highest_of_warp = warp_max(::max(a, b));
    const uint32_t bound = bound_of_warp(a, b);
    if (lane() == 0) {
      control.bound[warp()] = bound;
      control.highest[warp()] = highest_of_warp;
    }
  }

  // A key that this warp's share of K groups reach, from the maxima of every thread's even and of its odd tiles; 0 where
  // they say nothing. For few, as close as they allow, and then it may as well be K logits; for many it is where a
  // radix select begins.
  __device__ __forceinline__ uint32_t bound_of_warp(uint32_t a, uint32_t b) const {
    const uint32_t k = problem.k;
    if (tiles < 2 * kWarps) return 0;
    if (k <= kFewK) return warp_ranked(a, b, (k + kWarps - 1) / kWarps, lane());
    const uint32_t shared_by = plan.group_shift <= 2 ? 0 : plan.group_shift - 2;  // log2 of the threads of a group
    const uint64_t threads = uint64_t{k} << shared_by;
    if (threads > 2 * kThreads || plan.group_shift > 7) return 0;
    return warp_min(threads <= kThreads ? ::max(a, b) : ::min(a, b));
  }

  // Maxima of groups that are not what a thread has of a tile.
  __device__ __forceinline__ void store_maxima(uint32_t tile, float max, const uint4 (&v)[kVectors]) {
    const uint32_t shift = plan.group_shift;
    if (shift < 2) {
      uint32_t keys[kVectors];
#pragma unroll
      for (int u = 0; u < kVectors; u++) {
        const uint4 vector[1] = {v[u]};
        keys[u] = short_key<D>(max_of<D>(vector));
      }
      if (shift == 0) {
        reinterpret_cast<uint4*>(maxima)[tile * 32 + lane()] = make_uint4(keys[0], keys[1], keys[2], keys[3]);
      } else {
        reinterpret_cast<uint2*>(maxima)[tile * 32 + lane()] =
            make_uint2(::max(keys[0], keys[1]), ::max(keys[2], keys[3]));
      }
      return;
    }
    const uint32_t threads = 1u << (::min(shift, 7u) - 2);  // of a group, of this tile
    uint32_t key = short_key<D>(max);
    key = ::max(key, __shfl_xor_sync(kFullWarp, key, 1));
    for (uint32_t step = 2; step < threads; step *= 2) key = ::max(key, __shfl_xor_sync(kFullWarp, key, step));
    if (lane() & (threads - 1)) return;
    const uint32_t group = (tile * 32 + lane()) >> (shift - 2);
    if (shift <= 7) {
      maxima[group] = key;
    } else {
      atomicMax(&maxima[group], key);
    }
  }

  // Groups of the part.
  __device__ __forceinline__ uint32_t group_count() const {
    const uint32_t shift = plan.group_shift;
    if (shift <= 7) return tiles << (7 - shift);
    return (tiles + (1u << (shift - 7)) - 1) >> (shift - 7);
  }

  // Calls f(group, key) for the thread's share of the groups, and some of no group with key 0.
  template <class F>
  __device__ __forceinline__ void each_group(uint32_t groups, F f) const {
    const uint4* const four = reinterpret_cast<const uint4*>(maxima);
#pragma unroll 2
    for (uint32_t i = thread(); i * 4 < groups; i += kThreads) {
      const uint4 keys = four[i];
#pragma unroll
      for (int j = 0; j < 4; j++) f(4 * i + j, word_of(keys, j));
    }
  }

  // Block: lists the groups for which reaches(group, key). False where they are more than list_length(k).
  template <class Reaches>
  __device__ __forceinline__ bool list_groups(uint32_t groups, Reaches reaches) {
    constexpr int kFours = 4;  // a thread and round
    const uint4* const four = reinterpret_cast<const uint4*>(maxima);
    const uint32_t length = list_length(problem.k);
    for (uint32_t base = thread(); (base - thread()) * 4 < groups; base += kFours * kThreads) {
      uint32_t chosen = 0;
      uint4 keys[kFours];
#pragma unroll
      for (int u = 0; u < kFours; u++) {
        const uint32_t i = base + u * kThreads;
        keys[u] = i * 4 < groups ? four[i] : uint4{};
      }
#pragma unroll
      for (int u = 0; u < kFours; u++) {
        const uint32_t group = 4 * (base + u * kThreads);
        if (group - 4 * lane() >= groups) break;
#pragma unroll
        for (int j = 0; j < 4; j++) chosen |= reaches(group + j, word_of(keys[u], j)) ? 1u << (4 * u + j) : 0u;
      }
      const uint32_t n = __popc(chosen), inclusive = warp_scan(n, lane());
      uint32_t place = 0;
      if (lane() == 31 && inclusive != 0) place = atomicAdd(&control.listed, inclusive);
      place = __shfl_sync(kFullWarp, place, 31) + inclusive - n;
      for (; chosen && place < length; chosen &= chosen - 1) {
        const uint32_t bit = __ffs(chosen) - 1;
        list()[place++] = static_cast<uint16_t>(4 * (base + bit / 4 * kThreads) + bit % 4);
      }
    }
    __syncthreads();
    return control.listed <= length;
  }

  __device__ __forceinline__ uint16_t* list() const {
    return reinterpret_cast<uint16_t*>(select.buffer + plan.capacity + plan.room);
  }

  // Block: the logits of the K best groups that reach the edge, in the buffer and counted. Returns the edge.
  __device__ __forceinline__ uint32_t collect() {
    const uint32_t k = problem.k, groups = group_count();
    const auto each_key = [&](auto f) { each_group(groups, [&](uint32_t, uint32_t key) { f(key); }); };
    highest = warp_max(lane() < kWarps ? control.highest[lane()] : 0);
    uint32_t edge = warp_min(lane() < kWarps ? control.bound[lane()] : kNotFound);
    if (groups > k && !(k <= kFewK && edge > 0)) {
      edge = select.template radix_select<uint32_t>(k, spare_groups(k), edge, highest, each_key).key;
    }
    edge = ::max(edge, kShortKeyNegativeInfinity<D>);  // no group without a number
    if (__builtin_expect(!list_groups(groups, [&](uint32_t, uint32_t key) { return key >= edge; }), 0)) {
      const auto found = select.template radix_select<uint32_t>(k, spare_groups(k), edge, highest, each_key);
      edge = found.key;
      uint32_t last = kNotFound;
      if (found.reaching > k + spare_groups(k)) {  // ties, of which the first
        const auto each_tie = [&](auto f) {
          each_group(groups, [&](uint32_t group, uint32_t key) {
            if (key == edge) f(groups - 1 - group);
          });
        };
        // Groups that begin before the row come first and are as good as masked ones, but hold no logit, or none that
        // is a number: the K best are sought beyond them.
        const uint32_t before = part != 0 || lead == 0 ? 0 : ((lead - 1) / D::kPerVector >> plan.group_shift) + 1;
        const uint32_t need = k - found.above + before;
        last = groups - 1 - select.template radix_select<uint32_t>(need, spare_groups(k), 0, groups - 1, each_tie).key;
      }
      if (thread() == 0) control.listed = 0;
      __syncthreads();
      list_groups(groups, [&](uint32_t group, uint32_t key) { return key > edge || (key == edge && group <= last); });
    }
    select.top = packing().highest(::max(highest, edge));
    select.binning = make_binning(packing().lowest(edge), select.top);
    open(control.listed, logit_of_short_key<D>(edge));
    if (edge == kShortKeyNegativeInfinity<D>) count_unbounded();
    return edge;
  }

  // Bins over a range without an end are too coarse: those of the buffer, where the edge is -inf, are drawn by its own.
  __device__ __forceinline__ void count_unbounded() {
    const uint32_t n = select.filled();
    if (n == 0) return;
    select.clear_histogram();
    __syncthreads();
    select.count_again(n);
  }

  // Block: reads the listed groups again, kRound vectors a thread at a time.
  __device__ __forceinline__ void open(uint32_t listed, float at_least) {
    constexpr uint32_t kPerVector = D::kPerVector, kRound = 4;
    const uint32_t shift = plan.group_shift, count = listed << shift, vocab = problem.vocab;
    // The index in the row of the first logit of vector i of the listed groups; it wraps before the row.
    const auto first_of = [&](uint32_t i) {
      const uint32_t of_part = (static_cast<uint32_t>(list()[i >> shift]) << shift) + (i & ((1u << shift) - 1));
      const uint32_t tile = of_part / kTileVectors * plan.parts + part;
      return (tile * kTileVectors + of_part % kTileVectors) * kPerVector - lead;
    };
    const auto vector_of = [&](uint32_t base, uint32_t lane) { return base + kRound * (warp() * 32 + lane); };
    uint4 v[kRound];
    const auto choose = [&](uint32_t base) {
      const uint32_t i = vector_of(base, lane()), first = i < count ? first_of(i) : vocab;
      if (shift >= 2 && first < vocab && vocab - first >= kRound * kPerVector) {  // all of one group
        const uint4* const group = reinterpret_cast<const uint4*>(start + first);
#pragma unroll
        for (int u = 0; u < kRound; u++) v[u] = __ldg(group + u);
      } else {
#pragma unroll
        for (int u = 0; u < kRound; u++) v[u] = load_masked<D>(start, vocab, i + u < count ? first_of(i + u) : vocab);
      }
      if (base == 0) {  // while they are on their way
        const PartialSum sum = warp_merge(total.reference, total.sum);
        if (lane() == 0) control.sums[warp()] = sum;
      }
      uint32_t chosen = reaching<D>(v, at_least);
      if (__builtin_expect(at_least == -infinity(), 0)) {  // what is not of the row reaches it too
        for (uint32_t bits = chosen; bits; bits &= bits - 1) {
          const uint32_t logit = number_of_bit<D>(__ffs(bits) - 1), at = i + logit / kPerVector;
          if (at >= count || first_of(at) + logit % kPerVector >= vocab) chosen ^= bits & (0 - bits);
        }
      }
      return chosen;
    };
    // Raw is the logit, and where it comes from: its number among those of its lane, and the lane.
    const auto raw_of = [&](uint32_t bit) {
      const uint32_t logit = number_of_bit<D>(bit);
      return static_cast<Candidate>(__float_as_uint(logit_of<D>(v, logit))) << 32 | (logit * 32 + lane());
    };
    const auto refine = [&](uint32_t base, Candidate raw) {
      const uint32_t from = static_cast<uint32_t>(raw), logit = from / 32;
      const uint32_t first = first_of(vector_of(base, from % 32) + logit / kPerVector);
      return packing()(__uint_as_float(static_cast<uint32_t>(raw >> 32)), first + logit % kPerVector);
    };
    select.append_all(count, kRound * kThreads, choose, raw_of, refine);
  }

  // Warp: the row's totals, from the `count` sums that sum_of gives.
  template <class SumOf>
  __device__ __forceinline__ RowTotals totals_of(SumOf sum_of, uint32_t count) const {
    const float max = logit_of_short_key<D>(highest);
    float sum = 0;
    for (uint32_t i = lane(); i < count; i += 32) {
      const PartialSum part = sum_of(i);
      // To the max, which is no more than a rescaling away from the largest of the references: exact in double.
      const float shift = static_cast<float>(part.reference - static_cast<double>(max) * problem.scale.high);
      if (part.sum != 0) sum += static_cast<float>(part.sum) * exp2_fast(shift);
    }
    return totals_against(max, warp_sum(sum));
  }

  __device__ __forceinline__ static RowTotals totals_against(float max, float sum) {
    if (max == infinity() || !(sum < infinity())) sum = quiet_nan();
    return {max, sum, 1.0f / sum};
  }

  __device__ __forceinline__ float probability_of(float logit, const RowTotals& totals) const {
    return probability(logit, totals.max, totals.inverse_sum, totals.sum == 0, problem.scale);
  }

  // Block: rows whose scaled logits are too large for a float reference: the sum once more, against the known max, and
  // the probabilities with it. The indices stand.
  __device__ RowTotals sum_again(float max, uint32_t need) {
    __syncthreads();
    double sum = 0;
    for (uint64_t i = thread(); i < problem.vocab; i += kThreads) {
      const float x = load_logit<D>(start + i);
      sum += x == infinity() ? quiet_nan() : weight(x, max, problem.scale);
    }
    const PartialSum warps = warp_merge(0, sum);
    if (lane() == 0) control.sums[warp()] = warps;
    __syncthreads();
    const double all = warp_merge(0, lane() < kWarps ? control.sums[lane()].sum : 0.0).sum;
    const RowTotals totals = totals_against(max, static_cast<float>(all));
    float* const probs = problem.probs + row * problem.k;
    const uint32_t* const indices = problem.indices + row * problem.k;
    for (uint32_t i = thread(); i < need; i += kThreads) {
      probs[i] = probability_of(load_logit<D>(start + indices[i]), totals);
    }
    return totals;
  }

  // Block: writes the row from the candidates in the buffer, which the histogram has counted, and the `count` sums that
  // sum_of gives.
  template <class SumOf>
  __device__ __forceinline__ void finish(SumOf sum_of, uint32_t count) {
    const uint32_t k = problem.k, n = select.filled(), need = min(n, k);
    float* const probs = problem.probs + row * k;
    uint32_t* const indices = problem.indices + row * k;
    if (need == 0) {  // no logit is a number
      if (thread() == 0) problem.log_sum_exp[row] = quiet_nan();
    } else {
      RowTotals totals = totals_of(sum_of, count);
      select.sort(n, need, select.buffer + plan.capacity, plan.room, [&](uint32_t rank, Candidate c) {
        probs[rank] = probability_of(packing().logit(c), totals);
        indices[rank] = packing().index(c);
      });
      if (fabsf(totals.max * problem.scale.high) >= kCoarse && fabsf(totals.max) < infinity()) {
        totals = sum_again(totals.max, need);
      }
      if (thread() == kThreads - 1) problem.log_sum_exp[row] = log_sum_exp(totals.max, totals.sum, problem.scale);
    }
    if (need < k) fill_with_nan(need, probs, indices);
  }

  // Fewer than K logits are numbers: the first NaNs of the row take the places from `rank` on. One warp.
  __device__ void fill_with_nan(uint32_t rank, float* probs, uint32_t* indices) {
    if (warp() != 0) return;
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

  // Block: writes the part's state to scratch. True in the block that arrives last, which sees all of them.
  __device__ __forceinline__ bool publish_part(uint32_t edge) {
    uint32_t n = select.filled();
    if (n > published(problem.k)) {
      __syncthreads();
      select.cut(n);
      n = problem.k;
    }
    const uint64_t slot = row * plan.parts + part;
    Candidate* const out = plan.candidates + slot * published(problem.k);
    for (uint32_t i = thread(); i < n; i += kThreads) out[i] = select.buffer[i];
    if (warp() == 0) {
      const PartialSum mine = lane() < kWarps ? control.sums[lane()] : PartialSum{0, 0};
      const PartialSum all = warp_merge(mine.reference, mine.sum);
      if (lane() == 0) plan.states[slot] = {all, n, highest, edge};
    }
    __threadfence();
    __syncthreads();
    if (thread() == 0) control.ticket = atomicInc(plan.tickets + row, plan.parts - 1);
    __syncthreads();
    __threadfence();
    return control.ticket == plan.parts - 1;
  }

  // Block: brings the candidates of the other parts into this one's buffer.
  __device__ __forceinline__ void merge_parts() {
    const PartState* const states = plan.states + row * plan.parts;
    const Candidate* const candidates = plan.candidates + row * plan.parts * published(problem.k);
    uint32_t edge = kShortKeyNegativeInfinity<D>, of_part = 0;
    if (lane() < plan.parts) {
      edge = max(edge, __ldcg(&states[lane()].edge));
      highest = max(highest, __ldcg(&states[lane()].highest));
      of_part = __ldcg(&states[lane()].count);
    }
    edge = warp_max(edge);
    highest = warp_max(highest);
    const uint32_t longest = ::max(warp_max(of_part), 1u), slots = plan.parts * longest;
    select.top = packing().highest(max(highest, edge));  // the bins stay: what lies above them goes into the highest
    constexpr uint32_t kRound = 4;
    Candidate c[kRound];
    const auto choose = [&](uint32_t base) {
      uint32_t chosen = 0;
#pragma unroll
      for (uint32_t u = 0; u < kRound; u++) {
        const uint32_t at = base + (warp() * kRound + u) * 32 + lane(), from = at / longest, i = at - from * longest;
        const bool there = i < __shfl_sync(kFullWarp, of_part, from % 32) && at < slots && from != part;
        c[u] = there ? __ldcg(candidates + uint64_t{from} * published(problem.k) + i) : 0;
        chosen |= packing().key(c[u]) >= edge ? 1u << u : 0u;
      }
      return chosen;
    };
    const auto raw_of = [&](uint32_t u) { return u & 2 ? (u & 1 ? c[3] : c[2]) : (u & 1 ? c[1] : c[0]); };
    select.append_all(slots, kRound * kThreads, choose, raw_of, [](uint32_t, Candidate raw) { return raw; });
  }

  // Blocks that run side by side on a multiprocessor would all stream, and then all select while memory idles. So each of
  // the first ones waits until the one before it has read its row, at the speed of memory; then they take turns.
  __device__ __forceinline__ void stagger() const {
    const uint64_t begin = global_nanoseconds(), wait = blockIdx.x / plan.multiprocessors * plan.stagger;
    while (global_nanoseconds() - begin < wait) __nanosleep(200);
  }

  __device__ __forceinline__ void run() {
    if (blockIdx.x < plan.first_blocks) stagger();
    find_row();
    select.clear();
    if (thread() == 0) control.listed = 0;
    if (plan.group_shift > 5) {  // what is maximised in place, or read in fours beyond the last
      for (uint32_t i = thread(); i < plan.groups; i += kThreads) maxima[i] = 0;
      __syncthreads();
    }
    read_part();
    __syncthreads();
    const uint32_t edge = collect();
    if (plan.parts == 1) {
      finish([&](uint32_t i) { return control.sums[i]; }, kWarps);
      return;
    }
    if (publish_part(edge)) {
      merge_parts();
      finish([&](uint32_t i) { return plan.states[row * plan.parts + i].sum; }, plan.parts);
    }
  }
};

// Grid: rows x parts blocks. Dynamic shared memory: stream_shared_bytes(plan).
template <class D, int kThreads, int kStages>
__global__ void __launch_bounds__(kThreads, 1024 / kThreads)
    softmax_topk_stream(const __grid_constant__ Problem problem, const __grid_constant__ StreamPlan plan) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  constexpr bool kRuns = kStages == 1;  // the launcher takes no other
#else
  constexpr bool kRuns = true;
#endif
  if constexpr (kRuns) {
    extern __shared__ __align__(128) unsigned char shared[];
    StreamControl& control = *reinterpret_cast<StreamControl*>(shared + plan.work_bytes);
    uint32_t* const histogram = reinterpret_cast<uint32_t*>(&control + 1);
    Stream<D, kThreads, kStages> kernel{
        problem,
        plan,
        shared,
        control,
        histogram + kBins,
        {control.select, histogram, reinterpret_cast<Candidate*>(shared), plan.capacity, problem.k, 0, {}},
        blockIdx.x,
        blockIdx.y};
    kernel.run();
  }
}

}  // namespace fused_topk
