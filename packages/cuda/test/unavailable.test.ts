/** Machines without a GPU, a driver or the addon: a typed error that says what is missing and what to do. */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { FusedTopKError } from "@fused-topk/core";
import { afterAll, describe, expect, test } from "vitest";
import { createCudaBackend } from "../src/index.js";
import { createCudaMeter } from "../src/meter.js";
import { nativeError } from "../src/native.js";

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

/** The error of `createCudaBackend` in a process of its own. */
function inOwnProcess(env: NodeJS.ProcessEnv, dist = new URL("../dist/", import.meta.url)) {
  const script = `import { createCudaBackend } from ${JSON.stringify(new URL("index.js", dist).href)};
    await createCudaBackend().then(() => { throw "a backend"; }, ({ code, message }) => console.log(JSON.stringify({ code, message })));`;
  const file = join(folder, "create.mjs");
  writeFileSync(file, script);
  const json = execFileSync(process.execPath, [file], { env: { ...process.env, ...env }, encoding: "utf8" });
  return JSON.parse(json) as { code: string; message: string };
}

for (const device of [-1, 1.5, Number.NaN, null as unknown as number, "0" as unknown as number]) {
  test(`device ${JSON.stringify(device)} is refused before anything is loaded`, async () => {
    const error = await rejection(createCudaBackend({ device }));
    expect(error.code).toBe("ERR_INVALID_ARGUMENT");
    expect(error.message).toMatch(/^Expected an integer >= 0 for device but received .+ Pass the index/);
  });
}

for (const options of [null, 0, "gpu"]) {
  test(`options ${JSON.stringify(options)} are refused before anything is loaded`, async () => {
    const error = await rejection(createCudaBackend(options as never));
    expect(error.code).toBe("ERR_INVALID_ARGUMENT");
    expect(error.message).toMatch(/^Expected an object for options but received .+ Pass \{ device: 0 \}/);
  });
}

/** What comes before the missing addon where no driver is loaded. */
const noDriver = ["/dev/nvidiactl", "/dev/dxg"].some((file) => existsSync(file)) ? "" : "no NVIDIA driver .+, and ";

test("an installed package without the addon names it, and does not ask to build in node_modules", () => {
  const modules = join(folder, "node_modules", "@fused-topk");
  mkdirSync(modules, { recursive: true });
  symlinkSync(fileURLToPath(new URL("../../core", import.meta.url)), join(modules, "core"));
  const dist = join(modules, "cuda", "dist");
  cpSync(fileURLToPath(new URL("../dist", import.meta.url)), dist, { recursive: true });
  writeFileSync(join(modules, "cuda", "package.json"), '{ "type": "module" }');
  const { code, message } = inOwnProcess({ FUSED_TOPK_CUDA_ADDON: "" }, pathToFileURL(`${dist}/`));
  expect(code).toBe("ERR_BACKEND_UNAVAILABLE");
  expect(message).toMatch(new RegExp(`${noDriver}this copy of @fused-topk/cuda was published without`, "i"));
  expect(message).not.toContain("npm run build");
});

test("a failure's own fix comes before the fix of its code", () => {
  const failure = (fix?: string) => Object.assign(new Error("CUDA failed."), { code: "ERR_OUT_OF_MEMORY", fix });
  expect(nativeError(failure("Pass device 0."))).toMatchObject({
    code: "ERR_OUT_OF_MEMORY",
    message: "CUDA failed. Pass device 0.",
    fix: "Pass device 0.",
  });
  expect(nativeError(failure()).fix).toMatch(/^Split the rows/);
});

test.skipIf(process.platform === "win32")("a CUDA toolkit before 13.0 builds no addon, and says so in one line", () => {
  const tools = mkdtempSync(join(folder, "tools-"));
  for (const name of ["nvcc", "cmake", "c++", "make"]) {
    writeFileSync(join(tools, name), "#!/bin/sh\necho Cuda compilation tools, release 12.4, V12.4.131\n", {
      mode: 0o755,
    });
  }
  const script = fileURLToPath(new URL("../scripts/build-native.mjs", import.meta.url));
  const { status, stdout } = spawnSync(process.execPath, [script], { env: { PATH: tools }, encoding: "utf8" });
  expect(status).toBe(0);
  expect(stdout).toMatch(/^CUDA addon: not built, since nvcc is 12\.4; .+\n$/);
});

describe.skipIf(built)("without the addon (this machine has none: see the build's line)", () => {
  test("the backend says that it is not built, and how to build it", async () => {
    const error = await rejection(createCudaBackend());
    expect(error.code).toBe("ERR_BACKEND_UNAVAILABLE");
    expect(error.message).toMatch(
      new RegExp(`${noDriver}the CUDA addon is not built\\. .*install the CUDA toolkit`, "i"),
    );
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

    test("a worker that is terminated with calls under way leaves the process alive", () => {
      const script = `
        const { Worker, isMainThread, parentPort } = require("node:worker_threads");
        const native = require(${JSON.stringify(addon)});
        if (isMainThread) {
          const ends = Array.from({ length: 8 }, () => new Promise((resolve) => {
            const worker = new Worker(__filename);
            worker.once("message", () => worker.terminate().then(resolve));
          }));
          Promise.all(ends).then(() => console.log("alive"));
        } else {
          for (let i = 0; i < 64; i++) native.open(0).catch(() => {});
          parentPort.postMessage("under way");
        }`;
      const file = join(folder, "terminated.cjs");
      writeFileSync(file, script);
      const { stdout, stderr } = spawnSync(process.execPath, [file], { encoding: "utf8" });
      expect(stdout, stderr).toBe("alive\n");
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
