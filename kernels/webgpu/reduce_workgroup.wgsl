// What invocations of a workgroup make together, without subgroups: all of it in workgroup memory.

// Where an invocation stands in its workgroup.
struct Place {
  @builtin(local_invocation_index) invocation: u32,
}

// Every entry point calls it first.
fn enter(place: Place) {
  invocation = place.invocation;
}

// Hands out `count` places of a counter.
fn places(counter: u32, count: u32) -> u32 {
  if (count == 0u) {
    return 0u;
  }
  return atomicAdd(&counters[counter], count);
}

// Lowers and raises the shared extremes to what an invocation has.
fn share(low: u32, high: u32) {
  atomicMin(&lowest_shared, low);
  atomicMax(&highest_shared, high);
}

var<workgroup> sums: array<f32, WORKGROUP_SIZE>;

// The sum over the workgroup, by a tree. Uniform.
fn sum_of_all(own: f32) -> f32 {
  sums[invocation] = own;
  for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (invocation < half) {
      sums[invocation] += sums[invocation + half];
    }
  }
  return workgroupUniformLoad(&sums[0]);
}

// Notes the largest keys of the vectors that an invocation holds of the tile that begins at `vector` of the part. Returns
// the largest.
fn store_maxima(vector: u32, keys: vec4<u32>) -> u32 {
  for (var load = 0u; load < LOADS; load++) {
    atomicMax(&work[(vector + invocation + load * WORKGROUP_SIZE) >> params.group_shift], word_of(keys, load));
  }
  return max_of(keys);
}
