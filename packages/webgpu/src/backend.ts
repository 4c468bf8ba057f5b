/** The WebGPU backend: validation, the host path, recording, lifetime. */
import {
  allocateResult,
  type Backend,
  bytesPerElement,
  disposedError,
  FusedTopKError,
  type HostLogits,
  hostMemory,
  invalidArgument,
  type ResolvedOptions,
  resolveHostOptions,
  resolveOptions,
  type SoftmaxTopK,
  type SoftmaxTopKOptions,
} from "@fused-topk/core";
import { Arena, ParamsCache, ReadbackPool } from "./buffers.js";
import { type DeviceOptions, type OpenDevice, openDevice, words } from "./device.js";
import { fused, type Pipeline, Pipelines } from "./pipelines.js";
import { type Dispatch, type EntryPoint, MAX_K, type PathOptions, type Plan, planTopK, requirePath } from "./plan.js";
import { type BufferSlice, type CallBuffers, recordDispatch, resourcesOf } from "./record.js";
import { refusalOf } from "./refusal.js";
import { BufferUsage, MAP_MODE_READ } from "./spec.js";
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
export interface GPUBuffers {
  /** Logits, laid out as the options say. */
  logits: GPUBuffer;
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
   * Records a call into an encoder: no submit, no readback, results stay in the buffers. Any number of calls may go into
   * one encoder, and a call with the same shape as an earlier one creates no buffer and no pipeline. The first call of a
   * kind compiles its kernel on the calling thread. Submit before `dispose()`.
   *
   * A buffer of another device is reported by WebGPU itself, as a validation error of the encoder.
   *
   * @param options `dtype` is required.
   * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT`, `ERR_DEVICE_LOST`, `ERR_DISPOSED`
   */
  encode(encoder: GPUCommandEncoder, buffers: GPUBuffers, options: SoftmaxTopKOptions): void;
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
/** How long a failed call waits for the news that its device was lost. */
const NEWS_OF_LOSS_MS = 1000;

class Implementation implements WebGPUBackend {
  readonly name = "webgpu";
  readonly device: string;
  readonly limits = { maxK: MAX_K };
  readonly gpuDevice: GPUDevice;

  readonly #opened: OpenDevice;
  readonly #path: PathOptions;
  readonly #pipelines: Pipelines<EntryPoint>;
  readonly #params: ParamsCache;
  readonly #readbacks: ReadbackPool;
  readonly #arena: Arena;
  readonly #recordedScratch: Arena;
  readonly #pending = new Set<Promise<unknown>>();
  /** Rejects what waits while the device may be lost; one entry each, so that nothing outlives its call. */
  readonly #waiting = new Set<(lost: FusedTopKError) => void>();
  #lost: FusedTopKError | undefined;
  #disposed: Promise<void> | undefined;

  constructor(opened: OpenDevice, path: PathOptions) {
    const { device } = opened;
    this.#opened = opened;
    this.#path = path;
    this.device = opened.name;
    this.gpuDevice = device;
    this.#pipelines = new Pipelines(device, fused);
    this.#params = new ParamsCache(device);
    this.#readbacks = new ReadbackPool(device);
    this.#arena = new Arena(device, true);
    this.#recordedScratch = new Arena(device, false);
    device.lost.then((info) => {
      this.#lost = lostError(info, opened.isOwn);
      for (const reject of this.#waiting) reject(this.#lost);
    });
  }

  async softmaxTopK(logits: HostLogits | GPUBuffer, options: SoftmaxTopKOptions): Promise<SoftmaxTopK> {
    this.#requireUsable();
    let resolved: ResolvedOptions;
    if (isGPUBuffer(logits)) {
      resolved = resolveOptions(options, {}, this.limits.maxK);
      requireBuffer("logits", logits, logitsBytes(resolved));
      requireUnmapped(logits);
    } else {
      resolved = resolveHostOptions(logits, options, this.limits.maxK);
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

  encode(encoder: GPUCommandEncoder, buffers: GPUBuffers, options: SoftmaxTopKOptions): void {
    this.#requireUsable();
    const resolved = resolveOptions(options, {}, this.limits.maxK);
    const { rows, k } = resolved;
    requireBuffer("logits", buffers.logits, logitsBytes(resolved));
    requireBuffer("probs", buffers.probs, rows * k * 4);
    requireBuffer("indices", buffers.indices, rows * k * 4);
    requireBuffer("logSumExp", buffers.logSumExp, rows * 4);
    requireDistinct(buffers);
    if (rows === 0) return;
    const plan = planTopK(resolved, this.#opened.capabilities, this.#path);
    const held = {
      logits: whole(buffers.logits),
      probs: whole(buffers.probs),
      indices: whole(buffers.indices),
      logSumExp: whole(buffers.logSumExp),
    };
    const pipelineOf = (entry: EntryPoint) => this.#pipelines.getNow(plan.kernel, entry);
    this.#record(encoder, plan, plan.dispatches, pipelineOf, held, this.#recordedScratch);
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
    const { rows, k } = options;
    const capabilities = { ...this.#opened.capabilities };
    if (!isGPUBuffer(logits)) capabilities.bindingBytes = Math.min(capabilities.bindingBytes, BATCH_UPLOAD_BYTES);
    const plan = planTopK(options, capabilities, this.#path);
    const pipelines = await this.#compile(plan);
    // Compiling took time, in which the caller may have detached them.
    if (!isGPUBuffer(logits)) hostMemory(logits, options.dtype);
    const device = this.gpuDevice;

    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    const layout = resultLayout(rows, k);
    let readback: GPUBuffer | undefined;
    let mapping: Promise<unknown>;
    try {
      readback = this.#readbacks.acquire(layout.bytes);
      this.#submit(plan, pipelines, logits, layout, readback);
      mapping = readback.mapAsync(MAP_MODE_READ, 0, layout.bytes).then(() => undefined, asError);
    } catch (error) {
      mapping = Promise.resolve(asError(error));
    }
    const [validation, memory, failure] = await Promise.all([popErrorScope(device), popErrorScope(device), mapping]);
    if (readback && !memory && !validation && failure === undefined) {
      try {
        copyResults(readback.getMappedRange(0, layout.bytes), layout, options, result, row);
        readback.unmap();
        this.#readbacks.release(readback);
        return;
      } catch (error) {
        readback.destroy();
        throw await this.#explain(null, null, error, logits);
      }
    }
    readback?.destroy();
    throw await this.#explain(memory, validation, failure, logits);
  }

  /** Everything a run asks of the device, without waiting for it. */
  #submit(
    plan: Plan,
    pipelines: Map<string, Pipeline>,
    logits: HostLogits | GPUBuffer,
    layout: ResultLayout,
    readback: GPUBuffer,
  ): void {
    const device = this.gpuDevice;
    const results = this.#arena.get("results", layout.bytes);
    const output = (offset: number): BufferSlice => ({ buffer: results, offset });
    const submit = (dispatches: Dispatch[], source: BufferSlice, isLast: boolean) => {
      const buffers: CallBuffers = {
        logits: source,
        probs: output(layout.probs),
        indices: output(layout.indices),
        logSumExp: output(layout.logSumExp),
      };
      const encoder = device.createCommandEncoder({ label: "fused-topk" });
      this.#record(encoder, plan, dispatches, (entry) => pipelines.get(entry)!, buffers, this.#arena);
      if (isLast) encoder.copyBufferToBuffer(results, 0, readback, 0, layout.bytes);
      device.queue.submit([encoder.finish()]);
    };
    if (isGPUBuffer(logits)) {
      submit(plan.dispatches, whole(logits), true);
      return;
    }
    const fillings = groupByLogits(plan.dispatches);
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
    failure: unknown,
    logits: HostLogits | GPUBuffer,
  ): Promise<FusedTopKError> {
    if (memory) this.#arena.destroy();
    // What fails for no other reason fails because the device is gone, and the news may still be on its way.
    if (!memory && !validation) await this.#unlessLost(delay(NEWS_OF_LOSS_MS));
    const refusal = validation && isGPUBuffer(logits) ? await refusalOf(this.gpuDevice, logits) : null;
    return this.#lost ?? callError(memory, validation, failure, refusal);
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

  #record(
    encoder: GPUCommandEncoder,
    plan: Plan,
    dispatches: readonly Dispatch[],
    pipelineOf: (entry: EntryPoint) => Pipeline,
    buffers: CallBuffers,
    scratch: Arena,
  ): void {
    const pass = encoder.beginComputePass({ label: "fused-topk" });
    for (const dispatch of dispatches) {
      const resources = resourcesOf(plan, dispatch, buffers, { scratch, params: this.#params });
      recordDispatch(this.gpuDevice, pass, pipelineOf(dispatch.entry), dispatch.workgroups, resources);
    }
    pass.end();
  }

  async #compile(plan: Plan): Promise<Map<string, Pipeline>> {
    const entries = [...new Set(plan.dispatches.map(({ entry }) => entry))];
    const pipelines = await Promise.all(entries.map((entry) => this.#pipelines.get(plan.kernel, entry)));
    return new Map(entries.map((entry, i) => [entry, pipelines[i]!]));
  }
}

/** A lost device may refuse even this; then the loss is what gets reported. */
function popErrorScope(device: GPUDevice): Promise<GPUError | null> {
  return device.popErrorScope().catch(() => null);
}

function asError(cause: unknown): unknown {
  return cause ?? new Error("unknown");
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Every runtime has it; the types of this package name no runtime. */
declare function setTimeout(callback: () => void, milliseconds: number): unknown;

interface Filling {
  logits: NonNullable<Dispatch["logits"]>;
  dispatches: Dispatch[];
}

/** Dispatches that read the same logits, in order; one that reads none belongs to those before it. */
function groupByLogits(dispatches: readonly Dispatch[]): Filling[] {
  const fillings: Filling[] = [];
  for (const dispatch of dispatches) {
    const { logits } = dispatch;
    if (logits) fillings.push({ logits, dispatches: [dispatch] });
    else fillings.at(-1)!.dispatches.push(dispatch);
  }
  return fillings;
}

type ResultLayout = ReturnType<typeof resultLayout>;

/** Where the results of a call lie in one buffer. */
function resultLayout(rows: number, k: number) {
  const section = (bytes: number) => Math.ceil(bytes / 256) * 256;
  const indices = section(rows * k * 4);
  const logSumExp = 2 * indices;
  return { probs: 0, indices, logSumExp, bytes: logSumExp + rows * 4 };
}

function copyResults(
  bytes: ArrayBuffer,
  layout: ResultLayout,
  { rows, k }: ResolvedOptions,
  result: SoftmaxTopK,
  row: number,
): void {
  result.probs.set(new Float32Array(bytes, layout.probs, rows * k), row * k);
  result.indices.set(new Uint32Array(bytes, layout.indices, rows * k), row * k);
  result.logSumExp.set(new Float32Array(bytes, layout.logSumExp, rows), row);
}

function logitsBytes({ rows, vocab, offset, rowStride, dtype }: ResolvedOptions): number {
  if (rows === 0) return 0;
  // A binding ends on a word.
  return Math.ceil(((offset + (rows - 1) * rowStride + vocab) * bytesPerElement[dtype]) / 4) * 4;
}

function isGPUBuffer(logits: unknown): logits is GPUBuffer {
  return Object.prototype.toString.call(logits) === "[object GPUBuffer]" || hasBufferShape(logits);
}

/** Dawn for Node has a GPUBuffer without the name. */
function hasBufferShape(value: unknown): boolean {
  const buffer = value as Partial<GPUBuffer> | null;
  return typeof buffer === "object" && typeof buffer?.mapAsync === "function" && typeof buffer.size === "number";
}

function requireBuffer(name: string, buffer: unknown, bytes: number): asserts buffer is GPUBuffer {
  if (!isGPUBuffer(buffer)) throw invalidArgument(name, "a GPUBuffer", buffer, "Pass a buffer of backend.gpuDevice.");
  if ((buffer.usage & BufferUsage.STORAGE) === 0) {
    throw new FusedTopKError(
      "ERR_INVALID_ARGUMENT",
      `Expected usage STORAGE for ${name} but received a GPUBuffer with usage 0x${buffer.usage.toString(16)}.`,
      { fix: "Create it with GPUBufferUsage.STORAGE." },
    );
  }
  if (buffer.size < bytes) {
    throw new FusedTopKError(
      "ERR_INVALID_ARGUMENT",
      `Expected at least ${bytes} bytes for ${name} but received a GPUBuffer of ${buffer.size}.`,
      { fix: "Pass a larger buffer, or lower rows, vocab, k, offset or rowStride." },
    );
  }
}

/** Only for a call that submits at once: what is recorded may be unmapped before its submit. */
function requireUnmapped(logits: GPUBuffer): void {
  if (logits.mapState === "unmapped") return;
  throw new FusedTopKError(
    "ERR_INVALID_ARGUMENT",
    `Expected an unmapped GPUBuffer for logits but received one whose mapState is "${logits.mapState}".`,
    { fix: "Call its unmap() first." },
  );
}

function requireDistinct({ logits, probs, indices, logSumExp }: GPUBuffers): void {
  const names = new Map<GPUBuffer, string>();
  for (const [name, buffer] of Object.entries({ logits, probs, indices, logSumExp })) {
    const twin = names.get(buffer);
    if (twin !== undefined) {
      throw new FusedTopKError(
        "ERR_INVALID_ARGUMENT",
        `Expected four different buffers but ${twin} and ${name} are the same.`,
        { fix: "Pass one buffer each for logits, probs, indices and logSumExp." },
      );
    }
    names.set(buffer, name);
  }
}

function whole(buffer: GPUBuffer): BufferSlice {
  return { buffer, offset: 0 };
}

function lostError({ reason, message }: GPUDeviceLostInfo, isOwn: boolean): FusedTopKError {
  return new FusedTopKError(
    "ERR_DEVICE_LOST",
    `The WebGPU device was lost (${reason || "unknown"}): ${words(message)}.`,
    { fix: isOwn ? "Create a new backend." : "Create a new device and a backend on it." },
  );
}

/** @param refusal what WebGPU has against the caller's logits, if that is what it refused. */
function callError(
  memory: GPUError | null,
  validation: GPUError | null,
  failure: unknown,
  refusal: GPUError | null,
): FusedTopKError {
  if (memory) {
    return new FusedTopKError("ERR_OUT_OF_MEMORY", `The WebGPU device is out of memory: ${words(memory.message)}.`, {
      fix: "Split the rows over several calls.",
      cause: memory,
    });
  }
  if (refusal) {
    return new FusedTopKError(
      "ERR_INVALID_ARGUMENT",
      `WebGPU refused the GPUBuffer logits: ${words(refusal.message)}.`,
      {
        fix: "Pass a buffer of backend.gpuDevice that is neither mapped nor destroyed.",
        cause: refusal,
      },
    );
  }
  if (failure instanceof FusedTopKError) return failure;
  const cause = validation ?? failure;
  return new FusedTopKError("ERR_DEVICE", `The WebGPU call failed: ${words(validation?.message ?? failure)}.`, {
    cause,
  });
}
