/** The suite itself: a backend that breaks one promise must fail it. */
import {
  type Backend,
  type HostLogits,
  type SoftmaxTopK,
  type SoftmaxTopKOptions,
  softmaxTopKReference,
} from "@fused-topk/core";
import { expect, test } from "vitest";
import { type RunOptions, runCases } from "../src/cases.js";

type Change = (result: SoftmaxTopK, logits: HostLogits, options: SoftmaxTopKOptions) => SoftmaxTopK | undefined;

/** The reference as a backend, with every result changed. */
function backendThat(change: Change, name: Backend["name"] = "cpu", maxK = 2 ** 32 - 1): Backend {
  return {
    name,
    device: "the reference, changed",
    limits: { maxK },
    async softmaxTopK(logits, options) {
      const result = softmaxTopKReference(logits, options);
      return change(result, logits, options) ?? result;
    },
    async dispose() {},
    async [Symbol.asyncDispose]() {},
  };
}

/** The families without long inputs. */
const small: RunOptions = { filter: ({ shapes }) => shapes.every(([rows, vocab]) => rows * vocab < 10_000) };

test("the reference passes, every case of the quick set", async () => {
  const report = await runCases(backendThat(() => {}));
  expect(report.groups.map(({ firstFailure }) => firstFailure).filter(Boolean)).toEqual([]);
  expect(report.passed).toBeGreaterThan(400);
  expect(report.failed + report.skipped).toBe(0);
});

test("cases with k above maxK are skipped, counted, and nothing else is", async () => {
  const report = await runCases(
    backendThat(() => {}, "cpu", 255),
    small,
  );
  expect(report.failed).toBe(0);
  expect(report.skipped).toBeGreaterThan(0);
  const all = await runCases(
    backendThat(() => {}),
    small,
  );
  expect(report.passed + report.skipped).toBe(all.passed);
});

/** The first place of a result whose logit equals the next one's. */
function firstTie({ rows, k, probs }: SoftmaxTopK): number | undefined {
  for (let at = 0; at < rows * k - 1; at++) if (at % k !== k - 1 && probs[at] === probs[at + 1]) return at;
  return undefined;
}

/** Memory that one call leaves to the next of the same size, as a pool of device buffers does. */
const recycled = new Map<number, Uint32Array>();

const broken: Record<string, Change> = {
  "swaps two tied indices": (result) => {
    const at = firstTie(result);
    if (at === undefined) return;
    const held = result.indices[at]!;
    result.indices[at] = result.indices[at + 1]!;
    result.indices[at + 1] = held;
  },
  "normalises over the K best alone": (result) => {
    const { rows, k, probs } = result;
    for (let row = 0; row < rows; row++) {
      const best = probs.subarray(row * k, row * k + k);
      const sum = best.reduce((a, b) => a + b, 0);
      for (let i = 0; i < k; i++) best[i]! /= sum || 1;
    }
  },
  "never reads the last logit of a row": (_, logits, options) => {
    const { vocab, k, rowStride = vocab } = options;
    return k === vocab ? undefined : softmaxTopKReference(logits, { ...options, vocab: vocab - 1, rowStride });
  },
  "ignores the temperature": (_, logits, { temperature, ...options }) => softmaxTopKReference(logits, options),
  "ignores the offset": (_, logits, { offset, ...options }) => softmaxTopKReference(logits, options),
  "ignores rowStride": (_, logits, { rowStride, ...options }) => softmaxTopKReference(logits, options),
  "is off by twice the bound in one probability": ({ probs }) => {
    const last = probs.findLastIndex((p) => p > 1e-20);
    if (last >= 0) probs[last]! *= 1 + 2e-6;
  },
  "has a logSumExp off by 1e-5": ({ logSumExp }) => {
    for (let row = 0; row < logSumExp.length; row++) logSumExp[row]! += 1e-5;
  },
  "leaves its last index as the memory was": (result) => {
    const last = result.indices.length - 1;
    const before = recycled.get(last);
    if (before && last >= 0) result.indices[last] = before[last]!;
    recycled.set(last, result.indices);
  },
  "turns NaN rows into zeros": ({ probs }) => {
    for (let i = 0; i < probs.length; i++) if (Number.isNaN(probs[i])) probs[i] = 0;
  },
  "gives a masked logit a probability": ({ probs }) => {
    for (let i = 0; i < probs.length; i++) if (probs[i] === 0) probs[i] = 1e-37;
  },
  "writes to the input": (_, logits) => {
    if (logits.length > 0) logits[0] = 5;
  },
  "returns a result one row too long": (result) => ({ ...result, logSumExp: new Float32Array(result.rows + 1) }),
  throws: () => {
    throw new Error("a kernel failed");
  },
};

test.each(Object.entries(broken))("a backend that %s fails", async (_, change) => {
  const report = await runCases(backendThat(change), small);
  expect(report.failed).toBeGreaterThan(0);
  expect(report.groups.find(({ firstFailure }) => firstFailure)?.firstFailure).toMatch(/, array .+\{"rows":\d+.+: \S/);
});

test("a float32 sum that is one long chain fails", async () => {
  const report = await runCases(
    backendThat((result, logits, { vocab }) => {
      if (vocab < 50_000) return;
      let sum = 0;
      for (let i = 0; i < vocab; i++) sum = Math.fround(sum + Math.exp(logits[i]! - logits[0]!));
      result.probs[0] = 1 / sum;
    }),
    { filter: ({ distributions }) => distributions.includes("dust") && distributions.length < 5 },
  );
  expect(report.failed).toBeGreaterThan(0);
});

test("a GPU may flush probabilities up to 1e-30, and the cpu may not", async () => {
  const flush: Change = ({ probs }) => {
    for (let i = 0; i < probs.length; i++) if (probs[i]! <= 1e-30) probs[i] = 0;
  };
  expect((await runCases(backendThat(flush, "webgpu"), small)).failed).toBe(0);
  expect((await runCases(backendThat(flush, "cpu"), small)).failed).toBeGreaterThan(0);
});
