// What invocations of a workgroup make together, with subgroups of any size: each subgroup by its own operations, then in
// workgroup memory.

// Where an invocation stands in its workgroup.
struct Place {
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(subgroup_size) subgroup_size: u32,
}

var<private> subgroup: u32;
var<private> subgroups: u32;
// Which invocation of its subgroup this is, of how many.
var<private> lane: u32;
var<private> lanes: u32;
// Whether neighbours in a subgroup are neighbours in the workgroup. No specification says that invocations are dealt to
// subgroups in order; where subgroups are full they are numbered so.
var<private> is_full: bool;

// Every entry point calls it first, or enter_in_order.
fn enter(place: Place) {
  subgroup = place.subgroup;
  subgroups = place.subgroups;
  is_full = place.subgroups * place.subgroup_size == WORKGROUP_SIZE;
  invocation = select(place.invocation, place.subgroup * place.subgroup_size + place.lane, is_full);
}

// The same, and invocations are numbered in the order of their subgroups, full or not: for sum_of_earlier and sum_of_all.
fn enter_in_order(place: Place) {
  enter(place);
  lane = subgroupExclusiveAdd(1u);
  lanes = subgroupAdd(1u);
  invocation = sum_of_earlier(1u);
}

// Hands out `count` places of a counter. Uniform; the counts differ.
fn places(counter: u32, count: u32) -> u32 {
  let before = subgroupExclusiveAdd(count);
  let all = subgroupAdd(count);
  var begin = 0u;
  if (subgroupElect() && all != 0u) {
    begin = atomicAdd(&counters[counter], all);
  }
  return subgroupBroadcastFirst(begin) + before;
}

// Lowers and raises the shared extremes to what an invocation has. Uniform.
fn share(low: u32, high: u32) {
  let lowest = subgroupMin(low);
  let highest = subgroupMax(high);
  if (subgroupElect()) {
    atomicMin(&lowest_shared, lowest);
    atomicMax(&highest_shared, highest);
  }
}

const REDUCE_SLOTS = WORKGROUP_SIZE / 4u;   // no subgroup is smaller than 4
var<workgroup> sums: array<u32, REDUCE_SLOTS>;

// The sum of what the earlier invocations have. Uniform, with one barrier: call it once between two others.
fn sum_of_earlier(own: u32) -> u32 {
  let before = subgroupExclusiveAdd(own);
  let all = subgroupAdd(own);
  if (subgroupElect()) {
    sums[subgroup] = all;
  }
  workgroupBarrier();
  var of_subgroups = 0u;
  for (var i = lane; i < subgroup; i += lanes) {
    of_subgroups += sums[i];
  }
  return subgroupAdd(of_subgroups) + before;
}

// The sum over the workgroup. Uniform, with one barrier: call it once between two others.
fn sum_of_all(own: f32) -> f32 {
  let sum = subgroupAdd(own);
  if (subgroupElect()) {
    sums[subgroup] = bitcast<u32>(sum);
  }
  workgroupBarrier();
  var of_subgroups = 0.0;
  for (var i = lane; i < subgroups; i += lanes) {
    of_subgroups += bitcast<f32>(sums[i]);
  }
  return subgroupAdd(of_subgroups);
}

// Notes the largest keys of the vectors that an invocation holds of the tile that begins at `vector` of the part. Returns
// that of the groups it answers for. Uniform.
//
// Four neighbours hold four vectors each of four groups of four: each sends two and then one key of groups that are not
// its own, and receives as many of the one that is. (A transposition by two butterflies.)
fn store_maxima(vector: u32, keys: vec4<u32>) -> u32 {
  let first = vector + invocation;
  if (params.group_shift == 0u) {
    atomicStore(&work[first], keys.x);
    atomicStore(&work[first + WORKGROUP_SIZE], keys.y);
    atomicStore(&work[first + 2u * WORKGROUP_SIZE], keys.z);
    atomicStore(&work[first + 3u * WORKGROUP_SIZE], keys.w);
    return max_of(keys);
  }
  let odd = (invocation & 1u) != 0u;
  let upper = (invocation & 2u) != 0u;
  let pairs = max(select(keys.xz, keys.yw, odd), subgroupShuffleXor(select(keys.yw, keys.xz, odd), 1u));
  let key = max(select(pairs.x, pairs.y, upper), subgroupShuffleXor(select(pairs.y, pairs.x, upper), 2u));
  if (!is_full) {
    for (var load = 0u; load < LOADS; load++) {
      atomicMax(&work[(first + load * WORKGROUP_SIZE) >> params.group_shift], word_of(keys, load));
    }
    return max_of(keys);
  }
  let group = (first + (invocation & 3u) * WORKGROUP_SIZE) >> params.group_shift;
  if (params.group_shift == 2u) {
    atomicStore(&work[group], key);
  } else {
    atomicMax(&work[group], key);
  }
  return key;
}
