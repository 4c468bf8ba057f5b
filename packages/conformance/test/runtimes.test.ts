/// <reference types="node" />
/** The built cases need nothing of Node: they run in a page of a browser, and in Deno. */
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { launchChromium } from "../src/software-adapter.js";

const packages = new URL("../../", import.meta.url);

/** Runs the quick set on the CPU backend and gives what a Report counts. */
const program = `
  const { runCases } = await import("@fused-topk/conformance/cases");
  const { createCpuBackend } = await import("@fused-topk/core");
  const { passed, failed, skipped } = await runCases(await createCpuBackend());
  const counts = { passed, failed, skipped };`;

const allPassed = { passed: expect.toSatisfy((count: number) => count > 400), failed: 0, skipped: 0 };

test("in a page of a browser", async () => {
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    const imports = {
      "@fused-topk/core": "/core/dist/index.js",
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

test("in Deno", () => {
  const deno = createRequire(import.meta.url)
    .resolve("deno/package.json")
    .replace("package.json", "bin.cjs");
  const output = execFileSync(process.execPath, [deno, "eval", `${program} console.log(JSON.stringify(counts));`], {
    encoding: "utf8",
    cwd: fileURLToPath(new URL("../", import.meta.url)),
  });
  expect(JSON.parse(output)).toEqual(allPassed);
});
