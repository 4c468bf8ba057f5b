// How threads work together in a memory. One of them hands out tiles; each of the others takes them from a ring of its own, in
// order, and knows nothing of the rows beside. So nothing is locked, and whoever is fast is handed more.
//
// A tile is a part of a row, or some whole rows. A thread that is handed all of a row writes its results; where several had a
// part of it, each leaves its RowState behind, and the one that hands out merges them.
import { candidates_of, enter, ring_of } from "./layout";
import { end, max, sum } from "./row_state";
import { keep_top } from "./select";
import { begin, finish, push_logits } from "./softmax_topk";

// What is to be done with a tile.
const BEGINS: u32 = 1;
const FINISHES: u32 = 2;
const LEAVES: u32 = 4; // no logits: the state of the row is wanted
const RETURNS: u32 = 8; // no logits: the thread is wanted elsewhere

// Where a thread is.
const ABSENT: u32 = 0;
const ASLEEP: u32 = 1;
const AWAKE: u32 = 2;

// Times that a thread looks for a tile before it sleeps: some 50 us after a tile, since to wake it costs the caller 6, and 10
// after a call, since it may have been woken on the processor of the caller, who then waits for it.
const LOOKS: u32 = 50_000;
const LOOKS_WOKEN: u32 = 10_000;

const TILES: u32 = 4;

@unmanaged
class Tile {
  address: usize;
  count: u32; // logits of a row
  first: u32; // index of the first
  row: u32; // whose results these are, in the job
  rows: u32;
  row_bytes: usize; // from one to the next
  does: u32;
}

@unmanaged
class Ring {
  calls: u32; // what a thread that sleeps waits for
  presence: u32;
  handed: u32; // tiles
  taken: u32; // tiles that are done
  k: u32;
  dtype: u32;
  temperature: f64;
  // The state that was left behind: its candidates stay in their buffer.
  sum: f64;
  max: f32;
  held: u32;
}

// The caller's side. A thread has room for a few tiles; what it has been handed has a place in that order.

// Wakes a thread that has done all it was handed, and says what the next rows are.
export function hire(thread: u32, k: u32, dtype: u32, temperature: f64): void {
  const ring = ring_at(thread);
  ring.k = k;
  ring.dtype = dtype;
  ring.temperature = temperature;
  wake(thread);
}

// Whether a thread is awake and soon without a tile.
export function is_free(thread: u32): bool {
  return (
    atomic.load<u32>(ring_of(thread) + offsetof<Ring>("presence")) === AWAKE &&
    ring_at(thread).handed - taken(thread) < TILES / 2
  );
}

export function is_done(thread: u32): bool {
  return ring_at(thread).handed === taken(thread);
}

// How many tiles a thread has room for.
export function places(): u32 {
  return TILES;
}

// The place of the next tile, counted from 0.
export function place(thread: u32): u32 {
  return ring_at(thread).handed % TILES;
}

// Hands a tile. `begins`: it is the thread's first of the row; `finishes`: its last too, and no other thread has a part.
export function hand(
  thread: u32,
  address: usize,
  count: u32,
  first: u32,
  row: u32,
  rows: u32,
  row_bytes: usize,
  begins: bool,
  finishes: bool,
): void {
  put(thread, address, count, first, row, rows, row_bytes, (begins ? BEGINS : 0) | (finishes ? FINISHES : 0));
}

// Asks for the state of the row that a thread is at.
export function ask(thread: u32): void {
  put(thread, 0, 0, 0, 0, 0, 0, LEAVES);
}

// Lets a thread go that has done all it was handed.
export function dismiss(thread: u32): void {
  put(thread, 0, 0, 0, 0, 0, 0, RETURNS);
}

function put(
  thread: u32,
  address: usize,
  count: u32,
  first: u32,
  row: u32,
  rows: u32,
  row_bytes: usize,
  does: u32,
): void {
  const tile = tile_at(thread, ring_at(thread).handed);
  tile.address = address;
  tile.count = count;
  tile.first = first;
  tile.row = row;
  tile.rows = rows;
  tile.row_bytes = row_bytes;
  tile.does = does;
  atomic.add<u32>(ring_of(thread) + offsetof<Ring>("handed"), 1);
  wake(thread);
}

// The state that a thread left behind.
export function left_top(thread: u32): usize {
  return candidates_of(thread);
}
export function left_held(thread: u32): u32 {
  return ring_at(thread).held;
}
export function left_max(thread: u32): f32 {
  return ring_at(thread).max;
}
export function left_sum(thread: u32): f64 {
  return ring_at(thread).sum;
}

// The thread's side: takes tiles until it is dismissed.
export function attend(thread: u32): void {
  enter(thread);
  const presence = ring_of(thread) + offsetof<Ring>("presence");
  atomic.store<u32>(presence, AWAKE);
  let next = taken(thread);
  while (true) {
    await_tile(thread, next);
    const tile = tile_at(thread, next++);
    if (tile.does & RETURNS) break;
    take(ring_at(thread), tile);
    atomic.store<u32>(ring_of(thread) + offsetof<Ring>("taken"), next);
  }
  atomic.store<u32>(presence, ABSENT);
  atomic.store<u32>(ring_of(thread) + offsetof<Ring>("taken"), next);
}

// The state of the row that this instance is at, as that of thread 0.
export function leave_own(): void {
  leave(ring_at(0));
}

function leave(ring: Ring): void {
  end();
  ring.held = keep_top();
  ring.max = max;
  ring.sum = sum;
}

function take(ring: Ring, tile: Tile): void {
  if (tile.does & LEAVES) {
    leave(ring);
    return;
  }
  for (let i: u32 = 0; i < tile.rows; i++) {
    if (tile.does & BEGINS) begin(ring.k, ring.temperature);
    push_logits(tile.address + <usize>i * tile.row_bytes, tile.count, ring.dtype, tile.first);
    if (tile.does & FINISHES) finish(tile.row + i);
  }
}

// A thread says that it sleeps, and looks once more; a caller hands a tile, and looks whether the thread sleeps. So one of them
// sees the other. A call between that look and the sleep is not lost: the number of calls has changed.
function await_tile(thread: u32, next: u32): void {
  const ring = ring_of(thread);
  for (let looks = LOOKS; ; looks = LOOKS_WOKEN) {
    for (let i: u32 = 0; i < looks; i++) if (handed(thread) !== next) return;
    const calls = atomic.load<u32>(ring + offsetof<Ring>("calls"));
    atomic.store<u32>(ring + offsetof<Ring>("presence"), ASLEEP);
    if (handed(thread) === next) atomic.wait<i32>(ring + offsetof<Ring>("calls"), calls, -1);
    atomic.store<u32>(ring + offsetof<Ring>("presence"), AWAKE);
  }
}

function wake(thread: u32): void {
  const ring = ring_of(thread);
  if (atomic.load<u32>(ring + offsetof<Ring>("presence")) !== ASLEEP) return;
  atomic.add<u32>(ring + offsetof<Ring>("calls"), 1);
  atomic.notify(ring + offsetof<Ring>("calls"), 1);
}

function handed(thread: u32): u32 {
  return atomic.load<u32>(ring_of(thread) + offsetof<Ring>("handed"));
}

function taken(thread: u32): u32 {
  return atomic.load<u32>(ring_of(thread) + offsetof<Ring>("taken"));
}

function ring_at(thread: u32): Ring {
  return changetype<Ring>(ring_of(thread));
}

function tile_at(thread: u32, number: u32): Tile {
  return changetype<Tile>(ring_of(thread) + offsetof<Ring>() + <usize>(number % TILES) * offsetof<Tile>());
}
