/**
 * RowState, the idea everything else is built on: what is known of a row after some of its logits were seen.
 *
 *     empty    no logit seen: sum = 0, no candidates      (test sum == 0, never max == -inf)
 *     push     one more logit
 *     merge    two states over disjoint logits become one (associative, commutative; empty is its identity)
 *     finish   probabilities and logSumExp
 *
 * It is a monoid, so a row may be cut anywhere and the parts combined in any grouping. This file is the definition, in
 * float64 and kept plain; the kernels hold the same state in registers, shared memory and candidate buffers.
 *
 * Source: the online normaliser of Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
 */
import { compareCandidates } from "./order.js";
import type { SoftmaxTopK } from "./types.js";

/** What is known of a row after some of its logits were seen. */
export interface RowState {
  /** How many candidates `top` holds at most. */
  readonly k: number;
  /** The largest logit seen that is a number; -inf when there is none. */
  max: number;
  /** The sum of exp((x - max) / temperature) over the logits seen; NaN once a NaN or +inf was seen. */
  sum: number;
  /** The k best candidates seen, best first. */
  top: Candidate[];
}

/** A logit seen, and where. */
export interface Candidate {
  /** Its value, before the temperature. */
  logit: number;
  /** Its position in the row. */
  index: number;
}

/** The state of a row of which no logit was seen. */
export function empty(k: number): RowState {
  return { k, max: Number.NEGATIVE_INFINITY, sum: 0, top: [] };
}

/** Adds one logit, in place. `index` is its position in the row. */
export function push(state: RowState, logit: number, index: number, temperature = 1): void {
  const one = { k: state.k, max: logit, sum: weight(logit, logit, temperature), top: [{ logit, index }] };
  if (Number.isNaN(logit)) one.max = Number.NEGATIVE_INFINITY;
  Object.assign(state, merge(state, one, temperature));
}

/** The state over the logits of both. The two must have seen disjoint indices and have the same k. */
export function merge(a: RowState, b: RowState, temperature = 1): RowState {
  const max = Math.max(a.max, b.max);
  const sum = rescaled(a, max, temperature) + rescaled(b, max, temperature);
  return { k: a.k, max, sum, top: mergeTop(a.top, b.top, a.k) };
}

/** Writes row `row` of the result. The state must hold at least k candidates. */
export function finish(state: RowState, result: SoftmaxTopK, row: number, temperature = 1): void {
  const { k, max, sum, top } = state;
  for (let i = 0; i < k; i++) {
    const { logit, index } = top[i]!;
    result.probs[row * k + i] = probability(logit, max, sum, temperature);
    result.indices[row * k + i] = index;
  }
  result.logSumExp[row] = logSumExp(max, sum, temperature);
}

/** exp((logit - max) / temperature) / sum; 0 for a masked logit, NaN where the row has no softmax. */
export function probability(logit: number, max: number, sum: number, temperature: number): number {
  if (Number.isNaN(sum)) return Number.NaN;
  return sum === 0 ? 0 : weight(logit, max, temperature) / sum;
}

/** log(sum over j of exp(x_j / temperature)); -inf where every logit is masked, NaN where the row has no softmax. */
export function logSumExp(max: number, sum: number, temperature: number): number {
  if (Number.isNaN(sum)) return Number.NaN;
  return sum === 0 ? Number.NEGATIVE_INFINITY : max / temperature + Math.log(sum);
}

/** What one logit adds to the sum: exp((logit - max) / temperature), NaN for NaN and +inf, 0 for -inf. */
export function weight(logit: number, max: number, temperature: number): number {
  if (logit === Number.NEGATIVE_INFINITY) return 0;
  if (!(logit < Number.POSITIVE_INFINITY)) return Number.NaN;
  return Math.exp((logit - max) / temperature);
}

function rescaled(state: RowState, max: number, temperature: number): number {
  if (state.sum === 0 || Number.isNaN(state.sum)) return state.sum;
  return state.sum * weight(state.max, max, temperature);
}

function mergeTop(a: readonly Candidate[], b: readonly Candidate[], k: number): Candidate[] {
  const top: Candidate[] = [];
  let i = 0;
  let j = 0;
  while (top.length < k && (i < a.length || j < b.length)) {
    const x = a[i];
    const y = b[j];
    const takeA = !y || (x && compareCandidates(x.logit, x.index, y.logit, y.index) < 0);
    top.push(takeA ? x! : y!);
    if (takeA) i++;
    else j++;
  }
  return top;
}
