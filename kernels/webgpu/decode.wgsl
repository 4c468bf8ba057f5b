// Few rows and a small K: each row is cut into parts so short that a workgroup holds one in registers.
//
//   hold_parts   a workgroup holds a part and leaves its state, and the logits that may be among the K best
//   merge_held   a workgroup merges what the parts of a row left, and finishes it
//
// No group maxima, no radix select, no second look at a logit. Every invocation names the best that it holds, 32
// invocations together say which of their best is the one for their share of K, and the worst of these is a bar that K
// pass. About twice as many do, so that they are ranked by counting, each its betters. What would be more than there is
// place for, as where many of the best lie with few invocations, goes the way of scan_parts or merge_parts.
//
// A dispatch has a workgroup for each part, or row, so that all it shares begins as zero.

// Vectors that an invocation holds of a part: 32 logits of either size.
const HELD_LOADS = 2u * LOADS / LOGITS_PER_WORD;

// Invocations that answer for a share of K together. They stand SHARES apart, so that where ties go to the lower number no
// share has the low ones.
const SHARERS = min(32u, WORKGROUP_SIZE);
const SHARES = WORKGROUP_SIZE / SHARERS;

// What invocations name; later the candidates that are left of a row, as many as are ranked by counting.
const NAMED = 2u * WORKGROUP_SIZE;
var<workgroup> named: array<vec2<u32>, NAMED + COMPARED>;
// Of each share: the one that is to be passed, and the largest key.
var<workgroup> share_bars: array<vec2<u32>, SHARES>;
var<workgroup> share_highest: array<u32, SHARES>;

// What all shares have in common.
struct Shared {
  bar: Bar,
  highest: u32,
}

// How many are compared at a time.
const COMPARED = 16u;

// How many of the named from `first` on, `stride` apart, come before another. Without a branch, so that the loads do not
// wait for each other.
fn count_betters(first: u32, stride: u32, than: vec2<u32>) -> u32 {
  let better = (betters(first, stride, than) + betters(first + 4u * stride, stride, than))
    + (betters(first + 8u * stride, stride, than) + betters(first + 12u * stride, stride, than));
  return (better.x + better.y) + (better.z + better.w);
}

fn betters(first: u32, stride: u32, than: vec2<u32>) -> vec4<u32> {
  let a = named[first];
  let b = named[first + stride];
  let c = named[first + 2u * stride];
  let d = named[first + 3u * stride];
  let keys = vec4(a.x, b.x, c.x, d.x);
  let orders = vec4(a.y, b.y, c.y, d.y);
  let is_better = (keys > vec4(than.x)) | ((keys == vec4(than.x)) & (orders < vec4(than.y)));
  return select(vec4(0u), vec4(1u), is_better);
}

