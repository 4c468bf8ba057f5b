// What a dispatch is told. The host fills this in (packages/webgpu/src/plan.ts); positions are in logits, not bytes.
//
// A row is cut into `parts` of `part_length` logits; a workgroup takes one part at a time, from the 128-byte line in which
// it begins, in groups of 2^group_shift vectors.
//
// The scale is 1 but for huge temperatures, where it keeps x - max and temperature within float32, and tiny ones, where it
// lifts subnormal logits (2^24): x / temperature is computed as (x * scale) / (temperature * scale).

struct Params {
  rows: u32,
  vocab: u32,
  k: u32,
  row_stride: u32,
  first_logit: u32,         // where index 0 of row 0 lies in the binding; modulo 2^32 when the binding begins later
  vectors: u32,             // whole vectors in the binding of the logits
  parts: u32,
  first_part: u32,          // a dispatch takes parts first_part .. first_part + parts_here - 1 of its rows
  parts_here: u32,
  part_length: u32,
  group_shift: u32,         // log2 of the vectors of a group; not 1
  list_begin: u32,          // where in workgroup memory the list of groups begins, unless it is in storage
  capacity: u32,            // of the candidate buffer
  sort_size: u32,           // the power of two >= published
  published: u32,           // candidates that may be left of a row or a part, more than k
  first_result: u32,        // where row 0 begins in probs and indices
  first_log_sum_exp: u32,   // and in log_sum_exp
  scale: f32,
  log2e_by_temperature: f32,   // log2(e) / (temperature * scale)
  temperature_high: f32,       // temperature * scale = temperature_high + temperature_low
  temperature_low: f32,
  part_slots: u32,          // candidates for which a part has place in storage
}

@group(0) @binding(0) var<uniform> params: Params;

// The index of this invocation in its workgroup.
var<private> invocation: u32;
