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
    let count = cut_to_k();
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
    clear_candidates();
    var bar = ADMIT_ALL;
    let total = params.parts * params.k;
    for (var base = 0u; base < total; base += WORKGROUP_SIZE) {
      let i = base + invocation;
      var candidate = NO_CANDIDATE;
      if (i < total) {
        candidate = part_top[first_slot * params.k + i];
      }
      bar = append_one(candidate, bar);
    }
    finish(row, state);
  }
}

// Where index 0 of a row lies in the binding.
fn row_begin(row: u32) -> u32 {
  return params.first_logit + row * params.row_stride;
}

// Takes the logits of indices [begin, end) into the candidate buffer and the states of the invocations. Uniform.
fn scan(origin: u32, begin: u32, end: u32) -> RowState {
  clear_candidates();
  var bar = ADMIT_ALL;
  var state = empty();
  var block = empty();
  let first = origin + begin;
  let last = origin + end;
  var tile_number = 0u;
  for (var visit = 0u; visit < params.tiles; visit++) {
    let vector = first / LOGITS_PER_VECTOR + tile_number * TILE_VECTORS;
    if (vector * LOGITS_PER_VECTOR < last) {
      let tile = load_tile(vector, first, last);
      let highest = key_max(tile);
      block = push(block, tile, highest);
      if (visit % BLOCK_TILES == BLOCK_TILES - 1u) {
        state = merge(state, block);
        block = rescaled(empty(), state.reference);
      }
      bar = append(tile, vector, origin, first, last, highest, bar);
    }
    tile_number += params.tile_step;
    tile_number -= select(0u, params.tiles, tile_number >= params.tiles);
  }
  return merge(state, block);
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

// Appends what a tile holds above the bar; returns the bar, higher if the buffer was cut. Uniform.
fn append(tile: Tile, vector: u32, origin: u32, first: u32, last: u32, highest: u32, old_bar: Threshold) -> Threshold {
  var bar = old_bar;
  let tile_first = max(vector * LOGITS_PER_VECTOR, first) - origin;
  var pending = 0u;
  // raw_key(-0) is one below that of +0, its equal.
  if (highest + select(0u, 1u, highest == KEY_ZERO - 1u) >= least_key(bar, tile_first)) {
    pending = admitted(tile, vector, first, last, least_key(bar, tile_first));
  }
  loop {
    if (pending != 0u) {
      var at = reserve(countOneBits(pending));
      while (pending != 0u && at < params.capacity) {
        let bit = firstTrailingBit(pending);
        pending &= pending - 1u;
        let load = bit / LOGITS_PER_VECTOR;
        let slot = bit % LOGITS_PER_VECTOR / 4u;
        let lane = bit % 4u;
        let bits = slot_bits(tile_words(tile, load), slot)[lane];
        let position = slot_positions(vector + invocation + load * WORKGROUP_SIZE, slot)[lane];
        store_candidate(at, make_candidate(bits, position - origin));
        at++;
      }
    }
    if (!overflowed()) {
      break;
    }
    bar = cut(params.capacity);
    if (pending != 0u) {
      pending &= admitted(tile, vector, first, last, least_key(bar, tile_first));
    }
  }
  return bar;
}

// Which logits of a tile have at least a key: bit load * LOGITS_PER_VECTOR + slot * 4 + lane.
fn admitted(tile: Tile, vector: u32, first: u32, last: u32, least: u32) -> u32 {
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

// As append, for at most one candidate an invocation, in no order of indices. Uniform.
fn append_one(candidate: vec2<u32>, old_bar: Threshold) -> Threshold {
  var bar = old_bar;
  var is_pending = candidate.y != NO_CANDIDATE.y;
  loop {
    is_pending = is_pending && candidate.x >= bar.key;
    if (is_pending) {
      let at = reserve(1u);
      if (at < params.capacity) {
        store_candidate(at, candidate);
        is_pending = false;
      }
    }
    if (!overflowed()) {
      break;
    }
    bar = cut(params.capacity);
  }
  return bar;
}

// Leaves the K best, or all if there are fewer, in front; returns how many. Uniform.
fn cut_to_k() -> u32 {
  let count = count_candidates();
  if (count > params.k) {
    cut(count);
  } else {
    candidate_barrier();
  }
  return min(count, params.k);
}

// Writes the results of a row from its state and the candidate buffer. Uniform.
fn finish(row: u32, state: RowState) {
  sort(cut_to_k());
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
