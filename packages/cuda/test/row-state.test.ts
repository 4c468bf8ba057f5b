/** row_state.cuh on the CPU: compiled by a host C++17 compiler and run. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const source = fileURLToPath(new URL("../../../kernels/cuda/test/row_state_test.cc", import.meta.url));
const compiler = ["c++", "g++", "clang++"].find((name) => spawnSync(name, ["--version"]).status === 0);

test.skipIf(compiler === undefined)(
  `the laws of RowState hold in row_state.cuh${compiler ? "" : " (not run: no C++ compiler on this machine)"}`,
  { timeout: 60_000 },
  () => {
    const folder = mkdtempSync(join(tmpdir(), "row-state-"));
    try {
      const program = join(folder, "row_state_test");
      execFileSync(compiler!, ["-std=c++17", "-O1", "-Wall", "-Werror", "-o", program, source]);
      const run = spawnSync(program, { encoding: "utf8" });
      expect(run.stdout).toBe("all laws hold\n");
      expect(run.status).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);
