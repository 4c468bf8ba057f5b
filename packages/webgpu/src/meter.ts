/**
 * Times the fused kernel and its baselines on one device, for the bench. Not public API.
 *
 * @packageDocumentation
 */
import {
  FusedTopKError,
  invalidArgument,
  type ResolvedOptions,
  resolveHostOptions,
  type SoftmaxTopK,
} from "@fused-topk/core";

export type { DeviceOptions } from "./device.js";

import type { Measurement, MeasureRequest, Meter, Variant } from "@fused-topk/core/measure";
import { Baselines, type Work } from "./baselines.js";
import { Arena, ParamsCache } from "./buffers.js";
import { type DeviceOptions, type OpenDevice, openDevice, words } from "./device.js";
import { lostError, newsOfLoss, popErrorScope } from "./failure.js";
import { createInputSets } from "./input-sets.js";
import { fused, Pipelines } from "./pipelines.js";
import { type EntryPoint, MAX_K, type PathOptions, planTopK } from "./plan.js";
import { type BufferSlice, bindGroupOf, type CallBuffers, type Memory, recordDispatch, resourcesOf } from "./record.js";
import { kernelKey } from "./shader.js";
import { BufferUsage, MAP_MODE_READ } from "./spec.js";

/**
 * Creates a meter on a device of its own, or on the caller's. Without the feature `timestamp-query` it times submits by
 * the clock of the host.
 *
 * @throws {FusedTopKError} as a rejection: `ERR_BACKEND_UNAVAILABLE`
 */
export async function createWebGPUMeter(options: DeviceOptions = {}): Promise<Meter> {
  return new WebGPUMeter(await openDevice(options));
}

const forcedPaths: Record<string, PathOptions> = {
  subgroups: { subgroups: true },
  plain: { subgroups: false },
  "one-part": { parts: 1 },
  storage: { candidates: "storage" },
  workgroup: { candidates: "workgroup" },
  "workgroup-64": { workgroupSize: 64 },
  "workgroup-128": { workgroupSize: 128 },
  "workgroup-256": { workgroupSize: 256 },
  "workgroup-512": { workgroupSize: 512 },
  "workgroup-1024": { workgroupSize: 1024 },
};

const WARM_UP_CALLS = 2;
/** A GPU that was idle for a moment clocks down, and needs this long at work to clock up again. */
const WARM_UP_MS = 200;
/** Calls in one submit, at most: a driver may think that longer ones hang. */
const CALLS_A_SUBMIT = 16;
/** Browsers round timestamps to one of these, so that a page cannot use them to spy. */
const COARSE_STEPS_NS = [65_536n, 100_000n];
/** Where they do, a timing takes as many calls as need so long, of which rounding is a small part. */
const COARSE_SPAN_US = 2000;
const MOST_CALLS_A_TIMING = 1024;

class WebGPUMeter implements Meter {
  readonly variants = ["fused", "unfused", "three-pass", "read-floor"] as const;
  readonly paths: readonly string[];

  readonly #opened: OpenDevice;
  readonly #device: GPUDevice;
  readonly #memory: Memory;
  readonly #results: Arena;
  readonly #pipelines: Pipelines<EntryPoint>;
  readonly #baselines: Baselines;
  /** Where steps find their logits when they are recorded. */
  readonly #source: BufferSlice;
  #lost: FusedTopKError | undefined;
  #inputs: { key: MeasureRequest; sets: GPUBuffer[] } | undefined;

  constructor(opened: OpenDevice) {
    const { device, capabilities } = opened;
    this.#opened = opened;
    this.#device = device;
    device.lost.then((info) => {
      this.#lost = lostError(info, opened.isOwn);
    });
    this.#memory = { scratch: new Arena(device, true), params: new ParamsCache(device) };
    this.#results = new Arena(device, true);
    this.#source = { buffer: this.#results.get("no input", 16), offset: 0 };
    this.#pipelines = new Pipelines(device, fused);
    this.#baselines = new Baselines(device, capabilities);
    this.paths = Object.entries(forcedPaths)
      .filter(([, { subgroups, workgroupSize = 0 }]) => {
        return (!subgroups || capabilities.subgroups) && workgroupSize <= capabilities.invocations;
      })
      .map(([name]) => name);
  }

