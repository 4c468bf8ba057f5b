/** Ctrl-C: the process ends at once, tidily, with the status of an interrupted command. */
import type { Progress } from "./progress.js";

const INTERRUPTED = 130;

/** From now on Ctrl-C takes the progress line away, says what is lost and exits. */
export function exitOnInterrupt(progress: Progress, loss: string): void {
  process.on("SIGINT", () => {
    progress.clear();
    process.stderr.write(`Interrupted. ${loss}\n`);
    process.exit(INTERRUPTED);
  });
}

/** Lets the event loop turn, so that an interrupt is heard between two pieces of work that block it. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
