// Softmax and top-K, fused: one read of the logits, one write of K results a row.
//
//   scan_rows     a workgroup takes a row from its logits to its results
//   scan_parts    a workgroup takes a part of a row and leaves its state: for rows too few to fill the device
//   merge_parts   a workgroup merges the states of the parts of a row and finishes it
//
// A group of consecutive logits, 64 bytes of them where workgroup memory has place for as many numbers, leaves one number
// behind: its largest. That is enough, since the K best logits of a row lie in its K best groups, by (largest logit, lower
// index) like logits: the largest logits of K better groups are K better logits. So nothing in the stream depends on the
// data but a rare rescaling, and sorted or masked rows cost about what random ones do. The K best groups are opened once
// more at the end, mostly out of a cache.
//
// 1. Stream. A tile costs an invocation the largest key of each of its vectors, and one exp a logit. No invocation waits
//    for another.
// 2. Select. A radix select over the maxima (select.wgsl) gives a bar that K groups pass, and few more.
// 3. Open. The logits of these groups that reach the edge go to a buffer. Where they are too many for it, as in rows of
//    many ties, it is cut to its K best.
// 4. Finish. One part a row: rank, and write K results. Several: the state of each goes to storage, and a second dispatch
//    merges them.
//
// Workgroups take their tasks in a grid stride, so a dispatch holds any number of rows. All control flow around barriers
// depends on parameters and on workgroupUniformLoad alone.

@group(0) @binding(4) var<storage, read_write> part_states: array<PartState>;
@group(0) @binding(5) var<storage, read_write> part_top: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> probs: array<u32>;
@group(0) @binding(7) var<storage, read_write> indices: array<u32>;
@group(0) @binding(8) var<storage, read_write> log_sum_exp: array<u32>;

// What a part leaves beside its candidates.
struct PartState {
  state: RowState,
  count: u32,   // candidates
  edge: u32,    // a key that K candidates of this part reach, or 0
}

// The sum is a tree of short chains, since a float32 chain of n terms may be wrong by n / 2 ulp: the logits of a tile, the
// tiles of a block, the blocks of a part, then the merges.
const BLOCK_TILES = 16u;

// Which workgroup this is, of how many. Apart from Place, because it is the same for all of a workgroup.
struct Grid {
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
}

