// Loads and widens logits, aligned or not.
//
// Logits are read as vectors of 16 bytes, four words of one f32 or two 16-bit logits. Rows need no alignment: a part is
// covered by whole vectors, and what lies before its begin or past its end in the first and last is replaced by -inf,
// which changes no state. No `shader-f16`: f16 is unpacked, bf16 is the upper half of a float32.

@group(0) @binding(1) var<storage, read> logits: array<vec4<u32>>;
// The same memory once more, for the last words of a binding whose size is not a multiple of 16.
@group(0) @binding(2) var<storage, read> logit_words: array<u32>;

const LOGITS_PER_VECTOR = 4u * LOGITS_PER_WORD;
const NEGATIVE_INFINITY_BITS = 0x80000000u | INFINITY_BITS;

// The bits of logit `slot` of each word.
fn slot_bits(words: vec4<u32>, slot: u32) -> vec4<u32> {
  if (LOGITS_PER_WORD == 1u) {
    return words;
  }
  return select(words & vec4(0xffff0000u), words << vec4(16u), slot == 0u);
}

fn widen(bits: vec4<u32>) -> vec4<f32> {
  if (IS_F16) {
    return vec4(
      unpack2x16float(bits.x).y, unpack2x16float(bits.y).y, unpack2x16float(bits.z).y, unpack2x16float(bits.w).y);
  }
  return bitcast<vec4<f32>>(bits);
}

// Positions of the logits in `slot` of the words of a vector.
fn slot_positions(vector: u32, slot: u32) -> vec4<u32> {
  return vec4(vector * LOGITS_PER_VECTOR) + vec4(0u, 1u, 2u, 3u) * LOGITS_PER_WORD + vec4(slot);
}

fn is_within(positions: vec4<u32>, begin: u32, end: u32) -> vec4<bool> {
  return (positions >= vec4(begin)) & (positions < vec4(end));
}

// A vector of which every logit outside [begin, end) is -inf.
fn load_masked(vector: u32, begin: u32, end: u32) -> vec4<u32> {
  var words = vec4(0u);
  if (vector * LOGITS_PER_VECTOR < end) {
    if (vector < params.vectors) {
      words = logits[vector];
    } else {
      let last = arrayLength(&logit_words) - 1u;
      words = vec4(
        logit_words[4u * vector],
        logit_words[min(4u * vector + 1u, last)],
        logit_words[min(4u * vector + 2u, last)],
        logit_words[min(4u * vector + 3u, last)]);
    }
  }
  let low = is_within(slot_positions(vector, 0u), begin, end);
  if (LOGITS_PER_WORD == 1u) {
    return select(vec4(NEGATIVE_INFINITY_BITS), words, low);
  }
  let high = is_within(slot_positions(vector, 1u), begin, end);
  return select(vec4(NEGATIVE_INFINITY_BITS >> 16u), words & vec4(0xffffu), low)
    | select(vec4(NEGATIVE_INFINITY_BITS), words & vec4(0xffff0000u), high);
}

// As load_masked, at once where the vector lies inside.
fn load_within(vector: u32, begin: u32, end: u32) -> vec4<u32> {
  let position = vector * LOGITS_PER_VECTOR;
  if (position >= begin && position + LOGITS_PER_VECTOR <= end) {
    return logits[vector];
  }
  return load_masked(vector, begin, end);
}

// What an invocation holds of a tile: several loads in flight before the first is used.
struct Tile {
  a: vec4<u32>,
  b: vec4<u32>,
  c: vec4<u32>,
  d: vec4<u32>,
}

const LOADS = 4u;
const TILE_VECTORS = LOADS * WORKGROUP_SIZE;
const TILE_LOGITS = TILE_VECTORS * LOGITS_PER_VECTOR;

// The tile that begins at a vector; the vectors of an invocation lie WORKGROUP_SIZE apart.
fn load_tile(first_vector: u32, begin: u32, end: u32) -> Tile {
  let vector = first_vector + invocation;
  let position = first_vector * LOGITS_PER_VECTOR;
  if (position >= begin && position + TILE_LOGITS <= end) {
    return Tile(
      logits[vector],
      logits[vector + WORKGROUP_SIZE],
      logits[vector + 2u * WORKGROUP_SIZE],
      logits[vector + 3u * WORKGROUP_SIZE]);
  }
  return Tile(
    load_masked(vector, begin, end),
    load_masked(vector + WORKGROUP_SIZE, begin, end),
    load_masked(vector + 2u * WORKGROUP_SIZE, begin, end),
    load_masked(vector + 3u * WORKGROUP_SIZE, begin, end));
}

fn tile_words(tile: Tile, load: u32) -> vec4<u32> {
  switch (load) {
    case 0u: { return tile.a; }
    case 1u: { return tile.b; }
    case 2u: { return tile.c; }
    default: { return tile.d; }
  }
}
