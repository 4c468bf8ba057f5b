// The selection of a workgroup: of many keys, the K best; of few candidates, their order.
//
//   radix_select  a bar that the K best pass and few others: histograms of digits, most significant first
//   put           candidates go to a buffer, and are counted in a histogram over their keys
//   cut           a full buffer is cut to its K best
//   sort          the histogram gives each bin its place, and a candidate is ranked within its bin
//
// A candidate is vec2(order_key, index), from make_candidate. Candidates are distinct, and (key descending, index
// ascending) is a strict total order, so the K best are one set, whatever the order of visits. Exact for every input: an
// bar is at all times passed by K of those seen, so what does not pass it cannot be among the K best.

const BINS = 256u;
const BIN_BITS = 8u;
const BIN_GROUP = 16u;
const BIN_GROUPS = BINS / BIN_GROUP;

// First the group maxima; then the candidate buffer and the list of groups, where there is place for them.
var<workgroup> work: array<atomic<u32>, WORK_WORDS>;
var<workgroup> histogram: array<atomic<u32>, BINS>;
var<workgroup> coarse: array<u32, BIN_GROUPS>;

// Places handed out, of the list of groups and of the candidate buffer; of the parts of a row, the most candidates and the
// highest edge.
const LISTED = 0u;
const CLAIMED = 1u;
const LONGEST = 2u;
const PART_EDGE = 3u;
const COUNTERS = 4u;
var<workgroup> counters: array<atomic<u32>, COUNTERS>;

// What `share` gathers, and whether there was a NaN.
var<workgroup> lowest_shared: atomic<u32>;
var<workgroup> highest_shared: atomic<u32>;
var<workgroup> nan_shared: atomic<u32>;

// The same for all to know: the largest key, and a key that is likely below those of the K best.
struct Range {
  low: u32,
  high: u32,
  has_nan: u32,
}
var<workgroup> range: Range;

// For one invocation to tell all.
var<workgroup> told: u32;

// What invocations have shared. Uniform.
fn shared_range() -> Range {
  workgroupBarrier();
  if (invocation == 0u) {
    range = Range(atomicLoad(&lowest_shared), atomicLoad(&highest_shared), atomicLoad(&nan_shared));
  }
  return workgroupUniformLoad(&range);
}

// Empties everything, and makes place for so many maxima. Uniform.
fn clear(maxima: u32) {
  workgroupBarrier();
  for (var i = invocation; i < maxima; i += WORKGROUP_SIZE) {
    atomicStore(&work[i], 0u);
  }
  if (invocation == 0u) {
    for (var counter = 0u; counter < COUNTERS; counter++) {
      atomicStore(&counters[counter], 0u);
    }
    atomicStore(&lowest_shared, 0xffffffffu);
    atomicStore(&highest_shared, 0u);
    atomicStore(&nan_shared, 0u);
  }
  workgroupBarrier();
}

// What the invocations have made of a counter. Uniform.
fn counted(counter: u32) -> u32 {
  workgroupBarrier();
  if (invocation == 0u) {
    told = atomicLoad(&counters[counter]);
  }
  return workgroupUniformLoad(&told);
}

// Bins over keys from `low` up, 2^shift keys each; what lies beyond the last is in the last.
struct Binning {
  low: u32,
  shift: u32,
}
var<workgroup> binning: Binning;   // of what is in the buffer

// The finest bins of which the last still reaches `high`.
fn make_binning(low: u32, high: u32) -> Binning {
  return Binning(low, max(32u - countLeadingZeros(high - low), BIN_BITS) - BIN_BITS);
}

fn bin_of(key: u32) -> u32 {
  return min((max(key, binning.low) - binning.low) >> binning.shift, BINS - 1u);
}

fn clear_histogram() {
  for (var bin = invocation; bin < BINS; bin += WORKGROUP_SIZE) {
    atomicStore(&histogram[bin], 0u);
  }
}

// What find_bin found.
struct Found {
  bin: u32,
  above: u32,   // counted in higher bins
  held: u32,    // counted in it; 0 where all bins together hold too few
}
var<workgroup> found_bin: Found;

// Finds the bin, counted from the highest, in which the `wanted`-th best lies. Uniform.
fn find_bin(wanted: u32) -> Found {
  if (invocation == 0u) {
    found_bin = Found(0u, 0u, 0u);
  }
  workgroupBarrier();
  for (var group = invocation; group < BIN_GROUPS; group += WORKGROUP_SIZE) {
    var sum = 0u;
    for (var i = 0u; i < BIN_GROUP; i++) {
      sum += atomicLoad(&histogram[group * BIN_GROUP + i]);
    }
    coarse[group] = sum;
  }
  workgroupBarrier();
  for (var group = invocation; group < BIN_GROUPS; group += WORKGROUP_SIZE) {
    var above = 0u;
    for (var other = group + 1u; other < BIN_GROUPS; other++) {
      above += coarse[other];
    }
    if (above < wanted && wanted <= above + coarse[group]) {
      var bin = group * BIN_GROUP + BIN_GROUP - 1u;
      var held = atomicLoad(&histogram[bin]);
      while (above + held < wanted) {
        above += held;
        bin--;
        held = atomicLoad(&histogram[bin]);
      }
      found_bin = Found(bin, above, held);
    }
  }
  return workgroupUniformLoad(&found_bin);
}

