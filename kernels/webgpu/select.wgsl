// The selection of a workgroup: of many keys, the K best; of few candidates, their order.
//
//   radix_select  a bar that the K best pass and few others: histograms of digits, most significant first
//   put           candidates go to a buffer, and are counted in a histogram over their keys
//   cut           a full buffer is cut to its K best
//   arrange       the histogram gives each bin its place, and a candidate is ranked within its bin
//
// A candidate is vec2(order_key, index), from make_candidate. Candidates are distinct, and (key descending, index
// ascending) is a strict total order, so the K best are one set, whatever the order of visits. Exact for every input: a
// bar is at all times passed by K of those seen, so what does not pass it cannot be among the K best.

const BINS = max(256u, WORKGROUP_SIZE);
const BIN_BITS = countTrailingZeros(BINS);

// First the group maxima; then the candidate buffer and the list of groups, where there is place for them.
var<workgroup> work: array<atomic<u32>, WORK_WORDS>;
var<workgroup> histogram: array<atomic<u32>, BINS>;

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
    atomicStore(&crowded, 0u);
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

// log2 of the keys that a bin must hold if 2^bits keys share them all.
fn bin_shift(bits: u32) -> u32 {
  return max(bits, BIN_BITS) - BIN_BITS;
}

fn bit_length(n: u32) -> u32 {
  return 32u - countLeadingZeros(n);
}

// The bits of an order_key that tell no two logits apart.
const UNUSED_BITS = select(0u, 16u, LOGITS_PER_WORD == 2u);

// Bins over the candidates from the key `low` up: by key, and where keys leave bits, by index too, so that ties spread.
struct Binning {
  low: u32,
  key_down: u32,     // key - low is shifted right by this,
  key_up: u32,       // or left by this,
  last: u32,         // and the index, counted backwards from the last,
  index_down: u32,   // right by this
}
var<workgroup> binning: Binning;   // of what is in the buffer

// The finest bins over what passes a bar, up to the key `high`.
fn make_binning(bar: Bar, high: u32) -> Binning {
  let bits = bit_length(short_key(high) - short_key(bar.key));
  let free = max(bits, BIN_BITS) - bits;
  // Where all are ties, no index is beyond that of the bar.
  let last = select(params.vocab - 1u, min(bar.last, params.vocab - 1u), bits == 0u);
  return Binning(bar.key, bin_shift(bits), free, last, select(31u, max(bit_length(last), free) - free, free != 0u));
}

fn bin_of(candidate: vec2<u32>) -> u32 {
  if (candidate.x < binning.low) {
    return 0u;
  }
  let beyond = short_key(candidate.x) - short_key(binning.low);
  let by_index = (binning.last - candidate.y) >> binning.index_down;
  return min(((beyond >> binning.key_down) << binning.key_up) | by_index, BINS - 1u);
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
  is_crowded: u32,
}
var<workgroup> found_bin: Found;

// Whether a bin of candidates holds more than CROWDED, so that to rank by counting would take long.
var<workgroup> crowded: atomic<u32>;
const CROWDED = 96u;

// Bins that an invocation looks at; only the first BINS invocations do.
const OWN_BINS = max(BINS / WORKGROUP_SIZE, 1u);

