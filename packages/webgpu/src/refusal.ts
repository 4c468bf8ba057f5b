/** Tells whether it is a buffer that WebGPU refuses. */
import { SHADER_STAGE_COMPUTE } from "./spec.js";

/** Submits a pass that binds the buffer as logits and does nothing; returns what WebGPU has against that. */
export async function refusalOf(device: GPUDevice, buffer: GPUBuffer): Promise<GPUError | null> {
  let refusal: Promise<GPUError | null>;
  device.pushErrorScope("validation");
  try {
    submitBound(device, buffer);
  } finally {
    refusal = device.popErrorScope().catch(() => null);
  }
  return refusal;
}

function submitBound(device: GPUDevice, buffer: GPUBuffer): void {
  const layout = device.createBindGroupLayout({
    entries: [{ binding: 0, visibility: SHADER_STAGE_COMPUTE, buffer: { type: "read-only-storage" } }],
  });
  const group = device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer, size: 4 } }] });
  const encoder = device.createCommandEncoder({ label: "fused-topk refusal" });
  const pass = encoder.beginComputePass();
  pass.setBindGroup(0, group);
  pass.end();
  device.queue.submit([encoder.finish()]);
}
