// What the bench compares with: the textbook fused kernel. One dispatch and no softmax in memory, but three reads of the
// logits: max, sum, top-K. Appended to softmax_topk.wgsl and unfused.wgsl, whose select_row it uses.

@compute @workgroup_size(WORKGROUP_SIZE)
fn three_pass_rows(place: Place, grid: Grid) {
  enter(place);
  open_candidates(grid.workgroup.x);
  for (var row = grid.workgroup.x; row < params.rows; row += grid.workgroups.x) {
    let extremes = reduce(max_pass(row));
    let state = reduce(sum_pass(row, row_max(extremes)));
    select_row(row);
    finish(row, RowState(state.reference, state.sum, extremes.highest, extremes.lowest));
  }
}

fn max_pass(row: u32) -> RowState {
  let first = row_begin(row);
  var state = empty();
  for (var tile_index = 0u; tile_index < params.tiles; tile_index++) {
    let tile = load_tile(first / LOGITS_PER_VECTOR + tile_index * TILE_VECTORS, first, first + params.vocab);
    state.highest = max(state.highest, key_max(tile));
    state.lowest = min(state.lowest, key_min(tile));
  }
  return state;
}

fn sum_pass(row: u32, reference: f32) -> RowState {
  let first = row_begin(row);
  var state = rescaled(empty(), reference);
  var block = 0.0;
  for (var tile_index = 0u; tile_index < params.tiles; tile_index++) {
    let tile = load_tile(first / LOGITS_PER_VECTOR + tile_index * TILE_VECTORS, first, first + params.vocab);
    block += tile_weight(tile, reference);
    if (tile_index % BLOCK_TILES == BLOCK_TILES - 1u) {
      state.sum += block;
      block = 0.0;
    }
  }
  state.sum += block;
  return state;
}
