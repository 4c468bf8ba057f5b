/** The errors: one class, a code each, and the form of their messages. */

/**
 * Codes of `FusedTopKError`:
 *
 * - `ERR_INVALID_ARGUMENT`: the call is wrong; nothing was allocated or launched.
 * - `ERR_BACKEND_UNAVAILABLE`: this backend cannot run here; `fix` says what is missing.
 * - `ERR_DEVICE_LOST`: the device went away; create a new backend.
 * - `ERR_OUT_OF_MEMORY`: host or device memory did not suffice.
 * - `ERR_DISPOSED`: the backend, or the device logits, were released before the call.
 * - `ERR_DEVICE`: the driver reported a failure of another kind; the message carries its words.
 */
export type FusedTopKErrorCode =
  | "ERR_INVALID_ARGUMENT"
  | "ERR_BACKEND_UNAVAILABLE"
  | "ERR_DEVICE_LOST"
  | "ERR_OUT_OF_MEMORY"
  | "ERR_DISPOSED"
  | "ERR_DEVICE";

/** Every error of fused-topk. The message names the bad value and ends with `fix`, how to put it right. */
export class FusedTopKError extends Error {
  /** What kind of error it is, to branch on. */
  readonly code: FusedTopKErrorCode;
  /** How to put it right, where that is known; the message ends with it. */
  readonly fix?: string;

  /** @param problem what is wrong, with the value at fault: a full sentence, or lines that end with a line break. */
  constructor(code: FusedTopKErrorCode, problem: string, options: { fix?: string; cause?: unknown } = {}) {
    super(
      options.fix === undefined ? problem : `${problem}${problem.endsWith("\n") ? "" : " "}${options.fix}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = "FusedTopKError";
    this.code = code;
    if (options.fix !== undefined) this.fix = options.fix;
  }
}

/** An `ERR_INVALID_ARGUMENT` of the form "Expected X for name but received Y." */
export function invalidArgument(name: string, expected: string, received: unknown, fix: string): FusedTopKError {
  return new FusedTopKError(
    "ERR_INVALID_ARGUMENT",
    `Expected ${expected} for ${name} but received ${describe(received)}.`,
    { fix },
  );
}

/** The error of a call on a backend, or on device logits, after `dispose()` or `free()`. */
export function disposedError(what: string): FusedTopKError {
  return new FusedTopKError("ERR_DISPOSED", `The ${what} was disposed before this call.`, {
    fix: "Create a new one, or dispose it after the last call.",
  });
}

function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (Array.isArray(value) && value.length === 0) return "[]";
  if (typeof value === "object" && value !== null) return `an object of type ${value.constructor?.name ?? "Object"}`;
  if (typeof value === "function") return "a function";
  return String(value);
}
