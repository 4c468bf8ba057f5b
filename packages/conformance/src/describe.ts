/// <reference types="node" />
/** The vitest suite that every backend passes. */
import {
  type Backend,
  FusedTopKError,
  type HostLogits,
  type SoftmaxTopK,
  type SoftmaxTopKOptions,
  softmaxTopKReference,
} from "@fused-topk/core";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { catalogue, type Input } from "./catalogue.js";
import { compare } from "./compare.js";
import { watchEventLoop } from "./event-loop.js";
import { fixtures } from "./fixtures.js";
import { generatedProblem } from "./generated.js";
import { makeLogits, optionsOf } from "./logits.js";
import { goodCall, misuses } from "./misuses.js";
import { emptyReport, runFamily, runInput } from "./run.js";

/** Options of `describeBackend`. */
export interface DescribeOptions {
  /** Stands in the suite's name, e.g. the path that was forced. */
  variant?: string;
  /** The catalogue's set. Default "full" when the environment has FUSED_TOPK_FULL=1, "quick" otherwise. */
  set?: "quick" | "full";
  /** How a problem reaches the backend; default `backend.softmaxTopK`. See `RunOptions.call` of `/cases`. */
  call?: (backend: Backend, logits: HostLogits, options: SoftmaxTopKOptions) => Promise<SoftmaxTopK>;
  /**
   * Whether every run returns the same bits. Default true; false where threads take parts of a row as they come, so that its sum
   * is rounded in another order: then only the indices are the same.
   */
  reproducible?: boolean;
  /** The seed of the generated cases. Default: a new one, which the test's name shows. */
  seed?: number;
}

/**
 * Registers the conformance suite of a backend with vitest: the contract case by case, generated cases, the errors and the
 * lifecycle.
 *
 * @param create makes a backend; called once for the suite and once for each test that disposes one.
 */
