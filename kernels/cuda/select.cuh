// The selection of a block: of many keys, the K best; of few candidates, their order.
//
//   radix_select  an edge that the K best of n keys reach and few others: histograms of digits, most significant first
//   append        candidates go to a buffer in shared memory, and are counted in a histogram over their values
//   cut           a full buffer is cut to its K best
//   sort          the histogram gives each bin its place, and a candidate is ranked within its bin
//
// Exact for every input: an edge is at all times reached by K of the keys, so what does not reach it cannot be among the
// K best.
#pragma once

#include "row_state.cuh"

namespace fused_topk {

constexpr uint32_t kFullWarp = 0xFFFFFFFFu;
constexpr int kBins = 1024;
constexpr uint32_t kCrowded = 96;   // a bin of more candidates is not ranked by counting
constexpr uint32_t kCounted = 256;  // so many candidates are, whatever their bins
constexpr uint32_t kNotFound = 0xFFFFFFFFu;

// The words that the warps of a block share.
struct alignas(16) SelectControl {
  Candidate cut;                // what the last cut kept at least
  uint32_t count;               // places of the buffer handed out
  uint32_t refused;             // the lowest place that was asked for and not there; what lies below is filled
  uint32_t bin, above, in_bin;  // what find_bin found
  uint32_t crowded;
  uint32_t kept;
  uint32_t warp_total[32];
  Candidate warp_lowest[32], warp_highest[32];
};

// Bins over keys: 2^shift keys a bin from `low` up, and what lies outside in the outermost ones.
template <class Key>
struct Binning {
  Key low;
  int shift;

  __device__ __forceinline__ uint32_t operator()(Key key) const {
    const Key bin = (key - low) >> shift;
    return key <= low ? 0 : bin < kBins ? static_cast<uint32_t>(bin) : kBins - 1;
  }
};

// The finest bins over low, ..., high.
template <class Key>
__device__ __forceinline__ Binning<Key> make_binning(Key low, Key high) {
  constexpr int kBinBits = 10;
  static_assert(1 << kBinBits == kBins, "");
  const Key span = high - low;
  const int bits = sizeof(Key) == 8 ? 64 - __clzll(static_cast<long long>(span)) : 32 - __clz(static_cast<int>(span));
  return {low, ::max(0, bits - kBinBits)};
}

__device__ __forceinline__ uint32_t warp_sum(uint32_t value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_add_sync(kFullWarp, value);
#else
  for (int step = 16; step; step /= 2) value += __shfl_xor_sync(kFullWarp, value, step);
  return value;
#endif
}
// The same tree in every run.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int step = 16; step; step /= 2) value += __shfl_xor_sync(kFullWarp, value, step);
  return value;
}
__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
  for (int step = 16; step; step /= 2) value += __shfl_xor_sync(kFullWarp, value, step);
  return value;
}
__device__ __forceinline__ uint32_t warp_max(uint32_t value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_max_sync(kFullWarp, value);
#else
  for (int step = 16; step; step /= 2) value = max(value, __shfl_xor_sync(kFullWarp, value, step));
  return value;
#endif
}
__device__ __forceinline__ uint32_t warp_min(uint32_t value) { return ~warp_max(~value); }
// Inclusive sum over the lanes below and this one.
__device__ __forceinline__ uint32_t warp_scan(uint32_t value, int lane) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const uint32_t below = __shfl_up_sync(kFullWarp, value, step);
    if (lane >= step) value += below;
  }
  return value;
}

