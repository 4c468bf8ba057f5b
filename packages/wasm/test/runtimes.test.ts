/// <reference types="node" />
/** The built package where users run it: a page of a browser, and Deno. And how large it is. */
import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { casesProgram, runInBrowser, runInDeno } from "@fused-topk/conformance/runtimes";
import { expect, test } from "vitest";

const program = casesProgram("createWasmBackend", "@fused-topk/wasm");
const allPassed = { passed: expect.toSatisfy((count: number) => count > 400), failed: 0, skipped: 0 };

test("in a page of a browser", async () => {
  expect(await runInBrowser(program)).toEqual(allPassed);
});

test("in Deno", async () => {
  expect(await runInDeno(program, import.meta.url)).toEqual(allPassed);
});

test("at most 20 kB gzip, all in all", async () => {
  const text = await readFile(new URL("../dist/index.js", import.meta.url));
  expect(gzipSync(text).length).toBeLessThan(20_000);
});
