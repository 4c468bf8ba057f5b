/** Logits to measure on: deterministic from a seed, of kinds that hurt different designs. No Node here. */
import {
  type DType,
  decodeBFloat16,
  decodeFloat16,
  encodeBFloat16,
  encodeFloat16,
  type HostLogits,
} from "@fused-topk/core";

/**
 * - `random`: standard normal.
 * - `ascending`: each logit beats all before it, the adversary of a running threshold. `descending`: the reverse.
 * - `equal`: one value. `two`: two values, half of each: ties across every boundary.
 * - `masked`: nine in ten are -inf.
 * - `ulp`: neighbouring floats, shuffled, which no probability can tell apart.
 * - `narrow`: 100 + 0.01 N, the same exponent everywhere, against coarse bins.
 */
export const dataKinds = ["random", "ascending", "descending", "equal", "two", "masked", "ulp", "narrow"] as const;

export type DataKind = (typeof dataKinds)[number];

/** `rows x vocab` logits: `Float32Array` for f32, raw bits for f16 and bf16. */
export function generateLogits(kind: DataKind, rows: number, vocab: number, dtype: DType, seed: number): HostLogits {
  const random = createUniform(seed);
  const logits = new Float32Array(rows * vocab);
  for (let r = 0; r < rows; r++) fillRow(logits.subarray(r * vocab, (r + 1) * vocab), kind, dtype, random);
  return encodeLogits(logits, dtype);
}

/** The same logits as another dtype: rounded to nearest where it is narrower. */
export function convertLogits(logits: HostLogits, from: DType, to: DType): HostLogits {
  return from === to ? logits : encodeLogits(widenLogits(logits, from), to);
}

/** The logits as float32, which holds every dtype exactly; f32 is returned as it is. */
export function widenLogits(logits: HostLogits, dtype: DType): Float32Array {
  if (dtype === "f32") return logits as Float32Array;
  const values = decoded(dtype);
  const wide = new Float32Array(logits.length);
  for (let i = 0; i < wide.length; i++) wide[i] = values[logits[i]!]!;
  return wide;
}

/** A Float16Array as its bits; the other arrays as they are. */
export function rawBits(logits: HostLogits): Float32Array | Uint16Array {
  if (logits instanceof Float32Array || logits instanceof Uint16Array) return logits;
  return new Uint16Array(logits.buffer, logits.byteOffset, logits.length);
}

/** `rows` rows of which row r is template row (r + shift) % templateRows. A copy, also where it equals the template. */
export function repeatRows(template: HostLogits, templateRows: number, rows: number, shift = 0): HostLogits {
  const vocab = template.length / templateRows;
  const logits = template instanceof Float32Array ? new Float32Array(rows * vocab) : new Uint16Array(rows * vocab);
  for (let r = 0; r < rows; ) {
    const from = (r + shift) % templateRows;
    const count = Math.min(templateRows - from, rows - r);
    logits.set(template.subarray(from * vocab, (from + count) * vocab), r * vocab);
    r += count;
  }
  return logits;
}

function fillRow(row: Float32Array, kind: DataKind, dtype: DType, random: () => number): void {
  const vocab = row.length;
  switch (kind) {
    case "random":
      for (let i = 0; i < vocab; i++) row[i] = normal(random);
      break;
    case "ascending":
      for (let i = 0; i < vocab; i++) row[i] = (16 * i) / vocab - 8;
      break;
    case "descending":
      for (let i = 0; i < vocab; i++) row[i] = 8 - (16 * i) / vocab;
      break;
    case "equal":
      row.fill(1.5);
      break;
    case "two":
      for (let i = 0; i < vocab; i++) row[i] = random() < 0.5 ? -1 : 1;
      break;
    case "masked":
      for (let i = 0; i < vocab; i++) row[i] = random() < 0.9 ? Number.NEGATIVE_INFINITY : normal(random);
      break;
    case "ulp": {
      const steps = Math.min(vocab, significandSteps[dtype]);
      for (let i = 0; i < vocab; i++) row[i] = 1 + Math.floor(random() * steps) / significandSteps[dtype];
      break;
    }
    case "narrow":
      for (let i = 0; i < vocab; i++) row[i] = 100 + 0.01 * normal(random);
      break;
  }
}

/** Floats in [1, 2). */
const significandSteps: Record<DType, number> = { f32: 2 ** 23, f16: 2 ** 10, bf16: 2 ** 7 };

const decodedValues = new Map<DType, Float32Array>();

/** The value of each of the 65536 bit patterns. */
function decoded(dtype: "f16" | "bf16"): Float32Array {
  let values = decodedValues.get(dtype);
  if (values === undefined) {
    const decode = dtype === "f16" ? decodeFloat16 : decodeBFloat16;
    values = Float32Array.from({ length: 65536 }, (_, bits) => decode(bits));
    decodedValues.set(dtype, values);
  }
  return values;
}

function encodeLogits(logits: Float32Array, dtype: DType): HostLogits {
  if (dtype === "f32") return logits;
  const encode = dtype === "f16" ? encodeFloat16 : encodeBFloat16;
  const bits = new Uint16Array(logits.length); // filled by a loop: Uint16Array.from goes through an iterator
  for (let i = 0; i < bits.length; i++) bits[i] = encode(logits[i]!);
  return bits;
}

/** One standard normal number. Source: Box and Muller, "A note on the generation of random normal deviates" (1958). */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Uniform in [0, 1). Source: Tommy Ettinger's mulberry32, public domain. */
export function createUniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
