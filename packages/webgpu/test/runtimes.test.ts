/// <reference types="node" />
/** The built package where users run it: a page of a browser, Deno, a Node process that ends by itself. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { launchChromium } from "@fused-topk/conformance/software-adapter";
import { expect, test } from "vitest";

const packages = new URL("../../", import.meta.url);
const cwd = fileURLToPath(new URL("../", import.meta.url));
const run = promisify(execFile);

/** What the paths of the cases share is tested in Node; here, what a compiler or a runtime may do differently. */
const program = (path: string) => `
  const { runCases } = await import("@fused-topk/conformance/cases");
  const { createWebGPUBackend } = await import("@fused-topk/webgpu");
  const telling = /order is exact|every k|every dtype|rows begin/;
  const backend = await createWebGPUBackend({ path: ${path} });
  const { passed, failed, groups } = await runCases(backend, { filter: ({ promise }) => telling.test(promise) });
  await backend.dispose();
  const report = { passed, failed, failures: groups.flatMap(({ firstFailure }) => firstFailure ?? []) };`;

const allPassed = { passed: expect.toSatisfy((count: number) => count > 300), failed: 0, failures: [] };

test.each(["{ subgroups: true }", "{ subgroups: false }"])(
  "in a page of a browser, %s",
  { timeout: 180_000 },
  async (path) => {
    const browser = await launchChromium();
    try {
      const page = await browser.newPage();
      const imports = {
        "@fused-topk/core": "/core/dist/index.js",
        "@fused-topk/webgpu": "/webgpu/dist/index.js",
        "@fused-topk/conformance/cases": "/conformance/dist/cases.js",
      };
      await page.route("http://localhost/**", async (route) => {
        const { pathname } = new URL(route.request().url());
        if (pathname === "/") {
          const body = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
          return route.fulfill({ contentType: "text/html", body });
        }
        return route.fulfill({
          contentType: "text/javascript",
          body: await readFile(new URL(`.${pathname}`, packages)),
        });
      });
      await page.goto("http://localhost/");
      expect(await page.evaluate(`(async () => { ${program(path)} return report; })()`)).toEqual(allPassed);
    } finally {
      await browser.close();
    }
  },
);

test("in Deno, whose WGSL compiler is another one", { timeout: 180_000 }, async () => {
  const deno = createRequire(import.meta.url)
    .resolve("deno/package.json")
    .replace("package.json", "bin.cjs");
  const source = `${program("{}")} console.log(JSON.stringify(report));`;
  const { stdout } = await run(process.execPath, [deno, "eval", source], { cwd });
  expect(JSON.parse(stdout)).toEqual(allPassed);
});

test("in a Node process, which ends when the backend is disposed", async () => {
  const source = `
    import { createWebGPUBackend } from "@fused-topk/webgpu";
    const backend = await createWebGPUBackend();
    const { indices } = await backend.softmaxTopK(Float32Array.of(1, 3, 2), { rows: 1, vocab: 3, k: 2 });
    await backend.dispose();
    console.log(JSON.stringify([...indices]));`;
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", source], { cwd, timeout: 30_000 });
  expect(JSON.parse(stdout)).toEqual([1, 2]);
});
