/** The logits of a file: `--input`, or the sample of real ones. */
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Options } from "./args.js";
import type { NamedLogits } from "./input.js";
import { parseNpy } from "./npy.js";
import { UsageError } from "./usage-error.js";

const sampleFile = new URL("./data/tiny-code-lm.npy", import.meta.url);

/**
 * Reads `--input`, or the sample of real logits.
 *
 * @throws {UsageError} when there is no such file, or it holds something else.
 */
export async function readLogits({ input, dtypes }: Options): Promise<NamedLogits> {
  const name = basename(input ?? sampleFile.pathname);
  const bytes = await readFile(input ?? sampleFile).catch((error: Error) => {
    throw new UsageError(`Could not read --input ${name}: ${error.message}. Check the path.`);
  });
  return {
    name,
    ...parseNpy(
      bytes,
      name,
      dtypes?.find((dtype) => dtype !== "f32"),
    ),
  };
}
