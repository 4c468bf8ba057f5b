// Softmax and top-K, fused: one read of the logits, one write of K results a row.
//
//   scan_rows     a workgroup takes a row from its logits to its results
//   scan_parts    a workgroup takes a part of a row and leaves its state: for rows too few to fill the device
//   merge_parts   a workgroup merges the states of the parts of a row and finishes it
//
// Workgroups take their tasks in a grid stride, so a dispatch holds any number of rows. All control flow around barriers
// depends on parameters and on workgroupUniformLoad alone.
//
// In a scan, an invocation costs a logit one exp and a handful of integer instructions: each tile it takes the largest of
// its logits, adds their weights to its own sum, and looks closer only if that largest can be among the K best.

@group(0) @binding(4) var<storage, read_write> part_states: array<RowState>;
@group(0) @binding(5) var<storage, read_write> part_top: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> probs: array<u32>;
@group(0) @binding(7) var<storage, read_write> indices: array<u32>;
@group(0) @binding(8) var<storage, read_write> log_sum_exp: array<u32>;

// The sum is a tree of short chains, since a float32 chain of n terms may be wrong by n / 2 ulp: the logits of a tile, the
// tiles of a block, the blocks of a part, then the merges.
const BLOCK_TILES = 16u;

// Which workgroup this is, of how many. Apart from Place, because it is the same for all of a workgroup.
struct Grid {
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn scan_rows(place: Place, grid: Grid) {
  enter(place);
  open_candidates(grid.workgroup.x);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    let state = reduce(scan(row_begin(row), 0u, params.vocab));
    finish(row, state);
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn scan_parts(place: Place, grid: Grid) {
  enter(place);
  open_candidates(grid.workgroup.x);
  let tasks = params.rows * params.parts_here;
  for (var task = grid.workgroup.x; task < tasks; task += grid.workgroups.x) {
    let row = task / params.parts_here;
    let part = params.first_part + task % params.parts_here;
    let begin = part * params.part_length;
    let end = begin + min(params.part_length, params.vocab - begin);
    let state = reduce(scan(row_begin(row), begin, end));
    let count = filled();
    sort(count);
    let slot = row * params.parts + part;
    if (invocation == 0u) {
      part_states[slot] = state;
    }
    for (var i = invocation; i < params.k; i += WORKGROUP_SIZE) {
      if (i < count) {
        part_top[slot * params.k + i] = load_candidate(i);
      } else {
        part_top[slot * params.k + i] = NO_CANDIDATE;
      }
    }
  }
}

// A part with fewer than K logits fills up with this. Its key is that of NaN, its index none.
const NO_CANDIDATE = vec2(KEY_NAN, 0xffffffffu);

@compute @workgroup_size(WORKGROUP_SIZE)
fn merge_parts(place: Place, grid: Grid) {
  enter(place);
  open_candidates(grid.workgroup.x);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    let first_slot = row * params.parts;
    var own = empty();
    for (var part = invocation; part < params.parts; part += WORKGROUP_SIZE) {
      own = merge(own, part_states[first_slot + part]);
    }
    let state = reduce(own);
    select_parts(first_slot);
    finish(row, state);
  }
}

// Takes the K best of each part of a row into the candidate buffer. Uniform.
fn select_parts(first_slot: u32) {
  clear();
  // The parts are sorted: that many of each are K together, so the worst of them is a threshold.
  let share_of_part = (params.k + params.parts - 1u) / params.parts;
  var lowest = 0xffffffffu;
  var highest = 0u;
  for (var part = invocation; part < params.parts; part += WORKGROUP_SIZE) {
    let first = (first_slot + part) * params.k;
    lowest = min(lowest, part_top[first + share_of_part - 1u].x);
    highest = max(highest, part_top[first].x);
  }
  share(lowest, highest);
  workgroupBarrier();
  open_threshold(atomicLoad(&lowest_shared), atomicLoad(&highest_shared));

  let total = params.parts * params.k;
  var next = invocation;
  var candidate = NO_CANDIDATE;
  loop {
    loop {
      if (candidate.y != NO_CANDIDATE.y && candidate.x >= atomicLoad(&threshold)) {
        let place = claim(1u);
        if (place >= params.capacity) {
          break;
        }
        put(place, candidate);
        refresh_after(place, place + 1u);
      }
      if (next >= total || atomicLoad(&refused) != 0u) {
        candidate = NO_CANDIDATE;
        break;
      }
      candidate = part_top[first_slot * params.k + next];
      next += WORKGROUP_SIZE;
    }
    if (!overflowed()) {
      break;
    }
    cut(params.capacity);
  }
}

// Where index 0 of a row lies in the binding.
fn row_begin(row: u32) -> u32 {
  return params.first_logit + row * params.row_stride;
}

// Takes the logits of indices [begin, end) into the candidate buffer and the states of the invocations. Uniform.
//
// An invocation goes from tile to tile without waiting for the others, until one of them finds the buffer full.
fn scan(origin: u32, begin: u32, end: u32) -> RowState {
  clear();
  let first = origin + begin;
  let last = origin + end;
  let first_vector = first / LOGITS_PER_VECTOR;
  var tile = load_tile(first_vector, first, last);
  first_threshold(tile);

  var state = empty();
  var block = empty();
  var bar = ADMIT_ALL;
  var visit = 0u;
  var tile_number = 0u;
  var vector = first_vector;
  var pending = 0u;   // logits of the tile that still have to go to the buffer
  loop {
    loop {
      if (pending != 0u) {
        pending = append(tile, vector, origin, pending);
      }
      if (pending != 0u || visit == params.tiles || atomicLoad(&refused) != 0u) {
        break;
      }
      vector = first_vector + tile_number * TILE_VECTORS;
      tile_number = next_tile(tile_number);
      visit++;
      tile = load_tile(vector, first, last);
      if (vector * LOGITS_PER_VECTOR < last) {
        let highest = key_max(tile);
        block = push(block, tile, highest);
        if (visit % BLOCK_TILES == 0u) {
          state = merge(state, block);
          block = rescaled(empty(), state.reference);
        }
        pending = admitted(tile, vector, origin, first, last, highest, bar);
      }
    }
    if (!overflowed()) {
      break;
    }
    bar = cut(params.capacity);
    if (pending != 0u) {
      pending &= admitted(tile, vector, origin, first, last, 0xffffffffu, bar);
    }
  }
  return merge(state, block);
}

// The tile after this one: see params.wgsl.
fn next_tile(tile_number: u32) -> u32 {
  let next = tile_number + params.tile_step;
  return next - select(0u, params.tiles, next >= params.tiles);
}

// How far below the largest key of the first tile its histogram reaches at first: three powers of two.
const FIRST_SPAN = select(3u << 23u, 3u << 26u, IS_F16);

// Sets the threshold from the first tile, if K of its logits are more than -inf. Uniform, the buffer empty.
fn first_threshold(tile: Tile) {
  if (params.k > TILE_LOGITS) {
    return;
  }
  var lowest = 0xffffffffu;
  var highest = 0u;
  for (var load = 0u; load < LOADS; load++) {
    for (var slot = 0u; slot < LOGITS_PER_WORD; slot++) {
      let keys = raw_key(slot_bits(tile_words(tile, load), slot));
      for (var lane = 0u; lane < 4u; lane++) {
        if (is_number(keys[lane])) {
          lowest = min(lowest, keys[lane]);
          highest = max(highest, keys[lane]);
        }
      }
    }
  }
  share(lowest, highest);
  workgroupBarrier();
  let low = atomicLoad(&lowest_shared);
  let high = atomicLoad(&highest_shared);
  if (invocation == 0u) {
    binning = make_binning(max(low, high - min(high, FIRST_SPAN)), high);
  }
  for (var attempt = 0u; attempt < 2u; attempt++) {
    workgroupBarrier();
    for (var load = 0u; load < LOADS; load++) {
      for (var slot = 0u; slot < LOGITS_PER_WORD; slot++) {
        let keys = raw_key(slot_bits(tile_words(tile, load), slot));
        for (var lane = 0u; lane < 4u; lane++) {
          if (is_number(keys[lane]) && keys[lane] >= binning.low) {
            atomicAdd(&histogram[bin_of(keys[lane])], 1u);
          }
        }
      }
    }
    let found = find_bin(params.k);
    if (found.held >= found.wanted) {
      open_threshold(binning.low + (found.bin << binning.shift), high);
      return;
    }
    clear_histogram();
    if (invocation == 0u) {
      binning = make_binning(low, high);
    }
  }
  open_threshold(0u, 0xffffffffu);
}

// Whether a raw_key is of a logit that a threshold may count: -inf stands for what is not in the row, too.
fn is_number(key: u32) -> bool {
  return key > KEY_NEGATIVE_INFINITY && key <= KEY_POSITIVE_INFINITY;
}

fn slot_key_max(words: vec4<u32>) -> vec4<u32> {
  let low = raw_key(slot_bits(words, 0u));
  if (LOGITS_PER_WORD == 1u) {
    return low;
  }
  return max(low, raw_key(slot_bits(words, 1u)));
}

fn slot_key_min(words: vec4<u32>) -> vec4<u32> {
  let low = raw_key(slot_bits(words, 0u));
  if (LOGITS_PER_WORD == 1u) {
    return low;
  }
  return min(low, raw_key(slot_bits(words, 1u)));
}

// The largest raw_key an invocation holds of a tile.
fn key_max(tile: Tile) -> u32 {
  let m = max(max(slot_key_max(tile.a), slot_key_max(tile.b)), max(slot_key_max(tile.c), slot_key_max(tile.d)));
  return max(max(m.x, m.y), max(m.z, m.w));
}

fn key_min(tile: Tile) -> u32 {
  let m = min(min(slot_key_min(tile.a), slot_key_min(tile.b)), min(slot_key_min(tile.c), slot_key_min(tile.d)));
  return min(min(m.x, m.y), min(m.z, m.w));
}

// Which logits of a tile may be among the K best: bit load * LOGITS_PER_VECTOR + slot * 4 + lane. `highest` is their
// largest raw_key, or more.
fn admitted(tile: Tile, vector: u32, origin: u32, first: u32, last: u32, highest: u32, bar: Bar) -> u32 {
  let least = least_key(bar, max(vector * LOGITS_PER_VECTOR, first) - origin);
  // raw_key(-0) is one below that of +0, its equal.
  let least_raw = least - select(0u, 1u, least == KEY_ZERO);
  if (highest < least_raw) {
    return 0u;
  }
  if (least <= KEY_NEGATIVE_INFINITY) {
    return admitted_masked(tile, vector, first, last, least);
  }
  // Here K numbers were seen: neither a NaN nor what stands for a logit outside the row is a candidate.
  var found = 0u;
  for (var load = 0u; load < LOADS; load++) {
    for (var slot = 0u; slot < LOGITS_PER_WORD; slot++) {
      let keys = raw_key(slot_bits(tile_words(tile, load), slot));
      let reach = keys - vec4(least_raw) <= vec4(KEY_POSITIVE_INFINITY - least_raw);
      let bits = select(vec4(0u), vec4(1u, 2u, 4u, 8u), reach);
      found |= ((bits.x | bits.y) | (bits.z | bits.w)) << (load * LOGITS_PER_VECTOR + slot * 4u);
    }
  }
  return found;
}

// As admitted, for a threshold that masked logits reach.
fn admitted_masked(tile: Tile, vector: u32, first: u32, last: u32, least: u32) -> u32 {
  var found = 0u;
  for (var load = 0u; load < LOADS; load++) {
    for (var slot = 0u; slot < LOGITS_PER_WORD; slot++) {
      let bits = slot_bits(tile_words(tile, load), slot);
      let positions = slot_positions(vector + invocation + load * WORKGROUP_SIZE, slot);
      let within = is_within(positions, first, last);
      for (var lane = 0u; lane < 4u; lane++) {
        if (within[lane] && order_key(bits[lane]) >= least) {
          found |= 1u << (load * LOGITS_PER_VECTOR + slot * 4u + lane);
        }
      }
    }
  }
  return found;
}

// Puts the logits of a tile that `pending` names into the buffer; returns those that found no room.
fn append(tile: Tile, vector: u32, origin: u32, pending: u32) -> u32 {
  var left = pending;
  let place = claim(countOneBits(pending));
  var at = place;
  while (left != 0u && at < params.capacity) {
    let bit = firstTrailingBit(left);
    left &= left - 1u;
    let load = bit / LOGITS_PER_VECTOR;
    let slot = bit % LOGITS_PER_VECTOR / 4u;
    let lane = bit % 4u;
    let bits = slot_bits(tile_words(tile, load), slot)[lane];
    let position = slot_positions(vector + invocation + load * WORKGROUP_SIZE, slot)[lane];
    put(at, make_candidate(bits, position - origin));
    at++;
  }
  refresh_after(place, at);
  return left;
}

// Writes the results of a row from its state and the candidate buffer. Uniform.
fn finish(row: u32, state: RowState) {
  sort(filled());
  let total = normalised(state);
  let first = params.first_result + row * params.k;
  for (var i = invocation; i < params.k; i += WORKGROUP_SIZE) {
    let candidate = load_candidate(i);
    probs[first + i] = probability(total, candidate.x);
    indices[first + i] = candidate.y;
  }
  if (invocation == 0u) {
    log_sum_exp[params.first_log_sum_exp + row] = finish_log_sum_exp(total);
  }
}
