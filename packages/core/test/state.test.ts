/** The laws of RowState: kernels/README.md, one by one. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { empty, finish, merge, push, type RowState, type SoftmaxTopK, softmaxTopKReference } from "../src/index.js";
import { logit } from "./arbitrary.js";

const temperature = fc.constantFrom(1, 0.7, 3, 0.05);
const k = fc.integer({ min: 1, max: 6 });
const part = fc.array(logit, { maxLength: 12 });

/** The state over logits at `start`, `start + 1`, ... */
function stateOf(logits: readonly number[], k: number, start = 0, temperature = 1): RowState {
  const state = empty(k);
  logits.forEach((x, i) => {
    push(state, x, start + i, temperature);
  });
  return state;
}

/** `max` and `top` are equal bit for bit, `sum` up to rounding. */
function expectSame(a: RowState, b: RowState): void {
  expect({ ...a, sum: 0 }).toEqual({ ...b, sum: 0 });
  if (Number.isNaN(b.sum)) expect(a.sum).toBeNaN();
  else expect(Math.abs(a.sum - b.sum)).toBeLessThanOrEqual(1e-13 * b.sum);
}

describe("the laws", () => {
  test("empty is the identity of merge, on both sides", () => {
    fc.assert(
      fc.property(part, k, temperature, (logits, k, t) => {
        const state = stateOf(logits, k, 0, t);
        expect(merge(empty(k), state, t)).toEqual(state);
        expect(merge(state, empty(k), t)).toEqual(state);
      }),
    );
  });

  test("merge is commutative", () => {
    fc.assert(
      fc.property(part, part, k, temperature, (one, two, k, t) => {
        const a = stateOf(one, k, 0, t);
        const b = stateOf(two, k, one.length, t);
        expectSame(merge(a, b, t), merge(b, a, t));
      }),
    );
  });

  test("merge is associative", () => {
    fc.assert(
      fc.property(part, part, part, k, temperature, (one, two, three, k, t) => {
        const a = stateOf(one, k, 0, t);
        const b = stateOf(two, k, one.length, t);
        const c = stateOf(three, k, one.length + two.length, t);
        expectSame(merge(merge(a, b, t), c, t), merge(a, merge(b, c, t), t));
      }),
    );
  });

  test("push is merge with the state of one logit", () => {
    fc.assert(
      fc.property(part, logit, k, temperature, (logits, x, k, t) => {
        const before = stateOf(logits, k, 0, t);
        const one = stateOf([x], k, logits.length, t);
        const merged = merge(before, one, t);
        push(before, x, logits.length, t);
        expectSame(before, merged);
      }),
    );
  });

  test("merge leaves its arguments alone", () => {
    fc.assert(
      fc.property(part, part, k, (one, two, k) => {
        const a = stateOf(one, k);
        const b = stateOf(two, k, one.length);
        const copy = (state: RowState) => ({ ...state, top: state.top.map((candidate) => ({ ...candidate })) });
        const kept = [copy(a), copy(b)];
        merge(a, b);
        expect([a, b]).toEqual(kept);
      }),
    );
  });
});

test("a row cut anywhere into parts, merged in any order and grouping, is the reference", () => {
  const row = fc.array(logit, { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(row, fc.infiniteStream(fc.nat()), temperature, (logits, choices, t) => {
      const choose = (count: number) => choices.next().value! % count;
      const k = 1 + choose(logits.length);
      let states: RowState[] = [];
      for (let start = 0; start < logits.length; ) {
        const end = start + 1 + choose(logits.length - start);
        states.push(stateOf(logits.slice(start, end), k, start, t));
        start = end;
      }
      while (states.length > 1) {
        const a = states.splice(choose(states.length), 1)[0]!;
        const b = states.splice(choose(states.length), 1)[0]!;
        states = [...states, merge(a, b, t)];
      }
      const result: SoftmaxTopK = {
        rows: 1,
        k,
        probs: new Float32Array(k).fill(-1),
        indices: new Uint32Array(k).fill(99),
        logSumExp: new Float32Array(1).fill(-1),
      };
      finish(states[0]!, result, 0, t);
      const options = { rows: 1, vocab: logits.length, k, temperature: t };
      const reference = softmaxTopKReference(Float32Array.from(logits), options);
      expect(result.indices).toEqual(reference.indices);
      expectClose(result.probs, reference.probs);
      expectClose(result.logSumExp, reference.logSumExp);
    }),
    { numRuns: 500 },
  );
});

describe("special values", () => {
  test("a state of masked logits alone has sum 0, and they fill its top by index", () => {
    const state = stateOf([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY], 2);
    expect(state.sum).toBe(0);
    expect(state.top.map(({ index }) => index)).toEqual([0, 1]);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])("%s makes sum NaN for good, and leaves top exact", (special) => {
    const state = stateOf([1, special, 2], 3);
    expect(merge(state, stateOf([5], 3, 3)).sum).toBeNaN();
    expect(merge(empty(3), state).sum).toBeNaN();
    expect(state.top.map(({ index }) => index)).toEqual(Number.isNaN(special) ? [2, 0, 1] : [1, 2, 0]);
  });

  test("max skips NaN", () => {
    expect(stateOf([Number.NaN, -3, Number.NaN], 1).max).toBe(-3);
    expect(stateOf([Number.NaN], 1).max).toBe(Number.NEGATIVE_INFINITY);
  });

  test("logits at both ends of float32 do not overflow", () => {
    const state = stateOf([-3.4e38, 3.4e38, 3.4e38], 1);
    expect(state.sum).toBe(2);
    expect(state.max).toBe(3.4e38);
  });
});

/** Equal but for one rounding to float32. */
function expectClose(actual: Float32Array, expected: Float32Array): void {
  actual.forEach((a, i) => {
    const e = expected[i]!;
    if (Object.is(a, e)) return;
    expect(Math.abs(a - e)).toBeLessThanOrEqual(2 ** -23 * Math.abs(e) + 2 ** -149);
  });
}
