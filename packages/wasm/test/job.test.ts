/** Which thread takes which logits: whoever asks, and whenever, every logit is taken once, and who had part of a row is known. */
import { expect, test } from "vitest";
import { Job } from "../src/job.js";

test.each([
  ["one row", { rows: 1, vocab: 100_003, together: 1 }],
  ["several rows", { rows: 7, vocab: 100_003, together: 1 }],
  ["short rows", { rows: 1000, vocab: 300, together: 13 }],
])("%s, by three threads in any order", (_, { rows, vocab, together }) => {
  for (let seed = 1; seed < 20; seed++) {
    const job = new Job({ first: 2, rows, together, vocab, length: 8192 });
    const taken = new Uint8Array((2 + rows) * vocab);
    const holders = Array.from({ length: 2 + rows }, () => new Set<number>());
    const finished = new Set<number>();
    let state = seed;
    // The workers ask now and then; thread 0 asks until there is nothing left.
    while (true) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const asked = (state >>> 24) % 3;
      const piece = job.take(asked);
      if (piece === undefined && asked === 0) break;
      if (piece === undefined) continue;
      for (let row = piece.part.row; row < piece.part.row + piece.rows; row++) {
        const first = row * vocab + piece.first;
        for (let i = first; i < first + piece.count; i++) taken[i]!++;
        expect(piece.begins).toBe(!holders[row]!.has(asked));
        holders[row]!.add(asked);
        if (piece.finishes) finished.add(row);
      }
    }
    expect(taken.findIndex((times, i) => times !== (i < 2 * vocab ? 0 : 1))).toBe(-1);
    const shared = job.shared.flatMap(({ row }) => row);
    for (let row = 2; row < 2 + rows; row++) {
      expect([finished.has(row), shared.includes(row)]).toEqual(
        holders[row]!.size === 1 ? [true, false] : [false, true],
      );
    }
    // A worker holds the state of one row at most.
    for (const thread of [1, 2]) {
      expect(job.shared.filter(({ threads }) => threads.includes(thread)).length).toBeLessThan(2);
    }
  }
});
