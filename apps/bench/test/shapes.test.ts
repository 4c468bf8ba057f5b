import { describe, expect, it } from "vitest";
import { type Plan, planScenarios } from "../src/shapes.js";

const input = { name: "mine.npy", rows: 8, vocab: 50257, dtype: "f16" } as const;
const plan = (asked: Partial<Plan>): Plan => ({ input, inputOnly: false, quick: false, ...asked });
const titles = (asked: Partial<Plan>, device: "gpu" | "cpu" = "gpu") =>
  planScenarios(plan(asked), device).map(({ rows, vocab, k, dtype, data }) => `${rows}x${vocab}:${k} ${dtype} ${data}`);

describe("a plan", () => {
  it("of nothing begins with the real logits and has every axis of growth", () => {
    const scenarios = planScenarios(plan({}), "gpu");
    expect(scenarios[0]).toEqual({
      group: "real logits",
      rows: 8,
      vocab: 50257,
      k: 50,
      dtype: "f16",
      data: "mine.npy",
    });
    expect(new Set(scenarios.map(({ group }) => group))).toEqual(
      new Set(["real logits", "synthetic", "scaling-vocab", "scaling-rows", "scaling-k"]),
    );
  });

  it("is lighter where the CPU does the work", () => {
    const logits = (device: "gpu" | "cpu") =>
      planScenarios(plan({}), device).reduce((sum, { rows, vocab }) => sum + rows * vocab, 0);
    expect(logits("cpu")).toBeLessThan(logits("gpu") / 10);
  });

  it("of shapes is what was typed, on every device", () => {
    expect(titles({ shapes: ["3x100", "2x40:7"] })).toEqual(["3x100:50 f32 random", "2x40:7 f32 random"]);
    expect(titles({ shapes: ["3x100", "2x40:7"] }, "cpu")).toEqual(titles({ shapes: ["3x100", "2x40:7"] }));
  });

  it("multiplies shapes, k, dtypes and data, and K stops at vocab", () => {
    expect(titles({ shapes: ["2x40"], k: [8, 99], dtypes: ["f32", "bf16"], data: ["two"] })).toEqual([
      "2x40:8 f32 two",
      "2x40:40 f32 two",
      "2x40:8 bf16 two",
      "2x40:40 bf16 two",
    ]);
  });

  it("of an input alone measures it as it is; with shapes its rows fill them", () => {
    expect(titles({ inputOnly: true })).toEqual(["8x50257:50 f16 mine.npy"]);
    expect(titles({ inputOnly: true, shapes: ["1024x50257:256"] })).toEqual(["1024x50257:256 f16 mine.npy"]);
    expect(() => titles({ inputOnly: true, shapes: ["64x128256"] })).toThrow("mine.npy has 50257");
  });

  it("takes names for several groups at once", () => {
    expect(titles({ shapes: ["scaling"] })).toEqual(titles({ shapes: ["scaling-vocab", "scaling-rows", "scaling-k"] }));
    expect(titles({ shapes: ["targets"] })).toContain("64x128256:4096 f32 random");
  });

  it("holds no scenario twice", () => {
    expect(titles({ shapes: ["decode", "1x128256", "1x128256:50"] })).toHaveLength(5);
  });
});
