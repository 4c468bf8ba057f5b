/** The logits of a run: those of a file, and those generated for a scenario, with the answer to each. */
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Options } from "./args.js";
import { expectedOf } from "./check.js";
import { convertLogits, type DataKind, generateLogits } from "./data.js";
import type { ScenarioInput } from "./measure.js";
import { type LogitsFile, parseNpy } from "./npy.js";
import type { ScenarioRecord } from "./schema.js";
import { UsageError } from "./usage-error.js";

export interface NamedLogits extends LogitsFile {
  name: string;
}

const sampleFile = new URL("./data/tiny-code-lm.npy", import.meta.url);

/** A template holds about this many logits, and at least this many rows if they fit; larger inputs repeat them. */
const TEMPLATE_LOGITS = 1 << 22;
const TEMPLATE_ROWS = 64;

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

/** The logits of a scenario and the reference's answer. */
export function makeInput(scenario: ScenarioRecord, file: NamedLogits, seed: number): ScenarioInput {
  const { rows, vocab, dtype, data } = scenario;
  const isFile = data === file.name;
  const fitting = Math.max(1, Math.floor(TEMPLATE_LOGITS / vocab));
  const templateRows = isFile ? file.rows : Math.min(fitting, Math.max(rows, TEMPLATE_ROWS));
  const template = isFile
    ? convertLogits(file.logits, file.dtype, dtype)
    : generateLogits(data as DataKind, templateRows, vocab, dtype, seed);
  return { scenario, template, templateRows, expected: expectedOf(scenario, template, templateRows) };
}
