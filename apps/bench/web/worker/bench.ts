/** The worker that measures and verifies, so that nothing freezes the page. It does one job and is then thrown away. */

import type { BackendName } from "@fused-topk/core";
import sampleUrl from "../../data/tiny-code-lm.npy?url";
import { makeInput, type NamedLogits } from "../../src/input.js";
import { effortOf, type MeasuredDevice, measureScenario, variantsOf } from "../../src/measure.js";
import { newResultFile } from "../../src/new-result.js";
import { parseNpy } from "../../src/npy.js";
import { inRatio, measurePeers, openPeers, peerEffort } from "../../src/peers/measure.js";
import type { Peer } from "../../src/peers/peer.js";
import { scenarioTitle } from "../../src/result-tables.js";
import { planScenarios } from "../../src/shapes.js";
import { verifyConfiguration } from "../../src/verify-configuration.js";
import { openDevice, planForAll } from "../../src/work.js";
import { browserBackends, describeHost, findDevices } from "../devices.js";
import { browserPeers, ownPeers } from "../peers/browser.js";
import { commandOf } from "./command.js";
import type { Job, JobEvent, MeasureJob, VerifyJob } from "./protocol.js";

/** The file of real logits. */
const SAMPLE = "tiny-code-lm.npy";

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

async function measure(job: MeasureJob): Promise<void> {
  const { backends, shapes, k, dtypes, data, seed, quick, peers: peerNames } = job;
  const input = await readSample();
  const kinds = data === "sample" ? {} : { data: [data] };
  const plan = { shapes, k, dtypes, input, inputOnly: data === "sample", quick, ...kinds };
  planScenarios(plan, "cpu"); // a plan that cannot be is an error before any device is touched
  const { found, rejected } = await findDevices(backends);
  const result = newResultFile(describeHost(), commandOf(job, SAMPLE), seed, found, rejected);
  const devices = await Promise.all(found.map(openDevice));
  const work = planForAll(devices, (device) => planScenarios(plan, device.kind));
  let total = 0;
  for (const { scenario, devices } of work) {
    for (const { meter } of devices) total += variantsOf(meter, scenario).length;
  }
  const asked = peersOf(peerNames, backends);
  // Peers take float32 in memory of the host, whatever type the backends are measured with.
  const peerScenarios = asked.length === 0 ? [] : planScenarios({ ...plan, dtypes: ["f32"] }, "cpu");
  total += peerScenarios.length * asked.length * (1 + peerEffort(quick).turns);
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
        effortOf(device.kind, quick),
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
  if (asked.length === 0) return;
  tell({ type: "progress", done, total, step: "Loading the peers" });
  const { found: peers, absent } = await openPeers(asked);
  result.absentPeers = absent;
  result.peers = [];
  for (const scenario of peers.length === 0 ? [] : peerScenarios) {
    const scenarioInput = makeInput(scenario, input, seed);
    const onPeer = (name: string) =>
      tell({ type: "progress", done: done++, total, step: `${scenarioTitle(scenario)}: ${name}` });
    const { measured, absent: failed } = await measurePeers(peers, scenarioInput, peerEffort(quick), onPeer);
    result.peers.push(...inRatio(measured));
    absent.push(...failed);
    tell({ type: "result", result });
  }
}

/** Those that are asked for, behind this project's own; none of either where none is asked for. */
function peersOf(names: readonly string[], backends: readonly BackendName[]): Peer[] {
  const asked = browserPeers.filter(({ name }) => names.includes(name));
  return asked.length === 0 ? [] : [...backends.flatMap((backend) => ownPeers[backend] ?? []), ...asked];
}

async function verify(job: VerifyJob): Promise<void> {
  const { found, rejected } = await findDevices(job.backends);
  const result = newResultFile(describeHost(), commandOf(job, SAMPLE), 1, found, rejected);
  const work = found.flatMap((device) => device.configurations.map((configuration) => ({ device, configuration })));
  for (const [i, { device, configuration }] of work.entries()) {
    const { record } = await verifyConfiguration(device, configuration, {
      set: job.set,
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
  const response = await fetch(sampleUrl);
  if (!response.ok) throw new Error(`Could not fetch ${SAMPLE}: ${response.status} ${response.statusText}.`);
  return { name: SAMPLE, ...parseNpy(new Uint8Array(await response.arrayBuffer()), SAMPLE) };
}
