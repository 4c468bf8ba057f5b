/** One scenario on one device: every variant timed, compared with the reference, and set in ratio. No Node here. */
import { type Backend, bytesPerElement, FusedTopKError, type HostLogits } from "@fused-topk/core";
import { leastTiming, type Measurement, type Meter, timeCall, type Variant } from "@fused-topk/core/measure";
import { checkResult, type Expected } from "./check.js";
import { repeatRows } from "./data.js";
import type {
  DeviceKind,
  DeviceRecord,
  MeasuredVariant,
  MeasurementRecord,
  ScenarioRecord,
  SkippedRecord,
} from "./schema.js";
import { quantile, rounded } from "./statistics.js";

/** A device that scenarios are measured on. */
export interface MeasuredDevice extends DeviceRecord {
  backendInstance: Backend;
  meter: Meter;
}

/** How long to measure. */
export interface Effort {
  /** Milliseconds to spend on the calls of one variant. */
  budget: number;
  /** Timings to take of one variant, if the budget allows. */
  repeats: number;
}

const thorough: Readonly<Record<DeviceKind, Effort>> = {
  gpu: { budget: 500, repeats: 50 },
  software: { budget: 400, repeats: 20 },
  cpu: { budget: 400, repeats: 20 },
};
const quick: Effort = { budget: 60, repeats: 5 };

/** How long to measure on a device of a kind. */
export function effortOf(kind: DeviceKind, isQuick: boolean): Effort {
  return isQuick ? quick : thorough[kind];
}

export interface ScenarioInput {
  scenario: ScenarioRecord;
  /** `templateRows x vocab` logits; row r of set s is template row (r + s) % templateRows. */
  template: HostLogits;
  templateRows: number;
  expected: Expected;
}

export interface ScenarioOutcome {
  measurements: MeasurementRecord[];
  skipped: SkippedRecord[];
  /** The device was lost, so nothing more can be measured on it. */
  isLost: boolean;
}

/** More than any GPU's second-level cache, four times over, so that no call finds its logits there. */
const COLD_BYTES = 4 * 60e6;
/** The same for a CPU, at a size that a small machine can hold. */
const COLD_BYTES_ON_CPU = 64e6;
/** A software adapter fills its sets at about 1 GB/s, so it gets fewer. */
const COLD_BYTES_ON_SOFTWARE = 8e6;
const MOST_SETS = 1024;
/** JavaScript is compiled for speed while it runs: this goes before it is timed. */
const WARM_UP: Effort = { budget: 100, repeats: 1000 };
/** Host arrays beyond this are not measured end to end. */
const MOST_HOST_BYTES = 2 ** 30;

/**
 * Measures the variants one after another. One that throws is skipped with the reason, and stops no other; it is a fault
 * unless the device cannot do it, for want of memory or because K is too large. A lost device ends the scenario.
 *
 * @param onVariant called before each variant.
 */
export async function measureScenario(
  device: MeasuredDevice,
  input: ScenarioInput,
  effort: Effort,
  onVariant: (variant: MeasuredVariant) => void | Promise<void>,
  path?: string,
): Promise<ScenarioOutcome> {
  const { scenario } = input;
  const outcome: ScenarioOutcome = { measurements: [], skipped: [], isLost: false };
  for (const variant of variantsOf(device.meter, scenario)) {
    await onVariant(variant);
    try {
      const measured = variant === "end-to-end" ? measureCalls : measureKernels;
      const measurement = await measured(device, input, effort, variant as Variant, path);
      outcome.measurements.push(record(device, input, variant, measurement));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      outcome.skipped.push({ ...scenario, backend: device.backend, variant, reason, fault: !isUnable(error) });
      outcome.isLost = error instanceof FusedTopKError && error.code === "ERR_DEVICE_LOST";
      if (outcome.isLost) break;
    }
  }
  setRatios(outcome.measurements);
  return outcome;
}

const EXP_VARIANTS: readonly MeasuredVariant[] = ["read-exp", "read-two-exps"];

/**
 * The group `exp` asks what exp costs; a scaling scenario draws curves of the kernel against its floor and the unfused
 * pair; the others get everything else.
 */
export function variantsOf(meter: Meter, { group }: ScenarioRecord): MeasuredVariant[] {
  const kernels = meter.variants.filter((variant) => !EXP_VARIANTS.includes(variant));
  if (group === "exp") return meter.variants.filter((variant) => variant === "fused" || variant.startsWith("read-"));
  if (group.startsWith("scaling-")) {
    return kernels.filter((variant) => variant !== "three-pass" && variant !== "pinned-copy");
  }
  return [...kernels, "end-to-end"];
}

