/** Selection: the first backend of an order that can run here, and why those before it cannot. */
import {
  type Backend,
  type BackendName,
  FusedTopKError,
  type FusedTopKErrorCode,
  invalidArgument,
} from "@fused-topk/core";
import type { Loaders } from "./loaders.js";

/** Options of `createBackend` and `selectBackend`. */
export interface SelectOptions {
  /** Backends to try, first come first served. Default `["cuda", "webgpu", "wasm", "cpu"]`. */
  order?: readonly BackendName[];
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

/** The backend selected, and the reasons why those before it in the order were not. */
export interface Selection {
  backend: Backend;
  rejected: RejectedBackend[];
}

/** Every name, in the default order. */
const NAMES: readonly BackendName[] = ["cuda", "webgpu", "wasm", "cpu"];
const FORCE_VARIABLE = "FUSED_TOPK_BACKEND";

/**
 * Tries the backends in order until one is made.
 *
 * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT` for a bad order or a bad name in `FUSED_TOPK_BACKEND`;
 *   `ERR_BACKEND_UNAVAILABLE`, listing every reason, when none can run here.
 */
export async function selectFrom(loaders: Loaders, options: SelectOptions = {}): Promise<Selection> {
  const order = checkOrder(options);
  const forced = forcedBackend();
  const rejected: RejectedBackend[] = [];
  for (const name of forced === undefined ? order : [forced]) {
    try {
      return { backend: await loaders[name](), rejected };
    } catch (error) {
      rejected.push(reasonOf(name, error));
    }
  }
  throw noneAvailable(rejected, forced);
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
