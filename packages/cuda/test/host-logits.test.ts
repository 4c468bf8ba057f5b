/** Host logits on their way to the device: the code of the addon, on a stand-in for the CUDA runtime. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { expect, test } from "vitest";
import { compileAndRun, compiler } from "./compile.js";

const toolkits = [...(process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, "..")), "/usr/local/cuda"];
const cudaHeaders = toolkits
  .map((toolkit) => join(toolkit, "include"))
  .find((folder) => existsSync(join(folder, "cuda_runtime_api.h")));
const missing = compiler === undefined ? "C++ compiler" : cudaHeaders === undefined ? "CUDA toolkit" : undefined;

test.skipIf(missing !== undefined)(
  `host logits arrive whole, at the same time and after failures${missing ? ` (not run: no ${missing} on this machine)` : ""}`,
  { timeout: 120_000 },
  () => {
    const native = ["context", "copy_threads", "failure", "lane", "staging", "write_past_caches"];
    const sources = [
      "test/native/host_logits_test.cc",
      "test/native/fake_cuda.cc",
      ...native.map((name) => `native/${name}.cc`),
    ];
    const run = compileAndRun(sources, ["native", "../../kernels/cuda"], cudaHeaders);
    expect(run).toEqual({ stdout: "all promises hold\n", status: 0 });
  },
);
