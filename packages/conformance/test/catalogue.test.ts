/** The catalogue holds what it says: every size of the matrix, and inputs as hostile as their names. */

import { softmaxTopKReference } from "@fused-topk/core";
import { describe, expect, test } from "vitest";
import {
  catalogue,
  type DistributionName,
  distributions,
  type Input,
  inputsOf,
  makeLogits,
  optionsOf,
} from "../src/cases.js";

const input = (distribution: DistributionName, vocab: number, change: Partial<Input> = {}): Input => ({
  distribution,
  rows: 1,
  vocab,
  array: "f32",
  offset: 0,
  rowStride: vocab,
  temperature: 1,
  ks: [],
  ...change,
});

/** The K best indices of the first row. */
function best(distribution: DistributionName, vocab: number, k: number): Uint32Array {
  const problem = input(distribution, vocab);
  return softmaxTopKReference(makeLogits(problem), optionsOf(problem, k)).indices;
}

describe("the full set covers", () => {
  const inputs = catalogue.full.flatMap((family) => [...inputsOf(family)]);
  const seen = <T>(property: (input: Input) => T) => new Set(inputs.map(property));

  test("every K, and K = V", () => {
    const ks = new Set(inputs.flatMap(({ ks }) => ks));
    for (const k of [1, 2, 7, 50, 256, 1000, 1024, 4096]) expect(ks).toContain(k);
    expect(inputs.some(({ vocab, ks }) => vocab === 1000003 && ks.includes(vocab))).toBe(true);
  });

  test("every V, every number of rows, every array, every distribution", () => {
    const vocabs = [1, 2, 31, 32, 33, 255, 1000, 4097, 32000, 50257, 128256, 151936, 262144, 1000003];
    for (const vocab of vocabs) expect(seen((input) => input.vocab)).toContain(vocab);
    for (const rows of [0, 1, 3, 64, 65537]) expect(seen((input) => input.rows)).toContain(rows);
    for (const array of ["f32", "f16 bits", "bf16 bits"]) expect(seen((input) => input.array)).toContain(array);
    expect(seen((input) => input.array).has("Float16Array")).toBe(typeof Float16Array !== "undefined");
    for (const name of Object.keys(distributions)) expect(seen((input) => input.distribution)).toContain(name);
  });

  test("every quick case", () => {
    for (const family of catalogue.quick) expect(catalogue.full).toContain(family);
  });
});

test("every distribution is in the quick set", () => {
  const quick = new Set(catalogue.quick.flatMap(({ distributions }) => distributions));
  expect([...quick].sort()).toEqual(Object.keys(distributions).sort());
});

test("the same input is the same logits, and rows differ", () => {
  for (const distribution of Object.keys(distributions) as DistributionName[]) {
    expect(makeLogits(input(distribution, 50, { rows: 3 }))).toEqual(makeLogits(input(distribution, 50, { rows: 3 })));
  }
  const two = makeLogits(input("random", 50, { rows: 2 }));
  expect(two.subarray(0, 50)).not.toEqual(two.subarray(50));
});

test("what belongs to no row is +inf, before, between and after the rows, in every dtype", () => {
  for (const array of ["f32", "f16 bits", "bf16 bits"] as const) {
    const logits = makeLogits(input("equal", 4, { rows: 2, array, offset: 3, rowStride: 9 }));
    const Words = array === "f32" ? Uint32Array : Uint16Array;
    const infinity = { f32: 0x7f800000, "f16 bits": 0x7c00, "bf16 bits": 0x7f80 }[array];
    const words = new Words(logits.buffer as ArrayBuffer);
    const around = words.filter((bits) => bits === infinity);
    expect(logits.byteOffset).toBeGreaterThan(0);
    expect(around.length).toBe(words.length - 2 * 4);
  }
});

test("ties lie across the K-th place for every K", () => {
  const problem = input("ties", 5000);
  const { probs } = softmaxTopKReference(makeLogits(problem), optionsOf(problem, 5000));
  for (const k of [1, 2, 7, 8, 50, 64, 100, 256, 1000, 1024, 4096]) expect(probs[k - 1], `k ${k}`).toBe(probs[k]);
});

test.each([32, 64, 128, 256, 1024] as const)("residue%i puts the best into one class", (modulus) => {
  const indices = best(`residue${modulus}`, 9001, 8);
  expect(new Set(indices.map((index) => index % modulus)).size).toBe(1);
});

test("contiguousRun puts the best 256 of 9001 into one run", () => {
  const indices = best("contiguousRun", 9001, 256);
  expect(Math.max(...indices) - Math.min(...indices)).toBeLessThan(1801);
});

test("fewFinite leaves five finite logits", () => {
  const problem = input("fewFinite", 100);
  const { probs, indices } = softmaxTopKReference(makeLogits(problem), optionsOf(problem, 20));
  expect(probs.indexOf(0)).toBe(5);
  expect([...indices.subarray(5)]).toEqual([...indices.subarray(5)].sort((a, b) => a - b));
});

test("staircase and wide reach probabilities on both sides of 1e-30", () => {
  for (const name of ["staircase", "wide"] as const) {
    const problem = input(name, 1000);
    const { probs } = softmaxTopKReference(makeLogits(problem), optionsOf(problem, 1000));
    expect(probs.some((p) => p > 1e-30 && p < 1e-25)).toBe(true);
    expect(probs.some((p) => p < 1e-30)).toBe(true);
  }
});

test("nan, infinity and allMasked spoil row 0 and leave row 1 a softmax", () => {
  for (const name of ["nan", "infinity", "nanAndInfinity", "allNan", "allMasked"] as const) {
    const problem = input(name, 100, { rows: 2 });
    const { logSumExp } = softmaxTopKReference(makeLogits(problem), optionsOf(problem, 1));
    expect(Number.isFinite(logSumExp[0]), name).toBe(false);
    expect(Number.isFinite(logSumExp[1]), name).toBe(true);
  }
});