// The lanes' values, largest first: a bitonic network.
__device__ __forceinline__ uint32_t warp_sort(uint32_t value, int lane) {
#pragma unroll
  for (int size = 2; size <= 32; size *= 2) {
#pragma unroll
    for (int step = size / 2; step; step /= 2) {
      const uint32_t other = __shfl_xor_sync(kFullWarp, value, step);
      value = ((lane & size) == 0) == ((lane & step) == 0) ? max(value, other) : min(value, other);
    }
  }
  return value;
}
// The rank-th largest of the lanes' 64 values, rank from 1 to 32.
__device__ __forceinline__ uint32_t warp_ranked(uint32_t a, uint32_t b, uint32_t rank, int lane) {
  if (rank <= 6) {  // strike out the largest rank - 1 times
    for (uint32_t i = 1; i < rank; i++) {
      const uint32_t most = max(a, b), holders = __ballot_sync(kFullWarp, most == warp_max(most));
      if (lane == __ffs(holders) - 1) {
        b = min(a, b);
        a = 0;
      }
    }
    return warp_max(max(a, b));
  }
  // Of a falling and a rising sequence, the larger ones at each place are the 32 largest of all.
  const uint32_t largest = max(warp_sort(a, lane), ~warp_sort(~b, lane));
  return __shfl_sync(kFullWarp, warp_sort(largest, lane), rank - 1);
}

// Warp: the k best of 32 kPerLane keys, of which lane l has l, l + 32, ...; of equal ones the lower index. A key of 0 takes
// no part. Calls taken(rank, key, index) in every lane, and leaves 0 in place of what was taken.
template <int kPerLane, class Taken>
__device__ __forceinline__ void warp_select(uint32_t (&keys)[kPerLane], uint32_t k, uint32_t lane, Taken taken) {
#pragma unroll 1
  for (uint32_t rank = 0; rank < k; rank++) {
    uint32_t best = 0, index = kNotFound;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) best = max(best, keys[i]);
    best = warp_max(best);
#pragma unroll
    for (int i = kPerLane - 1; i >= 0; i--) index = keys[i] == best ? i * 32 + lane : index;
    index = warp_min(index);
#pragma unroll
    for (int i = 0; i < kPerLane; i++) keys[i] = i * 32 + lane == index ? 0 : keys[i];
    taken(rank, best, index);
  }
}

// The candidate buffer of a block of kThreads and everything that works on it.
template <int kThreads>
struct Selection {
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kBinsPerThread = kBins / kThreads;
  static_assert(kBins % kThreads == 0 && kWarps <= 32, "each thread scans whole bins");
  struct alignas(4 * kBinsPerThread) Bins {
    uint32_t of[kBinsPerThread];
  };

  SelectControl& control;
  uint32_t* histogram;  // [kBins]
  Candidate* buffer;    // [capacity]
  uint32_t capacity, k;
  Candidate top;               // about the best there is
  Binning<Candidate> binning;  // of what is in the buffer

  __device__ __forceinline__ uint32_t thread() const { return threadIdx.x; }
  __device__ __forceinline__ int lane() const { return threadIdx.x & 31; }
  __device__ __forceinline__ int warp() const { return threadIdx.x >> 5; }

  __device__ __forceinline__ void clear_histogram() {
    for (int i = thread(); i < kBins; i += kThreads) histogram[i] = 0;
  }

  // Empty; the caller's next barrier publishes it.
  __device__ __forceinline__ void clear() {
    clear_histogram();
    if (thread() == 0) {
      control.cut = 0;
      control.count = 0;
      control.refused = kNotFound;
    }
  }

