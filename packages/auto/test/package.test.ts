/// <reference types="node" />
/** The built package, as a user's process imports it. */
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const packageRoot = new URL("..", import.meta.url);

/** Runs a module in a Node process of its own and returns what it prints as JSON. */
async function runModule(source: string, flags: string[] = [], env: Record<string, string> = {}): Promise<unknown> {
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, "--input-type=module", "-e", source], {
    cwd: packageRoot,
    env: { ...process.env, FUSED_TOPK_BACKEND: "", ...env },
  });
  return JSON.parse(stdout);
}

const compute = `
  const logits = Float32Array.of(1, 3, 2);
  const { indices } = await backend.softmaxTopK(logits, { rows: 1, vocab: 3, k: 2 });
  await backend.dispose();`;

describe("fused-topk", () => {
  it("loads no backend and no native library on import", async () => {
    const seen = await runModule(`
      import { registerHooks } from "node:module";
      const urls = [];
      registerHooks({ load: (url, context, next) => (urls.push(url), next(url, context)) });
      await import("fused-topk");
      const libraries = process.report.getReport().sharedObjects;
      console.log(JSON.stringify({ urls, libraries }));`);
    const { urls, libraries } = seen as { urls: string[]; libraries: string[] };
    expect(urls.some((url) => url.includes("/packages/auto/dist/"))).toBe(true);
    expect(urls.filter((url) => /packages\/(cuda|wasm|webgpu)|node_modules\/webgpu/.test(url))).toEqual([]);
    expect(libraries.filter((path) => /\.node$|cuda|vulkan|swiftshader/i.test(path))).toEqual([]);
  });

  it("finds the first backend of this machine, which has an adapter at least, and computes with it", async () => {
    const result = await runModule(`
      import { selectBackend } from "fused-topk";
      const { backend, rejected } = await selectBackend();
      ${compute}
      console.log(JSON.stringify({ name: backend.name, indices: [...indices], rejected }));
      process.exit();`);
    const { name, indices, rejected } = result as { name: string; indices: number[]; rejected: { backend: string }[] };
    expect(indices).toEqual([1, 2]);
    expect(["cuda", "webgpu"]).toContain(name);
    expect(rejected.map(({ backend }) => backend)).toEqual(name === "cuda" ? [] : ["cuda"]);
  });

  it("falls to WebAssembly where no driver is, with a reason for each backend before it", async () => {
    const result = await runModule(
      `
      import { selectBackend } from "fused-topk";
      const { backend, rejected } = await selectBackend();
      ${compute}
      console.log(JSON.stringify({ name: backend.name, indices: [...indices], rejected }));
      process.exit();`,
      [],
      { LD_LIBRARY_PATH: "", VK_DRIVER_FILES: "/nowhere", CUDA_VISIBLE_DEVICES: "-1" },
    );
    const { name, indices, rejected } = result as { name: string; indices: number[]; rejected: { code: string }[] };
    expect({ name, indices }).toEqual({ name: "wasm", indices: [1, 2] });
    expect(rejected).toMatchObject([
      { backend: "cuda", code: "ERR_BACKEND_UNAVAILABLE", fix: expect.any(String) },
      { backend: "webgpu", code: "ERR_BACKEND_UNAVAILABLE", fix: expect.any(String) },
    ]);
  });

  it("falls to the cpu where the engine has no WebAssembly SIMD, with the reason", async () => {
    const result = await runModule(`
      import { selectBackend } from "fused-topk";
      WebAssembly.compile = () => Promise.reject(new WebAssembly.CompileError("Wasm SIMD unsupported"));
      const { backend, rejected } = await selectBackend({ order: ["wasm", "cpu"] });
      console.log(JSON.stringify({ name: backend.name, rejected }));`);
    expect(result).toMatchObject({
      name: "cpu",
      rejected: [{ backend: "wasm", code: "ERR_BACKEND_UNAVAILABLE", fix: expect.any(String) }],
    });
  });

  it("times the backends on a shape, and takes the fastest", async () => {
    const result = await runModule(`
      import { selectBackend } from "fused-topk";
      const shape = { rows: 1, vocab: 128256, k: 50 };
      const { backend, timings } = await selectBackend({ for: shape, order: ["cpu", "wasm"] });
      console.log(JSON.stringify({ name: backend.name, timings }));`);
    const { name, timings } = result as { name: string; timings: { backend: string; microseconds: number }[] };
    expect(timings.map(({ backend }) => backend)).toEqual(["cpu", "wasm"]);
    expect(name).toBe(timings[1]!.microseconds < timings[0]!.microseconds ? "wasm" : "cpu");
  });

  it("obeys FUSED_TOPK_BACKEND", async () => {
    const source = `
      import { createBackend } from "fused-topk";
      const backend = await createBackend();
      console.log(JSON.stringify(backend.name));`;
    expect(await runModule(source, [], { FUSED_TOPK_BACKEND: "cpu" })).toBe("cpu");
    expect(await runModule(source, [], { FUSED_TOPK_BACKEND: "wasm" })).toBe("wasm");
    const missing = { FUSED_TOPK_BACKEND: "cuda", LD_LIBRARY_PATH: "", CUDA_VISIBLE_DEVICES: "-1" };
    await expect(runModule(source, [], missing)).rejects.toThrow(
      "FUSED_TOPK_BACKEND forces a backend that cannot run here",
    );
  });
});

describe("fused-topk in a browser", () => {
  it("selects and computes under the browser condition, and says why cuda is out", async () => {
    const result = await runModule(
      `
      import { selectBackend } from "fused-topk";
      const { backend, rejected } = await selectBackend({ order: ["cuda", "cpu"] });
      ${compute}
      console.log(JSON.stringify({ name: backend.name, indices: [...indices], rejected }));`,
      ["--conditions=browser"],
    );
    expect(result).toMatchObject({ name: "cpu", indices: [1, 2], rejected: [{ backend: "cuda" }] });
    expect((result as { rejected: { message: string }[] }).rejected[0]?.message).toContain(
      "The cuda backend does not run in a browser.",
    );
  });

  it("holds no import that a bundler could follow to the CUDA addon or to Node", async () => {
    const dist = new URL("dist/", packageRoot);
    const pending = ["browser.js"];
    const seen = new Set<string>();
    const imports = new Set<string>();
    for (let file = pending.pop(); file !== undefined; file = pending.pop()) {
      if (seen.has(file)) continue;
      seen.add(file);
      const text = await readFile(new URL(file, dist), "utf8");
      for (const [, specifier] of text.matchAll(/(?:from\s*|import\s*\(?\s*)"([^"]+)"/g)) {
        if (specifier!.startsWith("./")) pending.push(specifier!.slice(2));
        else imports.add(specifier!);
      }
    }
    expect([...imports].sort()).toEqual(["@fused-topk/core", "@fused-topk/wasm", "@fused-topk/webgpu"]);
    expect(await readdir(dist)).toContain("browser.d.ts");
  });
});
