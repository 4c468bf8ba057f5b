/** Ties across the K-th place, where blocks are not visited in the order of their indices: the lowest indices win. */
import { expect, test } from "vitest";
import { createWasmBackend } from "../src/index.js";

const vocab = 60_000;

test.each([
  [10, 1],
  [50, 1],
  [200, 0],
  [1000, 0],
])("every %i-th logit of all but the first ones is the best, %d", async (step, best) => {
  await using backend = await createWasmBackend({ threads: 1 });
  const held = backend.alloc(vocab, "f32");
  held.forEach((_, i) => {
    held[i] = i >= 2000 && i % step === 0 ? best : -1 - ((i * 7919) % vocab);
  });
  const ties = [...held.keys()].filter((i) => held[i] === best);
  for (const k of [1, 7, 30, 57, 150, 290]) {
    for (const logits of [held, held.slice()]) {
      const { indices } = await backend.softmaxTopK(logits, { rows: 1, vocab, k });
      expect([...indices].slice(0, ties.length), `K ${k}`).toEqual(ties.slice(0, k));
    }
  }
});
