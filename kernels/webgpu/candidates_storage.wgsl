// Where the candidate buffer and the list of groups live: in storage, a slab for each workgroup, for a K too large for
// workgroup memory.

@group(0) @binding(3) var<storage, read_write> slabs: array<vec2<u32>>;

// Where the slab of this workgroup begins.
var<private> slab: u32;

fn open_candidates(workgroup: u32) {
  slab = workgroup * (params.capacity + params.published);
}

fn load_candidate(at: u32) -> vec2<u32> {
  return slabs[slab + at];
}

fn store_candidate(at: u32, candidate: vec2<u32>) {
  slabs[slab + at] = candidate;
}

// A candidate of which the index alone is known.
fn load_index(at: u32) -> u32 {
  return slabs[slab + at].y;
}

fn store_index(at: u32, index: u32) {
  slabs[slab + at].y = index;
}

// The list lies behind the buffer.
fn listed_group(at: u32) -> u32 {
  return slabs[slab + params.capacity + at].x;
}

fn list_group(at: u32, group: u32) {
  slabs[slab + params.capacity + at].x = group;
}

// The list by bins takes its place when it is done with.
fn arranged(at: u32) -> u32 {
  return listed_group(at);
}

fn put_arranged(at: u32, place: u32) {
  list_group(at, place);
}

fn candidate_barrier() {
  storageBarrier();
  workgroupBarrier();
}
