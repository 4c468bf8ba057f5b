/// <reference types="node" />
/** The software adapter: Dawn in Node and a page of a real browser both find SwiftShader. */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { launchChromium } from "../src/software-adapter.js";

const built = new URL("../dist/software-adapter.js", import.meta.url);

test("Dawn finds SwiftShader in a fork of vitest", async () => {
  const { create } = await import("webgpu");
  const adapter = await create([]).requestAdapter();
  expect(adapter?.info.description ?? "no adapter").toMatch(/SwiftShader/i);
});

test("a page of headless Chromium finds SwiftShader", async () => {
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    await page.route("http://localhost/", (route) => route.fulfill({ contentType: "text/html", body: "<p>page</p>" }));
    await page.goto("http://localhost/");
    const found = await page.evaluate("navigator.gpu.requestAdapter().then((a) => a.info.architecture)");
    expect(found).toBe("swiftshader");
  } finally {
    await browser.close();
  }
});

test("ensureSoftwareAdapter runs the command again with the adapter, its arguments and its exit code", () => {
  const script = `
    const { ensureSoftwareAdapter } = await import(${JSON.stringify(built.href)});
    await ensureSoftwareAdapter();
    console.log(process.env.VK_DRIVER_FILES, ...process.argv.slice(1));
    process.exit(process.argv[1] === "7" ? 7 : 0);`;
  const { LD_LIBRARY_PATH, VK_DRIVER_FILES, ...bare } = process.env;
  const run = (argument: string) =>
    execFileSync(process.execPath, ["--input-type=module", "--eval", script, argument], {
      encoding: "utf8",
      env: bare,
      cwd: fileURLToPath(new URL("..", import.meta.url)),
    });
  expect(run("5")).toMatch(/vk_swiftshader_icd\.json 5\n$/);
  expect(() => run("7")).toThrow(expect.objectContaining({ status: 7 }));
});
