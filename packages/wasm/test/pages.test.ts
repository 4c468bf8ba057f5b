/// <reference types="node" />
/** The built package in pages of a browser, bundled without any loader option: isolated, not isolated, and from a file. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { launchChromium } from "@fused-topk/conformance/software-adapter";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

type Browser = Awaited<ReturnType<typeof launchChromium>>;

/**
 * Several rows: until a worker has had tiles of them, where there are workers. An `is_free` that holds for a thread that sleeps,
 * too, leaves nothing to the scheduler.
 */
const program = `
  import { softmaxTopKReference } from "@fused-topk/core";
  import { createWasmBackend } from "@fused-topk/wasm";
  const { Instance } = WebAssembly;
  let tiles = 0;
  WebAssembly.Instance = function (...given) {
    const { exports } = new Instance(...given);
    const is_free = (thread) => exports.is_free(thread) || exports.is_done(thread);
    const hand = (...tile) => {
      tiles++;
      exports.hand(...tile);
    };
    return { exports: { ...exports, is_free, hand } };
  };
  globalThis.answer = (async () => {
    const backend = await createWasmBackend({ threads: 3 });
    const size = { rows: 32, vocab: 10007, k: 3 };
    const logits = new Float32Array(size.rows * size.vocab).map((_, i) => Math.sin(i * i));
    const expected = softmaxTopKReference(logits, size).indices;
    let right = true;
    do {
      const { indices } = await backend.softmaxTopK(logits, size);
      right &&= indices.every((index, i) => index === expected[i]);
      await new Promise((resolve) => setTimeout(resolve, 10));
    } while (right && tiles === 0 && /threads$/.test(backend.device));
    await backend.dispose();
    return { device: backend.device, right, onThreads: tiles > 0 };
  })();`;

let browser: Browser;
let script: string;
beforeAll(async () => {
  const resolveDir = fileURLToPath(new URL("../", import.meta.url));
  const bundle = await build({
    stdin: { contents: program, resolveDir },
    bundle: true,
    write: false,
    format: "iife",
    platform: "browser",
  });
  script = bundle.outputFiles[0]!.text;
  browser = await launchChromium();
});
afterAll(() => browser?.close());

async function answerOf(address: string, headers?: Record<string, string>): Promise<unknown> {
  const page = await browser.newPage();
  if (headers !== undefined) {
    await page.route("http://localhost/**", (route) =>
      route.request().url().endsWith(".js")
        ? route.fulfill({ contentType: "text/javascript", headers, body: script })
        : route.fulfill({ contentType: "text/html", headers, body: '<script src="/bundle.js"></script>' }),
    );
  }
  await page.goto(address);
  return page.evaluate("answer");
}

describe("in a browser, bundled", () => {
  test("a cross-origin isolated page has threads", async () => {
    const headers = {
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
    };
    expect(await answerOf("http://localhost/", headers)).toEqual({
      device: expect.stringMatching(/^WebAssembly (relaxed )?SIMD, 3 threads$/),
      right: true,
      onThreads: true,
    });
  });

  test("a page that is not isolated says so, and computes on one", async () => {
    expect(await answerOf("http://localhost/", {})).toEqual({
      device: expect.stringMatching(/SIMD, one thread: the page is not cross-origin isolated$/),
      right: true,
      onThreads: false,
    });
  });

  test("a page that is opened as a file", async () => {
    const folder = await mkdtemp(join(tmpdir(), "fused-topk-"));
    try {
      await writeFile(join(folder, "bundle.js"), script);
      await writeFile(join(folder, "index.html"), '<script src="bundle.js"></script>');
      expect(await answerOf(pathToFileURL(join(folder, "index.html")).href)).toMatchObject({ right: true });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
