/** Where `--json` writes. */
import { existsSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import { UsageError } from "./usage-error.js";

/**
 * Opens the file as writing it will, before minutes are spent on what goes into it, and leaves all as it was.
 *
 * @throws {UsageError} when it cannot be written.
 */
export async function requireWritable(path: string): Promise<void> {
  const isNew = !existsSync(path);
  try {
    await (await open(path, "a")).close();
    if (isNew) await rm(path);
  } catch (error) {
    throw new UsageError(`Could not write --json ${path}: ${(error as Error).message}. Check the path.`);
  }
}
