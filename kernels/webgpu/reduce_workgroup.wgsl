// The states of all invocations become one, without subgroups: a tree of merges.

// Where an invocation stands in its workgroup.
struct Place {
  @builtin(local_invocation_index) invocation: u32,
}

// Every entry point calls it first.
fn enter(place: Place) {
  invocation = place.invocation;
}

const REDUCE_SLOTS = WORKGROUP_SIZE / 2u;
var<workgroup> reduce_states: array<RowState, REDUCE_SLOTS>;
var<workgroup> reduced: RowState;

// Uniform: every invocation of the workgroup calls it and receives the same state.
fn reduce(own: RowState) -> RowState {
  var state = own;
  for (var half = REDUCE_SLOTS; half > 0u; half /= 2u) {
    if (invocation >= half && invocation < 2u * half) {
      reduce_states[invocation - half] = state;
    }
    workgroupBarrier();
    if (invocation < half) {
      state = merge(state, reduce_states[invocation]);
    }
    workgroupBarrier();
  }
  if (invocation == 0u) {
    reduced = state;
  }
  return workgroupUniformLoad(&reduced);
}

// What `share` gathers.
var<workgroup> lowest_shared: atomic<u32>;
var<workgroup> highest_shared: atomic<u32>;

// Lowers and raises the shared extremes to what an invocation has. Uniform.
fn share(low: u32, high: u32) {
  atomicMin(&lowest_shared, low);
  atomicMax(&highest_shared, high);
}
