/** A NaN beside the best logit, at every place of the vectors that are compared together. */
import { expect, test } from "vitest";
import { createWasmBackend } from "../src/index.js";

test("a NaN hides no logit", async () => {
  await using backend = await createWasmBackend();
  const vocab = 2048;
  for (let best = 1024; best < 1040; best++) {
    for (let nan = 1024; nan < 1040; nan++) {
      if (nan === best) continue;
      const logits = new Float32Array(vocab);
      logits[best] = 1;
      logits[nan] = Number.NaN;
      const { indices, probs, logSumExp } = await backend.softmaxTopK(logits, { rows: 1, vocab, k: 1 });
      expect([indices[0], probs[0], logSumExp[0]], `NaN at ${nan}`).toEqual([best, Number.NaN, Number.NaN]);
    }
  }
});
