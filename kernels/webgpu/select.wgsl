// The running selection of a row: a threshold and a candidate buffer in place of a sorted list.
//
//   first_threshold   before anything is appended: the K-th best of the first tile, by a histogram, bounds that of the row
//   append            a logit that does not reach the threshold costs a comparison; the others go to the buffer, and are
//                     counted in a histogram over their keys
//   refresh           one invocation reads off the histogram where the K-th best lies and raises the threshold; no barrier
//   cut               a full buffer is cut to its K best by an exact radix select, which raises the threshold too
//   sort              at the end the histogram gives each bin its place, and a candidate is ranked within its bin
//
// A candidate is vec2(order_key, index), from make_candidate. Candidates are distinct, and (key descending, index
// ascending) is a strict total order, so the K best are one set, whatever the order of visits. Exact for every input: K
// logits that were seen reach the threshold at all times, so what is dropped cannot be among the K best.
//
// While the row streams, invocations share nothing but atomics, and none waits for another.

const BINS = 256u;
const BIN_GROUP = 16u;
const BIN_GROUPS = BINS / BIN_GROUP;

// The key that a logit needs to be a candidate; raised by atomics.
var<workgroup> threshold: atomic<u32>;
// Places of the buffer handed out, and whether some were asked for that are not there.
var<workgroup> claimed: atomic<u32>;
var<workgroup> refused: atomic<u32>;
var<workgroup> histogram: array<atomic<u32>, BINS>;
// The histogram by groups of bins; while the row streams no more than it, so that a refresh may trust it.
var<workgroup> coarse: array<atomic<u32>, BIN_GROUPS>;
// Bins over keys from `low` up, 2^shift keys each; what lies beyond the last is in the last.
struct Binning {
  low: u32,
  shift: u32,
}
var<workgroup> binning: Binning;
// What find_bin found.
struct Found {
  bin: u32,
  wanted: u32,    // of the candidates in it
  held: u32,      // by it; less than wanted where all bins together hold too few
}
var<workgroup> found_bin: Found;
// For one invocation to tell all.
var<workgroup> told: u32;

// The finest bins of which the last still reaches `high`.
fn make_binning(low: u32, high: u32) -> Binning {
  return Binning(low, max(32u - countLeadingZeros(high - low), 8u) - 8u);
}

fn bin_of(key: u32) -> u32 {
  return min((max(key, binning.low) - binning.low) >> binning.shift, BINS - 1u);
}

fn clear_histogram() {
  for (var bin = invocation; bin < BINS; bin += WORKGROUP_SIZE) {
    atomicStore(&histogram[bin], 0u);
  }
  for (var group = invocation; group < BIN_GROUPS; group += WORKGROUP_SIZE) {
    atomicStore(&coarse[group], 0u);
  }
}

fn count(key: u32) {
  let bin = bin_of(key);
  atomicAdd(&histogram[bin], 1u);
  atomicAdd(&coarse[bin / BIN_GROUP], 1u);
}

// Empties the buffer. Uniform.
fn clear() {
  workgroupBarrier();
  clear_histogram();
  if (invocation == 0u) {
    atomicStore(&threshold, 0u);
    atomicStore(&claimed, 0u);
    atomicStore(&refused, 0u);
    atomicStore(&lowest_shared, 0xffffffffu);
    atomicStore(&highest_shared, 0u);
    binning = make_binning(0u, 0xffffffffu);
  }
  workgroupBarrier();
}

// Starts with a threshold that K logits are known to reach; `high` is the largest key seen. Uniform, the buffer empty.
fn open_threshold(key: u32, high: u32) {
  clear_histogram();
  if (invocation == 0u) {
    atomicStore(&threshold, key);
    // Room for larger keys than those seen.
    binning = make_binning(key, high + min((high - key) / 2u, 0xffffffffu - high));
  }
  workgroupBarrier();
}

// What lets a logit in beside the threshold: a key of at least `key`; or, past every index kept by the last cut, one above
// it, since a tie with the worst kept goes to the lower index.
struct Bar {
  key: u32,
  last_kept: u32,
}

const ADMIT_ALL = Bar(0u, 0xffffffffu);

// The least key that a logit at `first_index` or later needs.
fn least_key(bar: Bar, first_index: u32) -> u32 {
  return max(atomicLoad(&threshold), bar.key + select(0u, 1u, first_index > bar.last_kept));
}

// Asks for `count` places; those from params.capacity on are not there.
fn claim(count: u32) -> u32 {
  let place = atomicAdd(&claimed, count);
  if (place + count > params.capacity) {
    atomicStore(&refused, 1u);
  }
  return place;
}

