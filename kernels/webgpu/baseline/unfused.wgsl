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
  enter_in_order(place);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    let first = row_begin(row);
    let last = first + params.vocab;
    let first_vector = line_begin(first);
    let total = read_part(first, 0u, params.vocab);
    for (var base = 0u; base < part_vectors(first, last); base += TILE_VECTORS) {
      let vector = first_vector + base;
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
  enter_in_order(place);
  open_candidates(grid.workgroup.x);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    select_row(row);
    let total = counted(CLAIMED);
    let need = min(total, params.k);
    let arrangement = arrange(total, need);
    let first = params.first_result + row * params.k;
    for (var i = invocation; i < arrangement.count; i += WORKGROUP_SIZE) {
      let candidate = ranked(i, arrangement);
      if (candidate.z < need) {
        probs[first + candidate.z] = bitcast<u32>(logit_of_key(candidate.x));
        indices[first + candidate.z] = candidate.y;
      }
    }
  }
}

// The selection of a row alone. Uniform.
fn select_row(row: u32) {
  let first = row_begin(row);
  let last = first + params.vocab;
  clear(maxima_of_tiles(part_vectors(first, last)));
  var highest = 0u;
  for (var vector = 0u; vector < part_vectors(first, last); vector += TILE_VECTORS) {
    let found = keys_of_tile(load_tile(line_begin(first) + vector, first, last));
    highest = max(highest, max_of(found.keys));
    _ = store_maxima(vector, found.keys);
  }
  share(0xffffffffu, highest);
  _ = shared_range();
  _ = collect(first, 0u, params.vocab);
}
