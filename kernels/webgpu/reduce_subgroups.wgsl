// The states of all invocations become one, with subgroups of any size: each subgroup by its own operations, then one
// invocation merges theirs.

// Where an invocation stands in its workgroup.
struct Place {
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32,
}

var<private> subgroup: u32;
var<private> subgroups: u32;

// Every entry point calls it first.
fn enter(place: Place) {
  invocation = place.invocation;
  subgroup = place.subgroup;
  subgroups = place.subgroups;
}

const REDUCE_SLOTS = WORKGROUP_SIZE / 4u;   // no subgroup is smaller than 4
var<workgroup> reduce_states: array<RowState, REDUCE_SLOTS>;
var<workgroup> reduced: RowState;

// Uniform: every invocation of the workgroup calls it and receives the same state.
fn reduce(own: RowState) -> RowState {
  let reference = subgroupMax(own.reference);
  let sum = subgroupAdd(rescaled(own, reference).sum);
  let state = RowState(reference, sum, subgroupMax(own.highest), subgroupMin(own.lowest));
  if (subgroupElect()) {
    reduce_states[subgroup] = state;
  }
  workgroupBarrier();
  if (invocation == 0u) {
    var total = reduce_states[0];
    for (var i = 1u; i < subgroups; i++) {
      total = merge(total, reduce_states[i]);
    }
    reduced = total;
  }
  return workgroupUniformLoad(&reduced);
}

// What `share` gathers.
var<workgroup> lowest_shared: atomic<u32>;
var<workgroup> highest_shared: atomic<u32>;

// Lowers and raises the shared extremes to what an invocation has. Uniform.
fn share(low: u32, high: u32) {
  let lowest = subgroupMin(low);
  let highest = subgroupMax(high);
  if (subgroupElect()) {
    atomicMin(&lowest_shared, lowest);
    atomicMax(&highest_shared, highest);
  }
}
