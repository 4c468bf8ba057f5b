// Many rows of a small vocabulary, as the router of a mixture of experts has them: LANES invocations a row, held in
// registers, several rows a workgroup.
//
// 1. Each lane finds the largest of its logits. The least of these LANES >= K maxima is a threshold that K logits reach.
// 2. What reaches it, about twice K, goes to a list of the row; the largest of all is the exact max, against which each lane
//    adds its weights.
// 3. A candidate's rank is the number of those that come before it.
//
// A row with a NaN or +inf, with lanes that are all masked, or with more ties than the list holds is selected in K rounds.

const TEAMS = WORKGROUP_SIZE / LANES;   // rows at a time
const LIST = 8u * LANES;                // candidates a row

var<workgroup> lane_highest: array<u32, WORKGROUP_SIZE>;
var<workgroup> lane_nan: array<u32, WORKGROUP_SIZE>;
var<workgroup> lane_sum: array<f32, WORKGROUP_SIZE>;
var<workgroup> lane_best: array<vec2<u32>, WORKGROUP_SIZE>;
var<workgroup> listed: array<atomic<u32>, TEAMS>;
var<workgroup> lists: array<vec2<u32>, TEAMS * LIST>;
var<workgroup> winners: array<vec2<u32>, WORKGROUP_SIZE>;   // K of each row, best first
var<workgroup> needs_rounds: atomic<u32>;

// What a lane holds of a row: vectors LANES apart.
alias Held = array<vec4<u32>, ROW_LOADS>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn small_rows(place: Place, grid: Grid) {
  enter(place);
  let team = invocation / LANES;
  let lane = invocation % LANES;
  let first_lane = team * LANES;
  for (var base = grid.workgroup.x * TEAMS; base < params.rows; base += grid.workgroups.x * TEAMS) {
    let row = min(base + team, params.rows - 1u);   // the last row, again, where there is none
    let first = row_begin(row);
    let last = first + params.vocab;
    let first_vector = first / LOGITS_PER_VECTOR + lane;

    var held: Held;
    for (var i = 0u; i < ROW_LOADS; i++) {
      held[i] = load_vector(first_vector + i * LANES, first, last);
    }
    var state = empty();
    for (var i = 0u; i < ROW_LOADS; i++) {
      let found = extremes_of(held[i]);
      if (has_nan(found)) {
        state.has_nan = 1u;
        state.highest = max(state.highest, key_of_vector(held[i]));
      } else {
        state.highest = max(state.highest, key_of_extremes(found));
      }
    }
    lane_highest[invocation] = state.highest;
    lane_nan[invocation] = state.has_nan;
    if (lane == 0u) {
      atomicStore(&listed[team], 0u);
    }
    if (invocation == 0u) {
      atomicStore(&needs_rounds, 0u);
    }
    workgroupBarrier();

    var least = state.highest;
    for (var other = first_lane; other < first_lane + LANES; other++) {
      state.highest = max(state.highest, lane_highest[other]);
      state.has_nan |= lane_nan[other];
      least = min(least, lane_highest[other]);
    }
    state.reference = row_max(state.highest);
    var sums = vec4(0.0);
    for (var i = 0u; i < ROW_LOADS; i++) {
      sums += vector_weight(held[i], state.reference);
    }
    lane_sum[invocation] = (sums.x + sums.y) + (sums.z + sums.w);
    if (least <= KEY_NEGATIVE_INFINITY || !has_softmax(state)) {
      atomicStore(&needs_rounds, 1u);
    } else {
      list_reaching(held, least, team, first_vector, first);
    }
    workgroupBarrier();

    if (invocation == 0u) {
      told = atomicLoad(&needs_rounds);
    }
    if (workgroupUniformLoad(&told) == 0u) {
      rank_listed(team, lane);
    } else {
      choose_in_rounds(held, first_vector, first, last);
    }
    workgroupBarrier();

    for (var other = first_lane; other < first_lane + LANES; other++) {
      state.sum += lane_sum[other];
    }
    if (base + team < params.rows) {
      let first_result = params.first_result + row * params.k;
      for (var i = lane; i < params.k; i += LANES) {
        let winner = winners[first_lane + i];
        probs[first_result + i] = probability(state, winner.x);
        indices[first_result + i] = winner.y;
      }
      if (lane == 0u) {
        log_sum_exp[params.first_log_sum_exp + row] = finish_log_sum_exp(state);
      }
    }
    workgroupBarrier();
  }
}

// Lists the logits of a lane whose keys are at least `least`.
fn list_reaching(held: Held, least: u32, team: u32, first_vector: u32, first: u32) {
  // raw_key(-0) is one below that of +0, its equal.
  let least_raw = least - select(0u, 1u, least == KEY_ZERO);
  for (var i = 0u; i < ROW_LOADS; i++) {
    for (var slot = 0u; slot < LOGITS_PER_WORD; slot++) {
      let bits = slot_bits(held[i], slot);
      let reach = select(vec4(0u), vec4(1u, 2u, 4u, 8u), raw_key(bits) >= vec4(least_raw));
      for (var found = (reach.x | reach.y) | (reach.z | reach.w); found != 0u; found &= found - 1u) {
        let word = firstTrailingBit(found);
        let at = atomicAdd(&listed[team], 1u);
        if (at < LIST) {
          let position = (first_vector + i * LANES) * LOGITS_PER_VECTOR + word * LOGITS_PER_WORD + slot;
          lists[team * LIST + at] = make_candidate(word_of(bits, word), position - first);
        } else {
          atomicStore(&needs_rounds, 1u);
        }
      }
    }
  }
}

// Ranks the candidates of a row; the K best win.
fn rank_listed(team: u32, lane: u32) {
  let count = atomicLoad(&listed[team]);
  let begin = team * LIST;
  for (var i = lane; i < count; i += LANES) {
    let candidate = lists[begin + i];
    var rank = 0u;
    for (var other = 0u; other < count; other++) {
      rank += select(0u, 1u, comes_before(lists[begin + other], candidate));
    }
    if (rank < params.k) {
      winners[team * LANES + rank] = candidate;
    }
  }
}

// What is no candidate. Its key is that of NaN, its index none.
const NO_CANDIDATE = vec2(KEY_NAN, NO_INDEX);

// Each round finds the best candidate that comes after the one before. Uniform.
fn choose_in_rounds(held: Held, first_vector: u32, first: u32, last: u32) {
  let first_lane = invocation / LANES * LANES;
  var previous = vec2(0xffffffffu, 0u);
  for (var round = 0u; round < params.k; round++) {
    var best = NO_CANDIDATE;
    for (var i = 0u; i < ROW_LOADS; i++) {
      for (var slot = 0u; slot < LOGITS_PER_WORD; slot++) {
        let bits = slot_bits(held[i], slot);
        let positions = slot_positions(first_vector + i * LANES, slot);
        let within = is_within(positions, first, last);
        for (var n = 0u; n < 4u; n++) {
          let candidate = make_candidate(bits[n], positions[n] - first);
          if (within[n] && comes_before(previous, candidate) && comes_before(candidate, best)) {
            best = candidate;
          }
        }
      }
    }
    lane_best[invocation] = best;
    workgroupBarrier();
    for (var other = first_lane; other < first_lane + LANES; other++) {
      if (comes_before(lane_best[other], best)) {
        best = lane_best[other];
      }
    }
    if (invocation == first_lane) {
      winners[first_lane + round] = best;
    }
    previous = best;
    workgroupBarrier();
  }
}
