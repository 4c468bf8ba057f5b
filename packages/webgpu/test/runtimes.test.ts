/// <reference types="node" />
/** The built package where users run it: a page of a browser, Deno, a Node process that ends by itself. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { runInBrowser, runInDeno } from "@fused-topk/conformance/runtimes";
import { expect, test } from "vitest";

/** What the paths of the cases share is tested in Node; here, what a compiler or a runtime may do differently. */
const program = (path: string, telling: RegExp) => `
  const { runCases } = await import("@fused-topk/conformance/cases");
  const { createWebGPUBackend } = await import("@fused-topk/webgpu");
  const backend = await createWebGPUBackend({ path: ${path} });
  const { passed, failed, groups } = await runCases(backend, { filter: ({ promise }) => ${telling}.test(promise) });
  await backend.dispose();
  return { passed, failed, failures: groups.flatMap(({ firstFailure }) => firstFailure ?? []) };`;

const allPassed = { passed: expect.toSatisfy((count: number) => count > 100), failed: 0, failures: [] };

test.each([
  ["{ subgroups: true }", /every distribution$|rows begin/],
  ["{ subgroups: false }", /every distribution$/],
])("in a page of a browser, %s", { timeout: 180_000 }, async (path, telling) => {
  expect(await runInBrowser(program(path, telling))).toEqual(allPassed);
});

test("in Deno, whose WGSL compiler is another one", { timeout: 180_000 }, async () => {
  expect(await runInDeno(program("{}", /every distribution$|every dtype/), import.meta.url)).toEqual(allPassed);
});

test("in a Node process, which ends when the backend is disposed", async () => {
  const source = `
    import { createWebGPUBackend } from "@fused-topk/webgpu";
    const backend = await createWebGPUBackend();
    const { indices } = await backend.softmaxTopK(Float32Array.of(1, 3, 2), { rows: 1, vocab: 3, k: 2 });
    await backend.dispose();
    console.log(JSON.stringify([...indices]));`;
  const cwd = fileURLToPath(new URL("../", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", source], {
    cwd,
    timeout: 30_000,
  });
  expect(JSON.parse(stdout)).toEqual([1, 2]);
});
