/** Comparison of a result with the float64 reference. No Node here. */
import {
  isLogSumExpRight,
  isProbabilityRight,
  probabilityBound,
  probabilityErrorOf,
} from "@fused-topk/conformance/cases";
import { type BackendName, type HostLogits, type SoftmaxTopK, softmaxTopKReference } from "@fused-topk/core";
import type { CheckRecord, MeasuredVariant, ScenarioRecord } from "./schema.js";

/** Baselines that are no product of this project need to be plausible, not within its contract: to this, or to 1e-30. */
const PLAUSIBLE = 1e-3;
const SMALLEST = 1e-30;

/** Template rows that a reference is worth computing for: it sorts the vocabulary. */
const REFERENCE_ROWS = 8;
const REFERENCE_LOGITS = 1 << 20;

/** The right answer for the first rows of a template. */
export interface Expected {
  scenario: ScenarioRecord;
  /** Rows of the template that are answered, from the first. */
  rows: number;
  templateRows: number;
  result: SoftmaxTopK;
}

/** What is compared: a result, or what a peer gives of one. */
type Answer = Pick<SoftmaxTopK, "probs" | "indices"> & Partial<SoftmaxTopK>;

/** Computes the reference for some rows of a template of `templateRows x scenario.vocab` logits. */
export function expectedOf(scenario: ScenarioRecord, template: HostLogits, templateRows: number): Expected {
  const { vocab, k, dtype } = scenario;
  const rows = Math.min(templateRows, scenario.rows, Math.max(REFERENCE_ROWS, Math.floor(REFERENCE_LOGITS / vocab)));
  return { scenario, rows, templateRows, result: softmaxTopKReference(template, { rows, vocab, k, dtype }) };
}

/**
 * Compares every row whose logits the reference has answered; row r holds template row r % templateRows. A result of another
 * size than was asked for fails with no row compared.
 *
 * The indices of a fused kernel must be the reference's. The unfused baseline ranks rounded probabilities, so that near
 * ties may come out in another order: for it the ranked probabilities alone count.
 *
 * @param rows those that were asked for, from the first: of a scenario all.
 */
export function checkResult(
  backend: BackendName,
  variant: MeasuredVariant,
  { scenario: { vocab, k, rows: allRows }, rows: answered, templateRows, result: expected }: Expected,
  actual: Answer,
  rows = allRows,
): CheckRecord {
  const check: CheckRecord = { rows: 0, rowsWithOtherIndices: 0, maxRelativeError: 0, passed: false };
  if (!hasSize(actual, rows, k)) return check;
  const isForeign = variant === "unfused";
  const isRight = isForeign ? isPlausible : isProbabilityRight;
  const bound = isForeign ? PLAUSIBLE : probabilityBound[backend];
  let numbersRight = true;
  for (let r = 0; r < rows; r++) {
    const from = r % templateRows;
    if (from >= answered) continue;
    check.rows++;
    let same = true;
    for (let i = 0; i < k; i++) {
      const p = expected.probs[from * k + i]!;
      const q = actual.probs[r * k + i]!;
      if (expected.indices[from * k + i] !== actual.indices[r * k + i]) same = false;
      if (!isRight(q, p, backend)) numbersRight = false;
      check.maxRelativeError = Math.max(check.maxRelativeError, probabilityErrorOf(q, p));
    }
    if (!same) check.rowsWithOtherIndices++;
    if (actual.logSumExp === undefined) continue;
    if (!isLogSumExpRight(actual.logSumExp[r]!, expected.logSumExp[from]!, vocab, bound)) numbersRight = false;
  }
  check.passed = check.rows > 0 && numbersRight && (isForeign || check.rowsWithOtherIndices === 0);
  return check;
}

/** Whether the arrays have the size, and what the result says of itself is the same. */
function hasSize({ probs, indices, logSumExp, ...said }: Answer, rows: number, k: number): boolean {
  return (
    (said.rows ?? rows) === rows &&
    (said.k ?? k) === k &&
    probs.length === rows * k &&
    indices.length === rows * k &&
    (logSumExp === undefined || logSumExp.length === rows)
  );
}

function isPlausible(q: number, p: number): boolean {
  return Object.is(q, p) || Math.abs(q - p) <= PLAUSIBLE * p + SMALLEST;
}
