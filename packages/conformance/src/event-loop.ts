/// <reference types="node" />
/** How long a call keeps the event loop from everything else. */

/** Milliseconds. */
export interface EventLoopGaps {
  /** From the call to its result. */
  call: number;
  /** The longest time in it without a turn of the event loop. */
  longest: number;
  turns: number;
}

/** Watches the event loop during a call. */
export async function watchEventLoop(call: () => Promise<unknown>): Promise<EventLoopGaps> {
  const begin = performance.now();
  let last = begin;
  let longest = 0;
  let turns = 0;
  const gapEnds = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  };
  let next = setImmediate(function turn() {
    turns++;
    gapEnds();
    next = setImmediate(turn);
  });
  try {
    await call();
  } finally {
    clearImmediate(next);
    gapEnds();
  }
  return { call: last - begin, longest, turns };
}
