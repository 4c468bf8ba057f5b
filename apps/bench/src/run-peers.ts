/** The command `run --peers`: this project's backends beside other ways to the same result. */
import { writeFile } from "node:fs/promises";
import type { Options } from "./args.js";
import { findDevices } from "./devices.js";
import { describeHost } from "./environment.js";
import { makeInput } from "./input.js";
import { breathe, exitOnInterrupt } from "./interrupt.js";
import { readLogits } from "./logits-file.js";
import { effortOf } from "./measure.js";
import { newResultFile, version } from "./new-result.js";
import { fusedKernel } from "./peers/javascript.js";
import { inRatio, measureDevicePeers, measurePeers, openPeers, peerEffort } from "./peers/measure.js";
import { peers } from "./peers/node.js";
import { torchPeers } from "./peers/torch.js";
import { print } from "./print.js";
import { Progress } from "./progress.js";
import { describeMachine, groupBy, peersTable, scenarioTitle } from "./result-tables.js";
import { type AbsentPeerRecord, formatResultFile, type PeerRecord } from "./schema.js";
import { planScenarios } from "./shapes.js";
import { drawText } from "./table.js";

/** What is compared where no shape is named. */
const defaultShapes = ["1x50257:50", "1x128256:50", "8x128256:50", "64x50257:256", "1x151936:1024"];
const defaultShapesOnGpu = ["1x128256:50", "8x128256:50", "64x128256:50", "1024x50257:256", "4096x128256:20"];

/** @returns the exit status: 1 when a result was wrong, or there is none. */
export async function runPeers(options: Options, argv: readonly string[]): Promise<number> {
  const file = await readLogits(options);
  const onGpuAlone = options.backends !== undefined;
  const plan = {
    shapes:
      options.shapes ?? (options.input !== undefined ? undefined : onGpuAlone ? defaultShapesOnGpu : defaultShapes),
    k: options.k,
    dtypes: options.dtypes ?? ["f32" as const],
    data: options.data,
    input: file,
    inputOnly: options.input !== undefined,
    quick: options.quick,
  };
  const scenarios = planScenarios(plan, onGpuAlone ? "gpu" : "cpu");
  const progress = new Progress();
  exitOnInterrupt(progress, options.json === undefined ? "" : `${options.json} was not written.`);

  progress.update("Looking for peers");
  const { found: devices, rejected } = await findDevices(["cuda"]);
  const ownOnGpu = devices.map((device) => fusedKernel(`fused-topk ${device.backend}`, device));
  const onGpu = await openPeers([...ownOnGpu, ...torchPeers()]);
  const onHost = await openPeers(onGpuAlone ? [] : peers);
  progress.clear();
  const absent = [...onGpu.absent, ...onHost.absent];
  const result = newResultFile(describeHost(), argv, options.seed, devices, rejected);
  print(`fused-topk ${version}\n\n${describeMachine(result)}\n`);
  for (const line of drawAbsent(absent)) print(line);
  if (onGpu.found.length + onHost.found.length === 0) {
    print("None of the peers that --backend cuda asks for is here.");
    return 1;
  }
  print(
    "On the GPU: time on the device, inputs cold. In an array: float32, by the wall clock, warm. x: times slower than the",
  );
  print("first. Every result is compared with the float64 reference.");

  const measured: PeerRecord[] = [];
  for (const [i, scenario] of scenarios.entries()) {
    const onPeer = async (name: string) => {
      progress.update(`[${i + 1}/${scenarios.length}] ${scenarioTitle(scenario)}`, name);
      await breathe();
    };
    const input = makeInput(scenario, file, options.seed);
    const effort = effortOf("gpu", options.quick);
    const onDevice = await measureDevicePeers(onGpu.found, input, effort, onPeer);
    const inArray = await measurePeers(onHost.found, input, peerEffort(options.quick), onPeer);
    const records = inRatio([...onDevice.measured, ...inArray.measured]);
    const failed = [...onDevice.absent, ...inArray.absent];
    measured.push(...records);
    absent.push(...failed);
    progress.clear();
    print(
      `\n${[scenarioTitle(scenario), ...(records.length === 0 ? [] : [drawText(peersTable(records))])].join("\n")}`,
    );
    for (const line of drawAbsent(failed)) print(line);
  }
  for (const { open } of onGpu.found) await open.close();
  Object.assign(result, { peers: measured, absentPeers: absent });
  const wrong = measured.filter(({ check }) => !check.passed);
  for (const m of wrong) print(`\nWRONG: ${m.peer} on ${scenarioTitle(m)}.`);
  if (options.json !== undefined) {
    await writeFile(options.json, formatResultFile(result));
    print(`\nWrote ${options.json}`);
  }
  return measured.length === 0 || wrong.length > 0 ? 1 : 0;
}

/** A line for each reason, with the peers that it keeps away, and one on how to get them. */
function drawAbsent(absent: readonly AbsentPeerRecord[]): string[] {
  return [...groupBy(absent, ({ reason, fix }) => `${reason}${fix === undefined ? "" : `\n  ${fix}`}`)].map(
    ([why, ofReason]) => `absent   ${ofReason.map(({ peer }) => peer).join("; ")}: ${why}`,
  );
}