/** Input sets that push each other out of the caches of the device. */
export function setsOf(kind: DeviceKind, { rows, vocab, dtype }: Omit<ScenarioRecord, "group" | "data">): number {
  const cold = { gpu: COLD_BYTES, cpu: COLD_BYTES_ON_CPU, software: COLD_BYTES_ON_SOFTWARE }[kind];
  return Math.min(MOST_SETS, Math.max(1, Math.ceil(cold / (rows * vocab * bytesPerElement[dtype]))));
}

type Timed = Measurement & { sets: number };

/** Times one variant on the device, cold. */
export async function measureKernels(
  device: MeasuredDevice,
  { scenario, template }: ScenarioInput,
  effort: Effort,
  variant: Variant,
  path?: string,
): Promise<Timed> {
  const { rows, vocab, k, dtype } = scenario;
  const sets = setsOf(device.kind, scenario);
  const measure = (repeats: number) =>
    device.meter.measure({
      variant,
      options: { rows, vocab, k, dtype },
      template,
      sets,
      repeats,
      ...(path !== undefined && variant === "fused" && { path }),
    });
  const first = await measure(1); // compiles what is to be compiled, and says how long one takes
  let repeats = affordable(effort, first.microseconds[0]!);
  if (repeats === 1) return { ...first, sets };
  if (device.kind === "cpu") {
    const warm = await measure(affordable(WARM_UP, first.microseconds[0]!));
    repeats = affordable(effort, quantile(warm.microseconds, 0.5));
  }
  return { ...(await measure(repeats)), sets };
}

async function measureCalls(device: MeasuredDevice, input: ScenarioInput, effort: Effort): Promise<Timed> {
  const { rows, vocab, k, dtype } = input.scenario;
  const bytes = rows * vocab * bytesPerElement[dtype];
  if (bytes > MOST_HOST_BYTES) {
    throw new FusedTopKError(
      "ERR_OUT_OF_MEMORY",
      `A host array of ${(bytes / 1e9).toFixed(1)} GB is beyond this bench.`,
    );
  }
  const sets = setsOf(device.kind, input.scenario);
  const inputs = Array.from({ length: sets }, (_, s) => repeatRows(input.template, input.templateRows, rows, s));
  let calls = 0;
  const call = () => device.backendInstance.softmaxTopK(inputs[calls++ % sets]!, { rows, vocab, k, dtype });
  const result = await call(); // compiles what is to be compiled
  const microseconds = [(await timeCall(call)).microseconds];
  const repeats = affordable(effort, microseconds[0]!);
  while (microseconds.length < repeats) microseconds.push((await timeCall(call)).microseconds);
  return { microseconds, result, launches: 0, bytesWritten: 0, scratchBytes: 0, path: "public API", sets };
}

function affordable({ budget, repeats }: Effort, microseconds: number): number {
  return Math.min(repeats, Math.max(1, Math.floor((budget * 1000) / Math.max(microseconds, leastTiming()))));
}

function record(
  device: MeasuredDevice,
  { scenario, expected }: ScenarioInput,
  variant: MeasuredVariant,
  { microseconds, result, launches, bytesWritten, scratchBytes, path, sets }: Timed,
): MeasurementRecord {
  const median = quantile(microseconds, 0.5);
  const bytes = scenario.rows * scenario.vocab * bytesPerElement[scenario.dtype];
  return {
    ...scenario,
    backend: device.backend,
    deviceKind: device.kind,
    variant,
    path,
    sets,
    samples: microseconds.map(rounded),
    median: rounded(median),
    p10: rounded(quantile(microseconds, 0.1)),
    p90: rounded(quantile(microseconds, 0.9)),
    gigabytesPerSecond: rounded(bytes / median / 1000),
    ...(variant !== "end-to-end" && { launches, bytesWritten, scratchBytes }),
    ...(result !== undefined && { check: checkResult(device.backend, variant, expected, result) }),
  };
}

function setRatios(measurements: MeasurementRecord[]): void {
  const medianOf = (name: Variant) => measurements.find(({ variant }) => variant === name)?.median;
  const unfused = medianOf("unfused");
  for (const measurement of measurements) {
    const { variant, median } = measurement;
    if (variant === "pinned-copy") continue;
    const isCall = variant === "end-to-end"; // times the copies to and from the device too
    const floor = medianOf(isCall ? "pinned-copy" : "read-floor"); // 0 where the clock is too coarse: then there is no ratio
    if (floor) measurement.floorRatio = rounded(median / floor);
    if (unfused !== undefined && !isCall) measurement.unfusedRatio = rounded(unfused / median);
  }
}

/** Whether the error says that the device cannot take the scenario; an array too large for the engine is a RangeError. */
function isUnable(error: unknown): boolean {
  const unable = ["ERR_OUT_OF_MEMORY", "ERR_INVALID_ARGUMENT"];
  return error instanceof RangeError || (error instanceof FusedTopKError && unable.includes(error.code));
}
