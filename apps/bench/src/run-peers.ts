/** The command `run --peers`: this project's CPU backends beside other ways to the same result, in one process. */
import { writeFile } from "node:fs/promises";
import type { Options } from "./args.js";
import { describeHost } from "./environment.js";
import { makeInput } from "./input.js";
import { breathe, exitOnInterrupt } from "./interrupt.js";
import { readLogits } from "./logits-file.js";
import { newResultFile, version } from "./new-result.js";
import { measurePeers, openPeers, peerEffort } from "./peers/measure.js";
import { peers } from "./peers/node.js";
import { Progress } from "./progress.js";
import { describeMachine, peersTable, scenarioTitle } from "./result-tables.js";
import { formatResultFile } from "./schema.js";
import { planScenarios } from "./shapes.js";
import { drawText } from "./table.js";

/** What is compared where no shape is named. */
const defaultShapes = ["1x50257:50", "1x128256:50", "8x128256:50", "64x50257:256", "1x151936:1024"];

/** @returns the exit status: 1 when a result was wrong. */
export async function runPeers(options: Options, argv: readonly string[]): Promise<number> {
  const file = await readLogits(options);
  const plan = {
    shapes: options.shapes ?? (options.input === undefined ? defaultShapes : undefined),
    k: options.k,
    dtypes: ["f32" as const],
    data: options.data,
    input: file,
    inputOnly: options.input !== undefined,
    quick: options.quick,
  };
  const scenarios = planScenarios(plan, "cpu");
  const progress = new Progress();
  exitOnInterrupt(progress, options.json === undefined ? "" : `${options.json} was not written.`);
  const result = newResultFile(describeHost(), argv, options.seed, [], []);
  print(`fused-topk ${version}\n\n${describeMachine(result)}\n`);
  const { found, absent } = await openPeers(peers);
  for (const { peer, reason, fix } of absent) print(`${peer} is absent: ${reason}${fix ? `\n  ${fix}` : ""}`);
  print("Logits are float32, in memory, and warm. Every result is compared with the float64 reference.");

  const measured = [];
  for (const [i, scenario] of scenarios.entries()) {
    const onPeer = async (name: string) => {
      progress.update(`[${i + 1}/${scenarios.length}] ${scenarioTitle(scenario)}`, name);
      await breathe();
    };
    const input = makeInput(scenario, file, options.seed);
    const records = await measurePeers(found, input, peerEffort(options.quick), onPeer);
    measured.push(...records);
    progress.clear();
    print(`\n${scenarioTitle(scenario)}\n${drawText(peersTable(records))}`);
  }
  Object.assign(result, { peers: measured, absentPeers: absent });
  const wrong = measured.filter(({ check }) => !check.passed);
  for (const m of wrong) print(`\nWRONG: ${m.peer} on ${scenarioTitle(m)}.`);
  if (options.json !== undefined) {
    await writeFile(options.json, formatResultFile(result));
    print(`\nWrote ${options.json}`);
  }
  return wrong.length === 0 ? 0 : 1;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
