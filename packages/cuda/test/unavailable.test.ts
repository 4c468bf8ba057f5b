/** Machines without a GPU, a driver or the addon: a typed error that says what is missing and what to do. */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FusedTopKError } from "@fused-topk/core";
import { afterAll, describe, expect, test } from "vitest";
import { createCudaBackend } from "../src/index.js";
import { createCudaMeter } from "../src/meter.js";

const addon = fileURLToPath(new URL("../build/Release/fused_topk_cuda.node", import.meta.url));
const built = existsSync(addon);
const hasGpu = process.env.FUSED_TOPK_GPU === "1";
const folder = mkdtempSync(join(tmpdir(), "fused-topk-cuda-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function rejection(promise: Promise<unknown>): Promise<FusedTopKError> {
  const outcome = await promise.then(
    () => "a result",
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(FusedTopKError);
  return outcome as FusedTopKError;
}

/** The error of `createCudaBackend` in a process of its own, with the package's modules laid out in `folder`. */
function inOwnProcess(env: NodeJS.ProcessEnv): { code: string; message: string } {
  const dist = new URL("../dist/", import.meta.url);
  const script = `import { createCudaBackend } from ${JSON.stringify(new URL("index.js", dist).href)};
    await createCudaBackend().then(() => { throw "a backend"; }, ({ code, message }) => console.log(JSON.stringify({ code, message })));`;
  const file = join(folder, "create.mjs");
  writeFileSync(file, script);
  return JSON.parse(execFileSync(process.execPath, [file], { env: { ...process.env, ...env }, encoding: "utf8" }));
}

for (const device of [-1, 1.5, Number.NaN, "0" as unknown as number]) {
  test(`device ${JSON.stringify(device)} is refused before anything is loaded`, async () => {
    const error = await rejection(createCudaBackend({ device }));
    expect(error.code).toBe("ERR_INVALID_ARGUMENT");
    expect(error.message).toMatch(/^Expected an integer >= 0 for device but received .+ Pass the index/);
  });
}

describe.skipIf(built)("without the addon (this machine has none: see the build's line)", () => {
  test("the backend says that it is not built, and how to build it", async () => {
    const error = await rejection(createCudaBackend());
    expect(error.code).toBe("ERR_BACKEND_UNAVAILABLE");
    expect(error.message).toMatch(/^The CUDA addon is not built\. Install the CUDA toolkit/);
  });
});

describe.skipIf(!built || hasGpu)(
  `without a driver or a device${built ? "" : " (not run: no addon on this machine)"}${hasGpu ? " (not run: it has a GPU)" : ""}`,
  () => {
    for (const [what, create] of [
      ["the backend", createCudaBackend],
      ["the meter", createCudaMeter],
    ] as const) {
      test(`${what} carries CUDA's reason and the fix`, async () => {
        const error = await rejection(create());
        expect(error.code).toBe("ERR_BACKEND_UNAVAILABLE");
        expect(error.message).toMatch(
          /^CUDA failed to find a device: cudaError(InsufficientDriver|NoDevice), .+\. Install/,
        );
        expect(error.fix).toMatch(/NVIDIA driver/);
      });
    }

    test("the addon loads in several worker threads at once, and their ends are clean", async () => {
      const script = `
        const { Worker, isMainThread } = require("node:worker_threads");
        const native = require(${JSON.stringify(addon)});
        native.open(0).catch(({ code }) => code).then((code) => {
          if (code !== "ERR_BACKEND_UNAVAILABLE") throw new Error(String(code));
          if (isMainThread) for (let i = 0; i < 4; i++) new Worker(__filename);
        });`;
      const file = join(folder, "workers.cjs");
      writeFileSync(file, script);
      execFileSync(process.execPath, [file]);
    });
  },
);

describe.skipIf(!built)(`a broken addon${built ? "" : " (not run: no addon on this machine)"}`, () => {
  test("is named with the loader's words", () => {
    const broken = join(folder, "broken.node");
    writeFileSync(broken, "not an addon");
    const error = inOwnProcess({ FUSED_TOPK_CUDA_ADDON: broken });
    expect(error.code).toBe("ERR_BACKEND_UNAVAILABLE");
    expect(error.message).toMatch(/^The CUDA addon did not load: .+\. Rebuild it/);
  });

  test.skipIf(hasGpu)("but one that FUSED_TOPK_CUDA_ADDON names is used", () => {
    const other = join(folder, "other.node");
    copyFileSync(addon, other);
    expect(inOwnProcess({ FUSED_TOPK_CUDA_ADDON: other }).message).toMatch(/^CUDA failed to find a device/);
  });
});
