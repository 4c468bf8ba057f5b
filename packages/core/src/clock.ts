/** Timing by a clock that may be coarse: browsers round theirs, to 0.1 ms where a page is not isolated. */

/** A timing spans at least so many steps of the clock, so that rounding adds less than 5 %. */
const STEPS = 20;

/** Milliseconds from one reading of the clock to the next that differs: the least of a few. */
function clockStep(): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    const begin = performance.now();
    let now = begin;
    while (now === begin) now = performance.now();
    least = Math.min(least, now - begin);
  }
  return least;
}

let span: number | undefined;

/** Microseconds that a timing takes at least: next to none where the clock is fine. */
export function leastTiming(): number {
  span ??= STEPS * clockStep();
  return span * 1000;
}

/**
 * Calls until the clock can tell how long a call takes: once, where the clock is fine.
 *
 * @returns the last result, and microseconds a call.
 */
export async function timeCall<T>(call: () => Promise<T> | T): Promise<{ result: T; microseconds: number }> {
  const least = leastTiming() / 1000;
  const begin = performance.now();
  for (let calls = 1; ; calls++) {
    const answer = call();
    const result = answer instanceof Promise ? await answer : answer; // no turn of the event loop that is not needed
    const elapsed = performance.now() - begin;
    if (elapsed >= least) return { result, microseconds: (elapsed * 1000) / calls };
  }
}

/** Every runtime has it; the types of this package name no runtime. */
declare const performance: { now(): number };
