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
// Where the bits of a logit lie in a word from which it was not singled out, as the upper one.
const LOGIT_MASK = select(0xffff0000u, 0xffffffffu, LOGITS_PER_WORD == 1u);
// -inf, as often as a word holds it.
const MASKED_WORD = NEGATIVE_INFINITY_BITS | select(NEGATIVE_INFINITY_BITS >> 16u, 0u, LOGITS_PER_WORD == 1u);

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

// A vector of which every logit outside [begin, end) is -inf; its first one lies before the end.
fn load_masked(vector: u32, begin: u32, end: u32) -> vec4<u32> {
  let last = vec4(arrayLength(&logit_words) - 1u);
  let at = min(vec4(4u * vector) + vec4(0u, 1u, 2u, 3u), last);
  let words = vec4(logit_words[at.x], logit_words[at.y], logit_words[at.z], logit_words[at.w]);
  let low = is_within(slot_positions(vector, 0u), begin, end);
  if (LOGITS_PER_WORD == 1u) {
    return select(vec4(NEGATIVE_INFINITY_BITS), words, low);
  }
  let high = is_within(slot_positions(vector, 1u), begin, end);
  return select(vec4(NEGATIVE_INFINITY_BITS >> 16u), words & vec4(0xffffu), low)
    | select(vec4(NEGATIVE_INFINITY_BITS), words & vec4(0xffff0000u), high);
}

// As load_masked, at once where the vector lies inside or outside.
fn load_vector(vector: u32, begin: u32, end: u32) -> vec4<u32> {
  let position = vector * LOGITS_PER_VECTOR;
  if (position >= begin && position + LOGITS_PER_VECTOR <= end) {
    return logits[vector];
  }
  if (position >= end) {
    return vec4(MASKED_WORD);
  }
  return load_masked(vector, begin, end);
}

// The bits of the logit at a position.
fn logit_bits(position: u32) -> u32 {
  let word = logit_words[position / LOGITS_PER_WORD];
  return slot_bits(vec4(word), position % LOGITS_PER_WORD).x;
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

// Tiles are counted from a boundary of so many vectors, 128 bytes, so that a warp reads whole lines.
const LINE_VECTORS = 8u;

// The vector in which tiles begin that cover the logits from a position on.
fn line_begin(first: u32) -> u32 {
  return first / LOGITS_PER_VECTOR / LINE_VECTORS * LINE_VECTORS;
}

// The tile that begins at a vector; the vectors of an invocation lie WORKGROUP_SIZE apart.
fn load_tile(first_vector: u32, begin: u32, end: u32) -> Tile {
  let position = first_vector * LOGITS_PER_VECTOR;
  let vector = first_vector + invocation;
  if (position >= begin && position + TILE_LOGITS <= end) {
    return Tile(
      logits[vector],
      logits[vector + WORKGROUP_SIZE],
      logits[vector + 2u * WORKGROUP_SIZE],
      logits[vector + 3u * WORKGROUP_SIZE]);
  }
  return load_vectors(vec4(vector) + vec4(0u, 1u, 2u, 3u) * WORKGROUP_SIZE, begin, end);
}

// Four vectors. One branch for all of them, or their loads would wait for each other.
fn load_vectors(vector: vec4<u32>, begin: u32, end: u32) -> Tile {
  let position = vector * LOGITS_PER_VECTOR;
  if (all(position >= vec4(begin)) && all(position + vec4(LOGITS_PER_VECTOR) <= vec4(end))) {
    return Tile(logits[vector.x], logits[vector.y], logits[vector.z], logits[vector.w]);
  }
  // A loop, since some compilers would take as long for each copy of load_vector.
  var tile: Tile;
  for (var load = 0u; load < LOADS; load++) {
    let words = load_vector(word_of(vector, load), begin, end);
    switch (load) {
      case 0u: { tile.a = words; }
      case 1u: { tile.b = words; }
      case 2u: { tile.c = words; }
      default: { tile.d = words; }
    }
  }
  return tile;
}

// v[i], by selects: registers have no address.
fn word_of(v: vec4<u32>, i: u32) -> u32 {
  return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i >= 2u);
}

fn tile_words(tile: Tile, load: u32) -> vec4<u32> {
  switch (load) {
    case 0u: { return tile.a; }
    case 1u: { return tile.b; }
    case 2u: { return tile.c; }
    default: { return tile.d; }
  }
}

// The extremes of the bits of some logits, as integers: three instructions a logit, and none of them compares floats, where
// a NaN would leave the outcome open. Positive floats sort as signed integers, negative ones the other way round.
struct Extremes {
  most: i32,     // the largest logit, unless all are negative
  least: u32,    // the largest logit, if all are negative
  beyond: u32,   // more than NEGATIVE_INFINITY_BITS only for a negative NaN
}

fn extremes_of(words: vec4<u32>) -> Extremes {
  var most = bitcast<vec4<i32>>(words);
  var least = words;
  var beyond = words;
  if (LOGITS_PER_WORD == 2u) {
    // The upper logits need not be singled out: a lower one breaks ties only.
    let low = words << vec4(16u);
    most = max(most, bitcast<vec4<i32>>(low));
    least = min(least, low);
    beyond = max(beyond, low);
  }
  return Extremes(
    max(max(most.x, most.y), max(most.z, most.w)),
    min(min(least.x, least.y), min(least.z, least.w)),
    max(max(beyond.x, beyond.y), max(beyond.z, beyond.w)));
}

fn has_nan(e: Extremes) -> bool {
  return (e.most & bitcast<i32>(LOGIT_MASK)) > bitcast<i32>(INFINITY_BITS)
    || (e.beyond & LOGIT_MASK) > NEGATIVE_INFINITY_BITS;
}

// The order_key of the largest logit, where none is NaN.
fn key_of_extremes(e: Extremes) -> u32 {
  let key = select(~(e.least & LOGIT_MASK), (bitcast<u32>(e.most) & LOGIT_MASK) | 0x80000000u, e.most >= 0);
  return select(key, KEY_ZERO, key == KEY_ZERO - 1u);
}

// The largest order_key of a vector.
fn key_of_vector(words: vec4<u32>) -> u32 {
  let low = order_keys(slot_bits(words, 0u));
  if (LOGITS_PER_WORD == 1u) {
    return max_of(low);
  }
  return max_of(max(low, order_keys(slot_bits(words, 1u))));
}

// The largest order_keys of the vectors that an invocation holds of a tile.
struct TileKeys {
  keys: vec4<u32>,
  has_nan: u32,
}

fn keys_of_tile(tile: Tile) -> TileKeys {
  let a = extremes_of(tile.a);
  let b = extremes_of(tile.b);
  let c = extremes_of(tile.c);
  let d = extremes_of(tile.d);
  let most = max(max(a.most, b.most), max(c.most, d.most));
  let beyond = max(max(a.beyond, b.beyond), max(c.beyond, d.beyond));
  if (has_nan(Extremes(most, 0u, beyond))) {
    return TileKeys(
      vec4(key_of_vector(tile.a), key_of_vector(tile.b), key_of_vector(tile.c), key_of_vector(tile.d)), 1u);
  }
  return TileKeys(vec4(key_of_extremes(a), key_of_extremes(b), key_of_extremes(c), key_of_extremes(d)), 0u);
}

fn max_of(v: vec4<u32>) -> u32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}
