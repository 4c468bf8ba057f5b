/** Comparison of a result with the float64 reference. No Node here. */
import { probabilityBound } from "@fused-topk/conformance/cases";
import { type BackendName, type HostLogits, type SoftmaxTopK, softmaxTopKReference } from "@fused-topk/core";
import type { CheckRecord, MeasuredVariant, ScenarioRecord } from "./schema.js";

/** Baselines that are no product of this project need to be plausible, not within its contract. */
const PLAUSIBLE = 1e-3;

/** What rounding may add to the error of a logSumExp, relative to its size plus log(vocab), which is below 23. */
const ROUNDING = 2 ** -22;
const LARGEST_LOG_VOCAB = 23;

/** Below this a probability may be flushed to zero. */
const SMALLEST = 1e-30;

/** Template rows that a reference is worth computing for: it sorts the vocabulary. */
const REFERENCE_ROWS = 8;
const REFERENCE_LOGITS = 1 << 20;

/** The right answer for the first rows of a template. */
export interface Expected {
  /** Rows of the template that are answered, from the first. */
  rows: number;
  templateRows: number;
  result: SoftmaxTopK;
}

/** Computes the reference for some rows of a template of `templateRows x scenario.vocab` logits. */
export function expectedOf(scenario: ScenarioRecord, template: HostLogits, templateRows: number): Expected {
  const { vocab, k, dtype } = scenario;
  const rows = Math.min(templateRows, scenario.rows, Math.max(REFERENCE_ROWS, Math.floor(REFERENCE_LOGITS / vocab)));
  return { rows, templateRows, result: softmaxTopKReference(template, { rows, vocab, k, dtype }) };
}

/**
 * Compares every row whose logits the reference has answered; row r holds template row r % templateRows.
 *
 * The indices of a fused kernel must be the reference's. The unfused baseline ranks rounded probabilities, so that near
 * ties may come out in another order: for it the ranked probabilities alone count.
 */
export function checkResult(
  backend: BackendName,
  variant: MeasuredVariant,
  { rows: answered, templateRows, result: expected }: Expected,
  actual: Omit<SoftmaxTopK, "logSumExp"> & Partial<SoftmaxTopK>,
): CheckRecord {
  const { rows, k } = actual;
  const bound = variant === "unfused" ? PLAUSIBLE : probabilityBound[backend];
  let logSumExpRight = true;
  const check: CheckRecord = { rows: 0, rowsWithOtherIndices: 0, maxRelativeError: 0, passed: false };
  for (let r = 0; r < rows; r++) {
    const from = r % templateRows;
    if (from >= answered) continue;
    check.rows++;
    let same = true;
    for (let i = 0; i < k; i++) {
      const p = expected.probs[from * k + i]!;
      const q = actual.probs[r * k + i]!;
      if (expected.indices[from * k + i] !== actual.indices[r * k + i]) same = false;
      check.maxRelativeError = Math.max(check.maxRelativeError, relativeError(q, p));
    }
    if (!same) check.rowsWithOtherIndices++;
    if (actual.logSumExp === undefined) continue;
    if (!isNear(actual.logSumExp[r]!, expected.logSumExp[from]!, bound)) logSumExpRight = false;
  }
  const exact = check.rowsWithOtherIndices === 0 || variant === "unfused";
  check.passed = exact && check.maxRelativeError <= bound && logSumExpRight;
  return check;
}

function isNear(actual: number, expected: number, bound: number): boolean {
  if (Object.is(actual, expected)) return true;
  return Math.abs(actual - expected) <= bound + ROUNDING * (Math.abs(expected) + LARGEST_LOG_VOCAB);
}

/** Of q against p: 0 where both are NaN or too small to count, huge where one of them has no business to be. */
function relativeError(q: number, p: number): number {
  if (Object.is(q, p)) return 0;
  if (Math.abs(p) <= SMALLEST && Math.abs(q) <= 2 * SMALLEST) return 0;
  const error = Math.abs(q - p) / Math.abs(p);
  return Number.isFinite(error) ? error : Number.MAX_VALUE;
}