  // Block: the bin, counted from the highest, in which the running count reaches `need`; control.bin = kNotFound where
  // it does not. kPlaces leaves in each bin the count above it, and notes whether a bin that matters is crowded;
  // otherwise the histogram is cleared.
  template <bool kPlaces>
  __device__ __forceinline__ void find_bin(uint32_t need) {
    const int first = kBins - (thread() + 1) * kBinsPerThread;
    Bins& mine = reinterpret_cast<Bins*>(histogram)[first / kBinsPerThread];
    Bins counts = mine;
    uint32_t own = 0;
#pragma unroll
    for (int i = 0; i < kBinsPerThread; i++) own += counts.of[i];
    const uint32_t inclusive = warp_scan(own, lane());
    if (lane() == 31) control.warp_total[warp()] = inclusive;
    if (thread() == 0) {
      control.bin = kNotFound;
      control.crowded = 0;
    }
    __syncthreads();
    const uint32_t before = warp_sum(lane() < warp() ? control.warp_total[lane()] : 0);
    uint32_t above = before + inclusive - own;
#pragma unroll
    for (int i = kBinsPerThread - 1; i >= 0; i--) {
      const uint32_t in_bin = counts.of[i];
      if (above < need && need <= above + in_bin) {
        control.bin = first + i;
        control.above = above;
        control.in_bin = in_bin;
      }
      if (kPlaces && above < need && in_bin > kCrowded) control.crowded = 1;
      counts.of[i] = kPlaces ? above : 0;
      above += in_bin;
    }
    mine = counts;
    __syncthreads();
  }

  // What a radix select found: an edge that `reaching` keys reach, of which `above` are known to lie over its bin.
  template <class Key>
  struct Edge {
    Key key;
    uint32_t above, reaching;
  };

  // Block: an edge that at least `need` keys reach, and at most need + slack, unless more are equal. for_each(f) calls f
  // with the thread's share of the keys; at least `need` of them lie between `low` and `high`, and none is higher. The
  // histogram is clear before and after, and the keys are published.
  template <class Key, class ForEach>
  __device__ __forceinline__ Edge<Key> radix_select(uint32_t need, uint32_t slack, Key low, Key high,
                                                    ForEach for_each) {
    uint32_t above = 0;
    Key span = high - low;
    while (true) {  // the edge is among low, ..., low + span
      const Binning<Key> bins = make_binning<Key>(low, low + span);
      for_each([&](Key key) {
        if (key - low <= span) atomicAdd(&histogram[(key - low) >> bins.shift], 1u);
      });
      __syncthreads();
      find_bin<false>(need - above);
      low += static_cast<Key>(control.bin) << bins.shift;
      above += control.above;
      const uint32_t reaching = above + control.in_bin;
      __syncthreads();  // control is read; the next digit may change it
      if (bins.shift == 0 || reaching <= need + slack) return {low, above, reaching};
      span = (Key{1} << bins.shift) - 1;
    }
  }

  // Block: the lowest and the highest of the n > 0 candidates in the buffer.
  __device__ __forceinline__ void find_range(uint32_t n, Candidate& lowest, Candidate& highest) {
    lowest = ~Candidate{0}, highest = 0;
    for (uint32_t i = thread(); i < n; i += kThreads) {
      lowest = ::min(lowest, buffer[i]);
      highest = ::max(highest, buffer[i]);
    }
    const auto reduce = [&] {
#pragma unroll
      for (int step = 16; step; step /= 2) {
        lowest = ::min(lowest, __shfl_xor_sync(kFullWarp, lowest, step));
        highest = ::max(highest, __shfl_xor_sync(kFullWarp, highest, step));
      }
    };
    reduce();
    if (lane() == 0) {
      control.warp_lowest[warp()] = lowest;
      control.warp_highest[warp()] = highest;
    }
    __syncthreads();
    lowest = control.warp_lowest[lane() % kWarps];
    highest = control.warp_highest[lane() % kWarps];
    reduce();
  }

  // Block: what the buffer holds. Call between barriers.
  __device__ __forceinline__ uint32_t filled() const { return min(control.count, control.refused); }

