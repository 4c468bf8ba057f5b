/** The worker that measures and verifies, so that nothing freezes the page. It does one job and is then thrown away. */

import sampleUrl from "../../data/tiny-code-lm.npy?url";
import { makeInput, type NamedLogits } from "../../src/input.js";
import { effortOf, type MeasuredDevice, measureScenario, variantsOf } from "../../src/measure.js";
import { newResultFile } from "../../src/new-result.js";
import { parseNpy } from "../../src/npy.js";
import { scenarioTitle } from "../../src/result-tables.js";
import { planScenarios } from "../../src/shapes.js";
import { verifyConfiguration } from "../../src/verify-configuration.js";
import { openDevice, planForAll } from "../../src/work.js";
import { browserBackends, describeHost, findDevices } from "../devices.js";
import type { Job, JobEvent, MeasureJob, VerifyJob } from "./protocol.js";

function tell(event: JobEvent): void {
  postMessage(event);
}

addEventListener("message", async ({ data }: MessageEvent<Job>) => {
  try {
    await work(data);
    tell({ type: "done" });
  } catch (error) {
    tell({ type: "failed", message: error instanceof Error ? error.message : String(error) });
  }
});

async function work(job: Job): Promise<void> {
  switch (job.type) {
    case "find": {
      const { found, rejected } = await findDevices(browserBackends);
      return tell({ type: "result", result: newResultFile(describeHost(), [], 1, found, rejected) });
    }
    case "measure":
      return measure(job);
    case "verify":
      return verify(job);
  }
}

async function measure({ backends, shapes, k, dtypes, data, seed, quick }: MeasureJob): Promise<void> {
  const input = await readSample();
  const kinds = data === "sample" ? {} : { data: [data] };
  const plan = { shapes, k, dtypes, input, inputOnly: data === "sample", quick, ...kinds };
  planScenarios(plan, "cpu"); // a plan that cannot be is an error before any device is touched
  const { found, rejected } = await findDevices(backends);
  const command = ["run", "--shapes", shapes.join(), "--dtype", dtypes.join(), ...(quick ? ["--quick"] : [])];
  const result = newResultFile(describeHost(), command, seed, found, rejected);
  const devices = await Promise.all(found.map(openDevice));
  const work = planForAll(devices, (device) => planScenarios(plan, device.kind));
  let total = 0;
  for (const { scenario, devices } of work) {
    for (const { meter } of devices) total += variantsOf(meter, scenario).length;
  }
  let done = 0;
  const lost = new Set<MeasuredDevice>();
  for (const { scenario, devices } of work) {
    tell({ type: "progress", done, total, step: `${scenarioTitle(scenario)}: making the logits and their answer` });
    const scenarioInput = makeInput(scenario, input, seed);
    for (const device of devices) {
      if (lost.has(device)) continue;
      const { measurements, skipped, isLost } = await measureScenario(
        device,
        scenarioInput,
        effortOf(device, quick),
        (variant) =>
          tell({
            type: "progress",
            done: done++,
            total,
            step: `${scenarioTitle(scenario)}: ${device.backend}, ${variant}`,
          }),
      );
      if (isLost) lost.add(device);
      result.measurements.push(...measurements);
      result.skipped.push(...skipped);
      tell({ type: "result", result });
    }
  }
  for (const { backendInstance, meter } of devices) await Promise.all([backendInstance.dispose(), meter.dispose()]);
}

async function verify({ backends, set }: VerifyJob): Promise<void> {
  const { found, rejected } = await findDevices(backends);
  const result = newResultFile(describeHost(), ["verify", ...(set === "full" ? ["--full"] : [])], 1, found, rejected);
  const work = found.flatMap((device) => device.configurations.map((configuration) => ({ device, configuration })));
  for (const [i, { device, configuration }] of work.entries()) {
    const { record } = await verifyConfiguration(device, configuration, {
      set,
      forced: false,
      breathe: async () => {},
      onProgress: (title, { done, total, promise }) =>
        tell({ type: "progress", done: i * total + done, total: work.length * total, step: `${title}: ${promise}` }),
      onGroup: (title, group) => tell({ type: "group", configuration: title, group }),
    });
    result.verifications.push(record);
    tell({ type: "result", result });
  }
}

async function readSample(): Promise<NamedLogits> {
  const name = "tiny-code-lm.npy";
  const response = await fetch(sampleUrl);
  if (!response.ok) throw new Error(`Could not fetch ${name}: ${response.status} ${response.statusText}.`);
  return { name, ...parseNpy(new Uint8Array(await response.arrayBuffer()), name) };
}