fn put(place: u32, candidate: vec2<u32>) {
  store_candidate(place, candidate);
  count(candidate.x);
}

// Candidates between two refreshes.
const REFRESH = 32u;

// Refreshes where places [first, last) cross the next multiple of REFRESH and K candidates are there.
fn refresh_after(first: u32, last: u32) {
  if (last > params.k && first / REFRESH != last / REFRESH) {
    refresh();
  }
}

// Raises the threshold to the lower edge of the bin in which the K-th best so far lies. Counts only grow while the row
// streams, so an old one gives a lower edge, and a valid one.
fn refresh() {
  var wanted = params.k;
  var group = BIN_GROUPS - 1u;
  var held = atomicLoad(&coarse[group]);
  while (held < wanted && group > 0u) {
    wanted -= held;
    group--;
    held = atomicLoad(&coarse[group]);
  }
  var bin = group * BIN_GROUP + BIN_GROUP - 1u;
  held = atomicLoad(&histogram[bin]);
  while (held < wanted && bin > group * BIN_GROUP) {
    wanted -= held;
    bin--;
    held = atomicLoad(&histogram[bin]);
  }
  if (held >= wanted) {
    atomicMax(&threshold, binning.low + (bin << binning.shift));
  }
}

// Finds the bin, counted from the highest, in which the `wanted`-th best lies. Uniform.
fn find_bin(wanted: u32) -> Found {
  workgroupBarrier();
  for (var group = invocation; group < BIN_GROUPS; group += WORKGROUP_SIZE) {
    var sum = 0u;
    for (var i = 0u; i < BIN_GROUP; i++) {
      sum += atomicLoad(&histogram[group * BIN_GROUP + i]);
    }
    atomicStore(&coarse[group], sum);
  }
  workgroupBarrier();
  if (invocation == 0u) {
    var left = wanted;
    var group = BIN_GROUPS - 1u;
    while (group > 0u && atomicLoad(&coarse[group]) < left) {
      left -= atomicLoad(&coarse[group]);
      group--;
    }
    var bin = group * BIN_GROUP + BIN_GROUP - 1u;
    while (bin > group * BIN_GROUP && atomicLoad(&histogram[bin]) < left) {
      left -= atomicLoad(&histogram[bin]);
      bin--;
    }
    found_bin = Found(bin, left, atomicLoad(&histogram[bin]));
  }
  return workgroupUniformLoad(&found_bin);
}

const DIGIT_BITS = 8u;
const DIGITS = KEY_DIGITS + 4u;   // of the key, then of the inverted index

// A candidate as one number of 64 bits, key then inverted index, that is larger for the better one.
fn rank_bits(candidate: vec2<u32>) -> vec2<u32> {
  return vec2(candidate.x, ~candidate.y);
}

fn digit_shift(digit: u32) -> u32 {
  return 24u - DIGIT_BITS * select(digit, digit - KEY_DIGITS, digit >= KEY_DIGITS);
}

// Whether some candidate found no room since the last cut; then the buffer is full. Uniform.
fn overflowed() -> bool {
  workgroupBarrier();
  if (invocation == 0u) {
    told = atomicLoad(&refused);
  }
  return workgroupUniformLoad(&told) != 0u;
}

// The number of candidates, when all have been told by overflowed that it did not. Uniform.
fn filled() -> u32 {
  if (invocation == 0u) {
    told = atomicLoad(&claimed);
  }
  return workgroupUniformLoad(&told);
}

// Cuts the first `total` > K candidates to the K best and returns the new bar. Uniform.
fn cut(total: u32) -> Bar {
  // The leading digits of the K-th best, found one at a time: candidates above it are in, below it are out.
  var prefix = vec2(0u);
  var mask = vec2(0u);
  var wanted = params.k;
  for (var digit = 0u; digit < DIGITS; digit++) {
    let in_key = digit < KEY_DIGITS;
    let shift = digit_shift(digit);
    clear_histogram();
    candidate_barrier();
    for (var i = invocation; i < total; i += WORKGROUP_SIZE) {
      let bits = rank_bits(load_candidate(i));
      if (all((bits & mask) == prefix)) {
        atomicAdd(&histogram[(select(bits.y, bits.x, in_key) >> shift) & (BINS - 1u)], 1u);
      }
    }
    let found = find_bin(wanted);
    let part = vec2(select(0u, 1u, in_key), select(1u, 0u, in_key));
    prefix |= part * (found.bin << shift);
    mask |= part * ((BINS - 1u) << shift);
    wanted = found.wanted;
    if (found.wanted == found.held) {
      break;
    }
  }
  return keep(total, prefix, mask);
}