// A bar that K of the named pass, by (key descending, order ascending), and the largest key. All are distinct. Uniform.
fn bar_of_shares(best: vec2<u32>) -> Shared {
  named[invocation] = best;
  workgroupBarrier();
  let share = invocation % SHARES;
  var rank = 0u;
  for (var i = 0u; i < SHARERS; i += COMPARED) {
    rank += count_betters(share + i * SHARES, SHARES, best);
  }
  if (rank == 0u) {
    share_highest[share] = best.x;
  }
  if (rank == (params.k - 1u) / SHARES) {
    share_bars[share] = best;
  }
  workgroupBarrier();
  var bar = share_bars[0];
  var highest = share_highest[0];
  for (var i = 1u; i < SHARES; i++) {
    let other = share_bars[i];
    let is_better = (other.x > bar.x) | ((other.x == bar.x) & (other.y < bar.y));
    bar = select(other, bar, is_better);
    highest = max(highest, share_highest[i]);
  }
  return Shared(Bar(bar.x, bar.y), highest);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn hold_parts(place: Place, grid: Grid) {
  enter_in_order(place);
  let row = grid.workgroup.x / params.parts_here;
  let part = params.first_part + grid.workgroup.x % params.parts_here;
  let begin = part * params.part_length;
  let end = begin + min(params.part_length, params.vocab - begin);
  let origin = row_begin(row);
  let first = origin + begin;
  let last = origin + end;
  let first_vector = line_begin(first);

  let near = load_tile(first_vector, first, last);
  var far = near;
  if (HELD_LOADS > LOADS) {
    far = load_tile(first_vector + TILE_VECTORS, first, last);
  }
  let near_keys = keys_of_tile(near);
  var best = first_best(near_keys.keys, 0u);
  var has_nan = near_keys.has_nan;
  var far_keys = vec4(0u);
  if (HELD_LOADS > LOADS) {
    let found = keys_of_tile(far);
    far_keys = found.keys;
    let far_best = first_best(far_keys, LOADS);
    best = select(best, far_best, far_best.x > best.x);
    has_nan |= found.has_nan;
  }
  if (has_nan != 0u) {
    atomicStore(&nan_shared, 1u);
  }
  let all = bar_of_shares(best);
  let any_nan = atomicLoad(&nan_shared);

  let slot = row * params.parts + part;
  let edge = select(all.bar.key, 0u, all.bar.key <= KEY_NEGATIVE_INFINITY);
  var hits = 0u;
  if (edge != 0u) {
    hits = vectors_passing(near_keys.keys, 0u, all.bar);
    if (HELD_LOADS > LOADS) {
      hits |= vectors_passing(far_keys, LOADS, all.bar) << LOADS;
    }
  } else {
    hits = (1u << HELD_LOADS) - 1u;
  }
  // Without a bar: what is not masked, and should that be fewer than K, the rest is among the first 2 K.
  let close = select(first + min(2u * params.k, end - begin), last, any_nan != 0u);
  for (; hits != 0u; hits &= hits - 1u) {
    let load = firstTrailingBit(hits);
    var words = words_of(near, load);
    if (HELD_LOADS > LOADS) {
      words = select(words, words_of(far, load - LOADS), load >= LOADS);
    }
    let nth = load * WORKGROUP_SIZE + invocation;
    let vector = first_vector + nth;
    // A vector that comes after the bar has to offer a larger key.
    var pending = 0u;
    if (edge != 0u) {
      pending = reaching(words, edge + select(0u, 1u, nth > all.bar.last));
    } else {
      pending = reaching(words, KEY_NEGATIVE_INFINITY + 1u)
        | passing_of_vector(words, vector, origin, first, close, Bar(0u, ANY_ORDER));
    }
    var at = atomicAdd(&counters[CLAIMED], countOneBits(pending));
    for (; pending != 0u && at < params.part_slots; pending &= pending - 1u) {
      let bit = firstTrailingBit(pending);
      let bits = word_of(slot_bits(words, bit / 4u), bit % 4u);
      let position = vector * LOGITS_PER_VECTOR + bit % 4u * LOGITS_PER_WORD + bit / 4u;
      part_top[slot * params.part_slots + at] = make_candidate(bits, position - origin);
      at++;
    }
  }

  let reference = row_max(all.highest);
  var weights = tile_weight(near, reference);
  if (HELD_LOADS > LOADS) {
    weights += tile_weight(far, reference);
  }
  let state = RowState(reference, sum_of_all(weights), all.highest, any_nan);
  let count = counted(CLAIMED);
  if (count <= params.part_slots) {
    if (invocation == 0u) {
      part_states[slot] = PartState(state, count, edge);
    }
  } else {
    _ = read_part(origin, begin, end);
    publish_part(slot, state, collect(origin, begin, end));
  }
}

// The largest of the keys of an invocation's vectors, with its first vector, by the number in the part.
fn first_best(keys: vec4<u32>, load: u32) -> vec2<u32> {
  let key = max_of(keys);
  let nth = select(select(select(3u, 2u, keys.z == key), 1u, keys.y == key), 0u, keys.x == key);
  return vec2(key, (load + nth) * WORKGROUP_SIZE + invocation);
}

// Which vectors of a tile, the first of which is that of a load, hold something that passes a bar.
fn vectors_passing(keys: vec4<u32>, load: u32, bar: Bar) -> u32 {
  let nth = vec4(load * WORKGROUP_SIZE + invocation) + vec4(0u, 1u, 2u, 3u) * WORKGROUP_SIZE;
  let is_passing = (keys > vec4(bar.key)) | ((keys == vec4(bar.key)) & (nth <= vec4(bar.last)));
  let bit = select(vec4(0u), vec4(1u, 2u, 4u, 8u), is_passing);
  return (bit.x | bit.y) | (bit.z | bit.w);
}

// Which numbers of a vector reach a key, bit slot * 4 + lane. Without a branch.
fn reaching(words: vec4<u32>, key: u32) -> u32 {
  let least = key - select(0u, 1u, key == KEY_ZERO);
  var found = vec4(0u);
  for (var slot = 0u; slot < LOGITS_PER_WORD; slot++) {
    let reach = raw_key(slot_bits(words, slot)) - vec4(least) <= vec4(KEY_POSITIVE_INFINITY - least);
    found |= select(vec4(0u), vec4(1u, 2u, 4u, 8u) << vec4(4u * slot), reach);
  }
  return (found.x | found.y) | (found.z | found.w);
}

fn words_of(tile: Tile, load: u32) -> vec4<u32> {
  return select(select(tile.a, tile.b, load == 1u), select(tile.c, tile.d, load == 3u), load >= 2u);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn merge_held(place: Place, grid: Grid) {
  enter_in_order(place);
  let row = grid.workgroup.x;
  let first_part = row * params.parts;

  var own = empty();
  if (invocation < params.parts) {
    own = part_states[first_part + invocation].state;
  }
  // One that names nothing names something that comes after everything. What is read first stays in registers.
  let some = load_parts(first_part, 0u, invocation);
  var best = best_of(vec2(0u, NO_INDEX - WORKGROUP_SIZE + invocation), some);
  for (var part = 0u; part < params.parts; part += PARTS_AT_ONCE) {
    let longest = longest_after(some, first_part, part);
    for (var i = next_of(part); i < longest; i += WORKGROUP_SIZE) {
      best = best_of(best, load_parts(first_part, part, i));
    }
  }
  if (own.has_nan != 0u) {
    atomicStore(&nan_shared, 1u);
  }
  let all = bar_of_shares(best);
  let any_nan = atomicLoad(&nan_shared);
  let reference = row_max(all.highest);
  let weights = rescaled(own, reference).sum;

  name_passing(some, all.bar);
  for (var part = 0u; part < params.parts; part += PARTS_AT_ONCE) {
    let longest = longest_after(some, first_part, part);
    for (var i = next_of(part); i < longest; i += WORKGROUP_SIZE) {
      name_passing(load_parts(first_part, part, i), all.bar);
    }
  }
  let state = RowState(reference, sum_of_all(weights), all.highest, any_nan);
  let total = counted(CLAIMED);
  if (total <= NAMED) {
    finish_named(row, state, total);
  } else {
    finish(row, merge_row(first_part));
  }
}

// The first candidate of some parts that an invocation has not read yet.
fn next_of(part: u32) -> u32 {
  return invocation + select(0u, WORKGROUP_SIZE, part == 0u);
}

const PARTS_AT_ONCE = 16u;

// The i-th candidates of so many parts.
struct PartsCandidates {
  a: Published,
  b: Published,
  c: Published,
  d: Published,
  longest: u32,   // of these parts, the most candidates
}

fn load_parts(first_part: u32, part: u32, i: u32) -> PartsCandidates {
  let a = counts_of(first_part, part);
  let b = counts_of(first_part, part + 4u);
  let c = counts_of(first_part, part + 8u);
  let d = counts_of(first_part, part + 12u);
  return PartsCandidates(
    load_four(first_part, part, i, a), load_four(first_part, part + 4u, i, b),
    load_four(first_part, part + 8u, i, c), load_four(first_part, part + 12u, i, d),
    max_of(max(max(a, b), max(c, d))));
}

// The most candidates of one of the parts from `part` on. The first ones are known.
fn longest_after(first: PartsCandidates, first_part: u32, part: u32) -> u32 {
  if (part == 0u) {
    return first.longest;
  }
  return load_parts(first_part, part, 0u).longest;
}

// The candidates that four parts of a row have left; 0 of those it does not have.
fn counts_of(first_part: u32, first: u32) -> vec4<u32> {
  let part = vec4(first) + vec4(0u, 1u, 2u, 3u);
  let at = vec4(first_part) + min(part, vec4(params.parts - 1u));
  let counts = vec4(part_states[at.x].count, part_states[at.y].count, part_states[at.z].count, part_states[at.w].count);
  return select(vec4(0u), counts, part < vec4(params.parts));
}

fn load_four(first_part: u32, first: u32, i: u32, counts: vec4<u32>) -> Published {
  let part = vec4(first_part) + min(vec4(first) + vec4(0u, 1u, 2u, 3u), vec4(params.parts - 1u));
  let at = part * params.part_slots + vec4(min(i, params.part_slots - 1u));
  let a = part_top[at.x];
  let b = part_top[at.y];
  let c = part_top[at.z];
  let d = part_top[at.w];
  let is_there = vec4(i) < counts;
  return Published(
    select(vec4(0u), vec4(a.x, b.x, c.x, d.x), is_there),
    select(vec4(NO_INDEX), vec4(a.y, b.y, c.y, d.y), is_there));
}

fn best_of(before: vec2<u32>, some: PartsCandidates) -> vec2<u32> {
  let ab = better_of(best_of_four(some.a), best_of_four(some.b));
  let cd = better_of(best_of_four(some.c), best_of_four(some.d));
  return better_of(better_of(ab, cd), before);
}

fn best_of_four(some: Published) -> vec2<u32> {
  return better_of(
    better_of(vec2(some.keys.x, some.indices.x), vec2(some.keys.y, some.indices.y)),
    better_of(vec2(some.keys.z, some.indices.z), vec2(some.keys.w, some.indices.w)));
}

fn better_of(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return select(b, a, (a.x > b.x) | ((a.x == b.x) & (a.y < b.y)));
}

// Names those that pass a bar.
fn name_passing(some: PartsCandidates, bar: Bar) {
  let passing = (passing_of(some.a, bar) | (passing_of(some.b, bar) << 4u))
    | ((passing_of(some.c, bar) << 8u) | (passing_of(some.d, bar) << 12u));
  if (passing == 0u) {
    return;
  }
  var at = atomicAdd(&counters[CLAIMED], countOneBits(passing));
  for (var left = passing; left != 0u && at < NAMED; left &= left - 1u) {
    let bit = firstTrailingBit(left);
    let near = four_of(some.a, some.b, (bit & 4u) != 0u);
    let far = four_of(some.c, some.d, (bit & 4u) != 0u);
    let four = four_of(near, far, bit >= 8u);
    named[at] = vec2(word_of(four.keys, bit % 4u), word_of(four.indices, bit % 4u));
    at++;
  }
}

fn four_of(a: Published, b: Published, is_second: bool) -> Published {
  return Published(select(a.keys, b.keys, is_second), select(a.indices, b.indices, is_second));
}

// Which of four pass a bar, by bits.
fn passing_of(some: Published, bar: Bar) -> u32 {
  let is_passing = (some.keys > vec4(bar.key)) | ((some.keys == vec4(bar.key)) & (some.indices <= vec4(bar.last)));
  let bit = select(vec4(0u), vec4(1u, 2u, 4u, 8u), is_passing & (some.indices != vec4(NO_INDEX)));
  return (bit.x | bit.y) | (bit.z | bit.w);
}

// As finish, of so few candidates that each counts its betters. Uniform.
fn finish_named(row: u32, state: RowState, total: u32) {
  // What follows the last comes after everything.
  if (invocation < COMPARED) {
    named[total + invocation] = vec2(0u, NO_INDEX);
  }
  workgroupBarrier();
  for (var i = invocation; i < total; i += WORKGROUP_SIZE) {
    let candidate = named[i];
    var rank = 0u;
    for (var other = 0u; other < total; other += COMPARED) {
      rank += count_betters(other, 1u, candidate);
    }
    if (rank < params.k) {
      let at = params.first_result + row * params.k + rank;
      probs[at] = probability(state, candidate.x);
      indices[at] = candidate.y;
    }
  }
  if (invocation == 0u) {
    log_sum_exp[params.first_log_sum_exp + row] = finish_log_sum_exp(state);
  }
}
