/** What the NVIDIA driver says of a device: for the record, beside what CUDA says. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const queries = {
  driver: "driver_version",
  "compute capability": "compute_cap",
  memory: "memory.total",
  "largest SM clock": "clocks.max.sm",
  "largest memory clock": "clocks.max.mem",
  "power limit": "power.limit",
};

/** Details by name; says so where `nvidia-smi` is missing, as in some containers. */
export async function describeNvidia(device = 0): Promise<Record<string, string>> {
  const names = Object.keys(queries);
  const args = [`--id=${device}`, `--query-gpu=${Object.values(queries).join(",")}`, "--format=csv,noheader"];
  try {
    const { stdout } = await promisify(execFile)("nvidia-smi", args);
    const values = stdout.trim().split(", ");
    return Object.fromEntries(names.map((name, i) => [name, values[i] ?? "unknown"]));
  } catch {
    return { driver: "unknown version, nvidia-smi did not answer" };
  }
}
