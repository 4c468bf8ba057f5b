/** Input sets on the device: more logits than a cache holds, made of a few template rows. */
import { bytesPerElement, type HostLogits, type ResolvedOptions } from "@fused-topk/core";
import { BufferUsage } from "./spec.js";

/** `sets` buffers of `rows x vocab` logits; row r of set s is template row `(r + s) % templateRows`. */
export function createInputSets(
  device: GPUDevice,
  { rows, vocab, dtype }: ResolvedOptions,
  template: HostLogits,
  sets: number,
): GPUBuffer[] {
  const rowBytes = vocab * bytesPerElement[dtype];
  const templateRows = template.length / vocab;
  // Copies count in words of 4 bytes, so that an odd row of 16-bit logits travels only with a neighbour.
  const cycles = (rowBytes * templateRows) % 4 === 0 ? 1 : 2;
  const block = new Uint8Array(cycles * templateRows * rowBytes);
  const setBytes = Math.ceil((rows * rowBytes) / 4) * 4;
  const source = device.createBuffer({
    label: "fused-topk template",
    size: block.byteLength,
    usage: BufferUsage.COPY_SRC | BufferUsage.COPY_DST,
  });
  const buffers = Array.from({ length: sets }, () =>
    device.createBuffer({
      label: "fused-topk input set",
      size: Math.max(setBytes, 16),
      usage: BufferUsage.STORAGE | BufferUsage.COPY_DST,
    }),
  );
  const bytes = new Uint8Array(template.buffer, template.byteOffset, template.byteLength);
  for (let first = 0; first < Math.min(templateRows, sets); first++) {
    for (let row = 0; row < cycles * templateRows; row++) {
      const from = ((row + first) % templateRows) * rowBytes;
      block.set(bytes.subarray(from, from + rowBytes), row * rowBytes);
    }
    device.queue.writeBuffer(source, 0, block);
    const encoder = device.createCommandEncoder({ label: "fused-topk input sets" });
    for (let set = first; set < sets; set += templateRows) {
      for (let at = 0; at < setBytes; at += block.byteLength) {
        encoder.copyBufferToBuffer(source, 0, buffers[set]!, at, Math.min(block.byteLength, setBytes - at));
      }
    }
    device.queue.submit([encoder.finish()]);
  }
  source.destroy();
  return buffers;
}
