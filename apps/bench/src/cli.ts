#!/usr/bin/env node
/** The command line of the bench. Exit status: 0 well, 1 a failure that it reports, 2 a wrong command line, 130 interrupted. */
import { help, type Options, parseOptions } from "./args.js";
import { compare } from "./compare.js";
import { defaultBackends } from "./devices.js";
import { doctor } from "./doctor.js";
import { fuzz } from "./fuzz.js";
import { requireWritable } from "./result-path.js";
import { run } from "./run.js";
import { runPeers } from "./run-peers.js";
import { ensureAdapter } from "./software-adapter.js";
import { UsageError } from "./usage-error.js";
import { verify } from "./verify.js";

async function main(argv: readonly string[]): Promise<number> {
  const options = parseOptions(argv);
  if (options.help) {
    process.stdout.write(help);
    return 0;
  }
  if (options.json !== undefined) await requireWritable(options.json);
  if (options.peers) return runPeers(options, argv);
  const needsDevices = options.command !== "report" && options.command !== "compare";
  if (needsDevices && (options.backends ?? defaultBackends).includes("webgpu")) await ensureAdapter();
  return commands[options.command](options, argv);
}

const commands: Record<Options["command"], (options: Options, argv: readonly string[]) => Promise<number>> = {
  run,
  verify,
  fuzz,
  doctor,
  compare,
  report: async (options) => (await import("./report.js")).report(options), // only it needs what draws charts
};

try {
  // A GPU's threads keep the process alive, so it does not end by itself.
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(2);
}
