// The selection of a block: a threshold and a candidate buffer in shared memory, in place of a sorted list.
//
//   append        a logit that does not beat the threshold costs a comparison; the others go to the buffer, and are
//                 counted in a histogram over their values
//   refresh       one warp reads off the histogram where the K-th best lies and raises the threshold; no barrier
//   cut           a full buffer is cut to its K best by an exact radix select, which raises the threshold too
//   sort          at the end the histogram gives each bin its place, and a candidate is ranked within its bin
//
// Exact for every input: the threshold is at all times a candidate that K seen ones reach, so what is dropped cannot be
// among the K best. While the row streams, shared words that warps exchange are touched by atomics only.
#pragma once

#include "row_state.cuh"

namespace fused_topk {

constexpr uint32_t kFullWarp = 0xFFFFFFFFu;
constexpr int kBins = 1024;
constexpr int kCoarseBins = 32;
constexpr uint32_t kCrowded = 96;  // a bin of more candidates is not ranked by counting
constexpr uint32_t kNotFound = 0xFFFFFFFFu;

// The words that the warps of a block share.
struct alignas(16) SelectControl {
  uint32_t threshold;           // the order_key below which no logit is among the K best; raised by atomics
  Candidate cut;                // what the last cut kept at least; its index breaks ties at its key
  uint32_t count;               // places of the buffer handed out
  uint32_t refused;             // the lowest place that was asked for and not there; what lies below is filled
  uint32_t bin, above, in_bin;  // what find_bin found
  uint32_t crowded;
  uint32_t kept;
  unsigned long long differing;  // bits in which keys differ
  uint32_t warp_total[32];
  uint32_t coarse[kCoarseBins];  // the histogram by runs of kBins / kCoarseBins bins
};

// Bins over candidate values from `low` up; the order of bins is the order of logits, since every step is monotone.
struct Binning {
  float low, per_unit;
  __device__ __forceinline__ int operator()(float logit) const {
    const int bin = __float2int_rz((logit - low) * per_unit);
    return min(max(bin, 0), kBins - 1);
  }
};

// Bins so that [low, high] fills three quarters of them, and larger values than those seen so far the rest.
__device__ __forceinline__ Binning make_binning(float low, float high) {
  const float range = high - low;
  const float per_unit = range > 0 && range < 1e38f ? 0.75f * kBins / range : 0.0f;
  return {low, per_unit < 1e37f ? per_unit : 0.0f};
}

__device__ __forceinline__ uint32_t warp_sum(uint32_t value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_add_sync(kFullWarp, value);
#else
  for (int step = 16; step; step /= 2) value += __shfl_xor_sync(kFullWarp, value, step);
  return value;
#endif
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
__device__ __forceinline__ uint32_t warp_or(uint32_t value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_or_sync(kFullWarp, value);
#else
  for (int step = 16; step; step /= 2) value |= __shfl_xor_sync(kFullWarp, value, step);
  return value;
#endif
}
// Inclusive sum over the lanes below and this one.
__device__ __forceinline__ uint32_t warp_scan(uint32_t value, int lane) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const uint32_t below = __shfl_up_sync(kFullWarp, value, step);
    if (lane >= step) value += below;
  }
  return value;
}

// The candidate buffer of a block of kThreads and everything that works on it.
template <int kThreads>
struct Selection {
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kBinsPerThread = kBins / kThreads;
  static_assert(kBins % kThreads == 0 && kWarps <= 32, "each thread scans whole bins");

  SelectControl& control;
  uint32_t* histogram;  // [kBins]
  Candidate* buffer;    // [capacity]
  uint32_t capacity, k;
  Binning binning;

  __device__ __forceinline__ uint32_t thread() const { return threadIdx.x; }
  __device__ __forceinline__ int lane() const { return threadIdx.x & 31; }
  __device__ __forceinline__ int warp() const { return threadIdx.x >> 5; }

  __device__ __forceinline__ void clear_histogram() {
    for (int i = thread(); i < kBins; i += kThreads) histogram[i] = 0;
    if (warp() == 0) control.coarse[lane()] = 0;
  }

  __device__ __forceinline__ void count(float logit) {
    const int bin = binning(logit);
    atomicAdd(&histogram[bin], 1u);
    atomicAdd(&control.coarse[bin / (kBins / kCoarseBins)], 1u);
  }

  // Empty; the caller's next barrier publishes it.
  __device__ __forceinline__ void clear() {
    clear_histogram();
    if (thread() == 0) {
      control.threshold = kKeyNegativeInfinity;  // NaN is never a candidate
      control.cut = 0;
      control.count = 0;
      control.refused = kNotFound;
    }
  }

