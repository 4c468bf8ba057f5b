import { createCpuBackend, softmaxTopKReference } from "@fused-topk/core";
import type { Variant } from "@fused-topk/core/measure";
import { describe, expect, it } from "vitest";
import { createCpuMeter } from "../src/cpu-meter.js";
import { dataKinds, generateLogits, repeatRows } from "../src/data.js";

const rows = 5;
const vocab = 700;
const k = 20;

async function measure(variant: Variant, dtype: "f32" | "f16" | "bf16", kind: (typeof dataKinds)[number]) {
  await using meter = await createCpuMeter(createCpuBackend);
  const template = generateLogits(kind, 3, vocab, dtype, 1);
  const options = { rows, vocab, k, dtype };
  const measurement = await meter.measure({ variant, options, template, sets: 3, repeats: 4 });
  return { measurement, expected: softmaxTopKReference(repeatRows(template, 3, rows), options) };
}

describe("the cpu meter", () => {
  it.each(dataKinds)("fused and three-pass are right on %s logits of every dtype", async (kind) => {
    for (const variant of ["fused", "three-pass"] as const) {
      for (const dtype of ["f32", "f16", "bf16"] as const) {
        const { measurement, expected } = await measure(variant, dtype, kind);
        expect(measurement.result!.indices, `${variant} ${dtype}`).toEqual(expected.indices);
        expected.probs.forEach((p, i) => {
          expect(Math.abs(measurement.result!.probs[i]! - p)).toBeLessThanOrEqual(1e-6 * p);
        });
      }
    }
  });

  it("unfused gives the right probabilities in order, whatever it does to ties", async () => {
    const { measurement, expected } = await measure("unfused", "f32", "random");
    expected.probs.forEach((p, i) => {
      expect(Math.abs(measurement.result!.probs[i]! - p)).toBeLessThanOrEqual(1e-5 * p);
    });
  });

  it("takes one timing a repeat and counts what is written", async () => {
    const { measurement: fused } = await measure("fused", "f32", "random");
    const { measurement: unfused } = await measure("unfused", "f32", "random");
    expect(fused.microseconds).toHaveLength(4);
    expect(fused.microseconds.every((time) => time > 0)).toBe(true);
    expect(fused.bytesWritten).toBe(rows * (8 * k + 4));
    expect(unfused.bytesWritten).toBe(rows * (8 * k + 4) + rows * vocab * 8);
  });

  it("the read floor computes nothing and writes nothing", async () => {
    const { measurement } = await measure("read-floor", "bf16", "random");
    expect(measurement.result).toBeUndefined();
    expect(measurement.bytesWritten).toBe(0);
  });
});
