// The gating kernel: many rows of a small vocabulary (at most 256), K at most 8, as a mixture of experts has them.
//
// Such rows are bound by instructions rather than by memory, so everything here saves those. A team of LANES neighbours
// holds a row in registers; a workgroup has several teams.
//
// 1. Groups. A vector is a group. The K best logits of a row lie in the K groups with the largest maxima (ties: the lower
//    group), so only those are sorted, a quarter or an eighth of the row.
// 2. Keys. A logit and its place fit one u32, the least of which is the best, so a step of a sorting network is one min
//    and one max. 16-bit logits: their inverted order above, the index below. Exact. f32: the bits of (row maximum -
//    logit), whose low bits give way to the index. Narrow rows keep their precision that way, since the difference is
//    small; what the missing bits can hide is found in step 5.
// 3. Each lane sorts its keys, and merges with the lanes whose number differs in one bit, bit by bit. Then each knows the
//    8 best groups.
// 4. Open. The lanes share the best groups, read them again, and sort their logits in the same way.
// 5. f32: winners whose keys look alike are ranked by their logits. Where the best key left out looks like that of the last
//    winner, the row is searched for logits that look like it; if all are equal, the index has decided rightly.
// 6. What is left is selected in K rounds, and with it the rows of the workgroup: a tie that step 5 could not settle, and
//    rows with NaN, +inf or nothing but -inf.
//
// Sorting networks: Knuth, TAOCP 3, 5.3.4. Merging two sorted lists by a bitonic half-cleaner: Batcher, 1968.

const TEAMS = WORKGROUP_SIZE / LANES;      // rows at a time
const HELD = TILES * LOADS;                // vectors a lane
const LISTED_KEYS = 8u;
const INDEX_MASK = 255u;
const NO_KEY = 0xffffffffu;                // comes after every key
const KEYS_ARE_EXACT = LOGITS_PER_WORD == 2u;

// Eight keys, the best first.
struct Keys {
  first: vec4<u32>,
  last: vec4<u32>,
}

const NO_KEYS = Keys(vec4(NO_KEY), vec4(NO_KEY));

// What a lane holds of a row: vectors LANES apart.
struct Held {
  near: Tile,
  far: Tile,   // where TILES is 2
}

