/** The ways to run a backend that a conformance run goes through: as users get it, and with a path forced. */
import type { Call } from "@fused-topk/conformance/cases";
import { type Backend, FusedTopKError, hostMemory } from "@fused-topk/core";
import type { Meter } from "@fused-topk/core/measure";
import type { Device } from "./device.js";
import { UsageError } from "./usage-error.js";

export interface Configuration {
  /** Empty for the one users get. */
  name: string;
  open(): Promise<OpenConfiguration>;
}

interface OpenConfiguration {
  backend: Backend;
  call: Call;
  /** How many calls so far were beyond the path and took the ordinary one. */
  outside(): number;
  /** Whether some call took the path. */
  taken(): boolean;
  close(): Promise<void>;
}

/** A backend, called as users call it. */
export function configuration(name: string, create: () => Promise<Backend>): Configuration {
  return {
    name,
    open: async () => {
      const backend = await create();
      return {
        backend,
        call: (logits, options) => backend.softmaxTopK(logits, options),
        taken: () => true,
        outside: () => 0,
        close: () => backend.dispose(),
      };
    },
  };
}

/**
 * A device whose kernel is made to take one path, through its meter. A path has a range, such as small vocabularies; calls
 * beyond it take the ordinary path and are counted. `open` throws a UsageError for a path that the device does not have.
 */
export function forcedPath(device: Device, path: string): Configuration {
  const open = async () => {
    const [backend, meter] = await Promise.all([device.createBackend(), device.createMeter()]);
    checkPath(path, device.backend, meter);
    let inside = 0;
    let outside = 0;
    const call: Call = async (logits, { rows, vocab, k, dtype }) => {
      const options = { rows, vocab, k, dtype: hostMemory(logits, dtype).dtype };
      try {
        if (rows === 0) return await backend.softmaxTopK(logits, options);
        const request = { variant: "fused", options, template: logits, sets: 1, repeats: 1, path } as const;
        const { result } = await meter.measure(request);
        inside++;
        return result!;
      } catch (error) {
        if (!(error instanceof FusedTopKError) || error.code !== "ERR_INVALID_ARGUMENT") throw error;
        outside++;
        return backend.softmaxTopK(logits, options);
      }
    };
    const close = async () => void (await Promise.all([backend.dispose(), meter.dispose()]));
    return { backend, call, taken: () => inside > 0, outside: () => outside, close };
  };
  return { name: path, open };
}

/** @throws {UsageError} for a path that the backend does not have. */
export function checkPath(path: string | undefined, backend: string, { paths }: Meter): void {
  if (path === undefined || paths.includes(path)) return;
  throw new UsageError(
    `Expected one of ${paths.join(", ")} for --path on ${backend} but received "${path}". ` +
      "Name a backend that has it with --backend.",
  );
}
