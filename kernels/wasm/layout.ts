// Where things lie in the module's memory. It never grows, so that no view of it is ever detached.

// The largest K: what the fixed regions have room for.
export const MAX_K: u32 = 65536;
// Logits that are weighed and searched while they are in the first-level cache.
export const BLOCK: u32 = 1024;

// Candidates of 8 bytes; twice K of them, so that a cut is paid for by K appends.
export const CANDIDATES: usize = (__heap_base + 15) & ~15;
// The results of a row.
export const PROBS: usize = CANDIDATES + MAX_K * 16;
export const INDICES: usize = PROBS + MAX_K * 4;
// A block as float32, padded to whole groups of 16.
export const STAGE: usize = INDICES + MAX_K * 4;
// What is left belongs to the caller, for logits.
export const LOGITS: usize = STAGE + BLOCK * 4;