var<workgroup> said: atomic<u32>;
var<workgroup> round_best: array<vec2<u32>, WORKGROUP_SIZE>;
var<workgroup> round_winners: array<vec2<u32>, TEAMS * LISTED_KEYS>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gate_rows(place: Place, grid: Grid) {
  enter(place);
  let team = invocation / LANES;
  let lane = invocation % LANES;
  for (var base = grid.workgroup.x * TEAMS; base < params.rows; base += grid.workgroups.x * TEAMS) {
    let row = min(base + team, params.rows - 1u);   // the last row, again, where there is none
    let first = row_begin(row);
    let last = first + params.vocab;
    let first_vector = first / LOGITS_PER_VECTOR;
    let held = load_held(first_vector + lane, first, last);

    var state = empty();
    let near = keys_of_tile(held.near);
    var far = TileKeys(vec4(0u), 0u);
    if (TILES == 2u) {
      far = keys_of_tile(held.far);
    }
    // A NaN is beyond the infinities here, since it spoils the row likewise.
    let is_nan = (near.has_nan | far.has_nan) != 0u;
    state.highest = team_max(select(max_of(max(near.keys, far.keys)), 0xffffffffu, is_nan));
    state.reference = row_max(state.highest);
    var sum = tile_weight(held.near, state.reference);
    if (TILES == 2u) {
      sum += tile_weight(held.far, state.reference);
    }
    state.sum = team_sum(sum);

    var dropped = NO_KEY;
    let group = vec4(lane) + vec4(0u, 1u, 2u, 3u) * LANES;
    var groups = Keys(sort_four(pack(near.keys, group, state.reference)), vec4(NO_KEY));
    if (TILES == 2u) {
      groups.last = sort_four(pack(far.keys, group + vec4(LOADS * LANES), state.reference));
      groups = merge_fours(groups.first, groups.last);
    }
    groups = merge_team(groups, 1u, &dropped);
    var best = open_group(select(NO_KEY, key_at(groups, lane), lane < LISTED_KEYS), first_vector, first, state.reference);
    if (LANES == 4u) {
      let more = open_group(word_of(groups.last, lane), first_vector, first, state.reference);
      best = merge_best(best, more, &dropped);
    }
    best = merge_opened(best, &dropped);

    var edge = 0u;
    var needs_search = state.highest >= KEY_POSITIVE_INFINITY || state.highest <= KEY_NEGATIVE_INFINITY;
    if (!KEYS_ARE_EXACT) {
      edge = key_at(best, params.k - 1u);
      dropped = min(dropped, best_after(best, params.k));
      needs_search |= looks_like(dropped, edge);
    }
    var in_rounds = any_of_workgroup(needs_search);
    if (in_rounds && !KEYS_ARE_EXACT) {
      let is_irregular = state.highest >= KEY_POSITIVE_INFINITY || state.highest <= KEY_NEGATIVE_INFINITY;
      let is_tied = team_max(select(0u, 1u, needs_search)) != 0u;
      var is_unsettled = is_irregular;
      if (is_tied && !is_irregular) {
        is_unsettled = hides_difference(held, edge, winner_of(edge, first).x, state.reference);
      }
      in_rounds = any_of_workgroup(is_unsettled);
    }
    if (in_rounds) {
      choose_in_rounds(first_vector + lane, first, last);
    }

    if (base + team < params.rows) {
      let first_result = params.first_result + row * params.k;
      let is_crowded = !KEYS_ARE_EXACT && has_likes(best);
      for (var i = lane; i < params.k; i += LANES) {
        var winner: vec2<u32>;
        var rank = i;
        if (in_rounds) {
          winner = round_winners[team * LISTED_KEYS + i];
        } else {
          winner = winner_of(key_at(best, i), first);
          if (is_crowded) {
            rank = rank_of(winner, best, first);
          }
        }
        probs[first_result + rank] = probability(state, winner.x);
        indices[first_result + rank] = winner.y;
      }
      if (lane == 0u) {
        log_sum_exp[params.first_log_sum_exp + row] = finish_log_sum_exp(state);
      }
    }
  }
}

// Whether an invocation of the workgroup says so. Uniform.
fn any_of_workgroup(own: bool) -> bool {
  if (invocation == 0u) {
    atomicStore(&said, 0u);
  }
  workgroupBarrier();
  if (own) {
    atomicStore(&said, 1u);
  }
  workgroupBarrier();
  if (invocation == 0u) {
    told = atomicLoad(&said);
  }
  return workgroupUniformLoad(&told) != 0u;
}

// The vectors of a lane: all loads under one branch, or they would wait for each other.
fn load_held(vector: u32, begin: u32, end: u32) -> Held {
  let near = vec4(vector) + vec4(0u, 1u, 2u, 3u) * LANES;
  let far = near + vec4(LOADS * LANES);
  if (vector * LOGITS_PER_VECTOR >= begin && (vector + (HELD - 1u) * LANES + 1u) * LOGITS_PER_VECTOR <= end) {
    if (TILES == 2u) {
      return Held(
        Tile(logits[near.x], logits[near.y], logits[near.z], logits[near.w]),
        Tile(logits[far.x], logits[far.y], logits[far.z], logits[far.w]));
    }
    return Held(Tile(logits[near.x], logits[near.y], logits[near.z], logits[near.w]), MASKED_TILE);
  }
  if (TILES == 2u) {
    return Held(load_vectors(near, begin, end), load_vectors(far, begin, end));
  }
  return Held(load_vectors(near, begin, end), MASKED_TILE);
}

const MASKED_TILE = Tile(vec4(MASKED_WORD), vec4(MASKED_WORD), vec4(MASKED_WORD), vec4(MASKED_WORD));

// --- Keys ---

