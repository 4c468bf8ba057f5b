/** What would be typed to do a job on the command line: a result file says how it came about. */
import type { MeasureJob, VerifyJob } from "./protocol.js";

/** @param sampleName the file of real logits. */
export function commandOf(job: MeasureJob | VerifyJob, sampleName: string): string[] {
  const backends = ["--backend", job.backends.join()];
  if (job.type === "verify") return ["verify", ...backends, ...(job.set === "full" ? ["--full"] : [])];
  const { shapes, k, dtypes, data, seed, quick, peers } = job;
  return [
    "run",
    ...["--shapes", shapes.join()],
    ...(k === undefined ? [] : ["--k", k.join()]),
    ...["--dtype", dtypes.join()],
    ...(data === "sample" ? ["--input", sampleName] : ["--data", data]),
    ...["--seed", String(seed)],
    ...backends,
    ...(quick ? ["--quick"] : []),
    ...(peers.length > 0 ? ["--peers"] : []), // beside the backends, in one run, as only a page does it
  ];
}
