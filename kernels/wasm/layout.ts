// Where things lie in a memory: what the threads share, then a region for each thread, then the caller's logits. A memory
// never grows, so that no view of it is ever detached.

// The largest K, and the most results of a job.
export const MAX_K: u32 = 65536;
// Logits that are searched and weighed while they are in the first-level cache: whole groups.
export const BLOCK: u32 = 1024;

// The job that the threads work at: see softmax_topk.ts.
export const JOB: usize = (__heap_base + 63) & ~63;
// The results of a job, a row after the other.
export const PROBS: usize = JOB + 128;
export const INDICES: usize = PROBS + MAX_K * 4;
export const LOG_SUM_EXP: usize = INDICES + MAX_K * 4;
const THREADS: usize = LOG_SUM_EXP + MAX_K * 4;

// A thread's candidates of 8 bytes: twice K of them, so that a cut is paid for by K appends. Then a block as float32.
const CANDIDATES_BYTES: usize = MAX_K * 16;
const THREAD_BYTES: usize = CANDIDATES_BYTES + BLOCK * 4;

export let candidates: usize = THREADS;
export let staged: usize = THREADS + CANDIDATES_BYTES;

// This instance works as that thread from now on.
export function enter(thread: u32): void {
  candidates = THREADS + <usize>thread * THREAD_BYTES;
  staged = candidates + CANDIDATES_BYTES;
}

// The first byte that is the caller's, where there are so many threads.
export function logits_address(threads: u32): usize {
  return THREADS + <usize>threads * THREAD_BYTES;
}
