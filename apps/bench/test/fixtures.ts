/** A small result file of two devices. */
import type { MeasurementRecord, PeerRecord, ResultFile } from "../src/schema.js";

const scenario = { group: "custom", rows: 64, vocab: 128256, k: 50, dtype: "f32", data: "random" } as const;
const check = { rows: 64, rowsWithOtherIndices: 0, maxRelativeError: 3e-7, passed: true };

/** Timings around a median, 11 of them 7 % to either side. */
function timesAround(median: number) {
  return { samples: [median - 1, median, median + 1], median, p10: median - 0.8, p90: median + 0.8 };
}

export function measurement(fields: Partial<MeasurementRecord>): MeasurementRecord {
  return {
    ...scenario,
    backend: "cuda",
    deviceKind: "gpu",
    variant: "fused",
    path: "stream",
    sets: 8,
    ...timesAround(fields.median ?? 11),
    gigabytesPerSecond: 2985,
    floorRatio: 1.1,
    unfusedRatio: 9.09,
    launches: 1,
    bytesWritten: 25856,
    scratchBytes: 0,
    check: { ...check },
    ...fields,
  };
}

export function peer(fields: Partial<PeerRecord>): PeerRecord {
  return {
    ...scenario,
    peer: "fused-topk cuda",
    version: "1",
    memory: "device",
    ...timesAround(fields.median ?? 11),
    firstRatio: 1,
    check: { ...check },
    ...fields,
  };
}

export function resultFile(): ResultFile {
  return {
    schema: 1,
    date: "2026-11-22T08:00:00.000Z",
    version: "0.1.0",
    command: ["run"],
    seed: 1,
    host: { os: "Linux", cpu: "A CPU", cores: 2, memoryBytes: 8e9, runtime: "node 24.0.0" },
    devices: [
      { backend: "cuda", name: "A GPU", kind: "gpu", details: { driver: "580" } },
      { backend: "webgpu", name: "software adapter (swiftshader)", kind: "software", details: {} },
    ],
    rejected: [{ backend: "wasm", code: "ERR_BACKEND_UNAVAILABLE", message: "Not here." }],
    measurements: [
      measurement({}),
      measurement({ variant: "unfused", median: 100, floorRatio: 10, unfusedRatio: 1 }),
      measurement({ variant: "read-floor", median: 10, floorRatio: 1 }),
      measurement({ data: "ascending", median: 22 }),
      measurement({ backend: "webgpu", deviceKind: "software", median: 5000 }),
      measurement({ group: "scaling-vocab", vocab: 1024 }),
    ],
    skipped: [
      {
        group: "custom",
        rows: 1,
        vocab: 10,
        k: 5,
        dtype: "f32",
        data: "random",
        backend: "webgpu",
        variant: "fused",
        reason: "Out of memory.",
        fault: false,
      },
    ],
    verifications: [
      {
        backend: "cuda",
        configuration: "cuda",
        set: "quick",
        outside: 0,
        passed: 1,
        failed: 1,
        skipped: 0,
        groups: [
          {
            promise: "the order is exact",
            passed: 1,
            failed: 1,
            skipped: 0,
            probabilityError: 1e-7,
            logSumExpError: 2e-7,
            firstFailure: "row 0",
          },
        ],
      },
    ],
  };
}
