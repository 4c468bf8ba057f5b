/** The command `run`: measures the scenarios of a plan on every device found. */
import { writeFile } from "node:fs/promises";
import type { Options } from "./args.js";
import { checkPath } from "./configuration.js";
import { defaultBackends, findDevices } from "./devices.js";
import { describeHost } from "./environment.js";
import { makeInput } from "./input.js";
import { breathe, exitOnInterrupt } from "./interrupt.js";
import { readLogits } from "./logits-file.js";
import { effortOf, type MeasuredDevice, measureScenario } from "./measure.js";
import { newResultFile, version } from "./new-result.js";
import { print } from "./print.js";
import { Progress } from "./progress.js";
import {
  describeMachine,
  drawChecks,
  drawMeasurements,
  drawSkipped,
  groupBy,
  isFusedChecked,
  legend,
  scenarioTitle,
} from "./result-tables.js";
import { formatResultFile, type ScenarioRecord } from "./schema.js";
import { planScenarios, scalingAxes } from "./shapes.js";
import { openDevice, planForAll } from "./work.js";

/**
 * @returns the exit status: 1 when a result was wrong, no result of the fused kernel was compared, a measurement failed, or a
 * backend that was asked for is missing.
 */
export async function run(options: Options, argv: readonly string[]): Promise<number> {
  const file = await readLogits(options);
  const { shapes, k, dtypes, data } = options;
  const plan = { shapes, k, dtypes, data, input: file, inputOnly: options.input !== undefined, quick: options.quick };
  planScenarios(plan, "cpu"); // a plan that cannot be is an error before any device is touched
  const isWhole = shapes === undefined && options.input === undefined && data === undefined && !options.quick;
  print(`fused-topk ${version}${isWhole ? ": measures for about 2 minutes; --quick for 10 seconds" : ""}\n`);
  const progress = new Progress();
  exitOnInterrupt(progress, options.json === undefined ? "" : `${options.json} was not written.`);

  progress.update("Looking for devices");
  const { found, rejected } = await findDevices(options.backends ?? defaultBackends);
  progress.clear();
  const result = newResultFile(describeHost(), argv, options.seed, found, rejected);
  print(describeMachine(result));
  if (options.backends !== undefined && rejected.length > 0) {
    print("\nA backend that --backend asks for is missing.");
    return 1;
  }

  const devices = await Promise.all(found.map(openDevice));
  for (const { backend, meter } of devices) checkPath(options.path, backend, meter);
  const work = planForAll(devices, (device) => planScenarios(plan, device.kind));
  for (const asked of k ?? []) {
    const vocabs = new Set(work.map(({ scenario }) => scenario.vocab).filter((vocab) => vocab < asked));
    if (vocabs.size > 0) print(`\nK is at most the vocab: of ${[...vocabs].join(", ")} all are taken, not ${asked}.`);
  }
  print(`\n${legend}`);
  let begun = 0;
  const lost = new Set<MeasuredDevice>();
  for (const block of groupBy(work, ({ scenario }) => blockOf(scenario)).values()) {
    const before = result.measurements.length;
    for (const { scenario, devices } of block) {
      const input = makeInput(scenario, file, options.seed);
      begun++;
      for (const device of devices) {
        if (lost.has(device)) continue;
        const step = `[${begun}/${work.length}] ${scenarioTitle(scenario)}, ${device.backend}`;
        const effort = effortOf(device.kind, options.quick);
        const onVariant = async (variant: string) => {
          progress.update(step, variant);
          await breathe();
        };
        const { measurements, skipped, isLost } = await measureScenario(device, input, effort, onVariant, options.path);
        if (isLost) lost.add(device);
        result.measurements.push(...measurements);
        result.skipped.push(...skipped);
      }
    }
    progress.clear();
    print(`\n${drawMeasurements(result.measurements.slice(before))}`);
  }

  print(`\n${[...drawSkipped(result.skipped), drawChecks(result.measurements)].join("\n")}`);
  if (options.json !== undefined) {
    await writeFile(options.json, formatResultFile(result));
    print(`\nWrote ${options.json}`);
  }
  for (const { backendInstance, meter } of devices) await Promise.all([backendInstance.dispose(), meter.dispose()]);
  const isWrong = result.measurements.some(({ check }) => check?.passed === false);
  return isWrong || !isFusedChecked(result.measurements) || result.skipped.some(({ fault }) => fault) ? 1 : 0;
}

/** What is drawn together: the scenarios along an axis of growth, and every other one by itself. */
function blockOf(scenario: ScenarioRecord): string {
  return scenario.group in scalingAxes ? scenario.group : JSON.stringify(scenario);
}
