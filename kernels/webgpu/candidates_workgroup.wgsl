// Where the candidate buffer and the list of groups live: in workgroup memory, the buffer in place of the group maxima.

fn open_candidates(workgroup: u32) {}

fn load_candidate(at: u32) -> vec2<u32> {
  return vec2(atomicLoad(&work[at]), atomicLoad(&work[params.capacity + at]));
}

fn store_candidate(at: u32, candidate: vec2<u32>) {
  atomicStore(&work[at], candidate.x);
  atomicStore(&work[params.capacity + at], candidate.y);
}

// A candidate of which the index alone is known.
fn load_index(at: u32) -> u32 {
  return atomicLoad(&work[params.capacity + at]);
}

fn store_index(at: u32, index: u32) {
  atomicStore(&work[params.capacity + at], index);
}

fn listed_group(at: u32) -> u32 {
  return atomicLoad(&work[params.list_begin + at]);
}

fn list_group(at: u32, group: u32) {
  atomicStore(&work[params.list_begin + at], group);
}

// The list by bins begins where the buffer ends, when the maxima and the list of groups are done with.
fn arranged(at: u32) -> u32 {
  return atomicLoad(&work[2u * params.capacity + at]);
}

fn put_arranged(at: u32, place: u32) {
  atomicStore(&work[2u * params.capacity + at], place);
}

fn candidate_barrier() {
  workgroupBarrier();
}
