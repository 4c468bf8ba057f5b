/** Runs the cases of the catalogue on a backend. */

import type { Backend, HostLogits, SoftmaxTopK, SoftmaxTopKOptions } from "@fused-topk/core";
import { catalogue, type Family, type Input, inputsOf } from "./catalogue.js";
import { compare } from "./compare.js";
import { distributions } from "./distributions.js";
import { expectedResult } from "./expected.js";
import { makeDecoy, makeLogits, optionsOf } from "./logits.js";

/** Above so many rows no decoy goes before a case: a software adapter needs seconds for a call. */
const DECOY_ROWS = 1024;

/** One problem solved by the backend under test. */
export type Call = (logits: HostLogits, options: SoftmaxTopKOptions) => Promise<SoftmaxTopK>;

/** Options of `runCases`. */
export interface RunOptions {
  /** Default "quick". */
  set?: "quick" | "full";
  /** The families to run, by their promise. Default all. */
  filter?: (family: Family) => boolean;
  /**
   * How a problem reaches the backend. Default `backend.softmaxTopK`. A backend that also takes logits on its device or
   * writes to buffers of the caller's passes a function that does so, on poisoned buffers.
   */
  call?: Call;
  onProgress?: (progress: Progress) => void;
  /** Hears the outcome of each family as soon as it is there. */
  onGroup?: (group: GroupReport) => void;
}

/** How far `runCases` is. */
export interface Progress {
  /** Cases. */
  done: number;
  total: number;
  promise: string;
}

/** The outcome of `runCases`. Counts are of cases. */
export interface Report {
  passed: number;
  failed: number;
  skipped: number;
  groups: GroupReport[];
}

/** The outcome of one family of cases. */
export interface GroupReport {
  promise: string;
  passed: number;
  failed: number;
  /** Cases with k above the backend's limits.maxK, the only reason to skip one. */
  skipped: number;
  /** The largest relative error among probabilities above 1e-30. */
  probabilityError: number;
  /** The largest error of a logSumExp, relative to max(1, |logSumExp|). */
  logSumExpError: number;
  /** The first failure, with the case that shows it. */
  firstFailure?: string;
}

/** Runs every case of a set on a backend, one after the other. A failure is a line of the report and stops nothing. */
export async function runCases(backend: Backend, options: RunOptions = {}): Promise<Report> {
  const { set = "quick", filter = () => true, onProgress, onGroup } = options;
  const call = options.call ?? ((logits, problem) => backend.softmaxTopK(logits, problem));
  const families = catalogue[set].filter(filter);
  const total = families.reduce((sum, family) => sum + countCases(family), 0);
  const groups: GroupReport[] = [];
  let before = 0;
  for (const family of families) {
    const onCase = (done: number) => onProgress?.({ done: before + done, total, promise: family.promise });
    const group = await runFamily(backend, family, call, onCase);
    groups.push(group);
    onGroup?.(group);
    before += countCases(family);
  }
  const sum = (key: "passed" | "failed" | "skipped") => groups.reduce((total, group) => total + group[key], 0);
  return { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped"), groups };
}

function countCases(family: Family): number {
  let count = 0;
  for (const { ks } of inputsOf(family)) count += ks.length;
  return count;
}

/** Runs the cases of one family; `onCase` hears how many are done. */
export async function runFamily(
  backend: Backend,
  family: Family,
  call: Call,
  onCase: (done: number) => void = () => {},
): Promise<GroupReport> {
  const report = emptyReport(family.promise);
  for (const input of inputsOf(family)) {
    await runInput(backend, input, call, report, () => onCase(report.passed + report.failed + report.skipped));
  }
  return report;
}

/** The report of no case. */
export function emptyReport(promise: string): GroupReport {
  return { promise, passed: 0, failed: 0, skipped: 0, probabilityError: 0, logSumExpError: 0 };
}

/** Runs the cases of one input, and adds them to a report. */
export async function runInput(
  backend: Backend,
  input: Input,
  call: Call,
  report: GroupReport,
  onCase: () => void = () => {},
): Promise<void> {
  const ks = input.ks.filter((k) => k <= backend.limits.maxK);
  report.skipped += input.ks.length - ks.length;
  if (ks.length === 0) return;
  const logits = makeLogits(input);
  const untouched = bytesOf(logits).slice();
  const best = expectedResult(logits, optionsOf(input, ks.at(-1)!));
  for (const k of ks) {
    const failure = await runCase(backend, input, logits, prefix(best, k), call, report);
    const problem = failure ?? (sameBytes(bytesOf(logits), untouched) ? undefined : "The input was written to.");
    if (problem === undefined) {
      report.passed++;
    } else {
      report.failed++;
      report.firstFailure ??= `${describeCase(input, k)}: ${problem}`;
    }
    onCase();
  }
}

async function runCase(
  backend: Backend,
  input: Input,
  logits: HostLogits,
  expected: SoftmaxTopK,
  call: Call,
  report: GroupReport,
): Promise<string | undefined> {
  try {
    if (expected.rows <= DECOY_ROWS) {
      const decoy = makeDecoy(expected.rows, expected.k);
      await call(decoy.logits, decoy.options);
    }
    const actual = await call(logits, optionsOf(input, expected.k));
    const { probabilityError, logSumExpError, failure } = compare(actual, expected, input.vocab, backend.name);
    report.probabilityError = Math.max(report.probabilityError, probabilityError);
    report.logSumExpError = Math.max(report.logSumExpError, logSumExpError);
    return failure;
  } catch (error) {
    return `It threw ${error}`;
  }
}

function describeCase(input: Input, k: number): string {
  const { guards } = distributions[input.distribution];
  return `${input.distribution} (${guards}), array ${input.array}, ${JSON.stringify(optionsOf(input, k))}`;
}

/** The `k` best of a result that has more. */
function prefix({ rows, k: most, probs, indices, logSumExp }: SoftmaxTopK, k: number): SoftmaxTopK {
  const kept = { rows, k, probs: new Float32Array(rows * k), indices: new Uint32Array(rows * k), logSumExp };
  for (let row = 0; row < rows; row++) {
    kept.probs.set(probs.subarray(row * most, row * most + k), row * k);
    kept.indices.set(indices.subarray(row * most, row * most + k), row * k);
  }
  return kept;
}

/** Every byte of the buffer that holds the logits, those around them included. */
function bytesOf(logits: HostLogits): Uint8Array {
  return new Uint8Array(logits.buffer);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
