// What the bench compares with: softmax and top-K as two kernels, the softmax written to memory and read again.
//
//   softmax_rows   two reads of the logits (max and sum; weights), one write of the whole softmax
//   topk_rows      top-K of the probabilities, by the same selection as the fused kernel
//
// Like every top-K of probabilities it cannot tell apart logits whose probabilities round to the same float32.
// Appended to softmax_topk.wgsl; topk_rows is compiled for f32 and reads the softmax as its logits.

@group(0) @binding(9) var<storage, read_write> softmax: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn softmax_rows(place: Place, grid: Grid) {
  enter(place);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    let first = row_begin(row);
    let last = first + params.vocab;
    let first_vector = first / LOGITS_PER_VECTOR;
    var state = empty();
    var block = empty();
    for (var tile_index = 0u; tile_index < params.tiles; tile_index++) {
      let tile = load_tile(first_vector + tile_index * TILE_VECTORS, first, last);
      block = push(block, tile, key_max(tile));
      if (tile_index % BLOCK_TILES == BLOCK_TILES - 1u) {
        state = merge(state, block);
        block = rescaled(empty(), state.reference);
      }
    }
    let total = normalised(reduce(merge(state, block)));
    for (var tile_index = 0u; tile_index < params.tiles; tile_index++) {
      let vector = first_vector + tile_index * TILE_VECTORS;
      let tile = load_tile(vector, first, last);
      for (var load = 0u; load < LOADS; load++) {
        for (var slot = 0u; slot < LOGITS_PER_WORD; slot++) {
          let weights = weight(widen(slot_bits(tile_words(tile, load), slot)), total.reference);
          let positions = slot_positions(vector + invocation + load * WORKGROUP_SIZE, slot);
          let within = is_within(positions, first, last);
          for (var lane = 0u; lane < 4u; lane++) {
            if (within[lane]) {
              softmax[row * params.vocab + positions[lane] - first] = weights[lane] / total.sum;
            }
          }
        }
      }
    }
    if (invocation == 0u) {
      log_sum_exp[params.first_log_sum_exp + row] = finish_log_sum_exp(total);
    }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn topk_rows(place: Place, grid: Grid) {
  enter(place);
  open_candidates(grid.workgroup.x);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    select_row(row);
    sort(filled());
    for (var i = invocation; i < params.k; i += WORKGROUP_SIZE) {
      let candidate = load_candidate(i);
      probs[params.first_result + row * params.k + i] = bitcast<u32>(logit_of_key(candidate.x));
      indices[params.first_result + row * params.k + i] = candidate.y;
    }
  }
}

// The selection of a row alone, in order of its tiles. Uniform.
fn select_row(row: u32) {
  let first = row_begin(row);
  let last = first + params.vocab;
  clear();
  first_threshold(load_tile(first / LOGITS_PER_VECTOR, first, last));
  var bar = ADMIT_ALL;
  for (var tile_index = 0u; tile_index < params.tiles; tile_index++) {
    let vector = first / LOGITS_PER_VECTOR + tile_index * TILE_VECTORS;
    if (vector * LOGITS_PER_VECTOR < last) {
      let tile = load_tile(vector, first, last);
      var pending = admitted(tile, vector, first, first, last, key_max(tile), bar);
      loop {
        if (pending != 0u) {
          pending = append(tile, vector, first, pending);
        }
        if (!overflowed()) {
          break;
        }
        bar = cut(params.capacity);
        if (pending != 0u) {
          pending &= admitted(tile, vector, first, first, last, 0xffffffffu, bar);
        }
      }
    }
  }
}
