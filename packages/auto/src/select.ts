/** Selection: the first backend of an order that can run here, or the fastest for a shape, and why others cannot. */
import {
  type Backend,
  type BackendName,
  FusedTopKError,
  type FusedTopKErrorCode,
  invalidArgument,
} from "@fused-topk/core";
import type { Loaders } from "./loaders.js";
import { type Shape, timeBackend, trialOf } from "./time.js";

/** Options of `createBackend` and `selectBackend`. */
export interface SelectOptions {
  /** Backends to try, first come first served. Default `["cuda", "webgpu", "wasm", "cpu"]`. */
  order?: readonly BackendName[];
  /**
   * What calls will ask for, with the logits in CPU memory: then every backend of the order that can run here is called a
   * few times on random logits of this shape, for some 0.2 s each, and the fastest is taken. Nothing is remembered. Without
   * it the order decides, whatever the speed.
   */
  for?: Shape;
}

/** A backend that was tried and cannot run here. */
export interface RejectedBackend {
  backend: BackendName;
  /** The code of its error; `ERR_BACKEND_UNAVAILABLE` as a rule. */
  code: FusedTopKErrorCode;
  /** The reason, as a full sentence that ends with the fix. */
  message: string;
  /** What to do to get it, where there is something to do. */
  fix?: string;
}

/** How long a backend took for the shape asked. */
export interface BackendTiming {
  backend: BackendName;
  /** A call, by the wall clock, uploads and readbacks included: the median of a few. */
  microseconds: number;
}

/** The backend selected, and the reasons why those that were tried and cannot run here were not. */
export interface Selection {
  backend: Backend;
  rejected: RejectedBackend[];
  /** With `for`: how long each backend took that can run here, in the order they were tried. */
  timings?: BackendTiming[];
}

/** Every name, in the default order. */
const NAMES: readonly BackendName[] = ["cuda", "webgpu", "wasm", "cpu"];
const FORCE_VARIABLE = "FUSED_TOPK_BACKEND";

/**
 * Tries the backends in order until one is made; or, with `for`, makes and times all of them and keeps the fastest.
 *
 * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT` for a bad order, a bad shape or a bad name in `FUSED_TOPK_BACKEND`;
 *   `ERR_OUT_OF_MEMORY` where there is no room for logits of the shape; `ERR_BACKEND_UNAVAILABLE`, listing every reason,
 *   when none can run here.
 */
export async function selectFrom(loaders: Loaders, options: SelectOptions = {}): Promise<Selection> {
  const order = checkOrder(options);
  const trial = options.for === undefined ? undefined : trialOf(options.for);
  const forced = forcedBackend();
  const rejected: RejectedBackend[] = [];
  const timings: BackendTiming[] = [];
  let fastest: { backend: Backend; microseconds: number } | undefined;
  for (const name of forced === undefined ? order : [forced]) {
    let backend: Backend | undefined;
    try {
      backend = await loaders[name]();
      if (trial === undefined) return { backend, rejected };
      const microseconds = await timeBackend(backend, trial);
      timings.push({ backend: name, microseconds });
      const isFaster = fastest === undefined || microseconds < fastest.microseconds;
      const slower = isFaster ? fastest?.backend : backend;
      if (isFaster) fastest = { backend, microseconds };
      await discard(slower);
    } catch (error) {
      rejected.push(reasonOf(name, error));
      await discard(backend);
    }
  }
  if (fastest === undefined) throw noneAvailable(rejected, forced);
  return { backend: fastest.backend, rejected, timings };
}

/** Disposes a backend that is not taken: a failure to is no reason against another. */
async function discard(backend: Backend | undefined): Promise<void> {
  await backend?.dispose().catch(() => {});
}

function checkOrder(options: SelectOptions): readonly BackendName[] {
  if (typeof options !== "object" || options === null) {
    throw invalidArgument("options", "an object", options, 'Pass { order: ["webgpu", "cpu"] } or nothing.');
  }
  const { order = NAMES } = options;
  if (!Array.isArray(order)) {
    throw invalidArgument("order", "an array of backend names", order, 'Pass for instance ["webgpu", "cpu"].');
  }
  if (order.length === 0) {
    throw invalidArgument("order", "at least one backend name", order, `Name one of ${NAMES.join(", ")}.`);
  }
  for (const [i, name] of order.entries()) requireName(`order[${i}]`, name);
  return order;
}

/** What `FUSED_TOPK_BACKEND` asks for; unset and empty ask for nothing, and so does a platform without `process`. */
function forcedBackend(): BackendName | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  const name = process?.env?.[FORCE_VARIABLE];
  if (name === undefined || name === "") return undefined;
  requireName(FORCE_VARIABLE, name);
  return name;
}

function requireName(argument: string, name: unknown): asserts name is BackendName {
  if (NAMES.includes(name as BackendName)) return;
  const expected = NAMES.map((known) => `"${known}"`).join(", ");
  throw invalidArgument(argument, `one of ${expected}`, name, "Check the spelling; names are lower case.");
}

function reasonOf(backend: BackendName, error: unknown): RejectedBackend {
  if (error instanceof FusedTopKError) {
    const { code, message, fix } = error;
    return { backend, code, message, ...(fix !== undefined && { fix }) };
  }
  const words = error instanceof Error ? error.message : String(error);
  const fix = `Check that @fused-topk/${backend} is installed.`;
  return { backend, code: "ERR_BACKEND_UNAVAILABLE", message: `Could not load it: ${words}. ${fix}`, fix };
}

function noneAvailable(rejected: readonly RejectedBackend[], forced: BackendName | undefined): FusedTopKError {
  const reasons = rejected.map(({ backend, message }) => `${backend}: ${message}`).join("\n  ");
  if (forced !== undefined) {
    return new FusedTopKError(
      "ERR_BACKEND_UNAVAILABLE",
      `${FORCE_VARIABLE} forces a backend that cannot run here.\n  ${reasons}\n`,
      { fix: `Unset ${FORCE_VARIABLE} to let another backend take over.` },
    );
  }
  return new FusedTopKError("ERR_BACKEND_UNAVAILABLE", `No backend of the order can run here.\n  ${reasons}\n`, {
    fix: 'Add "cpu" to the order: it runs everywhere.',
  });
}
