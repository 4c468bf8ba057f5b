/// <reference types="node" />
/** The built package where users run it: a page of a browser, and Deno. And how large it is. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { launchChromium } from "@fused-topk/conformance/software-adapter";
import { expect, test } from "vitest";

const packages = new URL("../../", import.meta.url);

const program = `
  const { runCases } = await import("@fused-topk/conformance/cases");
  const { createWasmBackend } = await import("@fused-topk/wasm");
  const { passed, failed, skipped } = await runCases(await createWasmBackend());
  const counts = { passed, failed, skipped };`;

const allPassed = { passed: expect.toSatisfy((count: number) => count > 400), failed: 0, skipped: 0 };

test("in a page of a browser", async () => {
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    const imports = {
      "@fused-topk/core": "/core/dist/index.js",
      "@fused-topk/wasm": "/wasm/dist/index.js",
      "@fused-topk/conformance/cases": "/conformance/dist/cases.js",
    };
    await page.route("http://localhost/**", async (route) => {
      const path = new URL(route.request().url()).pathname;
      if (path === "/") {
        const body = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
        return route.fulfill({ contentType: "text/html", body });
      }
      return route.fulfill({ contentType: "text/javascript", body: await readFile(new URL(`.${path}`, packages)) });
    });
    await page.goto("http://localhost/");
    expect(await page.evaluate(`(async () => { ${program} return counts; })()`)).toEqual(allPassed);
  } finally {
    await browser.close();
  }
});

test("in Deno", async () => {
  const deno = createRequire(import.meta.url)
    .resolve("deno/package.json")
    .replace("package.json", "bin.cjs");
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [deno, "eval", `${program} console.log(JSON.stringify(counts));`],
    { cwd: fileURLToPath(new URL("../", import.meta.url)) },
  );
  expect(JSON.parse(stdout)).toEqual(allPassed);
});

test("at most 20 kB gzip, all in all", async () => {
  const text = await readFile(new URL("wasm/dist/index.js", packages));
  expect(gzipSync(text).length).toBeLessThan(20_000);
});
