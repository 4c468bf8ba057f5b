/** The conformance suite with subgroups, without, and on the path a GPU takes. */
import { describeBackend } from "@fused-topk/conformance";
import { runCases } from "@fused-topk/conformance/cases";
import { describe, expect, test } from "vitest";
import { createWebGPUBackend } from "../src/index.js";
import type { PathOptions } from "../src/plan.js";

describeBackend(() => createWebGPUBackend({ path: { subgroups: true } }), { variant: "subgroups" });

const full = process.env.FUSED_TOPK_FULL === "1";
/** The other paths, with the families of the quick run that tell most about what they do differently. */
const paths: { name: string; path: PathOptions; telling: RegExp }[] = [
  {
    name: "no subgroups, a workgroup a row",
    path: { subgroups: false, gating: false },
    telling: /rows begin|number of rows/,
  },
  {
    name: "candidates in workgroup memory, a GPU's workgroups",
    path: { candidates: "workgroup", workgroupSize: 256 },
    telling: /more tiles/,
  },
  {
    name: "candidates in workgroup memory, no subgroups, many parts",
    path: { candidates: "workgroup", workgroupSize: 64, subgroups: false, parts: 7 },
    telling: /more tiles/,
  },
];

describe.each(paths)("the cases, $name", ({ path, telling }) => {
  test("all pass", { timeout: full ? 3_600_000 : 180_000 }, async () => {
    await using backend = await createWebGPUBackend({ path });
    const set = full ? "full" : "quick";
    const report = await runCases(backend, { set, filter: ({ promise }) => full || telling.test(promise) });
    expect(report.groups.flatMap(({ firstFailure }) => firstFailure ?? [])).toEqual([]);
    expect(report.passed).toBeGreaterThan(30);
  });
});
