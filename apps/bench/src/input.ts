/** The logits of a scenario, from a file or generated, with the answer to them. No Node here. */
import { expectedOf } from "./check.js";
import { convertLogits, type DataKind, generateLogits } from "./data.js";
import type { ScenarioInput } from "./measure.js";
import type { LogitsFile } from "./npy.js";
import type { ScenarioRecord } from "./schema.js";

export interface NamedLogits extends LogitsFile {
  name: string;
}

/** A template holds about this many logits, and at least this many rows if they fit; larger inputs repeat them. */
const TEMPLATE_LOGITS = 1 << 22;
const TEMPLATE_ROWS = 64;

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
