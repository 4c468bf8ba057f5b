/** The built cases need nothing of Node: they run in a page of a browser, and in Deno. */
import { expect, test } from "vitest";
import { casesProgram, runInBrowser, runInDeno } from "../src/runtimes.js";

const program = casesProgram("createCpuBackend", "@fused-topk/core");
const allPassed = { passed: expect.toSatisfy((count: number) => count > 400), failed: 0, skipped: 0 };

test("in a page of a browser", async () => {
  expect(await runInBrowser(program)).toEqual(allPassed);
});

test("in Deno", async () => {
  expect(await runInDeno(program, import.meta.url)).toEqual(allPassed);
});
