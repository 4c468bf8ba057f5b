import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  compareCandidates,
  KEY_NAN,
  KEY_NEGATIVE_INFINITY,
  KEY_POSITIVE_INFINITY,
  logitOfKey,
  orderKey,
} from "../src/order.js";
import { fromBits } from "./arbitrary.js";

const anyFloat32 = fc.integer({ min: 0, max: 2 ** 32 - 1 }).map(fromBits);

describe("orderKey", () => {
  test("orders any two numbers as < and > do", () => {
    fc.assert(
      fc.property(anyFloat32, anyFloat32, (a, b) => {
        fc.pre(!Number.isNaN(a) && !Number.isNaN(b));
        expect(Math.sign(orderKey(a) - orderKey(b))).toBe(a < b ? -1 : a > b ? 1 : 0);
      }),
      { numRuns: 20_000 },
    );
  });

  test("neighbours in float32 are neighbours in key, from -largest to +largest", () => {
    for (const start of [0x00000001, 0x007fffff, 0x00800000, 0x3f800000, 0x7f7ffffe]) {
      expect(orderKey(fromBits(start + 1)) - orderKey(fromBits(start))).toBe(1);
      expect(orderKey(-fromBits(start)) - orderKey(-fromBits(start + 1))).toBe(1);
    }
  });

  test("+0 and -0 are equal, and lie between the two smallest subnormals", () => {
    expect(orderKey(-0)).toBe(orderKey(0));
    expect(orderKey(0)).toBeLessThan(orderKey(2 ** -149));
    expect(orderKey(0)).toBeGreaterThan(orderKey(-(2 ** -149)));
  });

  test("+inf comes first, -inf after every finite logit, NaN after everything", () => {
    const largest = fromBits(0x7f7fffff);
    const keys = [Number.POSITIVE_INFINITY, largest, 0, -largest, Number.NEGATIVE_INFINITY, Number.NaN].map(orderKey);
    expect(keys).toEqual([...keys].sort((a, b) => b - a));
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys[0]).toBe(KEY_POSITIVE_INFINITY);
    expect(keys[4]).toBe(KEY_NEGATIVE_INFINITY);
    expect(keys[5]).toBe(KEY_NAN);
  });

  test("every NaN has one key, whatever its sign and payload", () => {
    for (const bits of [0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff]) expect(orderKey(fromBits(bits))).toBe(KEY_NAN);
  });

  test("is undone by logitOfKey, but for the sign of zero", () => {
    fc.assert(
      fc.property(anyFloat32, (x) => Object.is(logitOfKey(orderKey(x)), x + 0)),
      { numRuns: 20_000 },
    );
    for (const x of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 2 ** -149, -(2 ** -149)]) {
      expect(logitOfKey(orderKey(x))).toBe(x);
    }
  });

  test("is a uint32", () => {
    fc.assert(fc.property(anyFloat32, (x) => orderKey(x) === orderKey(x) >>> 0));
  });
});

describe("compareCandidates", () => {
  test("puts the greater logit first, then the lower index", () => {
    expect(compareCandidates(2, 9, 1, 0)).toBeLessThan(0);
    expect(compareCandidates(1, 0, 2, 9)).toBeGreaterThan(0);
    expect(compareCandidates(1, 3, 1, 4)).toBeLessThan(0);
    expect(compareCandidates(-0, 3, 0, 4)).toBeLessThan(0);
    expect(compareCandidates(Number.NaN, 0, Number.NEGATIVE_INFINITY, 9)).toBeGreaterThan(0);
  });

  test("is a strict total order over distinct indices: antisymmetric and transitive", () => {
    const few = fc.oneof(anyFloat32, fc.constantFrom(0, -0, 1, Number.NaN, Number.NEGATIVE_INFINITY));
    fc.assert(
      fc.property(few, few, few, (a, b, c) => {
        expect(Math.sign(compareCandidates(a, 0, b, 1))).toBe(-Math.sign(compareCandidates(b, 1, a, 0)));
        expect(compareCandidates(a, 0, b, 1)).not.toBe(0);
        const sorted = [
          { x: a, i: 0 },
          { x: b, i: 1 },
          { x: c, i: 2 },
        ].sort((p, q) => compareCandidates(p.x, p.i, q.x, q.i));
        expect(compareCandidates(sorted[0]!.x, sorted[0]!.i, sorted[2]!.x, sorted[2]!.i)).toBeLessThan(0);
      }),
    );
  });
});
