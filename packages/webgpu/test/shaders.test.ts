/** Every kernel that can be generated compiles, under Dawn's null backend: real diagnostics, uniformity included, no GPU. */
import type { DType } from "@fused-topk/core";
import { beforeAll, expect, test } from "vitest";
import { create } from "webgpu";
import { baselineTexts } from "../src/baselines.js";
import { type Kernel, kernelKey, kernelText } from "../src/shader.js";

const gpu = create(["backend=null"]);
let device: GPUDevice;

beforeAll(async () => {
  const adapter = (await gpu.requestAdapter())!;
  device = await adapter.requestDevice({ requiredFeatures: ["subgroups"] });
});

const kernels: Kernel[] = [];
for (const dtype of ["f32", "f16", "bf16"] as DType[])
  for (const subgroups of [true, false])
    for (const workgroupSize of [16, 32, 64, 128, 256, 512, 1024])
      for (const candidates of ["workgroup", "storage"] as const)
        for (const tinyTemperature of [false, true])
          kernels.push({ dtype, subgroups, workgroupSize, workWords: 2048, candidates, tinyTemperature });

const shared = { workWords: 1, candidates: "workgroup" } as const;
for (const dtype of ["f32", "f16", "bf16"] as DType[])
  for (const tinyTemperature of [false, true]) {
    for (const [lanes, workgroupSize] of [
      [8, 16],
      [8, 64],
      [32, 32],
      [32, 64],
    ] as const)
      for (const loads of [1, 2, 4, 8])
        kernels.push({ ...shared, dtype, subgroups: false, workgroupSize, small: { lanes, loads }, tinyTemperature });
    for (const subgroups of [true, false])
      for (const workgroupSize of [16, 64])
        for (const lanes of [4, 8, 16])
          for (const tiles of [1, 2])
            kernels.push({ ...shared, dtype, subgroups, workgroupSize, gating: { lanes, tiles }, tinyTemperature });
  }

test.each(kernels.map((kernel) => [kernelKey(kernel), kernel] as const))("%s", async (_, kernel) => {
  for (const code of [kernelText(kernel), ...baselineTexts(kernel)]) {
    device.pushErrorScope("validation");
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    await device.popErrorScope();
    expect(messages.map(({ lineNum, message }) => `${lineNum}: ${message}`)).toEqual([]);
  }
});

test("a barrier in divergent control flow is refused", async () => {
  const text = kernelText(kernels[0]!);
  const divergent = text.replace("  clear(WORK_WORDS);", "  if (invocation > 3u) { clear(WORK_WORDS); }");
  expect(divergent).not.toBe(text);
  device.pushErrorScope("validation");
  const { messages } = await device.createShaderModule({ code: divergent }).getCompilationInfo();
  expect((await device.popErrorScope())?.message).toMatch(/uniform control flow/);
  expect(messages.some(({ type }) => type === "error")).toBe(true);
});
