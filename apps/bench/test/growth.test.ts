import { describe, expect, it } from "vitest";
import { curvesOver, fitExponent } from "../src/growth.js";
import { measurement, resultFile } from "./fixtures.js";

describe("growth", () => {
  it("is the exponent of the power law through the points", () => {
    expect(fitExponent([1, 2, 4, 8].map((x) => [x, 3 * x ** 1.5]))).toBeCloseTo(1.5, 12);
    expect(fitExponent([1, 2, 4, 8].map((x) => [x, 7]))).toBeCloseTo(0, 12);
  });

  it("has no exponent where nothing grows", () => {
    expect(fitExponent([[5, 1]])).toBeUndefined();
    expect(
      fitExponent([
        [5, 1],
        [5, 2],
      ]),
    ).toBeUndefined();
  });

  it("is a curve for each device and variant, in the order of the axis", () => {
    const measurements = [4096, 1024].flatMap((vocab) => [
      measurement({ group: "scaling-vocab", vocab, median: vocab }),
      measurement({ group: "scaling-vocab", vocab, variant: "read-floor", median: Math.sqrt(vocab) }),
      measurement({ group: "bulk", vocab, median: 1 }),
    ]);
    const curves = curvesOver("vocab", [{ name: "a.json", file: { ...resultFile(), measurements } }]);
    expect(curves.map(({ device, variant, points }) => [device, variant, points.map(({ x }) => x)])).toEqual([
      ["cuda, A GPU", "fused", [1024, 4096]],
      ["cuda, A GPU", "read-floor", [1024, 4096]],
    ]);
    expect(curves[0]!.exponent).toBeCloseTo(1, 12);
    expect(curves[1]!.exponent).toBeCloseTo(0.5, 12);
  });

  it("names a size beside the axis where devices differ in it", () => {
    const curve = (backend: "cuda" | "webgpu", rows: number) =>
      [1024, 4096].map((vocab) => measurement({ group: "scaling-vocab", backend, rows, vocab, median: vocab }));
    const measurements = [...curve("cuda", 64), ...curve("webgpu", 1)];
    const curves = curvesOver("vocab", [{ name: "a.json", file: { ...resultFile(), measurements } }]);
    expect(curves.map(({ device }) => device)).toEqual(["cuda, A GPU, rows 64", "webgpu (software), rows 1"]);
  });
});
