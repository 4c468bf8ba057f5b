/** What the suite's test of the event loop rests on. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { watchEventLoop } from "../src/event-loop.js";

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

/** A clock that stands still but for what a test says. */
let now: number;
beforeEach(() => {
  now = 0;
  vi.spyOn(performance, "now").mockImplementation(() => now);
});
afterEach(() => vi.restoreAllMocks());

test("a call that blocks is one long gap, even if it gives a turn first", async () => {
  const { call, longest, turns } = await watchEventLoop(async () => {
    await nextTurn();
    now += 40;
  });
  expect(turns).toBeGreaterThan(0);
  expect({ call, longest }).toEqual({ call: 40, longest: 40 });
});

test("a call that waits leaves short gaps", async () => {
  const { call, longest } = await watchEventLoop(async () => {
    for (let i = 0; i < 20; i++) {
      now += 10;
      await nextTurn();
    }
  });
  expect({ call, longest }).toEqual({ call: 200, longest: 10 });
});
