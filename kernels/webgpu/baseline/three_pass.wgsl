// What the bench compares with: the textbook fused kernel. One dispatch and no softmax in memory, but three reads of the
// logits: max, sum, top-K. Appended to softmax_topk.wgsl and unfused.wgsl, whose select_row it uses.

@compute @workgroup_size(WORKGROUP_SIZE)
fn three_pass_rows(place: Place, grid: Grid) {
  enter_in_order(place);
  open_candidates(grid.workgroup.x);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    clear(0u);
    let extremes = reduce(max_pass(row), 0u);
    let reference = row_max(extremes.highest);
    let sum = sum_of_all(sum_pass(row, reference));
    select_row(row);
    finish(row, RowState(reference, sum, extremes.highest, extremes.has_nan));
  }
}

fn max_pass(row: u32) -> RowState {
  let first = row_begin(row);
  let vectors = part_vectors(first, first + params.vocab);
  var state = empty();
  for (var vector = 0u; vector < vectors; vector += TILE_VECTORS) {
    let found = keys_of_tile(load_tile(line_begin(first) + vector, first, first + params.vocab));
    state.highest = max(state.highest, max_of(found.keys));
    state.has_nan |= found.has_nan;
  }
  return state;
}

fn sum_pass(row: u32, reference: f32) -> f32 {
  let first = row_begin(row);
  let vectors = part_vectors(first, first + params.vocab);
  var sum = 0.0;
  var block = 0.0;
  var tile_number = 0u;
  for (var vector = 0u; vector < vectors; vector += TILE_VECTORS) {
    block += tile_weight(load_tile(line_begin(first) + vector, first, first + params.vocab), reference);
    tile_number++;
    if (tile_number % BLOCK_TILES == 0u) {
      sum += block;
      block = 0.0;
    }
  }
  return sum + block;
}
