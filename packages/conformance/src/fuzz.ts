/** Random cases, one after another, for as long as it is given: any shape, layout, dtype, temperature and distribution. */
import type { Backend } from "@fused-topk/core";
import type { ArrayKind, Input } from "./catalogue.js";
import { type DistributionName, distributions } from "./distributions.js";
import { createRandom, type Random } from "./random.js";
import { type Call, emptyReport, runInput } from "./run.js";

/** Options of `fuzz`. */
export interface FuzzOptions {
  seed: number;
  /** How long, in seconds. It ends earlier at a failure. */
  seconds: number;
  /** How a problem reaches the backend. Default `backend.softmaxTopK`. */
  call?: Call;
  onCase?: (cases: number) => void | Promise<void>;
}

/** What `fuzz` found. */
export interface FuzzReport {
  /** How many passed. */
  cases: number;
  /** The largest relative error among probabilities above 1e-30. */
  probabilityError: number;
  /** The largest error of a logSumExp, relative to max(1, |logSumExp|). */
  logSumExpError: number;
  /** The case that failed, for fixtures.ts, and how. */
  failure?: { input: Input; message: string };
}

/** Logits of a case, at most: the reference sorts every row. */
const MOST_LOGITS = 2 ** 20;

/** Runs random cases on a backend until its time is over or one fails; the same seed gives the same cases. */
export async function fuzz(backend: Backend, options: FuzzOptions): Promise<FuzzReport> {
  const { seed, seconds, onCase } = options;
  const call = options.call ?? ((logits, problem) => backend.softmaxTopK(logits, problem));
  const random = createRandom(seed);
  const report = emptyReport("");
  const end = performance.now() + seconds * 1000;
  let failure: FuzzReport["failure"];
  while (failure === undefined && performance.now() < end) {
    const input = randomInput(random, backend.limits.maxK);
    await runInput(backend, input, call, report);
    if (report.firstFailure !== undefined) failure = { input, message: report.firstFailure };
    await onCase?.(report.passed);
  }
  const { passed: cases, probabilityError, logSumExpError } = report;
  return { cases, probabilityError, logSumExpError, ...(failure !== undefined && { failure }) };
}

const names = Object.keys(distributions) as DistributionName[];
const arrays: readonly ArrayKind[] = ["f32", "f32", "f16 bits", "bf16 bits"];
const temperatures = [1, 1, 1, 0.7, 1.2e-38, 1e38];

/** Sizes are spread evenly over their orders of magnitude. */
function randomInput(random: Random, maxK: number): Input {
  const upTo = (most: number) => Math.min(most, Math.floor(most ** random.uniform() * (1 + random.uniform())));
  const vocab = upTo(300_000);
  const most = Math.min(vocab, maxK);
  return {
    distribution: names[random.below(names.length)]!,
    rows: upTo(Math.max(1, Math.floor(MOST_LOGITS / vocab))),
    vocab,
    array: arrays[random.below(arrays.length)]!,
    offset: random.below(9),
    rowStride: vocab + (random.below(2) === 0 ? 0 : random.below(9)),
    temperature:
      random.below(4) === 0 ? 10 ** (6 * random.uniform() - 3) : temperatures[random.below(temperatures.length)]!,
    ks: [random.below(8) === 0 ? most : upTo(most)],
    seed: random.below(2 ** 31),
  };
}
