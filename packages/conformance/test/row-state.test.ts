/** RowState passes the cases too: each row cut at random, its parts pushed alone and merged in random order. */
import {
  allocateResult,
  type Backend,
  decodeBFloat16,
  decodeFloat16,
  empty,
  finish,
  merge,
  push,
  type RowState,
  resolveHostOptions,
} from "@fused-topk/core";
import { expect, test } from "vitest";
import { createRandom, runCases } from "../src/cases.js";

const decode = { f32: (x: number) => x, f16: decodeFloat16, bf16: decodeBFloat16 };

function createRowStateBackend(seed: number): Backend {
  const random = createRandom(seed);
  return {
    name: "cpu",
    device: "RowState",
    limits: { maxK: 300 }, // push costs k
    async softmaxTopK(logits, options) {
      const { rows, vocab, k, dtype, offset, rowStride, temperature } = resolveHostOptions(logits, options);
      const bits = dtype === "f32" ? logits : new Uint16Array(logits.buffer, logits.byteOffset, logits.length);
      const result = allocateResult(rows, k);
      for (let row = 0; row < rows; row++) {
        const parts: RowState[] = [];
        for (let begin = 0; begin < vocab; ) {
          const end = begin + 1 + random.below(vocab - begin);
          const part = empty(k);
          for (let i = begin; i < end; i++) {
            push(part, decode[dtype](bits[offset + row * rowStride + i]!), i, temperature);
          }
          parts.push(part);
          begin = end;
        }
        while (parts.length > 1) {
          const [a] = parts.splice(random.below(parts.length), 1);
          const [b] = parts.splice(random.below(parts.length), 1);
          parts.push(merge(a!, b!, temperature));
        }
        finish(parts[0]!, result, row, temperature);
      }
      return result;
    },
    async dispose() {},
    async [Symbol.asyncDispose]() {},
  };
}

test("the cases, on random splits of their rows", { timeout: 60_000 }, async () => {
  const seed = Date.now() % 2 ** 31;
  const report = await runCases(createRowStateBackend(seed), {
    filter: ({ shapes }) => shapes.every(([rows, vocab]) => rows * vocab < 10_000),
  });
  const failures = report.groups.flatMap(({ firstFailure }) => firstFailure ?? []);
  expect(failures, `seed ${seed}`).toEqual([]);
  expect(report.passed).toBeGreaterThan(100);
});
