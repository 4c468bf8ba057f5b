/** What the bench's meter refuses. */
import { expect, test } from "vitest";
import { createWasmMeter } from "../src/meter.js";

test.each(["fused", "three-pass"] as const)("%s: a K above the kernel's is refused", async (variant) => {
  await using meter = await createWasmMeter();
  const options = { rows: 1, vocab: 70_000, k: 65_537 };
  const measuring = meter.measure({ variant, options, template: new Float32Array(70_000), sets: 1, repeats: 1 });
  await expect(measuring).rejects.toMatchObject({
    code: "ERR_INVALID_ARGUMENT",
    message: expect.stringContaining("limits.maxK (65536)"),
  });
});
