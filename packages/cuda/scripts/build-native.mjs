// Builds the addon where the machine can: nvcc 13.0, cmake and a C++ compiler. Elsewhere says so in one line and
// succeeds, so that everything else works without them. FUSED_TOPK_CUDA_ARCHITECTURES overrides the device architectures, in CMake's
// form ("90", "80-real;90").
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function find(...names) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/cuda/bin"];
  for (const name of names) for (const folder of folders) if (existsSync(join(folder, name))) return join(folder, name);
  return undefined;
}

const tools = {
  nvcc: find("nvcc"),
  cmake: find("cmake"),
  "a C++ compiler": find("c++", "g++", "clang++"),
  "make or ninja": find("make", "ninja"),
};
const missing = Object.keys(tools).filter((name) => tools[name] === undefined);
if (missing.length > 0) {
  console.log(
    `CUDA addon: not built, since this machine has no ${missing.join(", no ")}. Everything else works without it.`,
  );
  process.exit(0);
}
const release = /release (\d+)\.(\d+)/.exec(spawnSync(tools.nvcc, ["--version"], { encoding: "utf8" }).stdout ?? "");
if (release === null || Number(release[1]) < 13) {
  const found = release === null ? `${tools.nvcc} does not say its release` : `nvcc is ${release[1]}.${release[2]}`;
  console.log(`CUDA addon: not built, since ${found}; it takes 13.0 or later. Everything else works without it.`);
  process.exit(0);
}

const architectures = process.env.FUSED_TOPK_CUDA_ARCHITECTURES || "all";
const wanted =
  architectures === "all" ? "every architecture since Turing (the first time takes minutes)" : architectures;
console.log(`CUDA addon: compiling what changed, for ${wanted}.`);
const cmakeJs = join(dirname(createRequire(import.meta.url).resolve("cmake-js/package.json")), "bin/cmake-js");
const settings = [`--CDCMAKE_CUDA_COMPILER=${tools.nvcc}`, `--CDFUSED_TOPK_CUDA_ARCHITECTURES=${architectures}`];
for (const command of ["configure", "build"]) {
  const options = ["--directory", root, "--out", join(root, "build"), "--parallel", "2", "--log-level", "error"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [cmakeJs, command, ...options, ...settings], {
    encoding: "utf8",
  });
  if (status === 0) continue;
  console.error(`${stdout}${stderr}\nCUDA addon: ${command} failed.`);
  process.exit(1);
}
