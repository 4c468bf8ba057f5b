/** The addon: what it exports, how it is found, and how its failures become FusedTopKErrors. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { FusedTopKError, type FusedTopKErrorCode, type ResolvedOptions } from "@fused-topk/core";

/** A native object; released with the environment that made it. */
export type NativeContext = { readonly [brand]: "context" };
declare const brand: unique symbol;

export interface NativeMeasurement {
  microseconds: Float64Array;
  probs: Float32Array;
  indices: Uint32Array;
  logSumExp: Float32Array;
  launches: number;
  bytesWritten: number;
  scratchBytes: number;
  path: string;
}

/**
 * The exports of the addon. They reject with, and `isDeviceMemory` throws, an `Error` whose `code` is a
 * `FusedTopKErrorCode` and whose `fix`, where it has one, says what to do.
 */
export interface Native {
  readonly maxK: number;
  readonly maxRows: number;
  readonly maxVocab: number;
  readonly regimes: readonly string[];
  open(device: number): Promise<{ context: NativeContext; device: string }>;
  softmaxTopK(
    context: NativeContext,
    logits: Uint8Array | bigint,
    options: ResolvedOptions,
    probs: Float32Array,
    indices: Uint32Array,
    logSumExp: Float32Array,
  ): Promise<void>;
  upload(context: NativeContext, bytes: Uint8Array): Promise<bigint>;
  free(context: NativeContext, pointer: bigint): Promise<void>;
  isDeviceMemory(context: NativeContext, pointer: bigint): boolean;
  dispose(context: NativeContext): Promise<void>;
  measure(
    context: NativeContext,
    request: {
      variant: string;
      dtype: string;
      rows: number;
      vocab: number;
      k: number;
      templateRows: number;
      sets: number;
      repeats: number;
      path: string;
    },
    template: Uint8Array,
  ): Promise<NativeMeasurement>;
}

const FILE = "fused_topk_cuda.node";
/** One of them is there where an NVIDIA driver is loaded on Linux, the second under WSL. */
const DRIVER_FILES = ["/dev/nvidiactl", "/dev/dxg"];

const fixes: Partial<Record<FusedTopKErrorCode, string>> = {
  ERR_OUT_OF_MEMORY: "Split the rows over several calls, or free device memory.",
  ERR_DEVICE_LOST: "The CUDA context of this process is lost: restart the process.",
};

/**
 * Loads the addon: from where the environment variable FUSED_TOPK_CUDA_ADDON says, otherwise from beside this file (a
 * bundle that carries it) or from where the build of this package leaves it.
 *
 * @throws {FusedTopKError} `ERR_BACKEND_UNAVAILABLE`
 */
export function loadNative(): Native {
  const require = createRequire(import.meta.url);
  const named = process.env.FUSED_TOPK_CUDA_ADDON;
  const places = named
    ? [named]
    : [`./${FILE}`, `../build/Release/${FILE}`].map((place) => fileURLToPath(new URL(place, import.meta.url)));
  const failures: unknown[] = [];
  for (const place of places) {
    try {
      return require(place) as Native;
    } catch (failure) {
      if (named || (failure as { code?: string }).code !== "MODULE_NOT_FOUND") failures.push(failure);
    }
  }
  if (failures.length > 0) {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", `The CUDA addon did not load: ${words(failures[0])}.`, {
      fix: "Rebuild it on this machine, or use another backend.",
      cause: failures[0],
    });
  }
  throw missingAddon();
}

/** A checkout can build the addon, an installed package cannot; without a driver neither is of use. */
function missingAddon(): FusedTopKError {
  const [missing, remedy] = existsSync(new URL("../CMakeLists.txt", import.meta.url))
    ? [
        "the CUDA addon is not built",
        "install the CUDA toolkit (13.0 or later), CMake and a C++ compiler and run `npm run build`",
      ]
    : [
        "this copy of @fused-topk/cuda was published without the CUDA addon",
        "build it in a checkout of fused-topk and name the file in FUSED_TOPK_CUDA_ADDON",
      ];
  const hasDriver = process.platform !== "linux" || DRIVER_FILES.some((file) => existsSync(file));
  const problem = hasDriver ? missing : `this machine has no NVIDIA driver (no ${DRIVER_FILES[0]}), and ${missing}`;
  const fix = hasDriver ? remedy : `on a machine with an NVIDIA GPU, install its driver (580 or later), then ${remedy}`;
  return new FusedTopKError("ERR_BACKEND_UNAVAILABLE", `${capitalised(problem)}.`, {
    fix: `${capitalised(fix)}, or use another backend.`,
  });
}

/** The FusedTopKError of a failure that the addon reports. */
export function nativeError(failure: unknown): FusedTopKError {
  const error = failure as { code?: FusedTopKErrorCode; message: string; fix?: string };
  const { code = "ERR_DEVICE", message, fix = fixes[code] } = error;
  return new FusedTopKError(code, message, { cause: failure, ...(fix !== undefined && { fix }) });
}

function capitalised(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}

function words(failure: unknown): string {
  const text = failure instanceof Error ? failure.message : String(failure);
  return text.split("\n")[0]!.replace(/\.$/, "");
}
