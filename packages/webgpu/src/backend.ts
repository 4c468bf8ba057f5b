/** The WebGPU backend: validation, the host path, recording, lifetime. */
import {
  allocateResult,
  type Backend,
  bytesPerElement,
  disposedError,
  type FusedTopKError,
  type HostLogits,
  hostMemory,
  type ResolvedOptions,
  resolveHostOptions,
  resolveOptions,
  type SoftmaxTopK,
  type SoftmaxTopKOptions,
} from "@fused-topk/core";
import { Arena, ParamsCache, ReadbackPool, type SizedBuffer } from "./buffers.js";
import { isGPUBuffer, requireBuffer, requireDistinct, requireUnmapped } from "./caller-buffers.js";
import { type DeviceOptions, type OpenDevice, openDevice } from "./device.js";
import { callError, lostError, newsOfLoss, popErrorScope } from "./failure.js";
import { fused, type Pipeline, Pipelines } from "./pipelines.js";
import { type Dispatch, type EntryPoint, MAX_K, type PathOptions, type Plan, requirePath } from "./plan.js";
import { type PreparedCall, PreparedCalls, type Step, StepCache } from "./prepare.js";
import { type BufferSlice, type CallBuffers, recordDispatch } from "./record.js";
import { refusalOf } from "./refusal.js";
import { copyResults, type ResultLayout, resultLayout } from "./results.js";
import { MAP_MODE_READ } from "./spec.js";
import { isTensor, type LogitsTensor, type OpenTensor, openTensor, type TensorOptions } from "./tensor.js";
import { uploadRange } from "./upload.js";

/** Options of `createWebGPUBackend`. */
export interface WebGPUBackendOptions extends DeviceOptions {
  /**
   * Forces a path of the kernel: for tests and measurement. Leave it out.
   *
   * @internal
   */
  path?: PathOptions;
}

/** The buffers of a recorded call, all on the backend's device, with usage STORAGE. They may be larger than needed. */
export interface GPUBuffers<Logits extends GPUBuffer | LogitsTensor = GPUBuffer> {
  /** Logits, laid out as the options say; a tensor's location is `"gpu-buffer"`. */
  logits: Logits;
  /** Receives float32 `[rows * k]`. */
  probs: GPUBuffer;
  /** Receives uint32 `[rows * k]`. */
  indices: GPUBuffer;
  /** Receives float32 `[rows]`. */
  logSumExp: GPUBuffer;
}

/** fused-topk on a WebGPU device. */
export interface WebGPUBackend extends Backend {
  readonly name: "webgpu";
  /** The device; logits in its buffers are taken without a copy. */
  readonly gpuDevice: GPUDevice;
  /**
   * As `Backend.softmaxTopK`; the logits may also be a GPUBuffer of `gpuDevice` with usage STORAGE, not mapped. It may be
   * larger than the options say, `offset` may point anywhere in it, and `options.dtype` is required. 16-bit logits that
   * end in the middle of a 4-byte word need the buffer to extend to its end.
   *
   * @throws {FusedTopKError} as a rejection: `ERR_INVALID_ARGUMENT`, `ERR_OUT_OF_MEMORY`, `ERR_DEVICE_LOST`,
   *   `ERR_DISPOSED`, `ERR_DEVICE`.
   */
  softmaxTopK(logits: HostLogits | GPUBuffer, options: SoftmaxTopKOptions): Promise<SoftmaxTopK>;
  /**
   * As above, of a tensor that an inference engine gave, on the GPU or not: onnxruntime-web's `Tensor`, created on
   * `gpuDevice`. A tensor on the GPU is read where it lies. Dispose it when the promise has settled.
   *
   * Its dims `[..., vocab]` say what `options` leave out. Of `[1, T, vocab]`, pass `rows: 1, offset: (T - 1) * vocab` for
   * the last position alone.
   *
   * @throws {FusedTopKError} as a rejection, as above.
   */
  softmaxTopK(logits: LogitsTensor, options: TensorOptions): Promise<SoftmaxTopK>;
  /**
   * Records a call into an encoder: no submit, no readback, results stay in the buffers. Any number of calls may go into
   * one encoder, and a call like an earlier one, on the same buffers, creates nothing on the device. The first call of a
   * kind compiles its kernel on the calling thread. Submit before `dispose()`.
   *
   * A buffer of another device is reported by WebGPU itself, as a validation error of the encoder.
   *
   * @param options `dtype` is required.
   * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT`, `ERR_DEVICE_LOST`, `ERR_DISPOSED`
   */
  encode(encoder: GPUCommandEncoder, buffers: GPUBuffers, options: SoftmaxTopKOptions): void;
  /** As above, of a tensor on the GPU; its dims and type say what `options` leave out. */
  encode(encoder: GPUCommandEncoder, buffers: GPUBuffers<LogitsTensor>, options: TensorOptions): void;
}

