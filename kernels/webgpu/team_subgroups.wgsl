// What LANES neighbours make together by subgroup operations. Expects full subgroups of at least LANES invocations.

// The keys of the lane whose number differs in `bit`. Uniform.
fn of_neighbour(own: Keys, bit: u32) -> Keys {
  return Keys(subgroupShuffleXor(own.first, bit), subgroupShuffleXor(own.last, bit));
}

fn four_of_neighbour(own: vec4<u32>, bit: u32) -> vec4<u32> {
  return subgroupShuffleXor(own, bit);
}

// Uniform.
fn team_max(own: u32) -> u32 {
  var most = own;
  for (var bit = 1u; bit < LANES; bit *= 2u) {
    most = max(most, subgroupShuffleXor(most, bit));
  }
  return most;
}

// Uniform.
fn team_sum(own: f32) -> f32 {
  var sum = own;
  for (var bit = 1u; bit < LANES; bit *= 2u) {
    sum += subgroupShuffleXor(sum, bit);
  }
  return sum;
}