var<workgroup> kept_bar: Bar;
var<workgroup> lowest_kept: atomic<u32>;
var<workgroup> highest_kept: atomic<u32>;
var<workgroup> last_kept: atomic<u32>;

// Moves the K candidates whose digits under `mask` are at least `prefix` to the front.
fn keep(total: u32, prefix: vec2<u32>, mask: vec2<u32>) -> Bar {
  clear_histogram();
  if (invocation == 0u) {
    atomicStore(&claimed, 0u);
    atomicStore(&refused, 0u);
    atomicStore(&lowest_kept, 0xffffffffu);
    atomicStore(&highest_kept, 0u);
    atomicStore(&last_kept, 0u);
  }
  for (var base = 0u; base < total; base += WORKGROUP_SIZE) {
    let i = base + invocation;
    let candidate = load_candidate(min(i, total - 1u));
    let bits = rank_bits(candidate) & mask;
    let is_kept = i < total && (bits.x > prefix.x || (bits.x == prefix.x && bits.y >= prefix.y));
    // In place: when all have read this stretch, there is room for what is kept of it before the next.
    candidate_barrier();
    if (is_kept) {
      store_candidate(atomicAdd(&claimed, 1u), candidate);
      atomicMin(&lowest_kept, candidate.x);
      atomicMax(&highest_kept, candidate.x);
      atomicMax(&last_kept, candidate.y);
    }
  }
  candidate_barrier();
  if (invocation == 0u) {
    let lowest = atomicLoad(&lowest_kept);
    kept_bar = Bar(lowest, atomicLoad(&last_kept));
    atomicMax(&threshold, lowest);
    binning = make_binning(lowest, atomicLoad(&highest_kept));
  }
  let bar = workgroupUniformLoad(&kept_bar);
  for (var i = invocation; i < params.k; i += WORKGROUP_SIZE) {
    count(load_candidate(i).x);
  }
  workgroupBarrier();
  return bar;
}

fn comes_before(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// Sorts the first `total` <= K candidates, best first, by Batcher's network over the next power of two. Uniform.
fn bitonic_sort(total: u32) {
  for (var i = total + invocation; i < params.sort_size; i += WORKGROUP_SIZE) {
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

// Where in the room a bin begins; its cursor while candidates are moved there, and so at last its end.
var<workgroup> starts: array<atomic<u32>, BINS>;
// Whether a bin that matters holds more than CROWDED.
var<workgroup> crowded: atomic<u32>;
const CROWDED = 256u;

// Brings the K best of `total` candidates to the front in order, or all if there are fewer. Uniform.
fn sort(total: u32) {
  let need = min(total, params.k);
  if (need == 0u) {
    return;
  }
  let last = find_bin(need);
  if (invocation == 0u) {
    atomicStore(&crowded, 0u);
  }
  workgroupBarrier();
  for (var bin = invocation; bin < BINS; bin += WORKGROUP_SIZE) {
    var above = 0u;
    for (var group = bin / BIN_GROUP + 1u; group < BIN_GROUPS; group++) {
      above += atomicLoad(&coarse[group]);
    }
    for (var other = bin + 1u; other % BIN_GROUP != 0u; other++) {
      above += atomicLoad(&histogram[other]);
    }
    atomicStore(&starts[bin], above);
    if (bin >= last.bin && atomicLoad(&histogram[bin]) > CROWDED) {
      atomicStore(&crowded, 1u);
    }
  }
  workgroupBarrier();
  if (invocation == 0u) {
    told = atomicLoad(&crowded);
  }
  let taken = need - last.wanted + last.held;
  if (workgroupUniformLoad(&told) != 0u || total + taken > params.capacity) {
    if (total > params.k) {
      cut(total);
    }
    bitonic_sort(need);
    return;
  }
  // The room behind the candidates takes them bin by bin.
  for (var i = invocation; i < total; i += WORKGROUP_SIZE) {
    let candidate = load_candidate(i);
    let bin = bin_of(candidate.x);
    if (bin >= last.bin) {
      store_candidate(total + atomicAdd(&starts[bin], 1u), candidate);
    }
  }
  candidate_barrier();
  for (var i = invocation; i < taken; i += WORKGROUP_SIZE) {
    let candidate = load_candidate(total + i);
    let bin = bin_of(candidate.x);
    let end = atomicLoad(&starts[bin]);
    let begin = end - atomicLoad(&histogram[bin]);
    var rank = begin;
    for (var other = begin; other < end; other++) {
      rank += select(0u, 1u, comes_before(load_candidate(total + other), candidate));
    }
    if (rank < need) {
      store_candidate(rank, candidate);
    }
  }
  candidate_barrier();
}