// Keys of logits, given by their order_keys, with numbers below 256 in the low bits.
fn pack(order: vec4<u32>, number: vec4<u32>, row_max: f32) -> vec4<u32> {
  if (KEYS_ARE_EXACT) {
    return (~order & vec4(0xffff0000u)) | number;
  }
  return (difference_bits(order, row_max) & vec4(~INDEX_MASK)) | number;
}

// The bits of row_max - x, which sort as unsigned integers.
fn difference_bits(order: vec4<u32>, row_max: f32) -> vec4<u32> {
  let bits = select(~order, order ^ vec4(0x80000000u), order >= vec4(KEY_ZERO));
  let difference = bitcast<vec4<u32>>(vec4(row_max) - bitcast<vec4<f32>>(bits)) & vec4(0x7fffffffu);
  return select(difference, vec4(INFINITY_BITS), order <= vec4(KEY_NEGATIVE_INFINITY));
}

// Whether keys differ in their numbers at most.
fn looks_like(a: u32, b: u32) -> bool {
  return ((a ^ b) & ~INDEX_MASK) == 0u;
}

// keys[i], by selects: registers have no address.
fn key_at(keys: Keys, i: u32) -> u32 {
  return word_of(select(keys.first, keys.last, i >= 4u), i & 3u);
}

// The best of the keys from a place on.
fn best_after(keys: Keys, place: u32) -> u32 {
  return select(NO_KEY, key_at(keys, place), place < LISTED_KEYS);
}

// --- Sorting, least first ---

// Sorts a bitonic sequence of four.
fn sort_bitonic_four(v: vec4<u32>) -> vec4<u32> {
  let a = vec4(min(v.xy, v.zw), max(v.xy, v.zw));
  let low = min(a.xz, a.yw);
  let high = max(a.xz, a.yw);
  return vec4(low.x, high.x, low.y, high.y);
}

fn sort_four(v: vec4<u32>) -> vec4<u32> {
  let a = sort_bitonic_four(v);
  return vec4(a.x, min(a.y, a.z), max(a.y, a.z), a.w);
}

// Merges two sorted fours.
fn merge_fours(a: vec4<u32>, b: vec4<u32>) -> Keys {
  return Keys(sort_bitonic_four(min(a, b.wzyx)), sort_bitonic_four(max(a, b.wzyx)));
}

// The 8 best of two lists. The best key that falls out goes to `dropped`, where keys are not exact.
fn merge_best(a: Keys, b: Keys, dropped: ptr<function, u32>) -> Keys {
  if (!KEYS_ARE_EXACT) {
    let lost = min(max(a.first, b.last.wzyx), max(a.last, b.first.wzyx));
    *dropped = min(*dropped, min(min(lost.x, lost.y), min(lost.z, lost.w)));
  }
  let first = min(a.first, b.last.wzyx);
  let last = min(a.last, b.first.wzyx);
  return Keys(sort_bitonic_four(min(first, last)), sort_bitonic_four(max(first, last)));
}

// The 8 best of all lists of the team, where lanes whose numbers differ in lower bits have the same. Uniform.
fn merge_team(own: Keys, first_bit: u32, dropped: ptr<function, u32>) -> Keys {
  var best = own;
  for (var bit = first_bit; bit < LANES; bit *= 2u) {
    best = merge_best(best, of_neighbour(best, bit), dropped);
  }
  return best;
}

// --- Opening ---

// The keys of the logits of the group that a key names, sorted; none for NO_KEY.
fn open_group(group: u32, first_vector: u32, first: u32, row_max: f32) -> Keys {
  if (group == NO_KEY) {
    return NO_KEYS;
  }
  let vector = first_vector + (group & INDEX_MASK);
  let words = load_vector(vector, first, first + params.vocab);
  let low = sort_four(open_slot(words, vector, 0u, first, row_max));
  if (LOGITS_PER_WORD == 1u) {
    return Keys(low, vec4(NO_KEY));
  }
  return merge_fours(low, sort_four(open_slot(words, vector, 1u, first, row_max)));
}

