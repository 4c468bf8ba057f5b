// The read floor: as fast as this device reads the same bytes once and does nothing else. Appended to params.wgsl.

@group(0) @binding(1) var<storage, read> logits: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> probs: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn read_floor(
  @builtin(local_invocation_index) index: u32,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
) {
  invocation = index;
  var seen = vec4(0u);
  let stretch = READS * WORKGROUP_SIZE;
  var begin = workgroup.x * stretch;
  for (; begin + stretch <= params.vectors; begin += workgroups.x * stretch) {
    for (var i = 0u; i < READS; i++) {
      seen ^= logits[begin + i * WORKGROUP_SIZE + invocation];
    }
  }
  for (var i = begin + invocation; i < min(begin + stretch, params.vectors); i += WORKGROUP_SIZE) {
    seen ^= logits[i];
  }
  // Almost never true, but no compiler knows that.
  if (all(seen == vec4(0x9e3779b9u))) {
    probs[0] = seen.x;
  }
}
