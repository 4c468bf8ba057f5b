/** What calls of one shape share, made by the first of them: the plan, its pipelines and its bind groups. */
import type { ResolvedOptions } from "@fused-topk/core";
import type { Pipeline } from "./pipelines.js";
import { type Capabilities, type Dispatch, type EntryPoint, type PathOptions, type Plan, planTopK } from "./plan.js";
import { bindGroupOf, type CallBuffers, type Memory, resourcesOf } from "./record.js";

/** Dispatches that read the same stretch of the logits, in order. */
export interface Filling {
  logits: NonNullable<Dispatch["logits"]>;
  dispatches: readonly Dispatch[];
}

export interface PreparedCall {
  plan: Plan;
  /** The dispatches, by what has to be on the device for them. */
  fillings: readonly Filling[];
  /** The pipeline of each entry point of the plan, once it is compiled. */
  pipelines: ReadonlyMap<EntryPoint, Pipeline> | undefined;
}

/** The prepared calls of the shapes seen last. */
export class PreparedCalls {
  readonly #capabilities: Capabilities;
  readonly #path: PathOptions;
  readonly #calls = new Map<string, PreparedCall>();

  constructor(capabilities: Capabilities, path: PathOptions) {
    this.#capabilities = capabilities;
    this.#path = path;
  }

  get(options: ResolvedOptions): PreparedCall {
    const { rows, vocab, k, dtype, offset, rowStride, temperature } = options;
    const key = `${rows} ${vocab} ${k} ${dtype} ${offset} ${rowStride} ${temperature}`;
    let call = this.#calls.get(key);
    if (call) return call;
    const plan = planTopK(options, this.#capabilities, this.#path);
    call = { plan, fillings: groupByLogits(plan.dispatches), pipelines: undefined };
    if (this.#calls.size === MAX_CALLS) this.#calls.delete(this.#calls.keys().next().value!);
    this.#calls.set(key, call);
    return call;
  }
}

const MAX_CALLS = 256;

/** Dispatches that read the same logits, in order; one that reads none belongs to those before it. */
function groupByLogits(dispatches: readonly Dispatch[]): Filling[] {
  const fillings: { logits: Filling["logits"]; dispatches: Dispatch[] }[] = [];
  for (const dispatch of dispatches) {
    const { logits } = dispatch;
    if (logits) fillings.push({ logits, dispatches: [dispatch] });
    else fillings.at(-1)!.dispatches.push(dispatch);
  }
  return fillings;
}

/** A dispatch with everything that recording it takes. */
export interface Step {
  pipeline: GPUComputePipeline;
  group: GPUBindGroup;
  workgroups: number;
}

interface Held {
  dispatches: readonly Dispatch[];
  buffers: CallBuffers;
  /** Of the scratch whose buffers the groups name. */
  generation: number;
  steps: readonly Step[];
}

/**
 * The steps of calls by the buffers they work on, so that a call like an earlier one creates no bind group. An entry lives
 * no longer than the buffer of its logits.
 */
export class StepCache {
  readonly #device: GPUDevice;
  readonly #memory: Memory;
  #byLogits = new WeakMap<GPUBuffer, Held[]>();

  constructor(device: GPUDevice, memory: Memory) {
    this.#device = device;
    this.#memory = memory;
  }

  /** @param dispatches some of `plan`; the same array stands for the same ones. */
  get(
    plan: Plan,
    dispatches: readonly Dispatch[],
    pipelineOf: (entry: EntryPoint) => Pipeline,
    buffers: CallBuffers,
  ): readonly Step[] {
    const { scratch } = this.#memory;
    let all = this.#byLogits.get(buffers.logits.buffer);
    if (!all) {
      all = [];
      this.#byLogits.set(buffers.logits.buffer, all);
    }
    const at = all.findIndex((held) => held.dispatches === dispatches && areSame(held.buffers, buffers));
    if (at >= 0 && all[at]!.generation === scratch.generation) return all[at]!.steps;
    const steps = dispatches.map((dispatch) => {
      const pipeline = pipelineOf(dispatch.entry);
      const group = bindGroupOf(this.#device, pipeline, resourcesOf(plan, dispatch, buffers, this.#memory));
      return { pipeline: pipeline.pipeline, group, workgroups: dispatch.workgroups };
    });
    if (at >= 0) all.splice(at, 1);
    else if (all.length === MAX_HELD) all.shift();
    // After the groups are made: making them may have made the scratch grow.
    all.push({ dispatches, buffers, generation: scratch.generation, steps });
    return steps;
  }

  clear(): void {
    this.#byLogits = new WeakMap();
  }
}

/** Calls held for one buffer of logits. */
const MAX_HELD = 16;

/** Where in the buffers a call works, its dispatches tell. */
function areSame(a: CallBuffers, b: CallBuffers): boolean {
  return (
    a.probs.buffer === b.probs.buffer &&
    a.indices.buffer === b.indices.buffer &&
    a.logSumExp.buffer === b.logSumExp.buffer
  );
}
