/// <reference types="node" />
/** Runs programs in the other runtimes: a page of a headless browser, and Deno. They import the built packages. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { launchChromium } from "./software-adapter.js";

const packages = new URL("../../", import.meta.url);

/** What a page finds at a path of its server, beside the packages of this repository. */
export interface PageOptions {
  /** Specifiers of modules, to paths. */
  imports?: Record<string, string>;
  /** Paths that end in a slash, to the folders they stand for. */
  folders?: Record<string, URL>;
}

/**
 * A program that runs the quick set on a backend and returns what a Report counts.
 *
 * @param create the name of the function that makes the backend.
 * @param module what exports it.
 */
export const casesProgram = (create: string, module: string): string => `
  const { runCases } = await import("@fused-topk/conformance/cases");
  const { ${create} } = await import("${module}");
  const { passed, failed, skipped } = await runCases(await ${create}());
  return { passed, failed, skipped };`;

/**
 * Runs a program in a page of a headless Chromium with WebGPU on the software adapter.
 *
 * @param program the body of an async function; what it returns travels back as JSON does.
 * @throws {Error} what the program throws.
 */
export async function runInBrowser(program: string, { imports, folders }: PageOptions = {}): Promise<unknown> {
  const importMap = {
    imports: {
      "@fused-topk/core": "/packages/core/dist/index.js",
      "@fused-topk/conformance/cases": "/packages/conformance/dist/cases.js",
      "@fused-topk/wasm": "/packages/wasm/dist/index.js",
      "@fused-topk/webgpu": "/packages/webgpu/dist/index.js",
      ...imports,
    },
  };
  const page = `<!doctype html><script type="importmap">${JSON.stringify(importMap)}</script>`;
  const server = createServer(serve(page, { "/packages/": packages, ...folders }));
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  const browser = await launchChromium();
  try {
    const tab = await browser.newPage();
    await tab.goto(`http://localhost:${(server.address() as AddressInfo).port}/`);
    return await tab.evaluate(`(async () => { ${program} })()`);
  } finally {
    await browser.close();
    server.close();
  }
}

function serve(page: string, folders: Record<string, URL>): Parameters<typeof createServer>[1] {
  return async ({ url }, response) => {
    const { pathname } = new URL(url!, "http://localhost");
    const folder = Object.keys(folders).find((path) => pathname.startsWith(path));
    try {
      const body = folder ? await readFile(new URL(pathname.slice(folder.length), folders[folder])) : page;
      const type = folder ? (contentTypes[extname(pathname)] ?? "application/octet-stream") : "text/html";
      response.writeHead(200, { "content-type": type }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  };
}

const contentTypes: Record<string, string> = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

/**
 * Runs a program in Deno.
 *
 * @param program as for `runInBrowser`.
 * @param from the URL of a module: the program imports what that module can.
 * @throws {Error} what the program throws.
 */
export async function runInDeno(program: string, from: string): Promise<unknown> {
  const deno = createRequire(import.meta.url)
    .resolve("deno/package.json")
    .replace("package.json", "bin.cjs");
  const source = `console.log(JSON.stringify(await (async () => { ${program} })()));`;
  const { stdout } = await promisify(execFile)(process.execPath, [deno, "eval", source], {
    cwd: fileURLToPath(new URL(".", from)),
  });
  return JSON.parse(stdout);
}
