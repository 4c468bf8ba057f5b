/** row_state.cuh on the CPU. */
import { expect, test } from "vitest";
import { compileAndRun, compiler } from "./compile.js";

test.skipIf(compiler === undefined)(
  `the laws of RowState hold in row_state.cuh${compiler ? "" : " (not run: no C++ compiler on this machine)"}`,
  { timeout: 60_000 },
  () => {
    const run = compileAndRun(["../../kernels/cuda/test/row_state_test.cc"]);
    expect(run).toEqual({ stdout: "all laws hold\n", status: 0 });
  },
);
