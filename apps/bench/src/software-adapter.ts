/** Where there is no GPU, a software adapter: the process starts again in the environment in which Dawn finds it. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/**
 * Returns where WebGPU has an adapter already, or none can be had; else runs this command again, with the software adapter
 * in its environment, and exits as that one does.
 */
export async function ensureAdapter(): Promise<void> {
  const software = await import("@fused-topk/conformance/software-adapter").catch(() => undefined);
  if (!software?.softwareAdapterSupported) return;
  const probe = fileURLToPath(new URL("./probe.js", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [probe]).catch(() => ({ stdout: "none" }));
  if (stdout === "none") await software.ensureSoftwareAdapter();
}