/**
 * Creates the WebGPU backend.
 *
 * @throws {FusedTopKError} as a rejection: `ERR_BACKEND_UNAVAILABLE` with what is missing, `ERR_INVALID_ARGUMENT`.
 */
export async function createWebGPUBackend(options: WebGPUBackendOptions = {}): Promise<WebGPUBackend> {
  const opened = await openDevice(options);
  try {
    requirePath(options.path ?? {}, opened.capabilities);
  } catch (error) {
    if (opened.isOwn) opened.device.destroy();
    throw error;
  }
  return new Implementation(opened, options.path ?? {});
}

/** Results of one readback, at most; more rows are taken in batches. */
const BATCH_RESULT_BYTES = 64 * 2 ** 20;
/** Host logits on the device at a time, at most. */
const BATCH_UPLOAD_BYTES = 128 * 2 ** 20;

class Implementation implements WebGPUBackend {
  readonly name = "webgpu";
  readonly device: string;
  readonly limits = { maxK: MAX_K };
  readonly gpuDevice: GPUDevice;

  readonly #opened: OpenDevice;
  readonly #pipelines: Pipelines<EntryPoint>;
  readonly #params: ParamsCache;
  readonly #readbacks: ReadbackPool;
  readonly #arena: Arena;
  readonly #recordedScratch: Arena;
  /** Calls on logits in a GPUBuffer, and in host memory. */
  readonly #resident: PreparedCalls;
  readonly #uploaded: PreparedCalls;
  /** Steps of calls that this backend submits, and of those it records for the caller. */
  readonly #steps: StepCache;
  readonly #recorded: StepCache;
  readonly #pending = new Set<Promise<unknown>>();
  /** Rejects what waits while the device may be lost; one entry each, so that nothing outlives its call. */
  readonly #waiting = new Set<(lost: FusedTopKError) => void>();
  #lost: FusedTopKError | undefined;
  #disposed: Promise<void> | undefined;