  __device__ __forceinline__ uint32_t read_threshold() {
    uint32_t now = 0;
    if (lane() == 0) now = atomicMax(&control.threshold, 0u);
    return __shfl_sync(kFullWarp, now, 0);
  }

  // Asks for `n` places in the buffer. False: there is no room, and the block must meet for a cut.
  __device__ __forceinline__ bool claim(uint32_t n, uint32_t& place) {
    place = atomicAdd(&control.count, n);
    if (place + n <= capacity) return true;
    atomicMin(&control.refused, place);
    return false;
  }

  __device__ __forceinline__ void put(uint32_t place, float logit, uint32_t index) {
    buffer[place] = make_candidate_of_number(logit, index);
    count(logit);
  }

  // One warp: raises the threshold to the lower edge of the bin in which the K-th best appended so far lies. The counts
  // only grow while the row streams, so a stale read gives a lower and still valid edge.
  __device__ __forceinline__ void refresh() {
    uint32_t above = 0;
    const int run = find_from_top(control.coarse, above);
    if (run < 0) return;
    const int bin = run * 32 + find_from_top(histogram + run * 32, above);
    if (lane() != 0 || bin <= 0 || binning.per_unit == 0) return;
    // A value just under the edge. Should rounding put it into the bin after all, this refresh is skipped.
    const float edge = binning.low + (bin - 0.0625f) / binning.per_unit;
    if (binning(edge) < bin) atomicMax(&control.threshold, order_key(edge));
  }

  // One warp: of 32 counts, the highest at which `above` and the counts from the top reach k; -1 where none does. Adds
  // the counts over it to `above`.
  __device__ __forceinline__ int find_from_top(uint32_t* counts, uint32_t& above) {
    const uint32_t own = atomicAdd(&counts[31 - lane()], 0u);
    const uint32_t reached = above + warp_scan(own, lane());
    const uint32_t lanes = __ballot_sync(kFullWarp, reached >= k);
    if (lanes == 0) return -1;
    const int first = __ffs(lanes) - 1;
    above = __shfl_sync(kFullWarp, reached - own, first);
    return 31 - first;
  }
  static_assert(kBins == 32 * kCoarseBins && kCoarseBins == 32, "two steps of 32 lanes find a bin");

