// What LANES neighbours make together without subgroups: all of it in workgroup memory.

var<workgroup> exchanged: array<Keys, WORKGROUP_SIZE>;
var<workgroup> exchanged_maxima: array<u32, WORKGROUP_SIZE>;
var<workgroup> exchanged_sums: array<f32, WORKGROUP_SIZE>;

// The keys of the lane whose number differs in `bit`. Uniform.
fn of_neighbour(own: Keys, bit: u32) -> Keys {
  exchanged[invocation] = own;
  workgroupBarrier();
  let other = exchanged[invocation ^ bit];
  workgroupBarrier();
  return other;
}

fn four_of_neighbour(own: vec4<u32>, bit: u32) -> vec4<u32> {
  return of_neighbour(Keys(own, own), bit).first;
}

// Uniform.
fn team_max(own: u32) -> u32 {
  exchanged_maxima[invocation] = own;
  workgroupBarrier();
  var most = own;
  let first = invocation / LANES * LANES;
  for (var lane = 0u; lane < LANES; lane++) {
    most = max(most, exchanged_maxima[first + lane]);
  }
  workgroupBarrier();
  return most;
}

// Uniform.
fn team_sum(own: f32) -> f32 {
  exchanged_sums[invocation] = own;
  workgroupBarrier();
  var sum = 0.0;
  let first = invocation / LANES * LANES;
  for (var lane = 0u; lane < LANES; lane++) {
    sum += exchanged_sums[first + lane];
  }
  workgroupBarrier();
  return sum;
}