  constructor(opened: OpenDevice, path: PathOptions) {
    const { device } = opened;
    this.#opened = opened;
    this.device = opened.name;
    this.gpuDevice = device;
    this.#pipelines = new Pipelines(device, fused);
    this.#params = new ParamsCache(device);
    this.#readbacks = new ReadbackPool(device);
    this.#arena = new Arena(device, true);
    this.#recordedScratch = new Arena(device, false);
    const { capabilities } = opened;
    const bindingBytes = Math.min(capabilities.bindingBytes, BATCH_UPLOAD_BYTES);
    this.#resident = new PreparedCalls(capabilities, path);
    this.#uploaded = new PreparedCalls({ ...capabilities, bindingBytes }, path);
    this.#steps = new StepCache(device, { scratch: this.#arena, params: this.#params });
    this.#recorded = new StepCache(device, { scratch: this.#recordedScratch, params: this.#params });
    device.lost.then((info) => {
      this.#lost = lostError(info, opened.isOwn);
      for (const reject of this.#waiting) reject(this.#lost);
    });
  }

  async softmaxTopK(
    given: HostLogits | GPUBuffer | LogitsTensor,
    options: SoftmaxTopKOptions | TensorOptions,
  ): Promise<SoftmaxTopK> {
    this.#requireUsable();
    const { logits, options: complete, memory } = opened(given, options);
    let resolved: ResolvedOptions;
    if (isGPUBuffer(logits)) {
      resolved = resolveOptions(complete, memory, this.limits.maxK);
      requireBuffer("logits", logits, logitsBytes(resolved));
      requireUnmapped(logits);
    } else {
      resolved = resolveHostOptions(logits, complete, this.limits.maxK);
    }
    const result = allocateResult(resolved.rows, resolved.k);
    const call = this.#unlessLost(this.#runBatches(logits, resolved, result));
    this.#pending.add(call);
    try {
      await call;
      return result;
    } finally {
      this.#pending.delete(call);
    }
  }

  encode(
    encoder: GPUCommandEncoder,
    buffers: GPUBuffers<GPUBuffer | LogitsTensor>,
    options: SoftmaxTopKOptions | TensorOptions,
  ): void {
    this.#requireUsable();
    const { probs, indices, logSumExp } = buffers;
    const { logits, options: complete, memory } = opened(buffers.logits, options);
    const resolved = resolveOptions(complete, memory, this.limits.maxK);
    const { rows, k } = resolved;
    requireBuffer("logits", logits, logitsBytes(resolved));
    requireBuffer("probs", probs, rows * k * 4);
    requireBuffer("indices", indices, rows * k * 4);
    requireBuffer("logSumExp", logSumExp, rows * 4);
    requireDistinct({ logits, probs, indices, logSumExp });
    if (rows === 0) return;
    const { plan } = this.#resident.get(resolved);
    const steps = this.#recorded.get(plan, plan.dispatches, (entry) => this.#pipelines.getNow(plan.kernel, entry), {
      logits: whole(logits),
      probs: whole(probs),
      indices: whole(indices),
      logSumExp: whole(logSumExp),
    });
    record(encoder, steps);
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#release();
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  async #release(): Promise<void> {
    await Promise.allSettled(this.#pending);
    for (const owner of [this.#arena, this.#recordedScratch, this.#params, this.#readbacks]) owner.destroy();
    if (this.#opened.isOwn) this.gpuDevice.destroy();
    this.#opened.gpu = undefined;
  }

  #requireUsable(): void {
    if (this.#disposed) throw disposedError("webgpu backend");
    if (this.#lost) throw this.#lost;
  }

  async #runBatches(logits: HostLogits | GPUBuffer, options: ResolvedOptions, result: SoftmaxTopK): Promise<void> {
    const { rows, k, offset, rowStride } = options;
    const most = Math.max(1, Math.floor(BATCH_RESULT_BYTES / (8 * k + 4)));
    for (let row = 0; row < rows; row += most) {
      const batch = { ...options, rows: Math.min(most, rows - row), offset: offset + row * rowStride };
      await this.#run(logits, batch, result, row);
    }
  }

  /** One submit (host logits larger than the upload buffer: one for each of its fillings) and one readback. */
  async #run(logits: HostLogits | GPUBuffer, options: ResolvedOptions, result: SoftmaxTopK, row: number) {
    const call = (isHost(logits) ? this.#uploaded : this.#resident).get(options);
    if (!call.pipelines) {
      call.pipelines = await this.#compile(call.plan);
      // Compiling took time, in which the device may have gone, and the caller may have detached the logits.
      if (this.#lost) throw this.#lost;
      if (isHost(logits)) hostMemory(logits, options.dtype);
    }
    const device = this.gpuDevice;

    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    const layout = resultLayout(options);
    let readback: SizedBuffer | undefined;
    let mapping: Promise<unknown>;
    try {
      readback = this.#readbacks.acquire(layout.bytes);
      this.#submit(call, call.pipelines, logits, layout, readback.buffer);
      mapping = readback.buffer.mapAsync(MAP_MODE_READ, 0, layout.bytes).then(() => undefined, asError);
    } catch (error) {
      mapping = Promise.resolve(asError(error));
    }
    const [validation, memory, thrown] = await Promise.all([popErrorScope(device), popErrorScope(device), mapping]);
    if (readback && !memory && !validation && thrown === undefined) {
      try {
        copyResults(readback.buffer.getMappedRange(0, layout.bytes), layout, options, result, row);
        readback.buffer.unmap();
        this.#readbacks.release(readback);
        return;
      } catch (error) {
        this.#readbacks.discard(readback);
        throw await this.#explain(null, null, error, logits);
      }
    }
    if (readback) this.#readbacks.discard(readback);
    throw await this.#explain(memory, validation, thrown, logits);
  }

  /** Everything a run asks of the device, without waiting for it. */
  #submit(
    { plan, fillings }: PreparedCall,
    pipelines: ReadonlyMap<EntryPoint, Pipeline>,
    logits: HostLogits | GPUBuffer,
    layout: ResultLayout,
    readback: GPUBuffer,
  ): void {
    const device = this.gpuDevice;
    const results = this.#arena.get("results", layout.bytes);
    const output = (offset: number): BufferSlice => ({ buffer: results, offset });
    const [probs, indices, logSumExp] = [output(layout.probs), output(layout.indices), output(layout.logSumExp)];
    const submit = (dispatches: readonly Dispatch[], source: BufferSlice, isLast: boolean) => {
      const buffers: CallBuffers = { logits: source, probs, indices, logSumExp };
      const steps = this.#steps.get(plan, dispatches, (entry) => pipelines.get(entry)!, buffers);
      const encoder = device.createCommandEncoder({ label: "fused-topk" });
      record(encoder, steps);
      if (isLast) encoder.copyBufferToBuffer(results, 0, readback, 0, layout.bytes);
      device.queue.submit([encoder.finish()]);
    };
    if (!isHost(logits)) {
      submit(plan.dispatches, whole(logits), true);
      return;
    }
    const upload = this.#arena.get("logits", Math.max(...fillings.map((filling) => filling.logits.length)));
    for (const [i, filling] of fillings.entries()) {
      uploadRange(device.queue, upload, logits, filling.logits);
      const start = { buffer: upload, offset: -filling.logits.offset };
      submit(filling.dispatches, start, i === fillings.length - 1);
    }
  }

  /** What a failed run rejects with. */
  async #explain(
    memory: GPUError | null,
    validation: GPUError | null,
    thrown: unknown,
    logits: HostLogits | GPUBuffer,
  ): Promise<FusedTopKError> {
    if (memory) this.#arena.destroy();
    this.#steps.clear();
    // What fails for no other reason fails because the device is gone, and the news may still be on its way.
    if (!memory && !validation) await this.#unlessLost(newsOfLoss());
    const refusal = validation && !isHost(logits) ? await refusalOf(this.gpuDevice, logits) : null;
    return this.#lost ?? callError({ memory, validation, thrown, refusal });
  }

  /** Settles as `work` does, or rejects as soon as the device is lost. */
  async #unlessLost<T>(work: Promise<T>): Promise<T> {
    let reject: (lost: FusedTopKError) => void;
    const loss = new Promise<never>((_, whenLost) => {
      reject = whenLost;
      if (this.#lost) whenLost(this.#lost);
    });
    this.#waiting.add(reject!);
    try {
      return await Promise.race([work, loss]);
    } finally {
      this.#waiting.delete(reject!);
    }
  }

  async #compile(plan: Plan): Promise<ReadonlyMap<EntryPoint, Pipeline>> {
    const entries = [...new Set(plan.dispatches.map(({ entry }) => entry))];
    const pipelines = await Promise.all(entries.map((entry) => this.#pipelines.get(plan.kernel, entry)));
    return new Map(entries.map((entry, i) => [entry, pipelines[i]!]));
  }
}

function record(encoder: GPUCommandEncoder, steps: readonly Step[]): void {
  const pass = encoder.beginComputePass({ label: "fused-topk" });
  for (const { pipeline, group, workgroups } of steps) recordDispatch(pass, pipeline, group, workgroups);
  pass.end();
}

function opened(
  logits: HostLogits | GPUBuffer | LogitsTensor,
  options: SoftmaxTopKOptions | TensorOptions,
): OpenTensor {
  if (isTensor(logits)) return openTensor(logits, options);
  return { logits, options: options as SoftmaxTopKOptions, memory: {} };
}

function asError(cause: unknown): unknown {
  return cause ?? new Error("unknown");
}

/** For logits that were checked: host memory is what is not a GPUBuffer. */
function isHost(logits: HostLogits | GPUBuffer): logits is HostLogits {
  return ArrayBuffer.isView(logits);
}

function logitsBytes({ rows, vocab, offset, rowStride, dtype }: ResolvedOptions): number {
  if (rows === 0) return 0;
  // A binding ends on a word.
  return Math.ceil(((offset + (rows - 1) * rowStride + vocab) * bytesPerElement[dtype]) / 4) * 4;
}

function whole(buffer: GPUBuffer): BufferSlice {
  return { buffer, offset: 0 };
}
