/** The command `fuzz`: random cases against the float64 reference, on every configuration of every backend found. */
import { fuzz as fuzzBackend } from "@fused-topk/conformance/cases";
import type { Options } from "./args.js";
import { defaultBackends, findDevices } from "./devices.js";
import { formatCount, formatError } from "./format.js";
import { breathe, exitOnInterrupt } from "./interrupt.js";
import { print } from "./print.js";
import { Progress } from "./progress.js";

/** @returns the exit status: 1 when a case failed or a backend that was asked for is missing. */
export async function fuzz(options: Options): Promise<number> {
  const { seed, seconds } = options;
  const progress = new Progress();
  exitOnInterrupt(progress, `The seed was ${seed}.`);
  const { found, rejected } = await findDevices(options.backends ?? defaultBackends);
  for (const { backend, message } of rejected) print(`${backend} is not here. ${message}`);
  if (options.backends !== undefined && rejected.length > 0) return 1;
  const runs = found.flatMap((device) => device.configurations.map((configuration) => ({ device, configuration })));
  print(`Random cases for ${seconds} s, seed ${seed}.`);
  let failed = false;
  for (const { device, configuration } of runs) {
    const title = configuration.name === "" ? device.backend : `${device.backend}, ${configuration.name}`;
    const { backend, call, close } = await configuration.open();
    const report = await fuzzBackend(backend, {
      seed,
      seconds: seconds / runs.length,
      call,
      onCase: async (cases) => {
        progress.update(`${title}: ${device.name}`, formatCount(cases));
        await breathe();
      },
    });
    await close();
    progress.clear();
    const errors = `largest error of a probability ${formatError(report.probabilityError)}, of a logSumExp ${formatError(report.logSumExpError)}`;
    print(`${title}: ${formatCount(report.cases)} cases passed, ${errors}.`);
    if (report.failure === undefined) continue;
    failed = true;
    print(`FAILED: ${report.failure.message}`);
    print(`  For packages/conformance/src/fixtures.ts: ${JSON.stringify(report.failure.input)}`);
  }
  return failed ? 1 : 0;
}
