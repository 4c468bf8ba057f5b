/** The command `run`: measures the scenarios of a plan on every device found. */
import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import type { DType } from "@fused-topk/core";
import type { Options } from "./args.js";
import { expectedOf } from "./check.js";
import { convertLogits, type DataKind, generateLogits } from "./data.js";
import { type Devices, defaultBackends, findDevices } from "./devices.js";
import { describeHost, version } from "./environment.js";
import { breathe, exitOnInterrupt } from "./interrupt.js";
import { type Effort, type MeasuredDevice, measureScenario, type ScenarioInput } from "./measure.js";
import { type LogitsFile, parseNpy } from "./npy.js";
import { Progress } from "./progress.js";
import { describeMachine, drawChecks, drawMeasurements, groupBy, legend, scenarioTitle } from "./report.js";
import { type DeviceRecord, type ResultFile, SCHEMA_VERSION, type ScenarioRecord } from "./schema.js";
import { planScenarios } from "./shapes.js";
import { UsageError } from "./usage-error.js";

const sampleFile = new URL("./data/tiny-code-lm.npy", import.meta.url);

const thorough: Readonly<Record<DeviceRecord["kind"], Effort>> = {
  gpu: { budget: 500, repeats: 50 },
  software: { budget: 400, repeats: 20 },
  cpu: { budget: 400, repeats: 20 },
};
const quick: Effort = { budget: 60, repeats: 5 };

/** A template holds about this many logits, and at most this many rows; larger inputs repeat them. */
const TEMPLATE_LOGITS = 1 << 22;
const TEMPLATE_ROWS = 64;

/** @returns the exit status: 1 when a result was wrong. */
export async function run(options: Options, argv: readonly string[]): Promise<number> {
  const file = await readLogitsFile(options);
  const plan = {
    shapes: options.shapes,
    k: options.k,
    dtypes: options.dtypes,
    data: options.data,
    input: file,
    inputOnly: options.input !== undefined,
    quick: options.quick,
  };
  planScenarios(plan, "cpu"); // a plan that cannot be is an error before any device is touched
  const progress = new Progress();
  exitOnInterrupt(progress, options.json === undefined ? "" : `${options.json} was not written.`);

  progress.update("Looking for devices");
  const devices = await findDevices(options.backends ?? defaultBackends);
  progress.clear();
  const result: ResultFile = {
    schema: SCHEMA_VERSION,
    date: new Date().toISOString(),
    version,
    command: [...argv],
    seed: options.seed,
    host: describeHost(),
    devices: devices.found.map(({ backend, name, kind, details }) => ({ backend, name, kind, details })),
    rejected: devices.rejected,
    measurements: [],
    skipped: [],
  };
  print(`fused-topk ${version}, ${result.date.slice(0, 10)}\n`);
  print(describeMachine(result.host, result.devices));
  for (const { backend, message } of result.rejected) print(`${backend.padEnd(8)} not here. ${message}`);
  if (devices.found.length === 0) return 1;
  if (options.backends !== undefined && devices.rejected.length > 0) {
    print("\nA backend that --backend asks for is missing.");
    return 1;
  }

  const measured = await openDevices(devices);
  checkPath(options.path, measured);
  const scenarios = planForAll(measured, (device) => planScenarios(plan, device.kind));
  for (const [i, { scenario, devices }] of scenarios.entries()) {
    const input = makeInput(scenario, file, options.seed);
    for (const device of devices) {
      const step = `[${i + 1}/${scenarios.length}] ${scenarioTitle(scenario)}, ${device.backend}`;
      const effort = options.quick ? quick : thorough[device.kind];
      const outcome = await measureScenario(
        device,
        input,
        effort,
        async (variant) => {
          progress.update(step, variant);
          await breathe();
        },
        options.path,
      );
      result.measurements.push(...outcome.measurements);
      result.skipped.push(...outcome.skipped);
    }
  }
  progress.clear();

  print(`\n${drawMeasurements(result.measurements)}\n\n${legend}`);
  for (const s of result.skipped) print(`\nNot measured: ${s.backend} ${s.variant}, ${scenarioTitle(s)}: ${s.reason}`);
  print(`\n${drawChecks(result.measurements)}`);
  if (options.json !== undefined) {
    await writeFile(options.json, `${JSON.stringify(result, null, 1)}\n`);
    print(`\nWrote ${options.json}`);
  }
  for (const { backendInstance, meter } of measured) await Promise.all([backendInstance.dispose(), meter.dispose()]);
  return result.measurements.some(({ check }) => check?.passed === false) ? 1 : 0;
}

async function openDevices({ found }: Devices): Promise<MeasuredDevice[]> {
  return Promise.all(
    found.map(async (device) => ({
      ...device,
      backendInstance: await device.createBackend(),
      meter: await device.createMeter(),
    })),
  );
}

function checkPath(path: string | undefined, measured: readonly MeasuredDevice[]): void {
  if (path === undefined) return;
  for (const { backend, meter } of measured) {
    if (!meter.paths.includes(path)) {
      throw new UsageError(
        `Expected one of ${meter.paths.join(", ")} for --path on ${backend} but received "${path}". ` +
          "Name a backend that has it with --backend.",
      );
    }
  }
}

interface Work {
  scenario: ScenarioRecord;
  devices: MeasuredDevice[];
}

/** Every scenario once, with the devices that measure it, so that logits and reference are made once for all of them. */
function planForAll(devices: readonly MeasuredDevice[], plan: (device: MeasuredDevice) => ScenarioRecord[]): Work[] {
  const work = new Map<string, Work>();
  for (const device of devices) {
    for (const scenario of plan(device)) {
      const key = JSON.stringify(scenario);
      const shared = work.get(key) ?? { scenario, devices: [] };
      shared.devices.push(device);
      work.set(key, shared);
    }
  }
  return [...groupBy(work.values(), ({ scenario }) => scenario.group).values()].flat();
}

async function readLogitsFile(options: Options): Promise<LogitsFile & { name: string }> {
  const path = options.input ?? sampleFile;
  const name = basename(typeof path === "string" ? path : path.pathname);
  const bytes = await readFile(path).catch((error: Error) => {
    throw new UsageError(`Could not read --input ${name}: ${error.message}. Check the path.`);
  });
  return {
    name,
    ...parseNpy(
      bytes,
      name,
      options.dtypes?.find((dtype) => dtype !== "f32"),
    ),
  };
}

function makeInput(scenario: ScenarioRecord, file: LogitsFile & { name: string }, seed: number): ScenarioInput {
  const { rows, vocab, dtype, data } = scenario;
  const fromFile = data === file.name;
  const few = Math.max(1, Math.floor(TEMPLATE_LOGITS / vocab));
  const templateRows = fromFile ? file.rows : Math.min(few, Math.max(rows, Math.min(TEMPLATE_ROWS, few)));
  const template = fromFile
    ? convertLogits(file.logits, file.dtype, dtype as DType)
    : generateLogits(data as DataKind, templateRows, vocab, dtype, seed);
  return { scenario, template, templateRows, expected: expectedOf(scenario, template, templateRows) };
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
