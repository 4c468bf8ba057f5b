/** The conformance suite with subgroups, without, and on the path a GPU takes. */
import { describeBackend } from "@fused-topk/conformance";
import { runCases } from "@fused-topk/conformance/cases";
import { describe, expect, test } from "vitest";
import { createWebGPUBackend } from "../src/index.js";
import type { PathOptions } from "../src/plan.js";

describeBackend(() => createWebGPUBackend({ path: { subgroups: true } }), { variant: "subgroups" });

const full = process.env.FUSED_TOPK_FULL === "1";
const paths: Record<string, PathOptions> = {
  "no subgroups": { subgroups: false },
  "candidates in workgroup memory, a GPU's workgroups": { candidates: "workgroup", workgroupSize: 256 },
  "candidates in workgroup memory, no subgroups, many parts": {
    candidates: "workgroup",
    workgroupSize: 64,
    subgroups: false,
    parts: 7,
  },
};
/** What differs between paths: order, parts, tiles, K; the quick run leaves the rest to the suite above. */
const telling = /distribution$|16-bit|more tiles|every k|every dtype|rows begin/;

describe.each(Object.entries(paths))("the cases, %s", (_, path) => {
  test("all pass", { timeout: full ? 3_600_000 : 180_000 }, async () => {
    await using backend = await createWebGPUBackend({ path });
    const set = full ? "full" : "quick";
    const report = await runCases(backend, { set, filter: ({ promise }) => full || telling.test(promise) });
    expect(report.groups.flatMap(({ firstFailure }) => firstFailure ?? [])).toEqual([]);
    expect(report.passed).toBeGreaterThan(100);
  });
});
