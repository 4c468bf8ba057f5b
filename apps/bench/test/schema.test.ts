import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { formatResultFile, parseResultFile } from "../src/schema.js";
import { peer, resultFile } from "./fixtures.js";

/** A copy of the fixture with one field replaced, as JSON brings it back. */
function withField(path: string, value: unknown): unknown {
  const file = JSON.parse(JSON.stringify({ ...resultFile(), peers: [peer({})] }));
  const keys = path.split(".");
  const last = keys.pop()!;
  const parent = keys.reduce((at, key) => at[key], file);
  parent[last] = value;
  return JSON.parse(JSON.stringify(file));
}

describe("a result file", () => {
  it("is read back as it was written", () => {
    const text = formatResultFile(resultFile());
    expect(parseResultFile(JSON.parse(text))).toEqual(resultFile());
    expect(text).toContain('"samples": [10, 11, 12],');
  });

  it.each([
    ["schema", 99, "Expected schema 1 in mine.json but received 99. A later version of fused-topk wrote it"],
    ["schema", 0, "Expected schema 1 in mine.json but received 0. Pass what --json wrote."],
    ["schema", undefined, "but received undefined."],
    ["date", 5, "Expected a string for mine.json.date but received 5."],
    ["host.cores", -1, "Expected a count for mine.json.host.cores but received -1."],
    ["host", null, "Expected an object for mine.json.host but received null."],
    [
      "devices.0.kind",
      "tpu",
      'Expected "gpu" or "software" or "cpu" for mine.json.devices[0].kind but received "tpu".',
    ],
    ["devices.0.details", { driver: 5 }, "mine.json.devices[0].details.driver but received 5."],
    ["measurements", {}, "Expected an array for mine.json.measurements but received {}."],
    [
      "measurements.1.median",
      "fast",
      'Expected a number >= 0 for mine.json.measurements[1].median but received "fast".',
    ],
    ["measurements.0.samples.2", null, "mine.json.measurements[0].samples[2] but received null."],
    ["measurements.0.check.passed", 1, "Expected true or false for mine.json.measurements[0].check.passed"],
    ["measurements.0.dtype", "f64", 'mine.json.measurements[0].dtype but received "f64".'],
    ["measurements.0.path", undefined, "mine.json.measurements[0].path but received undefined."],
    [
      "measurements.0.samples",
      [],
      "Expected at least one sample for mine.json.measurements[0].samples but received [].",
    ],
    [
      "measurements.0.p10",
      12,
      "Expected p10 <= median <= p90 for mine.json.measurements[0] but received [12,11,11.8].",
    ],
    ["measurements.0.k", 128257, "Expected k <= vocab for mine.json.measurements[0] but received [128257,128256]."],
    ["measurements.0.rows", 0, "Expected a count >= 1 for mine.json.measurements[0].rows but received 0."],
    ["skipped.0.vocab", 0, "Expected a count >= 1 for mine.json.skipped[0].vocab but received 0."],
    ["measurements.0.check.rowsWithOtherIndices", 65, "Expected rowsWithOtherIndices <= rows for"],
    ["peers.0.median", 0, "Expected a number > 0 for mine.json.peers[0].median but received 0."],
    ["peers.0.p90", 10, "Expected p10 <= median <= p90 for mine.json.peers[0] but received [10.2,11,10]."],
    ["verifications.0.set", "some", 'mine.json.verifications[0].set but received "some".'],
    ["verifications.0.groups.0.failed", 0.5, "mine.json.verifications[0].groups[0].failed but received 0.5."],
    ["skipped.0.reason", undefined, "mine.json.skipped[0].reason but received undefined."],
  ])("with a wrong %s is refused by the name of the field", (path, value, message) => {
    expect(() => parseResultFile(withField(path, value), "mine.json")).toThrow(message);
  });

  it.each([null, 5, "x", []])("is not %j", (value) => {
    expect(() => parseResultFile(value)).toThrow("Expected schema 1");
  });
});

it("every file in results/ is one", () => {
  const results = new URL("../results/", import.meta.url);
  for (const name of readdirSync(results).filter((name) => name.endsWith(".json"))) {
    expect(() => parseResultFile(JSON.parse(readFileSync(new URL(name, results), "utf8")), name)).not.toThrow();
  }
});
