/** Counts the bytes of GPU memory that are mapped for reading, by anyone in this worker: measured, not reckoned. */
export function countReadback(): { bytes(): number; stop(): void } {
  let bytes = 0;
  const { mapAsync } = GPUBuffer.prototype;
  GPUBuffer.prototype.mapAsync = function (this: GPUBuffer, mode, offset = 0, size = this.size - offset) {
    if (mode === GPUMapMode.READ) bytes += size;
    return mapAsync.call(this, mode, offset, size);
  };
  return {
    bytes: () => bytes,
    stop() {
      GPUBuffer.prototype.mapAsync = mapAsync;
    },
  };
}
