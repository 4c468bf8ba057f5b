import { softmaxTopKReference } from "@fused-topk/core";
import { expect, test } from "vitest";
import { type ArrayKind, type DistributionName, distributions, makeLogits, optionsOf } from "../src/cases.js";
import { expectedResult } from "../src/expected.js";

const arrays = (["f32", "f16 bits", "bf16 bits", "Float16Array"] as const).filter(
  (array) => array !== "Float16Array" || typeof Float16Array !== "undefined",
);

test.each(arrays)("expectedResult is the reference, bit for bit, on every distribution of %s", (array: ArrayKind) => {
  for (const distribution of Object.keys(distributions) as DistributionName[]) {
    for (const temperature of [1, 0.3, 1.2e-38, 1e38]) {
      const shape = { rows: 3, vocab: 301, offset: 2, rowStride: 305, ks: [] };
      const input = { distribution, array, temperature, ...shape };
      const [logits, options] = [makeLogits(input), optionsOf(input, 301)];
      expect(expectedResult(logits, options)).toEqual(softmaxTopKReference(logits, options));
    }
  }
});
