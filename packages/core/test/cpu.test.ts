/// <reference types="node" />
/** The CPU backend where k is large. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, expect, test, vi } from "vitest";
import { createCpuBackend } from "../src/index.js";

afterEach(() => vi.unstubAllGlobals());

test("a k of a million fits in a small heap", async () => {
  const program = `
    const { createCpuBackend } = await import("@fused-topk/core");
    const vocab = 1e6;
    const backend = await createCpuBackend();
    const logits = new Float32Array(vocab).map((_, i) => i);
    const { indices } = await backend.softmaxTopK(logits, { rows: 1, vocab, k: vocab });
    console.log(indices.every((index, i) => index === vocab - 1 - i));`;
  const flags = ["--max-old-space-size=16", "--input-type=module", "-e", program];
  const cwd = fileURLToPath(new URL("../", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, flags, { cwd });
  expect(stdout).toBe("true\n");
});

test("candidates that cannot be allocated are ERR_OUT_OF_MEMORY", async () => {
  const backend = await createCpuBackend();
  vi.stubGlobal(
    "BigUint64Array",
    class {
      constructor() {
        throw new RangeError("Array buffer allocation failed");
      }
    },
  );
  await expect(backend.softmaxTopK(Float32Array.of(1, 2), { rows: 1, vocab: 2, k: 1 })).rejects.toMatchObject({
    name: "FusedTopKError",
    code: "ERR_OUT_OF_MEMORY",
  });
});
