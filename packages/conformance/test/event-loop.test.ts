/** What the suite's test of the event loop rests on. */
import { expect, test } from "vitest";
import { watchEventLoop } from "../src/event-loop.js";

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

function block(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

test("a call that blocks is one long gap, even if it gives a turn first", async () => {
  const { call, longest, turns } = await watchEventLoop(async () => {
    await nextTurn();
    block(40);
  });
  expect(turns).toBeGreaterThan(0);
  expect(longest).toBeGreaterThan(call / 2);
});

test("a call that waits leaves short gaps", async () => {
  const { call, longest } = await watchEventLoop(() => new Promise((resolve) => setTimeout(resolve, 200)));
  expect(call).toBeGreaterThan(190);
  expect(longest).toBeLessThan(call / 2);
});
