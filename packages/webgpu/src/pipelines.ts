/** Compiles kernels, each once a device. */
import { FusedTopKError } from "@fused-topk/core";
import type { EntryPoint } from "./plan.js";
import { type Kernel, kernelKey, kernelText } from "./shader.js";
import { SHADER_STAGE_COMPUTE } from "./spec.js";

/** Binding numbers of kernels/webgpu. */
export const Binding = {
  params: 0,
  logits: 1,
  logitWords: 2,
  slabs: 3,
  partStates: 4,
  partTop: 5,
  probs: 6,
  indices: 7,
  logSumExp: 8,
  softmax: 9,
} as const;

export type BindingName = keyof typeof Binding;

const types: Record<BindingName, GPUBufferBindingType> = {
  params: "uniform",
  logits: "read-only-storage",
  logitWords: "read-only-storage",
  slabs: "storage",
  partStates: "storage",
  partTop: "storage",
  probs: "storage",
  indices: "storage",
  logSumExp: "storage",
  softmax: "storage",
};

/** Kernels that are compiled in the same way: their text and the bindings of each entry point. */
export interface Library<Entry extends string> {
  text(kernel: Kernel): string;
  bindings(kernel: Kernel, entry: Entry): readonly BindingName[];
}

const fusedBindings: Record<EntryPoint, BindingName[]> = {
  small_rows: ["params", "logits", "logitWords", "probs", "indices", "logSumExp"],
  gate_rows: ["params", "logits", "logitWords", "probs", "indices", "logSumExp"],
  scan_rows: ["params", "logits", "logitWords", "probs", "indices", "logSumExp"],
  scan_parts: ["params", "logits", "logitWords", "partStates", "partTop"],
  merge_parts: ["params", "partStates", "partTop", "probs", "indices", "logSumExp"],
  hold_parts: ["params", "logits", "logitWords", "partStates", "partTop"],
  merge_held: ["params", "partStates", "partTop", "probs", "indices", "logSumExp"],
};

/** The fused kernel. */
export const fused: Library<EntryPoint> = {
  text: kernelText,
  bindings: (kernel, entry) => withSlabs(kernel, fusedBindings[entry]),
};

/** The bindings of an entry point that selects: with slabs if that is where its candidates live. */
export function withSlabs(kernel: Kernel, bindings: readonly BindingName[]): readonly BindingName[] {
  return kernel.candidates === "storage" ? [...bindings, "slabs"] : bindings;
}

export interface Pipeline {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
  bindings: readonly BindingName[];
}

export class Pipelines<Entry extends string> {
  readonly #device: GPUDevice;
  readonly #library: Library<Entry>;
  readonly #modules = new Map<string, GPUShaderModule>();
  readonly #pending = new Map<string, Promise<Pipeline>>();
  readonly #ready = new Map<string, Pipeline>();

  constructor(device: GPUDevice, library: Library<Entry>) {
    this.#device = device;
    this.#library = library;
  }

  /** @throws {FusedTopKError} `ERR_DEVICE` with the compiler's messages. */
  get(kernel: Kernel, entry: Entry): Promise<Pipeline> {
    const key = `${kernelKey(kernel)} ${entry}`;
    let pending = this.#pending.get(key);
    if (!pending) {
      pending = this.#compile(kernel, entry).then((pipeline) => {
        this.#ready.set(key, pipeline);
        return pipeline;
      });
      this.#pending.set(key, pending);
    }
    return pending;
  }

  /** As `get`, at once: compiles on the calling thread if nobody has before. */
  getNow(kernel: Kernel, entry: Entry): Pipeline {
    const key = `${kernelKey(kernel)} ${entry}`;
    let ready = this.#ready.get(key);
    if (!ready) {
      const { layout, bindings, descriptor } = this.#describe(kernel, entry);
      ready = { pipeline: this.#device.createComputePipeline(descriptor), layout, bindings };
      this.#ready.set(key, ready);
      this.#pending.set(key, Promise.resolve(ready));
    }
    return ready;
  }

  async #compile(kernel: Kernel, entry: Entry): Promise<Pipeline> {
    const { layout, bindings, descriptor } = this.#describe(kernel, entry);
    try {
      return { pipeline: await this.#device.createComputePipelineAsync(descriptor), layout, bindings };
    } catch (cause) {
      const { messages } = await descriptor.compute.module.getCompilationInfo();
      const details = messages.map(({ type, lineNum, message }) => `\n  ${type} at line ${lineNum}: ${message}`);
      throw new FusedTopKError(
        "ERR_DEVICE",
        `The device could not compile the kernel ${kernelKey(kernel)}: ${(cause as Error).message}${details.join("")}`,
        { cause },
      );
    }
  }

  #describe(kernel: Kernel, entry: Entry) {
    const device = this.#device;
    const key = kernelKey(kernel);
    let module = this.#modules.get(key);
    if (!module) {
      // Validation errors come back through the pipeline; the scope keeps them out of the caller's handlers.
      device.pushErrorScope("validation");
      try {
        module = device.createShaderModule({ label: `fused-topk ${key}`, code: this.#library.text(kernel) });
      } finally {
        device.popErrorScope().catch(() => {});
      }
      this.#modules.set(key, module);
    }
    const bindings = this.#library.bindings(kernel, entry);
    const layout = device.createBindGroupLayout({
      label: `fused-topk ${entry}`,
      entries: bindings.map((name) => ({
        binding: Binding[name],
        visibility: SHADER_STAGE_COMPUTE,
        buffer: { type: types[name] },
      })),
    });
    const descriptor: GPUComputePipelineDescriptor = {
      label: `fused-topk ${key} ${entry}`,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: entry },
    };
    return { layout, bindings, descriptor };
  }
}
