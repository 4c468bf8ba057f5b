/** The command `doctor`: what this machine can run, what it cannot, why, and how to get it. */
import type { Options } from "./args.js";
import { defaultBackends, findDevices } from "./devices.js";
import { describeHost } from "./environment.js";
import { version } from "./new-result.js";
import { print } from "./print.js";
import { describeHostLine } from "./result-tables.js";

const kinds = { gpu: "hardware", software: "software: it runs on the CPU", cpu: "the CPU" } as const;

/** @returns the exit status: 1 when a backend that was asked for is missing. */
export async function doctor(options: Options): Promise<number> {
  const { found, rejected } = await findDevices(options.backends ?? defaultBackends);
  print(`fused-topk ${version}`);
  print(describeHostLine(describeHost()));
  for (const device of found) {
    const meter = await device.createMeter();
    const backend = await device.createBackend();
    print(`\n${device.backend}: found`);
    field("device", device.name);
    field("kind", kinds[device.kind]);
    for (const [name, value] of Object.entries(device.details)) field(name, value);
    field("largest k", backend.limits.maxK >= 2 ** 32 - 1 ? "any" : String(backend.limits.maxK));
    field("paths", meter.paths.join(", "));
    await Promise.all([meter.dispose(), backend.dispose()]);
  }
  for (const { backend, code, message } of rejected) {
    print(`\n${backend}: not here (${code})`);
    for (const line of message.split("\n")) print(`  ${line.trim()}`);
  }
  return options.backends !== undefined && rejected.length > 0 ? 1 : 0;
}

function field(name: string, value: string): void {
  if (value !== "") print(`  ${name.padEnd(26)}${value}`);
}
