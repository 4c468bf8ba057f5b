/** What changed from one result file to another, and whether the noise of both hides it. No Node here. */
import type { NamedResult } from "./device-labels.js";
import { formatTime } from "./format.js";
import { backendLabel, scenarioTitle } from "./result-tables.js";
import type { MeasuredVariant, MeasurementRecord, ScenarioRecord, SkippedRecord } from "./schema.js";
import { figures, type Table, words } from "./table.js";

/**
 * - `slower`, `faster`: by more than the threshold and more than the noise of both.
 * - `noise`: by more than the threshold, but the noise of both is larger still.
 * - `same`: by less than the threshold.
 * - `wrong`: the later result is not right, whatever its time.
 */
export type Verdict = "slower" | "faster" | "noise" | "same" | "wrong";

export interface Change {
  before: MeasurementRecord;
  after: MeasurementRecord;
  /** The time after over the time before, less 1. */
  change: number;
  /** Of both times together, relative: half the distance from the 10th to the 90th percentile, added as squares. */
  noise: number;
  /** The same change of the read floor, which no kernel of ours has a part in; absent where one file has none. */
  floorChange?: number;
  verdict: Verdict;
}

export interface Comparison {
  changes: Change[];
  /** What the earlier file has and the later one lists as a fault: it worked once. */
  broken: SkippedRecord[];
  /** What only the earlier file has, and only the later one. */
  gone: MeasurementRecord[];
  added: MeasurementRecord[];
}

/** What users of this project wait for; the baselines are not its own. */
const OURS: readonly MeasuredVariant[] = ["fused", "end-to-end"];

/** @param threshold the relative change that counts, e.g. 0.1. */
export function compareResults(before: NamedResult, after: NamedResult, threshold: number): Comparison {
  const earlier = indexOf(before);
  const later = indexOf(after);
  const comparison: Comparison = { changes: [], broken: [], gone: [], added: [] };
  for (const [key, b] of later) {
    if (!OURS.includes(b.variant)) continue;
    const a = earlier.get(key);
    if (a === undefined) {
      comparison.added.push(b);
      continue;
    }
    const change = b.median / a.median - 1;
    const noise = Math.hypot(noiseOf(a), noiseOf(b));
    const [floorA, floorB] = [earlier, later].map((index) => index.get(keyOf({ ...b, variant: "read-floor" })));
    comparison.changes.push({
      before: a,
      after: b,
      change,
      noise,
      ...(floorA && floorB && { floorChange: floorB.median / floorA.median - 1 }),
      verdict: b.check?.passed === false ? "wrong" : verdictOn(change, noise, threshold),
    });
  }
  const kinds = new Map(after.file.devices.map(({ backend, kind }) => [backend, kind]));
  const faults = new Map(
    after.file.skipped.flatMap((s) =>
      s.fault ? [[keyOf({ ...s, deviceKind: kinds.get(s.backend) }), s] as const] : [],
    ),
  );
  for (const [key, a] of earlier) {
    if (!OURS.includes(a.variant) || later.has(key)) continue;
    const fault = faults.get(key);
    if (fault === undefined) comparison.gone.push(a);
    else comparison.broken.push(fault);
  }
  return comparison;
}

function verdictOn(change: number, noise: number, threshold: number): Verdict {
  // As ratios, so that twice as fast counts as much as twice as slow.
  const size = Math.max(change, 1 / (1 + change) - 1);
  if (size <= threshold) return "same";
  if (size <= noise) return "noise";
  return change > 0 ? "slower" : "faster";
}

function noiseOf({ p10, p90, median }: MeasurementRecord): number {
  return (p90 - p10) / 2 / median;
}

/** By what was measured; of two alike in one file the first. */
function indexOf({ file }: NamedResult): Map<string, MeasurementRecord> {
  const index = new Map<string, MeasurementRecord>();
  for (const m of file.measurements) if (m.median > 0 && !index.has(keyOf(m))) index.set(keyOf(m), m);
  return index;
}

function keyOf(m: ScenarioRecord & { backend: string; deviceKind: string | undefined; variant: string }): string {
  return `${m.backend} ${m.deviceKind} ${m.variant} ${scenarioTitle(m)}`;
}

const shownAs: Readonly<Record<Verdict, string>> = {
  slower: "SLOWER",
  faster: "faster",
  noise: "within the noise",
  same: "",
  wrong: "WRONG RESULT",
};

export function comparisonTable({ changes }: Comparison): Table {
  return {
    columns: [
      words("scenario"),
      words("backend"),
      words("variant"),
      figures("before"),
      figures("after"),
      figures("change"),
      figures("noise"),
      figures("read floor"),
      words("verdict"),
    ],
    rows: changes.map(({ before, after, change, noise, floorChange, verdict }) => [
      scenarioTitle(after),
      backendLabel(after),
      after.variant,
      formatTime(before.median),
      formatTime(after.median),
      signed(change),
      `+- ${(100 * noise).toFixed(1)} %`,
      floorChange === undefined ? "" : signed(floorChange),
      shownAs[verdict],
    ]),
  };
}

/** How many of each verdict, in one line. */
export function summarizeComparison({ changes, broken, gone, added }: Comparison): string {
  const count = (verdict: Verdict) => changes.filter((change) => change.verdict === verdict).length;
  return [
    `${changes.length} compared: ${count("slower")} slower, ${count("faster")} faster, ${count("noise")} within the noise, ` +
      `${count("same")} the same, ${count("wrong")} wrong.`,
    ...(broken.length > 0 ? [`${broken.length} failed in the second file.`] : []),
    ...(gone.length > 0 ? [`${gone.length} only in the first file.`] : []),
    ...(added.length > 0 ? [`${added.length} only in the second file.`] : []),
  ].join(" ");
}

function signed(change: number): string {
  return `${change >= 0 ? "+" : "-"}${(100 * Math.abs(change)).toFixed(1)} %`;
}