// What a radix select is about. A place of each comes with a key and an order, by which ties are broken: the number of the
// group, the index of the candidate.
const MAXIMA = 0u;
const CANDIDATES = 1u;

// What passes: a larger key, or this key and no later an order. Everything passes NO_BAR.
struct Bar {
  key: u32,
  last: u32,
}

const ANY_ORDER = 0xffffffffu;
const NO_BAR = Bar(0u, ANY_ORDER);

fn passes(key: u32, order: u32, bar: Bar) -> bool {
  return key > bar.key || (key == bar.key && order <= bar.last);
}

// The number by which a radix select counts: the key, or among those of the key `tie` the order, inverted; larger is better.
fn rank_key(source: u32, i: u32, by_order: bool, tie: u32) -> u32 {
  var place: vec2<u32>;
  if (source == MAXIMA) {
    place = vec2(atomicLoad(&work[i]), i);
  } else {
    place = load_candidate(i);
  }
  return select(place.x, select(0u, ~place.y, place.x == tie), by_order);
}

// A bar that the K best of `count` places pass, and at most `slack` others. Orders are below `orders`; no key is beyond
// `highest`, and the bar is first sought from `lowest` up. NO_BAR where fewer than K keys are more than -inf. Uniform.
fn radix_select(source: u32, count: u32, slack: u32, orders: u32, lowest: u32, highest: u32) -> Bar {
  const LEAST = KEY_NEGATIVE_INFINITY + 1u;
  var bar = NO_BAR;
  var low = lowest;
  var high = highest;
  var span = high - low;
  var by_order = false;
  var tie = 0u;
  var above = 0u;   // places known to pass
  loop {
    let shift = make_binning(0u, span).shift;
    clear_histogram();
    candidate_barrier();
    for (var i = invocation; i < count; i += WORKGROUP_SIZE) {
      let beyond = rank_key(source, i, by_order, tie) - low;
      if (beyond <= span) {
        atomicAdd(&histogram[beyond >> shift], 1u);
      }
    }
    let found = find_bin(params.k - above);
    low += found.bin << shift;
    above += found.above;
    if (found.held == 0u) {   // too few
      if (low <= LEAST) {
        break;
      }
      low = LEAST;
      span = high - low;
    } else if (above + found.held <= params.k + slack) {
      bar = Bar(low, ANY_ORDER);
      if (by_order) {
        bar = Bar(tie, ~low);
      }
      break;
    } else if (shift == 0u) {   // too many of one key
      by_order = true;
      tie = low;
      low = ~(orders - 1u);
      high = 0xffffffffu;
      span = high - low;
    } else {
      span = min((1u << shift) - 1u, high - low);
    }
  }
  return bar;
}

// Puts a candidate into its place of the buffer.
fn put(place: u32, candidate: vec2<u32>) {
  store_candidate(place, candidate);
  atomicAdd(&histogram[bin_of(candidate.x)], 1u);
}

// Cuts the first `total` > K candidates to the K best and returns the bar that a better one passes. Uniform.
fn cut(total: u32) -> Bar {
  let low = workgroupUniformLoad(&binning).low;
  let high = workgroupUniformLoad(&range).high;
  let bar = radix_select(CANDIDATES, total, 0u, params.vocab, low, high);
  clear_histogram();
  if (invocation == 0u) {
    atomicStore(&counters[CLAIMED], 0u);
    binning = make_binning(bar.key, high);
  }
  for (var base = 0u; base < total; base += WORKGROUP_SIZE) {
    let i = base + invocation;
    let candidate = load_candidate(min(i, total - 1u));
    // In place: when all have read this stretch, there is room for what is kept of it before the next.
    candidate_barrier();
    if (i < total && passes(candidate.x, candidate.y, bar)) {
      put(atomicAdd(&counters[CLAIMED], 1u), candidate);
    }
  }
  candidate_barrier();
  return bar;
}

fn comes_before(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// Sorts the first `total` candidates, best first, by Batcher's network over params.sort_size places. Uniform.
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

// Brings the K best of `total` <= params.published candidates to the front in order, or all if there are fewer. Uniform.
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
      above += coarse[group];
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
  let taken = last.above + last.held;
  if (workgroupUniformLoad(&told) != 0u || total + taken > params.capacity) {
    bitonic_sort(total);
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
