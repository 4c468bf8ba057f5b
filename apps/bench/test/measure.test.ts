import { type Backend, createCpuBackend, FusedTopKError } from "@fused-topk/core";
import type { MeasureRequest, Meter } from "@fused-topk/core/measure";
import { describe, expect, it } from "vitest";
import { expectedOf } from "../src/check.js";
import { createCpuMeter } from "../src/cpu-meter.js";
import { generateLogits } from "../src/data.js";
import { type MeasuredDevice, measureScenario } from "../src/measure.js";
import type { ScenarioRecord } from "../src/schema.js";

const scenario: ScenarioRecord = { group: "custom", rows: 6, vocab: 500, k: 9, dtype: "f32", data: "random" };
const template = generateLogits("random", 6, 500, "f32", 1);
const input = { scenario, template, templateRows: 6, expected: expectedOf(scenario, template, 6) };
const effort = { budget: 20, repeats: 3 };

/** The CPU, with one of its parts replaced. */
async function device(replaced: { measure?: Meter["measure"]; softmaxTopK?: Backend["softmaxTopK"] } = {}) {
  const meter = await createCpuMeter(createCpuBackend);
  const backend = await createCpuBackend();
  return {
    backend: "cpu",
    name: "JavaScript",
    kind: "cpu",
    details: {},
    meter: { ...meter, variants: meter.variants, paths: meter.paths, measure: (r) => meter.measure(r), ...replaced },
    backendInstance: { ...backend, softmaxTopK: (x, o) => backend.softmaxTopK(x, o), ...replaced },
  } as MeasuredDevice;
}

const measure = async (on: MeasuredDevice, path?: string) => measureScenario(on, input, effort, () => {}, path);

describe("a scenario on a device", () => {
  it("gives every variant, checked, in ratio to floor and unfused", async () => {
    const { measurements, skipped } = await measure(await device());
    expect(skipped).toEqual([]);
    expect(measurements.map(({ variant }) => variant)).toEqual([
      "fused",
      "unfused",
      "three-pass",
      "read-floor",
      "end-to-end",
    ]);
    const [fused, unfused, , floor] = measurements;
    expect(fused!.check).toEqual({ rows: 6, rowsWithOtherIndices: 0, maxRelativeError: 0, passed: true });
    expect(fused!.floorRatio).toBeCloseTo(fused!.median / floor!.median, 1);
    expect(fused!.unfusedRatio! * fused!.median).toBeCloseTo(unfused!.median, -1);
    expect(fused!.samples).toHaveLength(3);
    expect(floor!.floorRatio).toBe(1);
  });

  it("sets a call on a host array in ratio to the copy from pinned memory", async () => {
    const inner = await createCpuMeter(createCpuBackend);
    const copying = await device({
      measure: async (request) =>
        request.variant === "pinned-copy"
          ? { microseconds: [2], launches: 0, bytesWritten: 12000, scratchBytes: 0, path: "one copy" }
          : inner.measure(request),
    });
    copying.meter = { ...copying.meter, variants: ["fused", "read-floor", "pinned-copy"] };
    const { measurements } = await measure(copying);
    const [fused, floor, copy, call] = measurements;
    expect(copy).not.toHaveProperty("floorRatio");
    expect(call!.floorRatio).toBeCloseTo(call!.median / 2, 0);
    expect(fused!.floorRatio).toBeCloseTo(fused!.median / floor!.median, 1);
  });

  it("marks a wrong result", async () => {
    const inner = await createCpuMeter(createCpuBackend);
    const wrong = async (request: MeasureRequest) => {
      const measurement = await inner.measure(request);
      if (measurement.result !== undefined) measurement.result.indices[0]! ^= 1;
      return measurement;
    };
    const { measurements } = await measure(await device({ measure: wrong }));
    expect(measurements[0]!.check).toMatchObject({ rowsWithOtherIndices: 1, passed: false });
  });

  it("skips what the device cannot do, and calls everything else a fault", async () => {
    const failing = (error: Error) => () => Promise.reject(error);
    const unable = new FusedTopKError("ERR_OUT_OF_MEMORY", "No room.");
    const lost = new FusedTopKError("ERR_DEVICE_LOST", "Gone.");
    const { skipped, measurements } = await measure(
      await device({ measure: failing(unable), softmaxTopK: failing(lost) }),
    );
    expect(measurements).toEqual([]);
    expect(skipped.map(({ reason, fault }) => [reason, fault])).toEqual([
      ...Array.from({ length: 4 }, () => ["No room.", false]),
      ["Gone.", true],
    ]);
  });

  it("forces a path of the fused kernel alone", async () => {
    const asked: [string, string | undefined][] = [];
    const inner = await createCpuMeter(createCpuBackend);
    const measured = (request: MeasureRequest) => {
      asked.push([request.variant, request.path]);
      return inner.measure(request);
    };
    await measure(await device({ measure: measured }), "one-pass");
    expect(new Set(asked.filter(([, path]) => path !== undefined).map(([variant]) => variant))).toEqual(
      new Set(["fused"]),
    );
  });

  it("rotates through more logits than a cache holds", async () => {
    const { measurements } = await measure(await device());
    expect(measurements[0]!.sets).toBe(1024);
  });
});
