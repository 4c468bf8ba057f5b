/** The built cases need nothing of Node: they run in a page of a browser, and in Deno. */
import { expect, test } from "vitest";
import { runInBrowser, runInDeno } from "../src/runtimes.js";

/** Runs the quick set on the CPU backend and gives what a Report counts. */
const program = `
  const { runCases } = await import("@fused-topk/conformance/cases");
  const { createCpuBackend } = await import("@fused-topk/core");
  const { passed, failed, skipped } = await runCases(await createCpuBackend());
  return { passed, failed, skipped };`;

const allPassed = { passed: expect.toSatisfy((count: number) => count > 400), failed: 0, skipped: 0 };

test("in a page of a browser", async () => {
  expect(await runInBrowser(program)).toEqual(allPassed);
});

test("in Deno", async () => {
  expect(await runInDeno(program, import.meta.url)).toEqual(allPassed);
});
