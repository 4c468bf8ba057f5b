/**
 * The bound on probabilities where it is hardest: a sum that equal weights make up, each with the same error of its exp, at
 * differences, temperatures and sizes of logits where a product rounded to float32 would be wrong by more.
 */
import { describe, expect, test } from "vitest";
import { createWasmBackend } from "../src/index.js";
import { createPlainBackend } from "./plain.js";

const vocab = 150_000;
const bound = 1e-6;

describe.each([
  ["relaxed SIMD", createWasmBackend],
  ["plain SIMD", createPlainBackend],
])("with %s", (form, create) => {
  test("the sum of equal weights far below the max", async () => {
    await using backend = await create();
    expect(backend.device.startsWith(`WebAssembly ${form === "plain SIMD" ? "SIMD" : form},`)).toBe(true);
    const logits = new Float32Array(vocab);
    // At 1.4424525 log2(e) / T is 1.0002, and its rounding to float32 as large as it gets.
    for (const temperature of [1, 0.7, 1.4424525, 3.3, 1e-4, 700, 1e30]) {
      for (const size of [0, 30, 1e3, 1e5, 2e7]) {
        for (const below of [0.1, 3.337, 7.71, 10.93, 12.1]) {
          const max = Math.fround(size * temperature);
          const rest = Math.fround(max - below * temperature);
          logits.fill(rest)[77] = max;
          const { probs, logSumExp } = await backend.softmaxTopK(logits, { rows: 1, vocab, k: 1, temperature });
          const sum = 1 + (vocab - 1) * Math.exp((rest - max) / temperature);
          const message = `T ${temperature}, ${below} below ${size}`;
          expect(Math.abs(probs[0]! * sum - 1), message).toBeLessThan(bound);
          const expected = max / temperature + Math.log(sum);
          expect(Math.abs(logSumExp[0]! - expected) / Math.max(1, expected), message).toBeLessThan(bound);
        }
      }
    }
  });

  test("logits that pass the limit of the reference, or the reach of powers of two, in the middle of a row", async () => {
    await using backend = await create();
    for (const jump of [100, -100, 2e6, -2e6, 1e38]) {
      const logits = new Float32Array(10_000).map((_, i) => (i < 5000 ? 0 : jump) + (i % 97));
      const { probs } = await backend.softmaxTopK(logits, { rows: 1, vocab: 10_000, k: 1 });
      const max = logits.reduce((a, b) => Math.max(a, b));
      const sum = logits.reduce((total, x) => total + Math.exp(x - max), 0);
      expect(Math.abs(probs[0]! * sum - 1), `${jump}`).toBeLessThan(bound);
    }
  });
});
