/** The candidate buffer of the CPU backend, beside a full sort. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { compareCandidates } from "../src/order.js";
import { CandidateBuffer } from "../src/select.js";
import { logit } from "./arbitrary.js";

/** What the buffer keeps of a row when, as in the backend, logits that do not beat the threshold are left out. */
function select(row: ArrayLike<number>, k: number, buffer = new CandidateBuffer(k, row.length)): number[] {
  buffer.clear();
  for (let i = 0; i < row.length; i++) if (!(row[i]! <= buffer.threshold)) buffer.append(row[i]!, i);
  buffer.sort();
  return Array.from({ length: k }, (_, place) => buffer.index(place));
}

function sorted(row: ArrayLike<number>, k: number): number[] {
  const order = Array.from(row, (_, i) => i);
  return order.sort((a, b) => compareCandidates(row[a]!, a, row[b]!, b)).slice(0, k);
}

test("keeps the K best of any row", () => {
  fc.assert(
    fc.property(fc.array(logit, { minLength: 1, maxLength: 60 }), fc.nat(), (row, choice) => {
      const k = 1 + (choice % row.length);
      expect(select(row, k)).toEqual(sorted(row, k));
    }),
  );
});

const long: Record<string, (i: number) => number> = {
  ascending: (i) => i,
  descending: (i) => -i,
  equal: () => 1,
  "two values": (i) => (i * 2654435761) & 1024,
  "organ pipe": (i) => Math.min(i, 20_000 - i),
  sawtooth: (i) => i % 97,
  "NaN and numbers": (i) => (i % 3 ? Number.NaN : i),
  "NaN alone": () => Number.NaN,
  "-inf alone": () => Number.NEGATIVE_INFINITY,
};

test.each(Object.entries(long))("cuts a full buffer exactly, many times: %s", (_, value) => {
  const row = Float32Array.from({ length: 20_000 }, (_, i) => value(i));
  for (const k of [1, 2, 50, 1024, 5000, 20_000]) expect(select(row, k)).toEqual(sorted(row, k));
});

test("clear forgets the row before", () => {
  const buffer = new CandidateBuffer(2, 5000);
  select(
    Float32Array.from({ length: 5000 }, (_, i) => i),
    2,
    buffer,
  );
  expect(select(Float32Array.of(-5, -3, -4), 2, buffer)).toEqual([1, 2]);
});