  // Block: keeps the K best of the n > k candidates in the buffer, in no order, and counts them in bins of their own.
  __device__ void cut(uint32_t n) {
    clear_histogram();
    Candidate lowest, highest;
    find_range(n, lowest, highest);
    const Candidate edge = radix_select<Candidate>(k, 0, lowest, highest, [&](auto f) {
                             for (uint32_t i = thread(); i < n; i += kThreads) f(buffer[i]);
                           }).key;
    if (thread() == 0) control.kept = 0;
    for (uint32_t base = 0; base < n; base += kThreads) {
      const uint32_t at = base + thread();
      const Candidate c = at < n ? buffer[at] : 0;
      __syncthreads();  // what this round overwrites has been read, by this round or one before
      if (c >= edge && at < n) buffer[atomicAdd(&control.kept, 1u)] = c;
    }
    if (thread() == 0) {
      control.cut = edge;
      control.count = k;
      control.refused = kNotFound;
    }
    binning = make_binning(edge, top);
    __syncthreads();
    for (uint32_t i = thread(); i < k; i += kThreads) atomicAdd(&histogram[binning(buffer[i])], 1u);
    __syncthreads();
  }

  // Block: counts the n > 0 candidates in the buffer in bins of their own. The histogram is clear before.
  __device__ void count_again(uint32_t n) {
    Candidate lowest, highest;
    find_range(n, lowest, highest);
    binning = make_binning(lowest, highest);
    for (uint32_t i = thread(); i < n; i += kThreads) atomicAdd(&histogram[binning(buffer[i])], 1u);
    __syncthreads();
  }

  // Warp: puts the chosen of a thread's items, by bits, into the buffer; the bits of those that found no room stay.
  // raw_of(bit) is what a thread knows of an item without effort, refine(raw) the candidate. Few are chosen, and not by
  // all lanes alike: so a lane stores what is raw, and the lanes share the refining.
  template <class RawOf, class Refine>
  __device__ __forceinline__ void append(uint32_t& chosen, RawOf raw_of, Refine refine) {
    if (__builtin_expect(control.cut != 0, 0)) {
      for (uint32_t bits = chosen; bits; bits &= bits - 1) {
        if (refine(raw_of(__ffs(bits) - 1)) < control.cut) chosen ^= bits & (0 - bits);
      }
    }
    const uint32_t n = __popc(chosen), inclusive = warp_scan(n, lane()), all = __shfl_sync(kFullWarp, inclusive, 31);
    if (all == 0) return;
    uint32_t first = 0;
    if (lane() == 0) first = atomicAdd(&control.count, all);
    first = __shfl_sync(kFullWarp, first, 0);
    uint32_t place = first + inclusive - n, end = first + all;
    if (__builtin_expect(end > capacity, 0)) {
      const uint32_t refused = __ballot_sync(kFullWarp, n != 0 && place + n > capacity);  // the last that have any
      end = __shfl_sync(kFullWarp, place, __ffs(refused) - 1);
      if (lane() == 0) atomicMin(&control.refused, end);
    }
    if (place < end) {
      for (; chosen; chosen &= chosen - 1) buffer[place++] = raw_of(__ffs(chosen) - 1);
    }
    __syncwarp();
    for (uint32_t i = first + lane(); i < end; i += 32) {
      const Candidate c = refine(buffer[i]);
      buffer[i] = c;
      atomicAdd(&histogram[binning(c)], 1u);
    }
  }

  // Block: appends what choose(0), choose(step), ... choose of `count` items, of which each warp looks at step / kWarps
  // in sequence at a time; every warp calls choose(0). The buffer is cut where it is full, and the warps go on with what
  // they had chosen. Ends with a barrier.
  template <class Choose, class RawOf, class Refine>
  __device__ __forceinline__ void append_all(uint32_t count, uint32_t step, Choose choose, RawOf raw_of,
                                             Refine refine) {
    uint32_t base = 0, chosen = 0;
    bool full = false;  // for somebody of the warp
    while (true) {
      for (; base == 0 || base + step / kWarps * warp() < count; base += step) {
        if (!full) chosen = choose(base);
        append(chosen, raw_of, [&](Candidate raw) { return refine(base, raw); });
        full = __any_sync(kFullWarp, chosen != 0);
        if (full) break;
      }
      if (!__syncthreads_or(full)) return;
      cut(filled());
    }
  }

