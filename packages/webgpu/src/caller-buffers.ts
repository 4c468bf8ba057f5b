/** Checks the buffers a caller passes. */
import { FusedTopKError, invalidArgument } from "@fused-topk/core";
import { BufferUsage } from "./spec.js";

export function isGPUBuffer(logits: unknown): logits is GPUBuffer {
  return Object.prototype.toString.call(logits) === "[object GPUBuffer]" || hasBufferShape(logits);
}

/** Dawn for Node has a GPUBuffer without the name. */
function hasBufferShape(value: unknown): boolean {
  const buffer = value as Partial<GPUBuffer> | null;
  return typeof buffer === "object" && typeof buffer?.mapAsync === "function" && typeof buffer.size === "number";
}

export function requireBuffer(name: string, buffer: unknown, bytes: number): asserts buffer is GPUBuffer {
  if (!isGPUBuffer(buffer)) throw invalidArgument(name, "a GPUBuffer", buffer, "Pass a buffer of backend.gpuDevice.");
  if ((buffer.usage & BufferUsage.STORAGE) === 0) {
    throw new FusedTopKError(
      "ERR_INVALID_ARGUMENT",
      `Expected usage STORAGE for ${name} but received a GPUBuffer with usage 0x${buffer.usage.toString(16)}.`,
      { fix: "Create it with GPUBufferUsage.STORAGE." },
    );
  }
  if (buffer.size < bytes) {
    throw new FusedTopKError(
      "ERR_INVALID_ARGUMENT",
      `Expected at least ${bytes} bytes for ${name} but received a GPUBuffer of ${buffer.size}.`,
      { fix: "Pass a larger buffer, or lower rows, vocab, k, offset or rowStride." },
    );
  }
}

/** Only for a call that submits at once: what is recorded may be unmapped before its submit. */
export function requireUnmapped(logits: GPUBuffer): void {
  if (logits.mapState === "unmapped") return;
  throw new FusedTopKError(
    "ERR_INVALID_ARGUMENT",
    `Expected an unmapped GPUBuffer for logits but received one whose mapState is "${logits.mapState}".`,
    { fix: "Call its unmap() first." },
  );
}

/** @param buffers by the names that an error tells. */
export function requireDistinct(buffers: Readonly<Record<string, GPUBuffer>>): void {
  const names = new Map<GPUBuffer, string>();
  for (const [name, buffer] of Object.entries(buffers)) {
    const twin = names.get(buffer);
    if (twin !== undefined) {
      throw new FusedTopKError(
        "ERR_INVALID_ARGUMENT",
        `Expected four different buffers but ${twin} and ${name} are the same.`,
        { fix: "Pass one buffer each for logits, probs, indices and logSumExp." },
      );
    }
    names.set(buffer, name);
  }
}
