/** Which thread takes which logits: whoever asks, and whenever, every logit is taken once. */
import { expect, test } from "vitest";
import { Job } from "../src/job.js";

const strideOf = () => 5; // coprime to the numbers of tiles below

test.each([
  ["one row", { rows: 1, vocab: 100_003, together: 1 }],
  ["several rows", { rows: 7, vocab: 100_003, together: 1 }],
  ["short rows", { rows: 1000, vocab: 300, together: 13 }],
])("%s, by three threads in any order", (_, { rows, vocab, together }) => {
  for (let seed = 1; seed < 200; seed++) {
    const job = new Job({ first: 2, rows, together, vocab, length: 8192 }, strideOf);
    const taken = new Uint8Array((2 + rows) * vocab);
    const finished = new Set<number>();
    let state = seed;
    // Thread 0 asks until there is nothing left; the others now and then.
    for (let piece = job.take(0); piece !== undefined; ) {
      const { part, first, count, finishes } = piece;
      for (let row = part.row; row < part.row + piece.rows; row++) {
        for (let i = 0; i < count; i++) taken[row * vocab + first + i]!++;
        if (finishes) finished.add(row);
      }
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      piece = job.take((state >>> 24) % 3) ?? job.take(0);
    }
    expect(taken.subarray(0, 2 * vocab).every((times) => times === 0)).toBe(true);
    expect(taken.subarray(2 * vocab).every((times) => times === 1)).toBe(true);
    // A row has been finished by the one thread that had all of it, or is shared.
    const shared = job.shared.map(({ row }) => row);
    expect(finished.size + shared.length).toBe(rows);
    expect(shared.some((row) => finished.has(row))).toBe(false);
    for (const thread of [1, 2]) {
      expect(job.shared.filter(({ threads }) => threads.includes(thread)).length).toBeLessThan(2);
    }
  }
});
