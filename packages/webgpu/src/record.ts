/** Bind groups, the buffers behind them, and how a dispatch is recorded. */
import type { Arena, ParamsCache } from "./buffers.js";
import { Binding, type BindingName, type Pipeline } from "./pipelines.js";
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

export interface Memory {
  scratch: Arena;
  params: ParamsCache;
}

export type BindingResources = Partial<Record<BindingName, () => GPUBufferBinding>>;

/** What each binding of a dispatch is bound to. */
export function resourcesOf(plan: Plan, dispatch: Dispatch, buffers: CallBuffers, memory: Memory): BindingResources {
  const { scratch, params } = memory;
  const sized = (role: string, size: number) => ({ buffer: scratch.get(role, size), size });
  return {
    params: () => ({ buffer: params.get(dispatch.params) }),
    // Params.vectors is 0 for logits shorter than a vector; then this binding only has to exist.
    logits: () => (dispatch.logits!.length < 16 ? sized("no vector", 16) : slice(buffers.logits, dispatch.logits!)),
    logitWords: () => slice(buffers.logits, dispatch.logits!),
    slabs: () => sized("slabs", plan.slabBytes),
    partStates: () => sized("part states", plan.partStateBytes),
    partTop: () => sized("part top", plan.partTopBytes),
    probs: () => slice(buffers.probs, dispatch.results),
    indices: () => slice(buffers.indices, dispatch.results),
    logSumExp: () => slice(buffers.logSumExp, dispatch.logSumExp),
  };
}

export function bindGroupOf(
  device: GPUDevice,
  { pipeline, layout, bindings }: Pipeline,
  resources: BindingResources,
): GPUBindGroup {
  return device.createBindGroup({
    label: pipeline.label,
    layout,
    entries: bindings.map((name) => ({ binding: Binding[name], resource: resources[name]!() })),
  });
}

/** Records one dispatch. */
export function recordDispatch(
  pass: GPUComputePassEncoder,
  pipeline: GPUComputePipeline,
  group: GPUBindGroup,
  workgroups: number,
): void {
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(workgroups);
}

function slice({ buffer, offset }: BufferSlice, range: Range): GPUBufferBinding {
  return { buffer, offset: offset + range.offset, size: range.length };
}