// Finds the bin, counted from the highest, in which the `wanted`-th best lies. With `leaves_places` a bin is left with the
// count above it, where the place of its first candidate is. Uniform.
fn find_bin(wanted: u32, leaves_places: bool) -> Found {
  workgroupBarrier();
  let highest = BINS - 1u - invocation * OWN_BINS;
  let bins = select(0u, OWN_BINS, invocation < BINS);
  var own = 0u;
  for (var i = 0u; i < bins; i++) {
    let held = atomicLoad(&histogram[highest - i]);
    own += held;
    if (leaves_places && held > CROWDED) {
      atomicStore(&crowded, 1u);
    }
  }
  if (invocation == 0u) {
    found_bin = Found(0u, 0u, 0u, 0u);
  }
  var above = sum_of_earlier(own);
  for (var i = 0u; i < bins; i++) {
    let held = atomicLoad(&histogram[highest - i]);
    if (above < wanted && wanted <= above + held) {
      found_bin = Found(highest - i, above, held, atomicLoad(&crowded));
    }
    if (leaves_places) {
      atomicStore(&histogram[highest - i], above);
    }
    above += held;
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

// An order_key without its unused bits, in which keys that follow each other are neighbours, and back.
fn short_key(key: u32) -> u32 {
  return key >> UNUSED_BITS;
}

fn key_of_short(short: u32) -> u32 {
  let key = short << UNUSED_BITS;
  return select(key | ((1u << UNUSED_BITS) - 1u), key, key >= KEY_ZERO || short == KEY_NAN);
}

// The number by which a radix select counts: the short key, or among those of the short key `tie` the order, inverted; larger
// is better.
fn rank_key(source: u32, i: u32, by_order: bool, tie: u32) -> u32 {
  var place: vec2<u32>;
  if (source == MAXIMA) {
    place = vec2(atomicLoad(&work[i]), i);
  } else {
    place = load_candidate(i);
  }
  let key = short_key(place.x);
  return select(key, select(0u, ~place.y, key == tie), by_order);
}

// A bar that the K best of `count` places pass, and at most `slack` others. Orders are below `orders`; no key is beyond
// `highest`, and the bar is first sought from `lowest` up. NO_BAR where fewer than K keys are more than -inf. Uniform.
fn radix_select(source: u32, count: u32, slack: u32, orders: u32, lowest: u32, highest: u32) -> Bar {
  const LEAST = (KEY_NEGATIVE_INFINITY + 1u) >> UNUSED_BITS;
  let first_order = ~(orders - 1u);
  var from_key = short_key(lowest);
  // Where all seem to be ties, only their order tells, and one bin for all of them would be slow.
  var by_order = from_key == short_key(highest);
  var tie = from_key;
  var low = select(from_key, first_order, by_order);
  var high = select(short_key(highest), 0xffffffffu, by_order);
  var span = high - low;
  var above = 0u;   // places known to pass
  loop {
    let shift = bin_shift(bit_length(span));
    clear_histogram();
    candidate_barrier();
    for (var i = invocation; i < count; i += WORKGROUP_SIZE) {
      let beyond = rank_key(source, i, by_order, tie) - low;
      if (beyond <= span) {
        atomicAdd(&histogram[beyond >> shift], 1u);
      }
    }
    let found = find_bin(params.k - above, false);
    if (found.held == 0u) {   // too few
      if (from_key <= LEAST) {
        return NO_BAR;
      }
      from_key = LEAST;
      by_order = false;
      low = LEAST;
      high = short_key(highest);
      span = high - low;
      continue;
    }
    low += found.bin << shift;
    above += found.above;
    if (above + found.held <= params.k + slack) {
      break;
    }
    if (shift == 0u) {   // too many of one key
      by_order = true;
      tie = low;
      low = first_order;
      high = 0xffffffffu;
      span = high - low;
    } else {
      // Not past the highest, where 0 would be, which takes no part.
      span = min((1u << shift) - 1u, high - low);
    }
  }
  if (by_order) {
    return Bar(key_of_short(tie), ~low);
  }
  return Bar(key_of_short(low), ANY_ORDER);
}

// Puts a candidate into its place of the buffer.
fn put(place: u32, candidate: vec2<u32>) {
  store_candidate(place, candidate);
  atomicAdd(&histogram[bin_of(candidate)], 1u);
}

// Cuts the first `total` > K candidates to the K best and returns the bar that a better one passes. Uniform.
fn cut(total: u32) -> Bar {
  let low = workgroupUniformLoad(&binning).low;
  let high = workgroupUniformLoad(&range).high;
  let bar = radix_select(CANDIDATES, total, 0u, params.vocab, low, high);
  clear_histogram();
  if (invocation == 0u) {
    atomicStore(&counters[CLAIMED], 0u);
    binning = make_binning(bar, high);
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

// How the candidates are arranged.
struct Arrangement {
  count: u32,        // of those that may be among the K best
  is_sorted: bool,   // the buffer is; else they are listed by bins
}

// Arranges the `total` <= params.published candidates for `ranked`, `need` of which are wanted. Uniform.
fn arrange(total: u32, need: u32) -> Arrangement {
  let last = find_bin(need, true);
  if (last.is_crowded != 0u) {
    bitonic_sort(total);
    return Arrangement(need, true);
  }
  for (var i = invocation; i < total; i += WORKGROUP_SIZE) {
    let bin = bin_of(load_candidate(i));
    if (bin >= last.bin) {
      put_arranged(atomicAdd(&histogram[bin], 1u), i);
    }
  }
  candidate_barrier();
  return Arrangement(last.above + last.held, false);
}

// The candidate at a place of an arrangement, and its rank among all: (key, index, rank).
fn ranked(at: u32, arrangement: Arrangement) -> vec3<u32> {
  if (arrangement.is_sorted) {
    return vec3(load_candidate(at), at);
  }
  let candidate = load_candidate(arranged(at));
  // A bin's counter has moved from its first place to that of the next lower bin.
  let bin = bin_of(candidate);
  let end = atomicLoad(&histogram[bin]);
  var rank = 0u;
  if (bin + 1u < BINS) {
    rank = atomicLoad(&histogram[bin + 1u]);
  }
  for (var other = rank; other < end; other++) {
    rank += select(0u, 1u, comes_before(load_candidate(arranged(other)), candidate));
  }
  return vec3(candidate, rank);
}
