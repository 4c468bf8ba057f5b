import { describe, expect, it } from "vitest";
import { hostileTable, peerSummaryTable, sourceLines, summaryTable } from "../src/document-tables.js";
import { drawMarkedTables } from "../src/marked-tables.js";
import {
  drawChecks,
  drawMeasurements,
  isFusedChecked,
  peersTable,
  scalingTable,
  scenarioTable,
} from "../src/result-tables.js";
import { drawMarkdown, drawText, figures, words } from "../src/table.js";
import { measurement, peer, resultFile } from "./fixtures.js";

const { measurements } = resultFile();

describe("marked tables", () => {
  const document = [
    "# Title",
    "<!-- table:a -->",
    "<!-- /table -->",
    "",
    "<!-- table:b -->",
    "old",
    "<!-- /table -->",
    "end",
  ].join("\n");
  const draw = (name: string) => `| ${name} |\n| --- |`;

  it("are drawn between their marks, and nothing else changes", () => {
    expect(drawMarkedTables(document, draw).split("\n")).toEqual([
      "# Title",
      "<!-- table:a -->",
      "| a |",
      "| --- |",
      "<!-- /table -->",
      "",
      "<!-- table:b -->",
      "| b |",
      "| --- |",
      "<!-- /table -->",
      "end",
    ]);
  });

  it("drawn twice change nothing", () => {
    const once = drawMarkedTables(document, draw);
    expect(drawMarkedTables(once, draw)).toBe(once);
  });

  it("must be closed", () => {
    expect(() => drawMarkedTables("<!-- table:a -->\ntext", draw)).toThrow("after each of 1 marks but found 0");
    expect(() => drawMarkedTables("<!-- table:a -->\n<!-- table:b -->\n<!-- /table -->", draw)).toThrow("of 2 marks");
  });
});

describe("tables", () => {
  it("align figures right and words left", () => {
    const table = {
      columns: [words("name"), figures("time")],
      rows: [
        ["a", "10 us"],
        ["longer", "1 us"],
      ],
    };
    expect(drawText(table).split("\n")).toEqual(["  name     time", "  a       10 us", "  longer   1 us"]);
    expect(drawMarkdown(table).split("\n")).toEqual([
      "| name | time |",
      "| --- | ---: |",
      "| a | 10 us |",
      "| longer | 1 us |",
    ]);
  });

  it("of a scenario has a line for each variant", () => {
    const text = drawText(scenarioTable(measurements.slice(0, 3)));
    expect(text).toMatch(/cuda +fused +11 us +7 % +1\.10 +9\.09 +2985 +25\.9 kB +1 +64\/64 exact/);
    expect(text).toMatch(/cuda +read-floor +10 us/);
  });

  it("never let a software adapter pass for a GPU", () => {
    const software = measurements.filter(({ deviceKind }) => deviceKind === "software");
    expect(drawText(scenarioTable(software))).toContain("webgpu (software)");
    expect(drawText(summaryTable(software))).toContain("webgpu (software)");
    expect(
      sourceLines([{ file: resultFile(), link: "results/a.json" }], (backend) => backend === "webgpu").join(),
    ).toContain("its times say nothing about a GPU");
  });

  it("of peers say how many times slower each is than the first", () => {
    const records = [
      peer({ peer: "ours", median: 10 }),
      peer({ peer: "theirs", median: 125, samples: [125], firstRatio: 10 / 125 }),
    ];
    expect(peerSummaryTable(records).rows).toEqual([["64 x 128256", "50", "f32", "**10 us**", "125 us, x 12.5"]]);
    expect(drawText(peersTable(records))).toMatch(/theirs +1 +on the GPU, cold +125 us +one call +12\.5 +64\/64 exact/);
  });

  it("of the summary set the fused kernel between the floor and what it replaces", () => {
    expect(summaryTable(measurements).rows[0]).toEqual([
      "64 x 128256",
      "50",
      "f32",
      "random",
      "cuda",
      "10 us",
      "**11 us**",
      "1.10",
      "",
      "100 us",
      "9.09",
    ]);
  });

  it("of hostile data are ratios to random data of the same shape", () => {
    expect(hostileTable(measurements).rows).toContainEqual(["64 x 128256, K 50, f32", "cuda", "11 us", "2.00"]);
  });

  it("of growth have the floor and the unfused pair of the same shape", () => {
    const series = [1024, 4096].flatMap((vocab) => [
      measurement({ group: "scaling-vocab", vocab, median: vocab }),
      measurement({ group: "scaling-vocab", vocab, variant: "read-floor", median: vocab / 2 }),
    ]);
    const { rows } = scalingTable(series, "vocab");
    expect(rows.map((row) => [row[1], row[3], row[4], row[5]])).toEqual([
      ["1,024", "1.02 ms", "512 us", ""],
      ["4,096", "4.10 ms", "2.05 ms", ""],
    ]);
  });

  it("of a run have a block a scenario and one an axis", () => {
    const titles = drawMeasurements(measurements)
      .split("\n")
      .filter((line) => /^\w/.test(line));
    expect(titles).toEqual([
      "custom: 64 x 128256, K 50, f32, random",
      "custom: 64 x 128256, K 50, f32, ascending",
      "growth over vocab",
    ]);
  });

  it("show a wrong result where nobody misses it", () => {
    const check = { rows: 64, rowsWithOtherIndices: 3, maxRelativeError: 0, passed: false };
    const wrong = measurement({ check });
    expect(drawText(scenarioTable([wrong]))).toContain("WRONG: 61/64 exact");
    expect(drawChecks([wrong])).toContain("WRONG: cuda fused (stream) on 64 x 128256, K 50, f32, random: 3 of 64 rows");
    expect(drawChecks([measurement({})])).toContain("every index exact");
    const empty = measurement({ check: { ...check, rows: 0, rowsWithOtherIndices: 0 } });
    expect(drawChecks([empty])).toContain(
      "WRONG: cuda fused (stream) on 64 x 128256, K 50, f32, random: the result has",
    );
  });

  it("say where nothing was compared", () => {
    const { check, ...unchecked } = measurement({});
    const floor = { ...unchecked, variant: "read-floor" as const };
    expect(drawChecks([])).toBe("Nothing was compared with the float64 reference.");
    expect(drawChecks([unchecked, floor])).toBe(
      "Nothing was compared with the float64 reference.\n" +
        "Not compared: cuda fused (stream) on 64 x 128256, K 50, f32, random.",
    );
    expect([[], [unchecked], [floor], [{ ...unchecked, check: check! }]].map(isFusedChecked)).toEqual([
      ...[false, false, false],
      true,
    ]);
  });
});
