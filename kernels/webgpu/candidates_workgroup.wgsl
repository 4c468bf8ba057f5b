// Where the candidate buffer lives: in workgroup memory, for K up to CAPACITY less some slack.

var<workgroup> candidates: array<vec2<u32>, CAPACITY>;

fn open_candidates(workgroup: u32) {}

fn load_candidate(at: u32) -> vec2<u32> {
  return candidates[at];
}

fn store_candidate(at: u32, candidate: vec2<u32>) {
  candidates[at] = candidate;
}

fn candidate_barrier() {
  workgroupBarrier();
}
