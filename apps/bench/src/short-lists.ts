/**
 * How often a short list in each thread loses one of the K best.
 *
 * A popular design gives every thread of a block a sorted list of L entries and merges the lists at the end. It is right
 * only while no thread sees more than L of the row's K best. Given the true K best this is a matter of counting, so
 * nothing of that design needs to be built to measure it.
 */
import { createCpuBackend, type DType, type HostLogits } from "@fused-topk/core";
import { generateLogits } from "./data.js";
import { figures, type Table, words } from "./table.js";

const THREADS = 256;
const PER_LOAD = 4; // a thread reads 16 bytes at a time: element i goes to thread floor(i / 4) % 256
const LENGTHS = [1, 2, 4, 8, 16, 32];

export interface Rows {
  name: string;
  logits: HostLogits;
  rows: number;
  vocab: number;
  dtype: DType;
}

/** Random rows, and rows whose K best a stride of the block hands to one thread. */
export function syntheticRows(vocab: number, k: number, seed: number): Rows[] {
  const rows = 200;
  const strided = new Float32Array(vocab);
  for (let i = 0, left = k; i < vocab && left > 0; i += THREADS * PER_LOAD) {
    for (let j = i; j < Math.min(i + PER_LOAD, vocab) && left > 0; j++, left--) strided[j] = 1;
  }
  return [
    { name: "random", logits: generateLogits("random", rows, vocab, "f32", seed), rows, vocab, dtype: "f32" },
    { name: "best K one stride apart", logits: strided, rows: 1, vocab, dtype: "f32" },
  ];
}

/** For each kind of rows and each list length, the share of rows that come out wrong. */
export async function shortListTable(kinds: readonly Rows[], k: number): Promise<Table> {
  const cpu = await createCpuBackend();
  const lines: string[][] = [];
  for (const { name, logits, rows, vocab, dtype } of kinds) {
    const { indices } = await cpu.softmaxTopK(logits, { rows, vocab, k, dtype });
    const fullest = Array.from({ length: rows }, (_, r) => mostInOneThread(indices.subarray(r * k, (r + 1) * k)));
    const wrong = LENGTHS.map((length) => fullest.filter((count) => count > length).length / rows);
    lines.push([
      name,
      String(rows),
      ...wrong.map((share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`),
    ]);
  }
  await cpu.dispose();
  return {
    columns: [
      words(`rows wrong, K = ${k}`),
      figures("rows"),
      ...LENGTHS.map((length) => figures(`lists of ${length}`)),
    ],
    rows: lines,
  };
}

function mostInOneThread(indices: Uint32Array): number {
  const counts = new Uint32Array(THREADS);
  for (const index of indices) counts[Math.floor(index / PER_LOAD) % THREADS]!++;
  return Math.max(...counts);
}