// Groups that are opened beside the K best, so that the select needs not be exact.
fn spare_groups() -> u32 {
  return params.k / 4u + 32u;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn scan_rows(place: Place, grid: Grid) {
  enter_in_order(place);
  open_candidates(grid.workgroup.x);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    let state = read_part(row_begin(row), 0u, params.vocab);
    _ = collect(row_begin(row), 0u, params.vocab);
    finish(row, state);
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn scan_parts(place: Place, grid: Grid) {
  enter_in_order(place);
  open_candidates(grid.workgroup.x);
  let tasks = params.rows * params.parts_here;
  for (var task = grid.workgroup.x; task < tasks; task += grid.workgroups.x) {
    let row = task / params.parts_here;
    let part = params.first_part + task % params.parts_here;
    let begin = part * params.part_length;
    let end = begin + min(params.part_length, params.vocab - begin);
    let state = read_part(row_begin(row), begin, end);
    let edge = collect(row_begin(row), begin, end);
    publish_part(row * params.parts + part, state, edge);
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn merge_parts(place: Place, grid: Grid) {
  enter_in_order(place);
  open_candidates(grid.workgroup.x);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    finish(row, merge_row(row * params.parts));
  }
}

// Where index 0 of a row lies in the binding.
fn row_begin(row: u32) -> u32 {
  return params.first_logit + row * params.row_stride;
}

// Reads the logits of indices [begin, end): their group maxima, and their state. Uniform.
fn read_part(origin: u32, begin: u32, end: u32) -> RowState {
  let first = origin + begin;
  let last = origin + end;
  let first_vector = line_begin(first);
  let vectors = part_vectors(first, last);
  clear(maxima_of_tiles(vectors));
  var state = empty();
  var block = empty();
  var most = 0u;
  var least = 0xffffffffu;   // of the groups that are not masked
  for (var vector = 0u; vector < vectors; vector += TILE_VECTORS) {
    let tile = load_tile(first_vector + vector, first, last);
    let found = keys_of_tile(tile);
    if (found.has_nan != 0u) {
      atomicStore(&nan_shared, 1u);
    }
    block = push(block, tile, max_of(found.keys));
    if ((vector / TILE_VECTORS + 1u) % BLOCK_TILES == 0u) {
      state = merge(state, block);
      block = rescaled(empty(), state.reference);
    }
    let key = store_maxima(vector, found.keys);
    most = max(most, key);
    least = min(least, select(0xffffffffu, key, key > KEY_NEGATIVE_INFINITY));
  }
  // As many groups as there are invocations reach the least of their largest keys.
  let low = select(least, select(0xffffffffu, most, most > KEY_NEGATIVE_INFINITY), params.k <= WORKGROUP_SIZE);
  state = merge(state, block);
  state.highest = most;
  return reduce(state, low);
}

// The states of all invocations become one, and `low` of each goes to range.low. Uniform.
fn reduce(own: RowState, low: u32) -> RowState {
  share(low, own.highest);
  if (own.has_nan != 0u) {
    atomicStore(&nan_shared, 1u);
  }
  let all = shared_range();
  let reference = row_max(all.high);
  return RowState(reference, sum_of_all(rescaled(own, reference).sum), all.high, all.has_nan);
}

// Vectors from the line in which a part begins to its end.
fn part_vectors(first: u32, last: u32) -> u32 {
  return (last - 1u) / LOGITS_PER_VECTOR + 1u - line_begin(first);
}

// Maxima that the tiles leave which cover so many vectors.
fn maxima_of_tiles(vectors: u32) -> u32 {
  return (((vectors + TILE_VECTORS - 1u) / TILE_VECTORS * TILE_VECTORS - 1u) >> params.group_shift) + 1u;
}

// The logits of the K best groups that reach an edge, in the buffer and counted. Returns the edge, 0 for none. Uniform.
fn collect(origin: u32, begin: u32, end: u32) -> u32 {
  let first = origin + begin;
  let last = origin + end;
  let all = workgroupUniformLoad(&range);
  let groups = ((part_vectors(first, last) - 1u) >> params.group_shift) + 1u;
  var opened = groups;
  let bar = bar_of_maxima(groups, all.low, all.high);
  if (bar.key != 0u) {
    list_groups(groups, bar);
    opened = counted(LISTED);
  }
  start_buffer(bar.key, all.high);
  open(origin, first, last, opened, bar.key);
  return bar.key;
}

// The bar that the K best of `count` maxima pass, and few others. Uniform.
fn bar_of_maxima(count: u32, low: u32, high: u32) -> Bar {
  if (count < params.k || high <= KEY_NEGATIVE_INFINITY) {
    return NO_BAR;
  }
  return radix_select(MAXIMA, count, spare_groups(), count, min(low, high), high);
}

// Lists the groups that pass a bar. Uniform.
fn list_groups(groups: u32, bar: Bar) {
  for (var base = 0u; base < groups; base += 32u * WORKGROUP_SIZE) {
    var chosen = 0u;
    let rounds = min(32u, (groups - base + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE);
    for (var i = 0u; i < rounds; i++) {
      let group = base + i * WORKGROUP_SIZE + invocation;
      let passed = group < groups && passes(atomicLoad(&work[min(group, groups - 1u)]), group, bar);
      chosen |= select(0u, 1u << i, passed);
    }
    var at = places(LISTED, countOneBits(chosen));
    for (; chosen != 0u; chosen &= chosen - 1u) {
      list_group(at, base + firstTrailingBit(chosen) * WORKGROUP_SIZE + invocation);
      at++;
    }
  }
}

// Makes the buffer ready for candidates from a key on. Uniform.
fn start_buffer(edge: u32, high: u32) {
  clear_histogram();
  if (invocation == 0u) {
    binning = make_binning(Bar(edge, ANY_ORDER), high);
  }
  candidate_barrier();
}

// Candidates that the buffer takes; in the end as many as may be left.
fn room_for(is_last_round: bool) -> u32 {
  return select(params.capacity, params.published, is_last_round);
}

// Reads the listed groups again, or all where the edge is 0, and puts what reaches the edge into the buffer. Few logits do,
// and not as many in each invocation: so it only notes where they are, and the workgroup shares the rest. Uniform.
fn open(origin: u32, first: u32, last: u32, opened: u32, edge: u32) {
  let first_vector = line_begin(first);
  let count = opened << params.group_shift;
  var bar = Bar(edge, ANY_ORDER);
  var refined = 0u;
  for (var base = 0u; base < count; base += TILE_VECTORS) {
    let room = room_for(base + TILE_VECTORS >= count);
    let i = vec4(base + invocation) + vec4(0u, 1u, 2u, 3u) * WORKGROUP_SIZE;
    let at_most = min(i, vec4(count - 1u));
    let vector = vec4(first_vector) + vec4(
      opened_vector(at_most.x, edge), opened_vector(at_most.y, edge), opened_vector(at_most.z, edge),
      opened_vector(at_most.w, edge));
    var pending = passing(vector, i < vec4(count), origin, first, last, bar);
    loop {
      var at = places(CLAIMED, countOneBits(pending));
      for (; pending != 0u && at < params.capacity; pending &= pending - 1u) {
        store_index(at, position_of(vector, firstTrailingBit(pending)) - origin);
        at++;
      }
      let claimed = counted(CLAIMED);
      if (claimed <= room) {
        break;
      }
      refine(refined, params.capacity, origin);
      bar = cut(min(claimed, params.capacity));
      refined = params.k;
      pending &= passing(vector, i < vec4(count), origin, first, last, bar);
    }
  }
  refine(refined, params.capacity, origin);
}

// Makes candidates of the indices at places from `begin` on, as far as they are claimed and there. Uniform.
fn refine(begin: u32, end: u32, origin: u32) {
  candidate_barrier();
  let claimed = min(counted(CLAIMED), end);
  for (var i = begin + invocation; i < claimed; i += WORKGROUP_SIZE) {
    put(i, candidate_at(origin + load_index(i), origin));
  }
  candidate_barrier();
}

// Vector i of the opened groups, counted from the first of the part.
fn opened_vector(i: u32, edge: u32) -> u32 {
  if (edge == 0u) {
    return i;
  }
  let within = i & ((1u << params.group_shift) - 1u);
  return (listed_group(i >> params.group_shift) << params.group_shift) + within;
}

// Which logits of four vectors, as far as they are there, pass a bar: bit load * LOGITS_PER_VECTOR + slot * 4 + lane. Uniform.
fn passing(vector: vec4<u32>, is_there: vec4<bool>, origin: u32, first: u32, last: u32, bar: Bar) -> u32 {
  let tile = load_vectors(vector, first, last);
  let found = vec4(
    passing_of_vector(tile.a, vector.x, origin, first, last, bar),
    passing_of_vector(tile.b, vector.y, origin, first, last, bar),
    passing_of_vector(tile.c, vector.z, origin, first, last, bar),
    passing_of_vector(tile.d, vector.w, origin, first, last, bar));
  let all = select(vec4(0u), found << (vec4(0u, 1u, 2u, 3u) * LOGITS_PER_VECTOR), is_there);
  return (all.x | all.y) | (all.z | all.w);
}

// Bit slot * 4 + lane. A NaN may seem to pass, and ranks after all that do.
fn passing_of_vector(words: vec4<u32>, vector: u32, origin: u32, first: u32, last: u32, bar: Bar) -> u32 {
  // Turned so, bits sort as keys do, down to a key among the positive logits or among the negative ones.
  let turn = select(0xffffffffu, 0x80000000u, bar.key > KEY_ZERO);
  // -0, turned, is one below +0, its equal.
  let least = (bar.key - select(0u, 1u, bar.key == KEY_ZERO)) & LOGIT_MASK;
  var found = 0u;
  for (var slot = 0u; slot < LOGITS_PER_WORD; slot++) {
    let bits = slot_bits(words, slot);
    var passed = (bits ^ vec4(turn)) >= vec4(least);
    if (bar.key == 0u) {
      passed = is_within(slot_positions(vector, slot), first, last);
    }
    if (bar.last != ANY_ORDER) {
      passed &= (order_keys(bits) != vec4(bar.key)) | (slot_positions(vector, slot) - vec4(origin) <= vec4(bar.last));
    }
    let bit = select(vec4(0u), vec4(1u, 2u, 4u, 8u), passed);
    found |= ((bit.x | bit.y) | (bit.z | bit.w)) << (4u * slot);
  }
  return found;
}

// The position of a bit: load * LOGITS_PER_VECTOR + slot * 4 + lane.
fn position_of(vector: vec4<u32>, bit: u32) -> u32 {
  let slot = bit % LOGITS_PER_VECTOR / 4u;
  return word_of(vector, bit / LOGITS_PER_VECTOR) * LOGITS_PER_VECTOR + bit % 4u * LOGITS_PER_WORD + slot;
}

// The candidate of the logit at a position.
fn candidate_at(position: u32, origin: u32) -> vec2<u32> {
  return make_candidate(logit_bits(position), position - origin);
}

// Leaves the state of a part and its candidates in storage. Uniform.
fn publish_part(part: u32, state: RowState, edge: u32) {
  let count = counted(CLAIMED);
  if (invocation == 0u) {
    part_states[part] = PartState(state, count, edge);
  }
  for (var i = invocation; i < count; i += WORKGROUP_SIZE) {
    part_top[part * params.part_slots + i] = load_candidate(i);
  }
}

// Merges the parts of a row: their states become one, their best candidates go to the buffer. Uniform.
fn merge_row(first_part: u32) -> RowState {
  clear(WORK_WORDS);
  var own = empty();
  for (var part = invocation; part < params.parts; part += WORKGROUP_SIZE) {
    let published = part_states[first_part + part];
    own = merge(own, published.state);
    atomicMax(&counters[LONGEST], published.count);
    atomicMax(&counters[PART_EDGE], published.edge);
  }
  let state = reduce(own, 0xffffffffu);
  let slots = params.parts * counted(LONGEST);
  let part_edge = counted(PART_EDGE);

  // The candidates are selected like logits, by the maxima of groups.
  var shift = 0u;
  while ((slots - 1u) >> shift >= WORK_WORDS) {
    shift++;
  }
  let groups = ((slots - 1u) >> shift) + 1u;
  for (var base = 0u; base < slots; base += LOADS * WORKGROUP_SIZE) {
    let some = load_published(first_part, base + invocation, slots);
    for (var load = 0u; load < LOADS; load++) {
      let i = base + load * WORKGROUP_SIZE + invocation;
      if (i < slots) {
        atomicMax(&work[i >> shift], word_of(some.keys, load));
      }
    }
  }
  workgroupBarrier();
  let high = workgroupUniformLoad(&range).high;
  let edge = max(part_edge, bar_of_maxima(groups, select(high, part_edge, part_edge != 0u), high).key);
  start_buffer(edge, high);

  var bar = Bar(edge, ANY_ORDER);
  for (var base = 0u; base < slots; base += LOADS * WORKGROUP_SIZE) {
    let room = room_for(base + LOADS * WORKGROUP_SIZE >= slots);
    let some = load_published(first_part, base + invocation, slots);
    var pending = 15u;
    loop {
      for (var left = pending; left != 0u; left &= left - 1u) {
        let bit = firstTrailingBit(left);
        let index = word_of(some.indices, bit);
        if (index == NO_INDEX || !passes(word_of(some.keys, bit), index, bar)) {
          pending ^= 1u << bit;
        }
      }
      var at = places(CLAIMED, countOneBits(pending));
      for (; pending != 0u && at < params.capacity; pending &= pending - 1u) {
        let bit = firstTrailingBit(pending);
        put(at, vec2(word_of(some.keys, bit), word_of(some.indices, bit)));
        at++;
      }
      let claimed = counted(CLAIMED);
      if (claimed <= room) {
        break;
      }
      bar = cut(min(claimed, params.capacity));
    }
  }
  return state;
}

// Candidates of parts, with NO_INDEX where there is none.
struct Published {
  keys: vec4<u32>,
  indices: vec4<u32>,
}

const NO_INDEX = 0xffffffffu;

// Those at places i, i + WORKGROUP_SIZE, ..., of which each part of the row has as many as the longest.
fn load_published(first_part: u32, i: u32, slots: u32) -> Published {
  let longest = slots / params.parts;
  let place = vec4(i) + vec4(0u, 1u, 2u, 3u) * WORKGROUP_SIZE;
  let part = first_part + min(place / longest, vec4(params.parts - 1u));
  let nth = place % longest;
  let at = part * params.part_slots + nth;
  let a = part_top[at.x];
  let b = part_top[at.y];
  let c = part_top[at.z];
  let d = part_top[at.w];
  let counts = vec4(
    part_states[part.x].count, part_states[part.y].count, part_states[part.z].count, part_states[part.w].count);
  let is_there = (place < vec4(slots)) & (nth < counts);
  return Published(
    select(vec4(0u), vec4(a.x, b.x, c.x, d.x), is_there),
    select(vec4(NO_INDEX), vec4(a.y, b.y, c.y, d.y), is_there));
}

// Writes the results of a row from its state and the candidate buffer. Uniform.
fn finish(row: u32, state: RowState) {
  let total = counted(CLAIMED);
  let need = min(total, params.k);
  let arrangement = arrange(total, need);
  let first = params.first_result + row * params.k;
  for (var i = invocation; i < arrangement.count; i += WORKGROUP_SIZE) {
    let candidate = ranked(i, arrangement);
    if (candidate.z < need) {
      probs[first + candidate.z] = probability(state, candidate.x);
      indices[first + candidate.z] = candidate.y;
    }
  }
  if (invocation == 0u) {
    log_sum_exp[params.first_log_sum_exp + row] = finish_log_sum_exp(state);
  }
}
