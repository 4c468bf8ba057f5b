/** The command `verify`: the conformance cases on every backend found, in every configuration of it. */
import { writeFile } from "node:fs/promises";
import type { Options } from "./args.js";
import { forcedPath } from "./configuration.js";
import { defaultBackends, findDevices } from "./devices.js";
import { describeHost } from "./environment.js";
import { formatCount } from "./format.js";
import { breathe, exitOnInterrupt } from "./interrupt.js";
import { newResultFile } from "./new-result.js";
import { print } from "./print.js";
import { Progress } from "./progress.js";
import { describeMachine, verificationTable, verificationTotals } from "./result-tables.js";
import { formatResultFile } from "./schema.js";
import { drawText } from "./table.js";
import { verifyConfiguration } from "./verify-configuration.js";

/** @returns the exit status: 1 when a case failed or a backend that was asked for is missing. */
export async function verify(options: Options, argv: readonly string[]): Promise<number> {
  const progress = new Progress();
  exitOnInterrupt(progress, options.json === undefined ? "" : `${options.json} was not written.`);
  progress.update("Looking for devices");
  const { found, rejected } = await findDevices(options.backends ?? defaultBackends);
  progress.clear();
  const result = newResultFile(describeHost(), argv, options.seed, found, rejected);
  print(`fused-topk ${result.version}\n\n${describeMachine(result)}`);
  if (options.backends !== undefined && rejected.length > 0) {
    print("\nA backend that --backend asks for is missing.");
    return 1;
  }

  const untaken: string[] = [];
  for (const device of found) {
    const { path } = options;
    const configurations = path === undefined ? device.configurations : [forcedPath(device, path)];
    for (const configuration of configurations) {
      const { record, taken } = await verifyConfiguration(device, configuration, {
        set: options.full ? "full" : "quick",
        forced: path !== undefined,
        breathe,
        onProgress: (title, { done, total, promise }) => progress.update(`${title}: ${promise}`, `${done}/${total}`),
      });
      progress.clear();
      if (!taken) untaken.push(record.configuration);
      result.verifications.push(record);
      print(`\n${record.configuration}: ${device.name}\n${drawText(verificationTable(record))}`);
      if (record.outside > 0)
        print(`  ${formatCount(record.outside)} calls were beyond it and took the ordinary path.`);
      for (const { promise, firstFailure } of record.groups) {
        if (firstFailure !== undefined) print(`\nFAILED: ${promise}\n  ${firstFailure}`);
      }
    }
  }
  print(`\nall together\n${drawText(verificationTotals(result.verifications))}`);
  const failed = result.verifications.reduce((sum, record) => sum + record.failed, 0);
  if (failed > 0) print(`\n${formatCount(failed)} cases failed.`);
  else if (untaken.length > 0) print(`\nNo case could take the path of ${untaken.join("; ")}.`);
  else print("\nEvery case passed: the same indices on every backend, equal to the float64 reference.");
  if (options.json !== undefined) {
    await writeFile(options.json, formatResultFile(result));
    print(`\nWrote ${options.json}`);
  }
  return failed === 0 && untaken.length === 0 ? 0 : 1;
}