  // Block: the bin, counted from the highest, in which the running count reaches `need`; control.bin = kNotFound where
  // it does not. kPlaces leaves in each bin the count above it, and notes whether a bin that matters is crowded;
  // otherwise the histogram is cleared.
  template <bool kPlaces, class Between>
  __device__ __forceinline__ void find_bin(uint32_t need, Between between) {
    const int first = kBins - (thread() + 1) * kBinsPerThread;
    uint32_t counts[kBinsPerThread], own = 0;
#pragma unroll
    for (int i = 0; i < kBinsPerThread; i++) own += counts[i] = histogram[first + i];
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
      if (above < need && need <= above + counts[i]) {
        control.bin = first + i;
        control.above = above;
        control.in_bin = counts[i];
      }
      if (kPlaces && above < need && counts[i] > kCrowded) control.crowded = 1;
      histogram[first + i] = kPlaces ? above : 0;
      above += counts[i];
    }
    between();
    __syncthreads();
  }
  template <bool kPlaces>
  __device__ __forceinline__ void find_bin(uint32_t need) {
    find_bin<kPlaces>(need, [] {});
  }

  // Block: a key that at least `need` and at most need + slack of the n distinct keys reach, need <= n. Radix select
  // from the highest bit in which keys differ. The histogram is clear before and after; the keys are published.
  __device__ Candidate radix_select(const Candidate* keys, uint32_t n, uint32_t need, uint32_t slack) {
    if (thread() == 0) control.differing = 0;
    __syncthreads();
    const Candidate sample = keys[0];
    Candidate differing = 0;
    for (uint32_t i = thread(); i < n; i += kThreads) differing |= keys[i] ^ sample;
    const uint32_t high = warp_or(static_cast<uint32_t>(differing >> 32));
    const uint32_t low = warp_or(static_cast<uint32_t>(differing));
    if (lane() == 0) atomicOr(&control.differing, (static_cast<unsigned long long>(high) << 32) | low);
    __syncthreads();
    constexpr int kDigitBits = 10;
    static_assert(1 << kDigitBits == kBins, "a digit has a bin for each value");
    int end = 64 - __clzll(control.differing);  // one past the highest bit not yet decided
    Candidate prefix = end < 64 ? sample >> end << end : 0;
    uint32_t above = 0;  // keys over the prefix
    while (end > 0) {
      const int begin = max(0, end - kDigitBits);
      for (uint32_t i = thread(); i < n; i += kThreads) {
        const Candidate rest = keys[i] ^ prefix;
        if (end == 64 || rest >> end == 0) atomicAdd(&histogram[rest >> begin], 1u);
      }
      __syncthreads();
      find_bin<false>(need - above);
      prefix |= static_cast<Candidate>(control.bin) << begin;
      const uint32_t reaching = above + control.above + control.in_bin;
      above += control.above;
      end = begin;
      __syncthreads();  // control is read; the next digit may change it
      if (reaching <= need + slack) break;
    }
    return prefix;
  }

  // Block: what the buffer holds. Call between barriers.
  __device__ __forceinline__ uint32_t filled() const { return min(control.count, control.refused); }

  // Block: keeps the K best of the n > k candidates in the buffer, in no order, and raises the threshold. Clears the
  // histogram.
  __device__ void cut(uint32_t n) {
    clear_histogram();
    __syncthreads();
    const Candidate threshold = radix_select(buffer, n, k, 0);
    if (thread() == 0) control.kept = 0;
    for (uint32_t base = 0; base < n; base += kThreads) {
      const uint32_t at = base + thread();
      const Candidate c = at < n ? buffer[at] : 0;
      __syncthreads();  // what this round overwrites has been read, by this round or one before
      if (c >= threshold && at < n) buffer[atomicAdd(&control.kept, 1u)] = c;
    }
    if (thread() == 0) {
      control.threshold = static_cast<uint32_t>(threshold >> 32);
      control.cut = threshold;
      control.count = k;
      control.refused = kNotFound;
    }
    __syncthreads();
  }

  // Block: counts the n > 0 candidates in bins over their own range, and returns the best one's key. The histogram is
  // clear before.
  __device__ uint32_t count_again(uint32_t n) {
    if (thread() == 0) {
      control.above = 0;
      control.bin = kNotFound;
    }
    __syncthreads();
    uint32_t highest = 0, lowest = kNotFound;
    for (uint32_t i = thread(); i < n; i += kThreads) {
      const uint32_t key = static_cast<uint32_t>(buffer[i] >> 32);
      highest = max(highest, key);
      lowest = min(lowest, key);
    }
    highest = warp_max(highest);
    lowest = warp_min(lowest);
    if (lane() == 0) {
      atomicMax(&control.above, highest);
      atomicMin(&control.bin, lowest);
    }
    __syncthreads();
    highest = control.above;
    binning = make_binning(logit_of_key(control.bin), logit_of_key(highest));
    for (uint32_t i = thread(); i < n; i += kThreads) count(candidate_logit(buffer[i]));
    __syncthreads();
    return highest;
  }

  // Block: bitonic sort of buffer[0, n), best first. n is a power of two.
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

  // Block: calls emit(rank, candidate) for the `need` best of the n in the buffer, need = min(n, k), whose counts the
  // histogram holds. `room` has space for `room_length` candidates. `between` runs once, before any emit and a barrier.
  template <class Between, class Emit>
  __device__ void sort(uint32_t n, uint32_t need, Candidate* room, uint32_t room_length, Between between, Emit emit) {
    find_bin<true>(need, between);
    const uint32_t last_bin = control.bin, taken = control.above + control.in_bin;
    if (!control.crowded && taken <= room_length) {
      // Scatter: a bin's cursor starts at the count above it, and ends where the next lower bin starts.
      for (uint32_t i = thread(); i < n; i += kThreads) {
        const Candidate c = buffer[i];
        const uint32_t bin = binning(candidate_logit(c));
        if (bin >= last_bin) room[atomicAdd(&histogram[bin], 1u)] = c;
      }
#ifndef REMOVE_ONE_BARRIER  // the control of test/check.cu, which racecheck must catch
      __syncthreads();
#endif
      for (uint32_t i = thread(); i < taken; i += kThreads) {
        const Candidate c = room[i];
        const uint32_t bin = binning(candidate_logit(c));
        const uint32_t begin = bin + 1 < kBins ? histogram[bin + 1] : 0, end = histogram[bin];
        uint32_t rank = begin;
        for (uint32_t other = begin; other < end; other++) rank += room[other] > c;
        if (rank < need) emit(rank, c);
      }
      return;
    }
    if (n > k) cut(n);
    uint32_t power = 1;
    while (power < need) power *= 2;
    for (uint32_t i = need + thread(); i < power; i += kThreads) buffer[i] = 0;
    bitonic_sort(power);
    for (uint32_t i = thread(); i < need; i += kThreads) emit(i, buffer[i]);
  }
};

}  // namespace fused_topk