  // Block: bitonic sort of buffer[0, n), best first. n is a power of two, for which the buffer must have place.
  __device__ void bitonic_sort(uint32_t n) {
    for (uint32_t size = 2; size <= n; size *= 2) {
      for (uint32_t stride = size / 2; stride > 0; stride /= 2) {
        __syncthreads();
        for (uint32_t pair = thread(); pair < n / 2; pair += kThreads) {
          const uint32_t a = 2 * pair - (pair & (stride - 1)), b = a + stride;
          const Candidate x = buffer[a], y = buffer[b];
          if (((a & size) == 0) != (x >= y)) {
            buffer[a] = y;
            buffer[b] = x;
          }
        }
      }
    }
    __syncthreads();
  }

  // The same for n <= kCounted, without the histogram: a warp counts the better ones of four candidates at a time.
  template <class Emit>
  __device__ __forceinline__ void rank_by_counting(uint32_t n, uint32_t need, Emit emit) {
    constexpr int kAtOnce = 4;
    static_assert(kCounted <= 32 * kWarps, "a lane for each candidate of the warp");
    Candidate emitted = 0;
    uint32_t rank = need, round = 0;
    for (uint32_t first = kAtOnce * warp(); first < n; first += kAtOnce * kWarps) {
      Candidate mine[kAtOnce];
      uint32_t better[kAtOnce] = {};
#pragma unroll
      for (int h = 0; h < kAtOnce; h++) mine[h] = first + h < n ? buffer[first + h] : 0;
      for (uint32_t at = lane(); at < n; at += 32) {
        const Candidate other = buffer[at];
#pragma unroll
        for (int h = 0; h < kAtOnce; h++) better[h] += other > mine[h];
      }
#pragma unroll
      for (int h = 0; h < kAtOnce; h++) {
        const uint32_t its_rank = warp_sum(better[h]);
        if (lane() == kAtOnce * round + h && first + h < n) {
          rank = its_rank;
          emitted = mine[h];
        }
      }
      round++;
    }
    if (rank < need) emit(rank, emitted);
  }

  // Block: calls emit(rank, candidate) for the `need` best of the n in the buffer, need = min(n, k), whose counts the
  // histogram holds. `room` has space for `room_length` candidates.
  template <class Emit>
  __device__ __forceinline__ void sort(uint32_t n, uint32_t need, Candidate* room, uint32_t room_length, Emit emit) {
    find_bin<true>(need);
    const uint32_t last_bin = control.bin, taken = control.above + control.in_bin;
    if (__builtin_expect(!control.crowded && taken <= room_length, 1)) {
      // Scatter: a bin's cursor starts at the count above it, and ends where the next lower bin starts.
      for (uint32_t i = thread(); i < n; i += kThreads) {
        const Candidate c = buffer[i];
        const uint32_t bin = binning(c);
        if (bin >= last_bin) room[atomicAdd(&histogram[bin], 1u)] = c;
      }
#ifndef REMOVE_ONE_BARRIER  // the control of test/check.cu, which racecheck must catch
      __syncthreads();
#endif
      for (uint32_t i = thread(); i < taken; i += kThreads) {
        const Candidate c = room[i];
        const uint32_t bin = binning(c);
        const uint32_t begin = bin + 1 < kBins ? histogram[bin + 1] : 0, end = histogram[bin];
        uint32_t rank = begin;
        for (uint32_t other = begin; other < end; other++) rank += room[other] > c;
        if (rank < need) emit(rank, c);
      }
      return;
    }
    if (n > k) cut(n);
    if (need <= kCounted) return rank_by_counting(need, need, emit);
    uint32_t power = 1;
    while (power < need) power *= 2;
    for (uint32_t i = need + thread(); i < power; i += kThreads) buffer[i] = 0;
    bitonic_sort(power);
    for (uint32_t i = thread(); i < need; i += kThreads) emit(i, buffer[i]);
  }
};

}  // namespace fused_topk
