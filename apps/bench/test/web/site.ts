/** The built page behind a plain static server under a sub-path, and pages of a browser that watch for what goes wrong. */
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname } from "node:path";
import { launchChromium } from "@fused-topk/conformance/software-adapter";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";

const built = new URL("../../dist/web/", import.meta.url);
const SUB_PATH = "/some/where/";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".wasm": "application/wasm",
};

async function read(pathname: string): Promise<{ body: Buffer; contentType: string } | undefined> {
  if (!pathname.startsWith(SUB_PATH)) return undefined;
  const path = pathname.slice(SUB_PATH.length) || "index.html";
  const body = await readFile(new URL(path, built)).catch(() => undefined);
  return body && { body, contentType: types[extname(path)] ?? "application/octet-stream" };
}

/** A host without WebGPU: a browser keeps it from pages over plain HTTP of another machine. */
export const INSECURE = `http://insecure.test${SUB_PATH}`;

export interface Site {
  url: string;
  browser: Browser;
  /**
   * A page on a link of the site. `problems` gathers errors of the console and of scripts, failed requests, and requests
   * to any other host.
   */
  open(link: string, options?: OpenOptions): Promise<{ page: Page; problems: string[] }>;
  close(): Promise<void>;
}

export interface OpenOptions extends BrowserContextOptions {
  /** In place of the site's own address. */
  base?: string;
}

export async function openSite(): Promise<Site> {
  const server = createServer(async ({ url = "/" }, response) => {
    const file = await read(new URL(url, "http://localhost").pathname);
    if (file === undefined) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": file.contentType }).end(file.body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const site = `http://127.0.0.1:${(server.address() as AddressInfo).port}${SUB_PATH}`;
  const browser = await launchChromium();
  return {
    url: site,
    browser,
    async open(link, { base = site, ...options } = {}) {
      const context = await browser.newContext({ viewport: { width: 1100, height: 900 }, ...options });
      const problems: string[] = [];
      await context.route("http://insecure.test/**", async (route) => {
        const file = await read(new URL(route.request().url()).pathname);
        return file === undefined ? route.abort() : route.fulfill(file);
      });
      const page = await context.newPage();
      page.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
      });
      page.on("pageerror", (error) => problems.push(String(error)));
      page.on("requestfailed", (request) => problems.push(`${request.url()}: ${request.failure()?.errorText}`));
      page.on("request", (request) => {
        const url = request.url();
        if (!url.startsWith(base) && !/^(data|blob):/.test(url)) problems.push(`It asked another host for ${url}`);
      });
      await page.goto(`${base}${link}`);
      return { page, problems };
    },
    async close() {
      await browser.close();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
