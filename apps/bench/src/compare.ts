/** The command `compare`: what got slower from one result file to another. */
import type { Options } from "./args.js";
import { compareResults, comparisonTable, summarizeComparison } from "./comparison.js";
import { print } from "./print.js";
import { readResultFile } from "./result-file.js";
import { describeMachine, drawSkipped, scenarioTitle } from "./result-tables.js";
import { drawText } from "./table.js";
import { UsageError } from "./usage-error.js";

const DEFAULT_THRESHOLD = 10;

/** @returns the exit status: 1 when something got slower past the threshold and the noise, stopped working, or is wrong. */
export async function compare({ files, threshold = DEFAULT_THRESHOLD }: Options): Promise<number> {
  if (files.length !== 2) {
    throw new UsageError(
      `Expected two result files for compare but received ${files.length}. Write compare before.json after.json.`,
    );
  }
  const [before, after] = await Promise.all(files.map(readResultFile));
  const comparison = compareResults(before!, after!, threshold / 100);
  const { changes, broken, gone } = comparison;
  if (changes.length + broken.length === 0) {
    throw new UsageError(
      `Expected measurements of the same scenarios in ${files.join(" and ")} but found none in common. ` +
        "Run both with the same options.",
    );
  }
  for (const { name, file } of [before!, after!])
    print(`${name}, ${file.date.slice(0, 10)}\n${describeMachine(file)}\n`);
  print(drawText(comparisonTable(comparison)));
  for (const line of drawSkipped(broken)) print(`  ${line}`);
  for (const m of gone) print(`  Only in ${before!.name}: ${m.backend} ${m.variant}, ${scenarioTitle(m)}`);
  print(`\nchange     past ${threshold} % counts, if it is past the noise too`);
  print("noise      half the distance from the 10th to the 90th percentile, of both files together");
  print("read floor its change: where it moves along, the machine did it");
  print(`\n${summarizeComparison(comparison)}`);
  return broken.length > 0 || changes.some(({ verdict }) => verdict === "slower" || verdict === "wrong") ? 1 : 0;
}
