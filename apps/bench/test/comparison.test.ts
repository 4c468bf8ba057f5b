import { describe, expect, it } from "vitest";
import { compareResults, comparisonTable, summarizeComparison } from "../src/comparison.js";
import type { MeasurementRecord } from "../src/schema.js";
import { measurement, resultFile } from "./fixtures.js";

/** A result of one fused call that took `median` with 1 % of noise, and of what else is given. */
function result(median: number, ...others: MeasurementRecord[]) {
  const fused = measurement({ median, p10: 0.99 * median, p90: 1.01 * median });
  return { name: `${median}.json`, file: { ...resultFile(), measurements: [fused, ...others] } };
}

const verdictOn = (before: number, after: number, threshold = 0.1) =>
  compareResults(result(before), result(after), threshold).changes.map(({ verdict }) => verdict);

describe("two result files", () => {
  it.each([
    [100, 120, "slower"],
    [100, 105, "same"],
    [100, 80, "faster"],
    [120, 100, "faster"],
    [100, 95, "same"],
  ] as const)("from %d to %d us, at a threshold of 10 %%: %s", (before, after, verdict) => {
    expect(verdictOn(before, after)).toEqual([verdict]);
  });

  it("do not differ by less than the noise of both", () => {
    const noisy = (median: number) => {
      const made = result(median);
      Object.assign(made.file.measurements[0]!, { p10: 0.7 * median, p90: 1.3 * median });
      return made;
    };
    const { changes } = compareResults(noisy(100), noisy(130), 0.1);
    expect(changes[0]!.noise).toBeCloseTo(Math.hypot(0.3, 0.3), 10);
    expect(changes[0]!.verdict).toBe("noise");
  });

  it("are compared by scenario, whatever the group", () => {
    const after = result(120);
    after.file.measurements[0]!.group = "bulk";
    expect(compareResults(result(100), after, 0.1).changes).toHaveLength(1);
  });

  it("show the change of the read floor, and leave the baselines out", () => {
    const floor = (median: number) => measurement({ variant: "read-floor", median });
    const slow = measurement({ variant: "unfused", median: 9999 });
    const { changes } = compareResults(result(100, floor(10)), result(120, floor(12), slow), 0.1);
    expect(changes).toHaveLength(1);
    expect(changes[0]!.floorChange).toBeCloseTo(0.2, 10);
  });

  it("name what only one of them has", () => {
    const other = measurement({ vocab: 5 });
    const comparison = compareResults(result(100, other), result(100, measurement({ vocab: 6 })), 0.1);
    expect(comparison.gone.map(({ vocab }) => vocab)).toEqual([5]);
    expect(comparison.added.map(({ vocab }) => vocab)).toEqual([6]);
    expect(summarizeComparison(comparison)).toBe(
      "1 compared: 0 slower, 0 faster, 0 within the noise, 1 the same, 0 wrong. " +
        "1 only in the first file. 1 only in the second file.",
    );
  });

  it("tell what is a fault now from what was only left out", () => {
    const other = measurement({ vocab: 1000 });
    const after = result(100);
    const { backend, variant, group, rows, k, dtype, data } = other;
    const skipped = { backend, variant, group, rows, vocab: 1000, k, dtype, data, reason: "It fell over." };
    after.file.skipped = [{ ...skipped, fault: true }];
    expect(compareResults(result(100, other), after, 0.1)).toMatchObject({ broken: after.file.skipped, gone: [] });
    after.file.skipped = [{ ...skipped, fault: false }];
    expect(compareResults(result(100, other), after, 0.1)).toMatchObject({ broken: [], gone: [other] });
  });

  it("fail on a wrong result, however fast", () => {
    const after = result(50);
    after.file.measurements[0]!.check!.passed = false;
    const comparison = compareResults(result(100), after, 0.1);
    expect(comparison.changes[0]!.verdict).toBe("wrong");
    expect(comparisonTable(comparison).rows[0]).toEqual([
      "64 x 128256, K 50, f32, random",
      "cuda",
      "fused",
      "100 us",
      "50 us",
      "-50.0 %",
      "+- 1.4 %",
      "",
      "WRONG RESULT",
    ]);
  });
});
