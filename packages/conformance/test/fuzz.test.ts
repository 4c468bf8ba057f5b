/** A fuzz run finds what is wrong, says how to see it again, and is the same for a seed. */
import { createCpuBackend } from "@fused-topk/core";
import { expect, test } from "vitest";
import { fuzz } from "../src/cases.js";

test("a right backend passes", async () => {
  const { cases, failure } = await fuzz(await createCpuBackend(), { seed: 1, seconds: 1.5 });
  expect(failure).toBeUndefined();
  expect(cases).toBeGreaterThan(0);
});

test("a wrong one fails, on the same case for the same seed", async () => {
  const cpu = await createCpuBackend();
  const wrong: typeof cpu = {
    ...cpu,
    softmaxTopK: async (logits, options) => {
      const result = await cpu.softmaxTopK(logits, options);
      if (options.vocab > 1000 && options.rows > 2) result.indices[options.k]! ^= 1;
      return result;
    },
  };
  const first = await fuzz(wrong, { seed: 7, seconds: 60 });
  expect(first.failure!.message).toContain("expected index");
  expect(first.failure!.input.vocab).toBeGreaterThan(1000);
  expect(await fuzz(wrong, { seed: 7, seconds: 60 })).toEqual(first);
});
