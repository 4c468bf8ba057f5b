/** The command `verify`: the conformance cases on every backend found, in every configuration of it. */
import type { Family, Report } from "@fused-topk/conformance/cases";
import { runCases } from "@fused-topk/conformance/cases";
import type { Options } from "./args.js";
import { forcedPath } from "./configuration.js";
import { defaultBackends, findDevices } from "./devices.js";
import { describeHost, version } from "./environment.js";
import { formatCount, formatError } from "./format.js";
import { breathe, exitOnInterrupt } from "./interrupt.js";
import { Progress } from "./progress.js";
import { describeMachine } from "./report.js";
import { drawText, figures, words } from "./table.js";

/** @returns the exit status: 1 when a case failed or a backend that was asked for is missing. */
export async function verify(options: Options): Promise<number> {
  const progress = new Progress();
  exitOnInterrupt(progress, "Nothing is verified.");
  progress.update("Looking for devices");
  const { found, rejected } = await findDevices(options.backends ?? defaultBackends);
  progress.clear();
  print(`fused-topk ${version}\n`);
  print(describeMachine({ host: describeHost(), devices: found, rejected }));
  if (options.backends !== undefined && rejected.length > 0) {
    print("\nA backend that --backend asks for is missing.");
    return 1;
  }

  let failed = 0;
  const totals: string[][] = [];
  for (const device of found) {
    const configurations =
      options.path === undefined ? device.configurations : [await forcedPath(device, options.path)];
    for (const { name, open } of configurations) {
      const title = name === "" ? device.backend : `${device.backend}, ${name}`;
      const { backend, call, outside, close } = await open();
      const report = await runCases(backend, {
        set: options.full ? "full" : "quick",
        filter: options.path === undefined ? () => true : isPlain,
        call: async (logits, problem) => {
          await breathe();
          return call(logits, problem);
        },
        onProgress: ({ done, total, promise }) => progress.update(`${title}: ${promise}`, `${done}/${total}`),
      });
      await close();
      progress.clear();
      print(`\n${title}: ${device.name}\n${drawReport(report)}`);
      if (outside() > 0) print(`  ${formatCount(outside())} calls were beyond this path and took the ordinary one.`);
      for (const { promise, firstFailure } of report.groups) {
        if (firstFailure !== undefined) print(`\nFAILED: ${promise}\n  ${firstFailure}`);
      }
      failed += report.failed;
      totals.push([title, ...totalCells(report)]);
    }
  }
  const columns = [words("backend"), ...caseColumns];
  print(`\nall together, ${options.full ? "full" : "quick"} set\n${drawText({ columns, rows: totals })}`);
  print(
    failed === 0
      ? "\nEvery case passed: the same indices on every backend, equal to the float64 reference."
      : `\n${formatCount(failed)} cases failed.`,
  );
  return failed === 0 ? 0 : 1;
}

/** A path is forced through the meter, which takes dense rows at temperature 1. */
function isPlain({ offsets, paddings, temperatures }: Family): boolean {
  return offsets === undefined && paddings === undefined && temperatures === undefined;
}

const caseColumns = [
  figures("passed"),
  figures("failed"),
  figures("k > maxK"),
  figures("largest error, probs"),
  figures("logSumExp"),
];

function drawReport({ groups }: Report): string {
  return drawText({
    columns: [words("promise"), ...caseColumns],
    rows: groups.map((group) => [
      group.promise,
      formatCount(group.passed),
      formatCount(group.failed),
      formatCount(group.skipped),
      formatError(group.probabilityError),
      formatError(group.logSumExpError),
    ]),
  });
}

function totalCells({ passed, failed, skipped, groups }: Report): string[] {
  return [
    formatCount(passed),
    formatCount(failed),
    formatCount(skipped),
    formatError(Math.max(0, ...groups.map((group) => group.probabilityError))),
    formatError(Math.max(0, ...groups.map((group) => group.logSumExpError))),
  ];
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
