/** The shapes of logits that a top-K gets wrong first. Each fills one row; what it guards against stands beside it. */
import type { Format } from "./formats.js";
import type { Random } from "./random.js";

/** A way to fill rows with logits. */
export interface Distribution {
  /** The mistake that this input brings to light. */
  guards: string;
  fill(row: Float32Array, source: Source): void;
}

/** What a distribution fills a row from. */
export interface Source {
  random: Random;
  format: Format;
  /** Which row of the input is being filled. */
  rowIndex: number;
}

const distribution = (guards: string, fill: Distribution["fill"]): Distribution => ({ guards, fill });

/** One value for each index. */
const each = (guards: string, value: (i: number, vocab: number, source: Source) => number): Distribution =>
  distribution(guards, (row, source) => {
    for (let i = 0; i < row.length; i++) row[i] = value(i, row.length, source);
  });

/** Values by rank, 0 the best, at random places. */
const shuffled = (guards: string, value: (rank: number, vocab: number, source: Source) => number): Distribution =>
  distribution(guards, (row, source) => {
    for (let i = 0; i < row.length; i++) {
      const other = source.random.below(i + 1);
      row[i] = row[other]!;
      row[other] = value(i, row.length, source);
    }
  });

/** The best of the row all at indices of one class modulo `modulus`. */
const residueClass = (modulus: number): Distribution =>
  distribution(`the best K in one residue class modulo ${modulus}: a list per thread is too short`, (row, source) => {
    const residue = source.random.below(Math.min(modulus, row.length));
    for (let i = 0; i < row.length; i++) row[i] = source.random.normal() + (i % modulus === residue ? 20 : 0);
  });

/** Ordinary rows, of which the even ones get special values; the odd ones must not notice. */
const evenRows = (guards: string, spoil: Distribution["fill"]): Distribution =>
  distribution(guards, (row, source) => {
    random.fill(row, source);
    if (source.rowIndex % 2 === 0) spoil(row, source);
  });

/** Puts a value at `count` random places. */
const scatter = (row: Float32Array, { random }: Source, count: number, value: number): void => {
  for (let i = 0; i < count; i++) row[random.below(row.length)] = value;
};

const random = each("the ordinary case", (_, __, { random }) => 3 * random.normal());

/** By name. */
export const distributions = {
  random,
  wide: each("probabilities from 1 to below 1e-30", (_, __, { random }) => 30 * random.normal()),
  staircase: shuffled("the relative bound at every size of probability", (rank) => 40 - 0.37 * rank),
  narrow: each("bins too coarse for values close together", (_, __, { random }) => 100 + 0.01 * random.normal()),
  outlier: shuffled("one logit far above the rest", (rank, _, { random }) => (rank === 0 ? 200 : random.normal())),
  // exp(-16.65) is just below half an ulp of 1: a float32 sum that stands at 1 never grows.
  dust: each("weights that vanish when added to a long float32 sum one by one", (i) => (i === 0 ? 0 : -16.65)),

  ascending: each("a running threshold that every logit beats", (i, vocab) => (40 * i) / vocab - 20),
  descending: each("candidates that all come first", (i, vocab) => 20 - (40 * i) / vocab),
  sawtooth: each("ascending segments", (i) => (i % 257) / 16 + Math.floor(i / 257) / 1024),

  equal: each("ties everywhere: the lowest indices win", () => 1.5),
  twoValues: each("ties on both sides of the threshold", (_, __, { random }) => random.below(2)),
  fewValues: each("long runs of ties", (_, __, { random }) => random.below(7) / 4),
  ties: shuffled("ties across the K-th place", (rank) => -Math.floor(0.7 * Math.log2(rank + 4))),

  residue32: residueClass(32),
  residue64: residueClass(64),
  residue128: residueClass(128),
  residue256: residueClass(256),
  residue1024: residueClass(1024),
  contiguousRun: distribution("the best K in one contiguous run: a part's list is too short", (row, source) => {
    random.fill(row, source);
    const length = Math.ceil(row.length / 5);
    const start = source.random.below(row.length - length + 1);
    for (let i = start; i < start + length; i++) row[i]! += 30;
  }),

  mostlyMasked: each("-inf among the candidates", (_, __, { random }) =>
    random.uniform() < 0.9 ? Number.NEGATIVE_INFINITY : random.normal(),
  ),
  // Ordinary logits among the lowest in the middle, -inf at the ends, at the last with some of the lowest.
  lowestFinite: each("the lowest finite number as a mask, beside -inf", (i, vocab, { random, format }) => {
    if (i < vocab / 4) return Number.NEGATIVE_INFINITY;
    if (i < (3 * vocab) / 4) return i % 64 < 60 ? -format.largest : random.normal();
    return i % 16 > 0 ? Number.NEGATIVE_INFINITY : -format.largest;
  }),
  fewFinite: shuffled("-inf that fills the tail, lower index first", (rank, _, { random }) =>
    rank < 5 ? random.normal() : Number.NEGATIVE_INFINITY,
  ),
  allMasked: evenRows("rows of -inf alone", (row) => row.fill(Number.NEGATIVE_INFINITY)),
  nan: evenRows("NaN in one row beside good rows", (row, source) => scatter(row, source, 3, Number.NaN)),
  infinity: evenRows("+inf in one row beside good rows", (row, source) =>
    scatter(row, source, 3, Number.POSITIVE_INFINITY),
  ),
  nanAndInfinity: evenRows("+inf first, NaN last, -inf between", (row, source) => {
    const some = Math.ceil(row.length / 3);
    scatter(row, source, some, Number.NaN);
    scatter(row, source, some, Number.NEGATIVE_INFINITY);
    scatter(row, source, some, Number.POSITIVE_INFINITY);
  }),
  allNan: evenRows("rows of NaN alone", (row) => row.fill(Number.NaN)),

  signedZeros: each("-0 that does not equal +0", (_, __, { random }) => [0, -0, 0, -0, -1][random.below(5)]!),
  subnormals: each("subnormal logits flushed to zero", (_, __, { random, format }) => {
    const magnitude = format.smallest * random.below(100);
    return random.below(2) ? magnitude : -magnitude;
  }),
  oneUlpApart: each("logits compared by probability or in a narrower type", (_, __, { random, format }) =>
    format.decode(format.one + random.below(64)),
  ),
  bitPatterns: each("every next logit one ulp above the last", (i, _, { format }) =>
    format.decode(format.one + (format.width === 32 ? i : i % 0x1000)),
  ),
  negativeBitPatterns: each(
    "the order of negative bit patterns",
    (i, _, { format }) => -format.decode(format.one + (format.width === 32 ? i : i % 0x1000)),
  ),
  huge: each("x - max, or x / temperature, that overflows", (_, __, { random, format }) =>
    random.below(2) ? format.largest * random.uniform() : -format.largest * random.uniform(),
  ),
  anyBits: each("any bit pattern at all", (_, __, { random, format }) =>
    format.decode(random.below(2 ** format.width)),
  ),
} satisfies Record<string, Distribution>;

export type DistributionName = keyof typeof distributions;
