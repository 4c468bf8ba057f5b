/** Compiles kernels, each once a device. */
import { FusedTopKError } from "@fused-topk/core";
import { type EntryPoint, type Kernel, kernelKey, kernelText } from "./shader.js";
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
} as const;

type BindingName = keyof typeof Binding;

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
};

const used: Record<EntryPoint, BindingName[]> = {
  scan_rows: ["params", "logits", "logitWords", "probs", "indices", "logSumExp"],
  scan_parts: ["params", "logits", "logitWords", "partStates", "partTop"],
  merge_parts: ["params", "partStates", "partTop", "probs", "indices", "logSumExp"],
};

export interface Pipeline {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
  bindings: readonly BindingName[];
}

export class Pipelines {
  readonly #device: GPUDevice;
  readonly #modules = new Map<string, GPUShaderModule>();
  readonly #pending = new Map<string, Promise<Pipeline>>();
  readonly #ready = new Map<string, Pipeline>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** @throws {FusedTopKError} `ERR_DEVICE` with the compiler's messages. */
  get(kernel: Kernel, entry: EntryPoint): Promise<Pipeline> {
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
  getNow(kernel: Kernel, entry: EntryPoint): Pipeline {
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

  async #compile(kernel: Kernel, entry: EntryPoint): Promise<Pipeline> {
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

  #describe(kernel: Kernel, entry: EntryPoint) {
    const device = this.#device;
    const key = kernelKey(kernel);
    let module = this.#modules.get(key);
    if (!module) {
      // Validation errors come back through the pipeline; the scope keeps them out of the caller's handlers.
      device.pushErrorScope("validation");
      module = device.createShaderModule({ label: `fused-topk ${key}`, code: kernelText(kernel) });
      device.popErrorScope().catch(() => {});
      this.#modules.set(key, module);
    }
    const bindings: BindingName[] = kernel.capacity === 0 ? [...used[entry], "slabs"] : used[entry];
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
