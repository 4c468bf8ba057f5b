import { softmaxTopKReference } from "@fused-topk/core";
import { describe, expect, it } from "vitest";
import { checkResult, expectedOf } from "../src/check.js";
import { generateLogits, repeatRows } from "../src/data.js";
import type { ScenarioRecord } from "../src/schema.js";

const options = { rows: 7, vocab: 100, k: 5, dtype: "f32" } as const;
const scenario: ScenarioRecord = { group: "custom", data: "random", ...options };
const template = generateLogits("random", 3, 100, "f32", 1);
const expected = expectedOf(scenario, template, 3);
const right = () => softmaxTopKReference(repeatRows(template, 3, 7), options);

describe("the check of a result", () => {
  it("passes the reference and compares every row that repeats an answered one", () => {
    expect(checkResult("cuda", "fused", expected, right())).toEqual({
      rows: 7,
      rowsWithOtherIndices: 0,
      maxRelativeError: 0,
      passed: true,
    });
  });

  it("fails one wrong index in the last row", () => {
    const wrong = right();
    wrong.indices[6 * 5 + 4]!++;
    expect(checkResult("cuda", "fused", expected, wrong)).toMatchObject({ rowsWithOtherIndices: 1, passed: false });
  });

  it("fails a probability beyond the bound of its backend", () => {
    const off = right();
    off.probs[0]! *= 1 + 5e-6;
    expect(checkResult("webgpu", "fused", expected, off).passed).toBe(true);
    expect(checkResult("cuda", "fused", expected, off).passed).toBe(false);
  });

  it("fails a logSumExp beyond the bound", () => {
    const off = right();
    off.logSumExp[6]! += 1e-4;
    expect(checkResult("webgpu", "fused", expected, off).passed).toBe(false);
    expect(checkResult("webgpu", "unfused", expected, off).passed).toBe(true);
  });

  it("fails NaN where a number belongs", () => {
    const off = right();
    off.probs[3] = Number.NaN;
    expect(checkResult("cpu", "unfused", expected, off)).toMatchObject({
      maxRelativeError: Number.MAX_VALUE, // which JSON holds
      passed: false,
    });
  });

  it("lets the unfused baseline swap near ties, but not miss a probability", () => {
    const swapped = right();
    swapped.indices.reverse();
    expect(checkResult("cpu", "unfused", expected, swapped).passed).toBe(true);
    swapped.probs[4]! *= 0.5;
    expect(checkResult("cpu", "unfused", expected, swapped).passed).toBe(false);
  });

  it.each([
    ["no row", { rows: 0, k: 5, length: 0 }],
    ["one row of seven", { rows: 1, k: 5, length: 5 }],
    ["k 1 of 5", { rows: 7, k: 1, length: 7 }],
    ["one row that calls itself seven", { rows: 7, k: 5, length: 5 }],
  ])("fails a result of another size: %s", (_, { rows, k, length }) => {
    const { probs, indices, logSumExp } = right();
    const short = { rows, k, probs: probs.slice(0, length), indices: indices.slice(0, length), logSumExp };
    expect(checkResult("cuda", "fused", expected, short)).toMatchObject({ rows: 0, passed: false });
  });

  it("takes fewer rows where fewer were asked for", () => {
    const { probs, indices } = right();
    const first = { probs: probs.slice(0, 15), indices: indices.slice(0, 15) };
    expect(checkResult("cuda", "fused", expected, first, 3)).toMatchObject({ rows: 3, passed: true });
    expect(checkResult("cuda", "fused", expected, first, 2)).toMatchObject({ rows: 0, passed: false });
  });

  it("lets a GPU flush a probability below 1e-30, and no CPU", () => {
    const logits = Float32Array.of(0, -69.3); // exp(-69.3) is 8e-31
    const small = { ...scenario, rows: 1, vocab: 2, k: 2 };
    const flushed = softmaxTopKReference(logits, { rows: 1, vocab: 2, k: 2 });
    flushed.probs[1] = 0;
    const passes = (["cuda", "webgpu", "wasm", "cpu"] as const).filter(
      (backend) => checkResult(backend, "fused", expectedOf(small, logits, 1), flushed).passed,
    );
    expect(passes).toEqual(["cuda", "webgpu"]);
  });

  it("says how many rows it compared where the reference answers only some", () => {
    const wide = { ...scenario, rows: 40, vocab: 300_000, k: 2 };
    const logits = generateLogits("equal", 12, 300_000, "f32", 1);
    const some = expectedOf(wide, logits, 12);
    expect(some.rows).toBe(8);
    const first = softmaxTopKReference(logits, { rows: 1, vocab: 300_000, k: 2 });
    const all = {
      rows: 40,
      k: 2,
      probs: repeatRows(first.probs, 1, 40) as Float32Array,
      indices: Uint32Array.from({ length: 80 }, (_, i) => first.indices[i % 2]!),
      logSumExp: new Float32Array(40).fill(first.logSumExp[0]!),
    };
    expect(checkResult("cuda", "fused", some, all)).toMatchObject({ rows: 28, passed: true });
  });
});