  async measure(request: MeasureRequest): Promise<Measurement> {
    const { variant, template, sets, repeats, path } = request;
    if (path !== undefined && !this.paths.includes(path)) {
      throw invalidArgument("path", `one of ${this.paths.join(", ")}`, path, "Leave it out to let the backend choose.");
    }
    const rows = request.options.rows;
    const checked = resolveHostOptions(
      template,
      { ...request.options, rows: template.length / request.options.vocab },
      MAX_K,
    );
    const options: ResolvedOptions = { ...checked, rows };

    const device = this.#device;
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    let measurement: Measurement | undefined;
    let failure: unknown;
    try {
      const inputs = this.#inputSets(request, options, sets);
      const works = await this.#works(variant, options, path === undefined ? {} : forcedPaths[path]!);
      measurement = await this.#best(works, options, inputs, repeats, variant !== "read-floor");
    } catch (error) {
      failure = error;
    }
    const validation = await popErrorScope(device);
    const memory = await popErrorScope(device);
    if (failure !== undefined && !memory && !validation) await Promise.race([device.lost, newsOfLoss()]);
    if (this.#lost) throw this.#lost;
    if (memory) {
      this.#release();
      throw new FusedTopKError("ERR_OUT_OF_MEMORY", `The WebGPU device is out of memory: ${words(memory.message)}.`, {
        fix: "Measure fewer rows.",
      });
    }
    if (validation) throw new FusedTopKError("ERR_DEVICE", `WebGPU refused a step: ${words(validation.message)}.`);
    if (failure !== undefined) throw failure;
    return measurement!;
  }

  async dispose(): Promise<void> {
    this.#release();
    this.#memory.params.destroy();
    if (this.#opened.isOwn) this.#device.destroy();
    this.#opened.gpu = undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #release(): void {
    this.#dropInputs();
    this.#memory.scratch.destroy();
    this.#results.destroy();
  }

  #dropInputs(): void {
    for (const buffer of this.#inputs?.sets ?? []) buffer.destroy();
    this.#inputs = undefined;
  }

  /** The input sets of a request; those of the last are used again when they are the same. */
  #inputSets(request: MeasureRequest, options: ResolvedOptions, sets: number): GPUBuffer[] {
    const held = this.#inputs;
    const same =
      held &&
      held.key.template === request.template &&
      held.key.options.rows === options.rows &&
      held.key.options.vocab === options.vocab &&
      held.sets.length === sets;
    if (!same) {
      this.#dropInputs();
      this.#inputs = { key: request, sets: createInputSets(this.#device, options, request.template, sets) };
    }
    return this.#inputs!.sets;
  }

  async #works(variant: Variant, options: ResolvedOptions, path: PathOptions): Promise<Work[]> {
    const buffers = this.#buffers(options);
    switch (variant) {
      case "fused":
        return [await this.#fused(options, buffers, path)];
      case "unfused":
        return [await this.#baselines.unfused(options, buffers, this.#memory)];
      case "three-pass":
        return [await this.#baselines.threePass(options, buffers, this.#memory)];
      case "read-floor":
        return this.#baselines.floors(options, buffers, this.#memory);
      default:
        throw invalidArgument("variant", `one of ${this.variants.join(", ")}`, variant, "This meter times no other.");
    }
  }

  async #fused(options: ResolvedOptions, buffers: CallBuffers, path: PathOptions): Promise<Work> {
    const plan = planTopK(options, this.#opened.capabilities, path);
    const steps = [];
    for (const dispatch of plan.dispatches) {
      steps.push({
        pipeline: await this.#pipelines.get(plan.kernel, dispatch.entry),
        workgroups: dispatch.workgroups,
        resources: resourcesOf(plan, dispatch, buffers, this.#memory),
      });
    }
    const parts = plan.dispatches[0]!.params[6]!;
    return {
      steps,
      bytesWritten: options.rows * options.k * 8 + options.rows * 4 + plan.partStateBytes + plan.partTopBytes,
      scratchBytes: plan.slabBytes + plan.partStateBytes + plan.partTopBytes,
      path: `${kernelKey(plan.kernel)}${parts > 1 ? `, ${parts} parts a row` : ""}`,
    };
  }

  /** Times each way to do the work and returns the fastest, by its median. */
  async #best(
    works: Work[],
    options: ResolvedOptions,
    inputs: GPUBuffer[],
    repeats: number,
    hasResult: boolean,
  ): Promise<Measurement> {
    let best: Measurement | undefined;
    for (const work of works) {
      const microseconds = await this.#time(work, inputs, repeats);
      if (best && median(best.microseconds) <= median(microseconds)) continue;
      const { bytesWritten, scratchBytes, path, steps } = work;
      best = { microseconds, launches: steps.length, bytesWritten, scratchBytes, path };
    }
    if (hasResult) best!.result = await this.#result(works[0]!, options, inputs[0]!);
    return best!;
  }

  async #time(work: Work, inputs: GPUBuffer[], repeats: number): Promise<number[]> {
    const warm = performance.now() + (repeats > 1 ? WARM_UP_MS : 0);
    let isCoarse: boolean;
    let took: number;
    do {
      const begin = performance.now();
      ({ isCoarse } = await this.#submit(work, inputs, 0, WARM_UP_CALLS, 1));
      took = performance.now() - begin;
    } while (performance.now() < warm && took < WARM_UP_MS / 10); // a call so slow keeps a GPU busy by itself
    let calls = 1;
    while (isCoarse && calls < MOST_CALLS_A_TIMING) {
      const { microseconds } = await this.#submit(work, inputs, 0, 1, calls);
      if (microseconds[0]! * calls >= COARSE_SPAN_US) break;
      calls *= 2;
    }
    const canStamp = this.#device.features.has("timestamp-query");
    const most = canStamp ? Math.max(1, Math.floor(CALLS_A_SUBMIT / calls)) : 1;
    const microseconds: number[] = [];
    while (microseconds.length < repeats) {
      const count = Math.min(most, repeats - microseconds.length);
      const timed = await this.#submit(work, inputs, microseconds.length * calls, count, calls);
      microseconds.push(...timed.microseconds);
    }
    return microseconds;
  }

  /** Takes `count` timings of `calls` calls each, in one submit. The clock of the host cannot tell one from another. */
  async #submit(
    work: Work,
    inputs: GPUBuffer[],
    from: number,
    count: number,
    calls: number,
  ): Promise<{ microseconds: number[]; isCoarse: boolean }> {
    const device = this.#device;
    const stamps = device.features.has("timestamp-query") ? this.#stamps(count) : undefined;
    const encoder = device.createCommandEncoder({ label: "fused-topk timing" });
    for (let call = 0; call < count * calls; call++) {
      const timing = Math.floor(call / calls);
      this.#record(encoder, work, inputs[(from + call) % inputs.length]!, {
        ...(stamps && { querySet: stamps.querySet }),
        ...(call % calls === 0 && { begin: 2 * timing }),
        ...(call % calls === calls - 1 && { end: 2 * timing + 1 }),
      });
    }
    stamps?.resolve(encoder);
    const commands = encoder.finish();
    const begin = performance.now();
    device.queue.submit([commands]);
    await device.queue.onSubmittedWorkDone();
    const each = ((performance.now() - begin) * 1000) / (count * calls);
    if (!stamps) return { microseconds: new Array<number>(count).fill(each), isCoarse: true };
    const { microseconds, isCoarse } = await stamps.read();
    return { microseconds: microseconds.map((span) => span / calls), isCoarse };
  }

