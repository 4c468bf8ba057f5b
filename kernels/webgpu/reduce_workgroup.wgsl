// What invocations of a workgroup make together, without subgroups: all of it in workgroup memory.

// Where an invocation stands in its workgroup.
struct Place {
  @builtin(local_invocation_index) invocation: u32,
}

// Every entry point calls it first, or enter_in_order.
fn enter(place: Place) {
  invocation = place.invocation;
}

// Invocations are in order.
fn enter_in_order(place: Place) {
  enter(place);
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

var<workgroup> sums: array<u32, WORKGROUP_SIZE>;

// The sum of what the earlier invocations have, by doubling strides. Uniform; call it between two barriers.
fn sum_of_earlier(own: u32) -> u32 {
  var sum = own;
  for (var stride = 1u; stride < WORKGROUP_SIZE; stride *= 2u) {
    sums[invocation] = sum;
    workgroupBarrier();
    if (invocation >= stride) {
      sum += sums[invocation - stride];
    }
    workgroupBarrier();
  }
  return sum - own;
}

// The sum over the workgroup, by a tree. Uniform.
fn sum_of_all(own: f32) -> f32 {
  var sum = own;
  for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
    sums[invocation] = bitcast<u32>(sum);
    workgroupBarrier();
    if (invocation < half) {
      sum += bitcast<f32>(sums[invocation + half]);
    }
    workgroupBarrier();
  }
  if (invocation == 0u) {
    sums[0] = bitcast<u32>(sum);
  }
  return bitcast<f32>(workgroupUniformLoad(&sums[0]));
}

// Notes the largest keys of the vectors that an invocation holds of the tile that begins at `vector` of the part. Returns
// the largest.
fn store_maxima(vector: u32, keys: vec4<u32>) -> u32 {
  for (var load = 0u; load < LOADS; load++) {
    atomicMax(&work[(vector + invocation + load * WORKGROUP_SIZE) >> params.group_shift], word_of(keys, load));
  }
  return max_of(keys);
}
