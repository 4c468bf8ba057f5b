/** What was typed, or a file named there, is wrong. Its message says how to put it right; the command exits with 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
