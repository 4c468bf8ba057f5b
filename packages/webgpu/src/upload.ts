/** Copies host logits to the device. */
import type { HostLogits } from "@fused-topk/core";
import type { Range } from "./plan.js";

/**
 * Writes a stretch of the logits to the front of a buffer. The stretch is in bytes from the first logit and may end up to
 * 3 bytes past the last, where a word ends; those are written as zeros.
 */
export function uploadRange(queue: GPUQueue, target: GPUBuffer, logits: HostLogits, { offset, length }: Range): void {
  const there = Math.min(length, logits.byteLength - offset);
  const start = logits.byteOffset + offset;
  const words = there - (there % 4);
  if (words > 0) queue.writeBuffer(target, 0, logits.buffer, start, words);
  if (words < length) {
    const last = new Uint8Array(4);
    last.set(new Uint8Array(logits.buffer, start + words, there - words));
    queue.writeBuffer(target, words, last);
  }
}
