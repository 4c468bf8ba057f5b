/** The baselines the meter times, as steps: a pipeline, its workgroups and what it is bound to. */
import { bytesPerElement, FusedTopKError, type ResolvedOptions } from "@fused-topk/core";
import * as wgsl from "./generated/wgsl.js";
import { type BindingName, type Library, type Pipeline, Pipelines, withSlabs } from "./pipelines.js";
import { type Capabilities, type Plan, planTopK } from "./plan.js";
import { type BindingResources, type CallBuffers, type Memory, resourcesOf } from "./record.js";
import { header, type Kernel, kernelText } from "./shader.js";

export interface Step {
  pipeline: Pipeline;
  workgroups: number;
  resources: BindingResources;
}

/** The steps of a call and what it costs in memory. */
export interface Work {
  steps: Step[];
  bytesWritten: number;
  scratchBytes: number;
  path: string;
}

type Entry = "softmax_rows" | "topk_rows" | "three_pass_rows";

const bindings: Record<Entry, BindingName[]> = {
  softmax_rows: ["params", "logits", "logitWords", "logSumExp", "softmax"],
  topk_rows: ["params", "logits", "logitWords", "probs", "indices"],
  three_pass_rows: ["params", "logits", "logitWords", "probs", "indices", "logSumExp"],
};

const library: Library<Entry> = {
  text: (kernel) => [kernelText(kernel), wgsl.baseline_unfused, wgsl.baseline_three_pass].join("\n"),
  bindings: (kernel, entry) => (entry === "softmax_rows" ? bindings[entry] : withSlabs(kernel, bindings[entry])),
};

const floorText = (kernel: Kernel, reads: number) =>
  [header(kernel), `const READS = ${reads}u;`, wgsl.params, wgsl.baseline_read_floor].join("\n");

/** All that is compiled for a kernel beside the fused one. */
export function baselineTexts(kernel: Kernel): string[] {
  return [library.text(kernel), ...floorShapes.map(({ reads }) => floorText(kernel, reads))];
}

/** Invocations a workgroup and 16-byte reads an invocation, of which the fastest is the floor. */
const floorShapes = [
  { workgroupSize: 256, reads: 4 },
  { workgroupSize: 256, reads: 8 },
  { workgroupSize: 64, reads: 16 },
];
const ONE_SHOT = 65535;
const RESIDENT = 2048;

export class Baselines {
  readonly #capabilities: Capabilities;
  readonly #pipelines: Pipelines<Entry>;
  readonly #floors: Pipelines<"read_floor">[];

  constructor(device: GPUDevice, capabilities: Capabilities) {
    this.#capabilities = capabilities;
    this.#pipelines = new Pipelines(device, library);
    this.#floors = floorShapes.map(
      ({ reads }) =>
        new Pipelines(device, {
          text: (kernel) => floorText(kernel, reads),
          bindings: () => ["params", "logits", "probs"],
        }),
    );
  }

  /** Softmax written to memory, then top-K over it. */
  async unfused(options: ResolvedOptions, buffers: CallBuffers, memory: Memory): Promise<Work> {
    const { rows, vocab, k } = options;
    // As many rows at a time as their softmax fits a binding.
    const bindingBytes = Math.floor((this.#capabilities.bindingBytes * bytesPerElement[options.dtype]) / 4);
    const plan = planRows(options, { ...this.#capabilities, bindingBytes });
    const steps: Step[] = [];
    let softmaxBytes = 0;
    let slabBytes = plan.slabBytes;
    for (const dispatch of plan.dispatches) {
      const tileRows = dispatch.params[0]!;
      const bytes = tileRows * vocab * 4;
      softmaxBytes = Math.max(softmaxBytes, bytes);
      const softmax = () => ({ buffer: memory.scratch.get("softmax", bytes), offset: 0, size: bytes });
      const { dtype: _, ...shape } = options;
      const dense: ResolvedOptions = { ...shape, dtype: "f32", rows: tileRows, offset: 0, rowStride: vocab };
      const second = planRows(dense, this.#capabilities);
      slabBytes = Math.max(slabBytes, second.slabBytes);
      const params = dispatch.params.slice();
      params.set(second.dispatches[0]!.params.subarray(0, 14));
      const topk = { ...second.dispatches[0]!, params, results: dispatch.results };
      steps.push(
        {
          pipeline: await this.#pipelines.get(plan.kernel, "softmax_rows"),
          workgroups: dispatch.workgroups,
          resources: { ...resourcesOf(plan, dispatch, buffers, memory), softmax },
        },
        {
          pipeline: await this.#pipelines.get(second.kernel, "topk_rows"),
          workgroups: topk.workgroups,
          resources: { ...resourcesOf(second, topk, buffers, memory), logits: softmax, logitWords: softmax },
        },
      );
    }
    return {
      steps,
      bytesWritten: rows * vocab * 4 + rows * k * 8 + rows * 4,
      scratchBytes: softmaxBytes + slabBytes,
      path: "softmax, then top-K",
    };
  }

  /** Max, sum and top-K in one dispatch of three reads. */
  async threePass(options: ResolvedOptions, buffers: CallBuffers, memory: Memory): Promise<Work> {
    const plan = planRows(options, this.#capabilities);
    const pipeline = await this.#pipelines.get(plan.kernel, "three_pass_rows");
    return {
      steps: plan.dispatches.map((dispatch) => ({
        pipeline,
        workgroups: dispatch.workgroups,
        resources: resourcesOf(plan, dispatch, buffers, memory),
      })),
      bytesWritten: options.rows * options.k * 8 + options.rows * 4,
      scratchBytes: plan.slabBytes,
      path: "three reads",
    };
  }

  /** The read floor in each of its launch shapes. */
  async floors(options: ResolvedOptions, buffers: CallBuffers, memory: Memory): Promise<Work[]> {
    const work: Work[] = [];
    for (const [i, { workgroupSize, reads }] of floorShapes.entries()) {
      if (workgroupSize > this.#capabilities.invocations) continue;
      const kernel: Kernel = {
        dtype: options.dtype,
        subgroups: false,
        workgroupSize,
        workWords: 1,
        candidates: "storage",
        tinyTemperature: false,
      };
      const pipeline = await this.#floors[i]!.get(kernel, "read_floor");
      const plan = planRows(options, this.#capabilities);
      for (const most of [ONE_SHOT, RESIDENT]) {
        const steps = plan.dispatches.map((dispatch) => ({
          pipeline,
          workgroups: Math.max(1, Math.min(most, Math.ceil(dispatch.logits!.length / (16 * reads * workgroupSize)))),
          resources: resourcesOf(plan, dispatch, buffers, memory),
        }));
        const path = `${workgroupSize} x ${reads} reads, ${most === ONE_SHOT ? "one shot" : "resident"}`;
        work.push({ steps, bytesWritten: 0, scratchBytes: 0, path });
      }
    }
    return work;
  }
}

/** The plan with a workgroup for each row. */
function planRows(options: ResolvedOptions, capabilities: Capabilities): Plan {
  const plan = planTopK(options, capabilities, { parts: 1 });
  if (plan.dispatches.some(({ entry }) => entry !== "scan_rows")) {
    throw new FusedTopKError(
      "ERR_OUT_OF_MEMORY",
      `A row of ${options.vocab} logits does not fit one binding (${capabilities.bindingBytes} bytes), as the baselines need.`,
      { fix: "Lower vocab." },
    );
  }
  return plan;
}
