/** Result files on disk. */
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { NamedResult } from "./device-labels.js";
import { parseResultText } from "./schema.js";
import { UsageError } from "./usage-error.js";

/** @throws {UsageError} when there is no such file, or it is no result file; then it names the field. */
export async function readResultFile(path: string): Promise<NamedResult> {
  const name = basename(path);
  const text = await readFile(path, "utf8").catch((error: Error) => {
    throw new UsageError(`Could not read ${path}: ${error.message}. Check the path.`);
  });
  try {
    return { name, file: parseResultText(text, name) };
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