fn open_slot(words: vec4<u32>, vector: u32, slot: u32, first: u32, row_max: f32) -> vec4<u32> {
  let index = slot_positions(vector, slot) - vec4(first);   // huge before the row
  let keys = pack(order_keys(slot_bits(words, slot)), index, row_max);
  return select(vec4(NO_KEY), keys, index < vec4(params.vocab));
}

// As merge_team, of what each lane has opened: four keys or eight. Uniform.
fn merge_opened(own: Keys, dropped: ptr<function, u32>) -> Keys {
  if (LOGITS_PER_WORD == 2u || LANES == 4u) {
    return merge_team(own, 1u, dropped);
  }
  return merge_team(merge_fours(own.first, four_of_neighbour(own.first, 1u)), 2u, dropped);
}

// --- Exactness ---

fn winner_of(key: u32, first: u32) -> vec2<u32> {
  let index = key & INDEX_MASK;
  if (KEYS_ARE_EXACT) {
    let order = ~key & 0xffff0000u;
    return vec2(select(order | 0xffffu, order, order >= KEY_ZERO), index);
  }
  return make_candidate(logit_bits(first + index), index);
}

// Whether neighbours in the list look alike.
fn has_likes(best: Keys) -> bool {
  let apart = best.first ^ vec4(best.first.yzw, best.last.x);
  let apart_too = best.last.xyz ^ best.last.yzw;
  return any((apart & vec4(~INDEX_MASK)) == vec4(0u)) || any((apart_too & vec3(~INDEX_MASK)) == vec3(0u));
}

// The place of a winner among the winners, by their logits.
fn rank_of(winner: vec2<u32>, best: Keys, first: u32) -> u32 {
  var rank = 0u;
  for (var i = 0u; i < params.k; i++) {
    rank += select(0u, 1u, comes_before(winner_of(key_at(best, i), first), winner));
  }
  return rank;
}

// Whether the lane holds a logit other than `winner`, by their order_keys, that looks like it.
fn hides_difference(held: Held, edge: u32, winner: u32, row_max: f32) -> bool {
  return tile_hides(held.near, edge, winner, row_max) || (TILES == 2u && tile_hides(held.far, edge, winner, row_max));
}

fn tile_hides(tile: Tile, edge: u32, winner: u32, row_max: f32) -> bool {
  return any(hidden(tile.a, edge, winner, row_max) | hidden(tile.b, edge, winner, row_max)
    | hidden(tile.c, edge, winner, row_max) | hidden(tile.d, edge, winner, row_max));
}

fn hidden(words: vec4<u32>, edge: u32, winner: u32, row_max: f32) -> vec4<bool> {
  let order = order_keys(words);
  let like = ((difference_bits(order, row_max) ^ vec4(edge)) & vec4(~INDEX_MASK)) == vec4(0u);
  return like & (order != vec4(winner));
}

// Each round finds the best candidate that comes after the one before. Uniform.
fn choose_in_rounds(first_vector: u32, first: u32, last: u32) {
  let first_lane = invocation / LANES * LANES;
  let place = invocation / LANES * LISTED_KEYS;
  var previous = vec2(0xffffffffu, 0u);
  for (var round = 0u; round < params.k; round++) {
    var best = vec2(KEY_NAN, NO_INDEX);
    for (var i = 0u; i < HELD; i++) {
      let vector = first_vector + i * LANES;
      let words = load_vector(vector, first, last);
      for (var n = 0u; n < LOGITS_PER_VECTOR; n++) {
        let position = vector * LOGITS_PER_VECTOR + n;
        let bits = word_of(slot_bits(words, n % LOGITS_PER_WORD), n / LOGITS_PER_WORD);
        let candidate = make_candidate(bits, position - first);
        if (position >= first && position < last && comes_before(previous, candidate) && comes_before(candidate, best)) {
          best = candidate;
        }
      }
    }
    round_best[invocation] = best;
    workgroupBarrier();
    for (var other = first_lane; other < first_lane + LANES; other++) {
      if (comes_before(round_best[other], best)) {
        best = round_best[other];
      }
    }
    if (invocation == first_lane) {
      round_winners[place + round] = best;
    }
    previous = best;
    workgroupBarrier();
  }
}