export function describeBackend(create: () => Promise<Backend>, options: DescribeOptions = {}): void {
  const full = process.env.FUSED_TOPK_FULL === "1";
  const { variant, set = full ? "full" : "quick", reproducible = true, seed = Date.now() % 2 ** 31 } = options;
  const call = options.call ?? ((backend, logits, problem) => backend.softmaxTopK(logits, problem));
  const timeout = set === "full" ? 3_600_000 : 120_000;

  describe(`a backend of fused-topk${variant === undefined ? "" : `, ${variant}`}`, { timeout }, () => {
    let backend: Backend;
    const onBackend = (logits: HostLogits, problem: SoftmaxTopKOptions) => call(backend, logits, problem);
    beforeAll(async () => {
      backend = await create();
    }, timeout);
    afterAll(() => backend?.dispose(), timeout);

    /** One problem, compared with the reference. */
    const expectRight = (actual: SoftmaxTopK, logits: HostLogits, problem: SoftmaxTopKOptions) => {
      const { failure } = compare(actual, softmaxTopKReference(logits, problem), problem.vocab, backend.name);
      expect(failure, JSON.stringify(problem)).toBeUndefined();
    };

    describe("says what it is", () => {
      test("name, device, and a maxK of 4096 at least, 1024 for WebGPU", () => {
        expect(["cuda", "webgpu", "wasm", "cpu"]).toContain(backend.name);
        expect(backend.device).not.toBe("");
        expect(backend.limits.maxK).toBeGreaterThanOrEqual(backend.name === "webgpu" ? 1024 : 4096);
      });
    });

    describe("computes what the reference computes", () => {
      for (const family of catalogue[set]) {
        test(family.promise, async () => {
          const report = await runFamily(backend, family, onBackend);
          expect(report.firstFailure, `${report.failed} of ${report.failed + report.passed} failed`).toBeUndefined();
        });
      }

      test(`generated cases (seed ${seed})`, async () => {
        const property = fc.asyncProperty(generatedProblem(backend.limits.maxK), async ({ logits, problem }) => {
          expectRight(await onBackend(logits, problem), logits, problem);
        });
        await fc.assert(property, { numRuns: set === "full" ? 2000 : 50, seed });
      });

      for (const fixture of fixtures) {
        test(`what a fuzz run once found: ${JSON.stringify(fixture)}`, async () => {
          const report = emptyReport("");
          await runInput(backend, fixture, onBackend, report);
          expect(report.firstFailure).toBeUndefined();
        });
      }

      test(`the same ${reproducible ? "bits" : "indices"} on every run`, async () => {
        const input = problemOf("random", 3, 5000);
        const [logits, problem] = [makeLogits(input), optionsOf(input, 100)];
        const first = await onBackend(logits, problem);
        for (let i = 0; i < 3; i++) {
          const again = await onBackend(logits, problem);
          if (reproducible) expect(again).toEqual(first);
          else expect(again.indices).toEqual(first.indices);
        }
      });
    });

    describe("refuses a bad call before any work", () => {
      for (const { name, logits = goodCall.logits, options, code = "ERR_INVALID_ARGUMENT", message } of misuses) {
        test(name, async () => {
          const problem = options === null ? null : { ...goodCall.options, ...options };
          const error = await rejection(backend.softmaxTopK(logits(), problem as SoftmaxTopKOptions));
          expect(error.message).toMatch(message);
          expect(error.code).toBe(code);
          expect(error.message.endsWith(error.fix!)).toBe(true);
        });
      }

      test("k above limits.maxK", async () => {
        const { maxK } = backend.limits;
        if (maxK >= 2 ** 32 - 1) return expect(maxK).toBe(2 ** 32 - 1); // no vocab is larger, so no k can be
        const error = await rejection(
          backend.softmaxTopK(new Float32Array(8), { rows: 1, vocab: maxK + 1, k: maxK + 1 }),
        );
        expect(error.message).toMatch(
          new RegExp(`^Expected at most limits.maxK \\(${maxK}\\) of this backend for k but received ${maxK + 1}\\.`),
        );
      });

      test("and the next good call is right", async () => {
        expectRight(await onBackend(goodCall.logits(), goodCall.options), goodCall.logits(), goodCall.options);
      });
    });

    describe("lives and ends well", () => {
      test("100 concurrent calls of many shapes are all right", async () => {
        const problems = Array.from({ length: 100 }, (_, i) => {
          const input = problemOf(i % 2 ? "random" : "fewValues", 1 + (i % 3), 20 + 37 * (i % 10));
          return { logits: makeLogits(input), problem: optionsOf(input, 1 + (i % 20)) };
        });
        const results = await Promise.all(problems.map(({ logits, problem }) => onBackend(logits, problem)));
        results.forEach((result, i) => {
          expectRight(result, problems[i]!.logits, problems[i]!.problem);
        });
      });

      test("a result is the caller's: later calls leave it alone", async () => {
        const input = problemOf("random", 3, 600);
        const [logits, problem] = [makeLogits(input), optionsOf(input, 30)];
        const result = await onBackend(logits, problem);
        const kept = structuredClone(result);
        const other = makeLogits(problemOf("ascending", 3, 600));
        for (let i = 0; i < 10; i++) await onBackend(other, problem);
        expect(result).toEqual(kept);
        result.probs.fill(-1);
        result.indices.fill(7);
        expectRight(await onBackend(logits, problem), logits, problem);
      });

      test("a GPU at work leaves the event loop free", async ({ skip }) => {
        skip(backend.name !== "cuda" && backend.name !== "webgpu", "it computes on the calling thread");
        const input = problemOf("random", 64, 16_384);
        const [logits, problem] = [makeLogits(input), optionsOf(input, 50)];
        await onBackend(logits, problem); // compiles
        const calls = [];
        for (let i = 0; i < 3; i++) calls.push(await watchEventLoop(() => onBackend(logits, problem)));
        // Copying the logits in may block; on a fast GPU that is much of the call, but nobody notices 4 ms.
        const isFree = calls.some(({ call, longest, turns }) => turns > 0 && longest < Math.max(call / 2, 4));
        expect(isFree, JSON.stringify(calls)).toBe(true);
      });

      test("dispose waits for the calls under way", async () => {
        const own = await create();
        const input = problemOf("random", 4, 3000);
        const [logits, problem] = [makeLogits(input), optionsOf(input, 50)];
        const calls = [1, 2, 3].map(() => call(own, logits, problem));
        await Promise.all([own.dispose(), ...calls]);
        for (const result of await Promise.all(calls)) expectRight(result, logits, problem);
      });

      test("dispose may be called twice, and leaves other backends of the same device alone", async () => {
        const own = await create();
        await own.dispose();
        await own.dispose();
        await own[Symbol.asyncDispose]?.();
        expectRight(await onBackend(goodCall.logits(), goodCall.options), goodCall.logits(), goodCall.options);
      });

      test("a call after dispose is ERR_DISPOSED", async () => {
        const own = await create();
        await own.dispose();
        const error = await rejection(own.softmaxTopK(goodCall.logits(), goodCall.options));
        expect(error.code).toBe("ERR_DISPOSED");
        expect(error.message).toMatch(/ was disposed before this call\. Create a new one/);
      });
    });
  });
}

function problemOf(distribution: Input["distribution"], rows: number, vocab: number): Input {
  return { distribution, rows, vocab, array: "f32", offset: 0, rowStride: vocab, temperature: 1, ks: [] };
}

/** The FusedTopKError that a call rejects with. A call that throws instead of rejecting fails here too. */
async function rejection(call: Promise<unknown>): Promise<FusedTopKError> {
  const outcome = await call.then(
    () => "a result",
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(FusedTopKError);
  return outcome as FusedTopKError;
}
