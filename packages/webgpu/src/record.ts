/** Records a plan into a command encoder: bind groups and dispatches. */
import type { Arena, ParamsCache } from "./buffers.js";
import { Binding, type Pipeline } from "./pipelines.js";
import type { Dispatch, Plan, Range } from "./plan.js";

/** A part of a buffer that stands for the whole: positions of the plan count from its offset. */
export interface BufferSlice {
  buffer: GPUBuffer;
  offset: number;
}

export interface CallBuffers {
  logits: BufferSlice;
  probs: BufferSlice;
  indices: BufferSlice;
  logSumExp: BufferSlice;
}

export interface Resources {
  device: GPUDevice;
  scratch: Arena;
  params: ParamsCache;
}

/** Records dispatches of a plan in one compute pass. */
export function record(
  encoder: GPUCommandEncoder,
  plan: Plan,
  dispatches: readonly Dispatch[],
  pipelineOf: (dispatch: Dispatch) => Pipeline,
  buffers: CallBuffers,
  resources: Resources,
  timestampWrites?: GPUComputePassTimestampWrites,
): void {
  const pass = encoder.beginComputePass({ label: "fused-topk", ...(timestampWrites && { timestampWrites }) });
  for (const dispatch of dispatches) {
    const pipeline = pipelineOf(dispatch);
    pass.setPipeline(pipeline.pipeline);
    pass.setBindGroup(0, bindGroup(plan, dispatch, pipeline, buffers, resources));
    pass.dispatchWorkgroups(dispatch.workgroups);
  }
  pass.end();
}

function bindGroup(
  plan: Plan,
  dispatch: Dispatch,
  { layout, bindings }: Pipeline,
  { logits, probs, indices, logSumExp }: CallBuffers,
  { device, scratch, params }: Resources,
): GPUBindGroup {
  const resource = {
    params: () => ({ buffer: params.get(dispatch.params) }),
    logits: () => slice(logits, dispatch.logits!),
    logitWords: () => slice(logits, dispatch.logits!),
    slabs: () => ({ buffer: scratch.get("slabs", plan.slabBytes), size: plan.slabBytes }),
    partStates: () => ({ buffer: scratch.get("part states", plan.partStateBytes), size: plan.partStateBytes }),
    partTop: () => ({ buffer: scratch.get("part top", plan.partTopBytes), size: plan.partTopBytes }),
    probs: () => slice(probs, dispatch.results),
    indices: () => slice(indices, dispatch.results),
    logSumExp: () => slice(logSumExp, dispatch.logSumExp),
  };
  return device.createBindGroup({
    label: `fused-topk ${dispatch.entry}`,
    layout,
    entries: bindings.map((name) => ({ binding: Binding[name], resource: resource[name]() })),
  });
}

function slice({ buffer, offset }: BufferSlice, range: Range): GPUBufferBinding {
  return { buffer, offset: offset + range.offset, size: range.length };
}
