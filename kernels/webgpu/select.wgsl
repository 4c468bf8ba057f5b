// The running selection of a row: a threshold and a candidate buffer in place of a sorted list.
//
//   append   adds the candidates an invocation holds; those that no longer fit stay with it
//   cut      a full buffer is cut to its K best by an exact radix select, which raises the threshold
//   sort     brings the K best in order
//
// A candidate is vec2(order_key, index), from make_candidate. Candidates are distinct, and (key descending, index ascending) is a strict total
// order, so the K best are one set, whatever the order of visits. Exact for every input.

const DIGIT_BITS = 8u;
const BINS = 256u;
const BIN_GROUP = 16u;
const DIGITS = KEY_DIGITS + 4u;   // of the key, then of the inverted index

// What lets a logit in: a key of at least `key`; or, past every index kept by the last cut, one above `key`, since a tie
// with the worst kept goes to the lower index.
struct Threshold {
  key: u32,
  last_kept: u32,
}

const ADMIT_ALL = Threshold(0u, 0xffffffffu);

var<workgroup> appended: atomic<u32>;
var<workgroup> is_full: u32;
var<workgroup> bins: array<atomic<u32>, BINS>;
var<workgroup> bin_groups: array<u32, BIN_GROUP>;
var<workgroup> pivot: vec3<u32>;
var<workgroup> kept_key: atomic<u32>;
var<workgroup> kept_index: atomic<u32>;
var<workgroup> threshold: Threshold;
var<workgroup> candidate_total: u32;

// Empties the buffer. Uniform.
fn clear_candidates() {
  workgroupBarrier();
  if (invocation == 0u) {
    atomicStore(&appended, 0u);
    is_full = 0u;
  }
  workgroupBarrier();
}

// The least key that a logit at `first_index` or later needs.
fn least_key(bar: Threshold, first_index: u32) -> u32 {
  return bar.key + select(0u, 1u, first_index > bar.last_kept);
}

// Reserves room for `count` candidates; what is reserved from params.capacity on is not there.
fn reserve(count: u32) -> u32 {
  let at = atomicAdd(&appended, count);
  if (at + count > params.capacity) {
    is_full = 1u;
  }
  return at;
}

// Whether some candidate found no room since the last cut; then the buffer is full. Uniform.
fn overflowed() -> bool {
  return workgroupUniformLoad(&is_full) != 0u;
}

// The number of candidates, when all have been told by overflowed that it did not. Uniform.
fn count_candidates() -> u32 {
  if (invocation == 0u) {
    candidate_total = atomicLoad(&appended);
  }
  return workgroupUniformLoad(&candidate_total);
}

// A candidate as one number of 64 bits, key then inverted index, that is larger for the better one.
fn rank_bits(candidate: vec2<u32>) -> vec2<u32> {
  return vec2(candidate.x, ~candidate.y);
}

fn digit_shift(digit: u32) -> u32 {
  return 24u - DIGIT_BITS * select(digit, digit - KEY_DIGITS, digit >= KEY_DIGITS);
}

// Cuts the first `count` > K candidates to the K best and returns the new threshold. Uniform.
fn cut(count: u32) -> Threshold {
  // The leading digits of the K-th best, found one at a time: candidates above it are in, below it are out.
  var prefix = vec2(0u);
  var mask = vec2(0u);
  var wanted = params.k;
  for (var digit = 0u; digit < DIGITS; digit++) {
    let in_key = digit < KEY_DIGITS;
    let shift = digit_shift(digit);
    for (var bin = invocation; bin < BINS; bin += WORKGROUP_SIZE) {
      atomicStore(&bins[bin], 0u);
    }
    candidate_barrier();
    for (var i = invocation; i < count; i += WORKGROUP_SIZE) {
      let bits = rank_bits(load_candidate(i));
      if (all((bits & mask) == prefix)) {
        atomicAdd(&bins[(select(bits.y, bits.x, in_key) >> shift) & (BINS - 1u)], 1u);
      }
    }
    workgroupBarrier();
    find_pivot(wanted);
    let found = workgroupUniformLoad(&pivot);
    let part = vec2(select(0u, 1u, in_key), select(1u, 0u, in_key));
    prefix |= part * (found.x << shift);
    mask |= part * ((BINS - 1u) << shift);
    wanted = found.y;
    if (found.y == found.z) {
      break;
    }
  }
  return keep(count, prefix, mask);
}

// pivot = (the bin that holds the `wanted`-th best, how many of it are wanted, how many it holds).
fn find_pivot(wanted: u32) {
  if (invocation < BIN_GROUP) {
    var sum = 0u;
    for (var i = 0u; i < BIN_GROUP; i++) {
      sum += atomicLoad(&bins[invocation * BIN_GROUP + i]);
    }
    bin_groups[invocation] = sum;
  }
  workgroupBarrier();
  if (invocation == 0u) {
    var left = wanted;
    var group = BIN_GROUP - 1u;
    while (bin_groups[group] < left) {
      left -= bin_groups[group];
      group--;
    }
    var bin = group * BIN_GROUP + BIN_GROUP - 1u;
    var held = atomicLoad(&bins[bin]);
    while (held < left) {
      left -= held;
      bin--;
      held = atomicLoad(&bins[bin]);
    }
    pivot = vec3(bin, left, held);
  }
}

// Moves the K candidates whose digits under `mask` are at least `prefix` to the front.
fn keep(count: u32, prefix: vec2<u32>, mask: vec2<u32>) -> Threshold {
  if (invocation == 0u) {
    atomicStore(&appended, 0u);
    atomicStore(&kept_key, 0xffffffffu);
    atomicStore(&kept_index, 0u);
    is_full = 0u;
  }
  for (var base = 0u; base < count; base += WORKGROUP_SIZE) {
    let i = base + invocation;
    let candidate = load_candidate(min(i, count - 1u));
    let bits = rank_bits(candidate) & mask;
    let is_kept = i < count && (bits.x > prefix.x || (bits.x == prefix.x && bits.y >= prefix.y));
    // In place: when all have read this stretch, there is room for what is kept of it before the next.
    candidate_barrier();
    if (is_kept) {
      store_candidate(atomicAdd(&appended, 1u), candidate);
      atomicMin(&kept_key, candidate.x);
      atomicMax(&kept_index, candidate.y);
    }
  }
  candidate_barrier();
  if (invocation == 0u) {
    threshold = Threshold(atomicLoad(&kept_key), atomicLoad(&kept_index));
  }
  return workgroupUniformLoad(&threshold);
}

fn comes_before(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// Sorts the first `count` <= K candidates, best first, by Batcher's bitonic network over the next power of two. Uniform.
fn sort(count: u32) {
  for (var i = count + invocation; i < params.sort_size; i += WORKGROUP_SIZE) {
    store_candidate(i, vec2(KEY_NAN, 0xffffffffu));
  }
  candidate_barrier();
  for (var run = 2u; run <= params.sort_size; run *= 2u) {
    for (var stride = run / 2u; stride > 0u; stride /= 2u) {
      for (var i = invocation; i < params.sort_size / 2u; i += WORKGROUP_SIZE) {
        let low = 2u * i - (i & (stride - 1u));
        let high = low + stride;
        let a = load_candidate(low);
        let b = load_candidate(high);
        if (comes_before(b, a) == ((low & run) == 0u)) {
          store_candidate(low, b);
          store_candidate(high, a);
        }
      }
      candidate_barrier();
    }
  }
}
