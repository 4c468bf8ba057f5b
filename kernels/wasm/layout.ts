// Where things lie in a memory: the results, then a region for each thread, then the caller's logits. A memory never grows, so
// that no view of it is ever detached.

// The largest K, and the most results of a job.
export const MAX_K: u32 = 65536;
// Logits that are searched and weighed while they are in the first-level cache: whole groups.
export const BLOCK: u32 = 1024;

// The results of a job, a row after the other.
export const PROBS: usize = (__heap_base + 63) & ~63;
export const INDICES: usize = PROBS + MAX_K * 4;
export const LOG_SUM_EXP: usize = INDICES + MAX_K * 4;
const THREADS: usize = LOG_SUM_EXP + MAX_K * 4;

// What a thread is handed: see threads.ts. Then its candidates of 8 bytes: twice K of them, so that a cut is paid for by K
// appends. Then a block as float32.
const RING_BYTES: usize = 256;
const CANDIDATES_BYTES: usize = MAX_K * 16;
const THREAD_BYTES: usize = RING_BYTES + CANDIDATES_BYTES + BLOCK * 4;

export let candidates: usize = candidates_of(0);
export let staged: usize = candidates + CANDIDATES_BYTES;

// This instance works as that thread from now on.
export function enter(thread: u32): void {
  candidates = candidates_of(thread);
  staged = candidates + CANDIDATES_BYTES;
}

export function ring_of(thread: u32): usize {
  return THREADS + <usize>thread * THREAD_BYTES;
}

export function candidates_of(thread: u32): usize {
  return ring_of(thread) + RING_BYTES;
}

// The first byte that is the caller's, where there are so many threads.
export function logits_address(threads: u32): usize {
  return ring_of(threads);
}
