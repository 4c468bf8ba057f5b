/** The devices of this browser, and the browser itself as the host of a run. */
import { type BackendName, FusedTopKError } from "@fused-topk/core";
import { findCpu } from "../src/cpu-device.js";
import { type Devices, type Finders, findDevicesWith } from "../src/device.js";
import type { HostRecord } from "../src/schema.js";
import { findWasm } from "../src/wasm-device.js";
import { webgpuDevice } from "../src/webgpu-device.js";

/** What a browser can have. CUDA is beyond it. */
export const browserBackends: readonly BackendName[] = ["webgpu", "wasm", "cpu"];

/** Looks for a device of each backend. A missing one is a reason, never an error. */
export function findDevices(names: readonly BackendName[]): Promise<Devices> {
  return findDevicesWith(finders, names);
}

const finders: Finders = {
  cuda: async () => {
    throw unavailable("A web page cannot reach CUDA.", "Use the command line.");
  },
  webgpu: async () => {
    const { gpu } = navigator as { gpu?: GPU };
    if (gpu === undefined) {
      throw isSecureContext
        ? unavailable("This browser has no WebGPU.", "Use one that has: Chrome or Edge 113, Safari 26, Firefox 141.")
        : unavailable(
            "WebGPU is kept from pages that came over plain HTTP.",
            "Serve the page over HTTPS or from localhost.",
          );
    }
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (adapter === null) throw unavailable("WebGPU finds no adapter here.", "Look at chrome://gpu for the reason.");
    return webgpuDevice(gpu, adapter, { runtime: describeBrowser() });
  },
  wasm: () => findWasm({ engine: describeBrowser() }),
  cpu: () => findCpu({ engine: describeBrowser() }),
};

/** A browser does not tell the CPU, and its memory only roughly. */
export function describeHost(): HostRecord {
  const { hardwareConcurrency, deviceMemory = 0 } = navigator as Navigator & { deviceMemory?: number };
  return {
    os: /\((?:X11; )?([^;)]+)/.exec(navigator.userAgent)?.[1] ?? "unknown system",
    cpu: "CPU not told",
    cores: hardwareConcurrency,
    memoryBytes: deviceMemory * 2 ** 30,
    runtime: describeBrowser(),
  };
}

/** Name and version, e.g. "Chrome 153". */
function describeBrowser(): string {
  const agent = navigator.userAgent;
  const [, name, version] =
    /(Firefox|Edg)\/(\d+)/.exec(agent) ??
    /((?:Headless)?Chrome)\/(\d+)/.exec(agent) ??
    /Version\/(\d+).*(Safari)/.exec(agent) ??
    [];
  return name === undefined ? "unknown browser" : `${name} ${version}`;
}

function unavailable(message: string, fix: string): FusedTopKError {
  return new FusedTopKError("ERR_BACKEND_UNAVAILABLE", message, { fix });
}
