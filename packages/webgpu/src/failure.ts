/** Why a call failed, as a FusedTopKError. */
import { FusedTopKError } from "@fused-topk/core";
import { words } from "./device.js";

export function lostError({ reason, message }: GPUDeviceLostInfo, isOwn: boolean): FusedTopKError {
  return new FusedTopKError(
    "ERR_DEVICE_LOST",
    `The WebGPU device was lost (${reason || "unknown"}): ${words(message)}.`,
    { fix: isOwn ? "Create a new backend." : "Create a new device and a backend on it." },
  );
}

/** What WebGPU says about a call. */
export interface CallFailure {
  /** Of the error scope out-of-memory. */
  memory: GPUError | null;
  /** Of the error scope validation. */
  validation: GPUError | null;
  /** What was thrown, or rejected the mapping. */
  thrown: unknown;
  /** What WebGPU has against the caller's logits, if that is what it refused. */
  refusal: GPUError | null;
}

export function callError({ memory, validation, thrown, refusal }: CallFailure): FusedTopKError {
  if (memory) {
    return new FusedTopKError("ERR_OUT_OF_MEMORY", `The WebGPU device is out of memory: ${words(memory.message)}.`, {
      fix: "Split the rows over several calls.",
      cause: memory,
    });
  }
  if (refusal) {
    return new FusedTopKError(
      "ERR_INVALID_ARGUMENT",
      `WebGPU refused the GPUBuffer logits: ${words(refusal.message)}.`,
      {
        fix: "Pass a buffer of backend.gpuDevice that is neither mapped nor destroyed.",
        cause: refusal,
      },
    );
  }
  if (thrown instanceof FusedTopKError) return thrown;
  const cause = validation ?? thrown;
  return new FusedTopKError("ERR_DEVICE", `The WebGPU call failed: ${words(validation?.message ?? thrown)}.`, {
    cause,
  });
}

/** A lost device may refuse even this; then the loss is what gets reported. */
export function popErrorScope(device: GPUDevice): Promise<GPUError | null> {
  return device.popErrorScope().catch(() => null);
}

/** How long a failed call waits for the news that its device was lost. */
const NEWS_OF_LOSS_MS = 1000;

/** Settles when a call that failed for no other reason need not wait any longer for the news of a loss. */
export function newsOfLoss(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, NEWS_OF_LOSS_MS));
}

/** Every runtime has it; the types of this package name no runtime. */
declare function setTimeout(callback: () => void, milliseconds: number): unknown;
