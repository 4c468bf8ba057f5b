import { decodeBFloat16, decodeFloat16 } from "@fused-topk/core";
import { describe, expect, it } from "vitest";
import { convertLogits, type DataKind, dataKinds, generateLogits, repeatRows, widenLogits } from "../src/data.js";

const row = (kind: DataKind, vocab = 4000) => generateLogits(kind, 1, vocab, "f32", 1) as Float32Array;
const sorted = (logits: Float32Array) => Float32Array.from(logits).sort();

describe("generated logits", () => {
  it.each(dataKinds)("%s: the same from the same seed, and of the size asked for", (kind) => {
    const logits = generateLogits(kind, 3, 50, "f16", 5);
    expect(logits).toEqual(generateLogits(kind, 3, 50, "f16", 5));
    expect(logits).toHaveLength(150);
  });

  it("are what their names say", () => {
    expect(row("ascending")).toEqual(sorted(row("ascending")));
    expect(row("descending")).toEqual(sorted(row("descending")).reverse());
    expect(new Set(row("ascending")).size).toBe(4000);
    expect(new Set(row("equal")).size).toBe(1);
    expect(new Set(row("two")).size).toBe(2);
    const masked = row("masked").filter((x) => x === Number.NEGATIVE_INFINITY).length / 4000;
    expect(masked).toBeGreaterThan(0.87);
    expect(masked).toBeLessThan(0.93);
    const random = row("random", 100_000);
    const mean = random.reduce((a, b) => a + b) / random.length;
    const variance = random.reduce((a, b) => a + b * b, 0) / random.length - mean ** 2;
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.abs(variance - 1)).toBeLessThan(0.03);
    expect(row("narrow").every((x) => x > 99.9 && x < 100.1)).toBe(true);
  });

  it("of the kind ulp are neighbours in each dtype", () => {
    const bits = new Uint32Array(row("ulp").buffer);
    expect(Math.max(...bits) - Math.min(...bits)).toBeLessThan(4000);
    for (const dtype of ["f16", "bf16"] as const) {
      const codes = [...new Set(generateLogits("ulp", 1, 4000, dtype, 1))].sort((a, b) => a - b);
      expect(codes.at(-1)! - codes[0]! + 1).toBe(dtype === "f16" ? 1024 : 128);
    }
  });
});

it("convertLogits rounds to a narrower dtype and is exact to a wider one", () => {
  const wide = Float32Array.of(1, -0.5, 65504, Number.NEGATIVE_INFINITY);
  for (const [dtype, decode] of [
    ["f16", decodeFloat16],
    ["bf16", decodeBFloat16],
  ] as const) {
    const narrow = convertLogits(wide, "f32", dtype) as Uint16Array;
    expect(widenLogits(narrow, dtype)).toEqual(Float32Array.from(narrow, decode));
    expect(convertLogits(narrow, dtype, "f32")[1]).toBe(-0.5);
  }
});

it("repeatRows: row r is template row (r + shift) % templateRows", () => {
  const template = Float32Array.of(0, 0.5, 1, 1.5, 2, 2.5);
  expect([...repeatRows(template, 3, 5, 2)]).toEqual([2, 2.5, 0, 0.5, 1, 1.5, 2, 2.5, 0, 0.5]);
});
