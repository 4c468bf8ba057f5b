/** Tests that are C++ programs: compiled by a host C++17 compiler and run. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** None on a machine without one. */
export const compiler = ["c++", "g++", "clang++"].find((name) => spawnSync(name, ["--version"]).status === 0);

/**
 * Compiles without a warning, runs, and gives what the program printed.
 *
 * @param sources relative to the folder of this package, as the folders of headers.
 * @param systemHeaders a folder whose headers may have warnings.
 */
export function compileAndRun(sources: readonly string[], headers: readonly string[] = [], systemHeaders?: string) {
  const folder = mkdtempSync(join(tmpdir(), "fused-topk-"));
  const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url));
  try {
    const program = join(folder, "program");
    const includes = [
      ...headers.map((name) => `-I${path(name)}`),
      ...(systemHeaders ? ["-isystem", systemHeaders] : []),
    ];
    const options = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", ...includes];
    execFileSync(compiler!, [...options, "-o", program, ...sources.map(path)]);
    const { stdout, stderr, status } = spawnSync(program, { encoding: "utf8" });
    return { stdout: stdout + stderr, status };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
