import { expect, it } from "vitest";
import { parseOptions } from "../../src/args.js";
import { commandOf } from "../../web/worker/command.js";
import type { MeasureJob } from "../../web/worker/protocol.js";

const job: MeasureJob = {
  type: "measure",
  backends: ["cpu"],
  shapes: ["1x300:5", "2x900"],
  k: [9],
  dtypes: ["bf16"],
  data: "two",
  seed: 3,
  quick: true,
  peers: [],
};
const measured = { backends: ["cpu"], shapes: ["1x300:5", "2x900"], dtypes: ["bf16"], seed: 3, quick: true };

it("a job of the page is recorded as the command line that does the same", () => {
  expect(parseOptions(commandOf(job, "sample.npy"))).toMatchObject({ ...measured, k: [9], data: ["two"] });
  const { k, ...ofShapes } = job;
  const real = parseOptions(commandOf({ ...ofShapes, data: "sample" }, "sample.npy"));
  expect(real).toMatchObject({ ...measured, input: "sample.npy" });
  expect(real).not.toHaveProperty("k");
  const verify = commandOf({ type: "verify", backends: ["webgpu", "wasm"], set: "full" }, "sample.npy");
  expect(parseOptions(verify)).toMatchObject({ command: "verify", backends: ["webgpu", "wasm"], full: true });
});