  #record(
    encoder: GPUCommandEncoder,
    work: Work,
    input: GPUBuffer,
    { querySet, begin, end }: { querySet?: GPUQuerySet; begin?: number; end?: number } = {},
  ): void {
    const isStamped = querySet && (begin !== undefined || end !== undefined);
    const pass = encoder.beginComputePass({
      label: "fused-topk",
      ...(isStamped && {
        timestampWrites: {
          querySet,
          ...(begin !== undefined && { beginningOfPassWriteIndex: begin }),
          ...(end !== undefined && { endOfPassWriteIndex: end }),
        },
      }),
    });
    this.#source.buffer = input;
    for (const { pipeline, workgroups, resources } of work.steps) {
      recordDispatch(pass, pipeline.pipeline, bindGroupOf(this.#device, pipeline, resources), workgroups);
    }
    pass.end();
  }

  /** Timestamps before and after each of `count` timings. */
  #stamps(count: number) {
    const device = this.#device;
    const bytes = count * 16;
    const querySet = device.createQuerySet({ type: "timestamp", count: 2 * count });
    const resolved = device.createBuffer({ size: bytes, usage: BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC });
    const readback = device.createBuffer({ size: bytes, usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST });
    return {
      querySet,
      resolve(encoder: GPUCommandEncoder) {
        encoder.resolveQuerySet(querySet, 0, 2 * count, resolved, 0);
        encoder.copyBufferToBuffer(resolved, 0, readback, 0, bytes);
      },
      async read(): Promise<{ microseconds: number[]; isCoarse: boolean }> {
        await readback.mapAsync(MAP_MODE_READ);
        const ticks = new BigUint64Array(readback.getMappedRange().slice(0));
        for (const held of [querySet, resolved, readback]) held.destroy();
        return {
          microseconds: Array.from({ length: count }, (_, i) => Number(ticks[2 * i + 1]! - ticks[2 * i]!) / 1000),
          isCoarse: COARSE_STEPS_NS.some((step) => ticks.every((tick) => tick % step === 0n)),
        };
      },
    };
  }

  #buffers({ rows, k }: ResolvedOptions): CallBuffers {
    const results = (role: string, bytes: number) => ({ buffer: this.#results.get(role, bytes), offset: 0 });
    return {
      logits: this.#source,
      probs: results("probs", rows * k * 4),
      indices: results("indices", rows * k * 4),
      logSumExp: results("log_sum_exp", rows * 4),
    };
  }

  /** Runs the work on input set 0, into cleared buffers, and reads its results. */
  async #result(work: Work, options: ResolvedOptions, input: GPUBuffer): Promise<SoftmaxTopK> {
    const { rows, k } = options;
    const { probs, indices, logSumExp } = this.#buffers(options);
    const encoder = this.#device.createCommandEncoder({ label: "fused-topk result" });
    for (const { buffer } of [probs, indices, logSumExp]) encoder.clearBuffer(buffer);
    this.#record(encoder, work, input);
    this.#device.queue.submit([encoder.finish()]);
    return {
      rows,
      k,
      probs: new Float32Array(await this.#read(probs.buffer, rows * k * 4)),
      indices: new Uint32Array(await this.#read(indices.buffer, rows * k * 4)),
      logSumExp: new Float32Array(await this.#read(logSumExp.buffer, rows * 4)),
    };
  }

  async #read(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    const readback = this.#device.createBuffer({ size: bytes, usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST });
    const encoder = this.#device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, readback, 0, bytes);
    this.#device.queue.submit([encoder.finish()]);
    await readback.mapAsync(MAP_MODE_READ);
    const copy = readback.getMappedRange().slice(0);
    readback.destroy();
    return copy;
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >>> 1]!;
}

/** Every runtime has it; the types of this package name no runtime. */
declare const performance: { now(): number };
