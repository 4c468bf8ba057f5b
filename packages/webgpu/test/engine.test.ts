/// <reference types="node" />
/** Behind an inference engine: onnxruntime-web on WebGPU in a page, a model whose logits never leave the GPU. */
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { runInBrowser } from "@fused-topk/conformance/runtimes";
import { expect, test } from "vitest";

/** On a software adapter a token costs the engine a second. */
const TOKENS = process.env.FUSED_TOPK_FULL === "1" ? 32 : 4;
const K = 20;

const program = `
  const ort = await import("onnxruntime-web/webgpu");
  const { compare } = await import("@fused-topk/conformance/cases");
  const { softmaxTopKReference } = await import("@fused-topk/core");
  const { createWebGPUBackend } = await import("@fused-topk/webgpu");

  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice({ requiredFeatures: ["subgroups"] });
  ort.env.wasm.wasmPaths = "/onnxruntime-web/";
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create("/model/tiny-code-lm.onnx", {
    executionProviders: [{ name: "webgpu", device }],
    preferredOutputLocation: "gpu-buffer",
  });
  const backend = await createWebGPUBackend({ device });

  // Whoever maps a buffer to read it, the engine included.
  let bytesMapped = 0;
  const mapAsync = GPUBuffer.prototype.mapAsync;
  GPUBuffer.prototype.mapAsync = function (mode, offset = 0, size = this.size - offset) {
    if (mode === GPUMapMode.READ) bytesMapped += size;
    return mapAsync.call(this, mode, offset, size);
  };

  async function download(tensor) {
    const bytes = 4 * tensor.dims.reduce((a, b) => a * b);
    const readback = device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(tensor.gpuBuffer, 0, readback, 0, bytes);
    device.queue.submit([encoder.finish()]);
    await mapAsync.call(readback, GPUMapMode.READ);
    const copy = new Float32Array(readback.getMappedRange().slice(0));
    readback.destroy();
    return copy;
  }

  async function generate(choose) {
    const report = { tokens: [], locations: new Set(), padded: false, bytesMapped: [], failures: [] };
    const ids = [...PROMPT];
    while (report.tokens.length < ${TOKENS}) {
      // One shape for all tokens: the model looks only back, so what stands behind the last token does not matter.
      const padded = BigInt64Array.from({ length: LENGTH }, (_, i) => BigInt(ids[i] ?? 0));
      const feed = new ort.Tensor("int64", padded, [1, LENGTH]);
      bytesMapped = 0;
      const { logits } = await session.run({ ids: feed });
      const [, positions, vocab] = logits.dims;
      const options = { rows: 1, offset: (ids.length - 1) * vocab, k: ${K}, temperature: 0.9 };
      const best = await backend.softmaxTopK(logits, options);
      report.bytesMapped.push(bytesMapped);
      report.locations.add(logits.location);
      report.padded ||= logits.gpuBuffer.size > 4 * positions * vocab;

      const copy = await download(logits);
      const expected = softmaxTopKReference(copy, { ...options, vocab });
      const { failure } = compare(best, expected, vocab, "webgpu");
      if (failure) report.failures.push(failure);
      if (report.tokens.length === 0) {
        const whole = await backend.softmaxTopK(logits, { k: 3 });
        const all = softmaxTopKReference(copy, { rows: positions, vocab, k: 3 });
        const { failure } = compare(whole, all, vocab, "webgpu");
        if (failure) report.failures.push(failure);
      }
      logits.dispose();
      const token = choose(best);
      report.tokens.push(token);
      ids.push(token);
    }
    return { ...report, locations: [...report.locations] };
  }

  const PROMPT = [816, 1592, 369, 466]; // "import numpy as np"
  const LENGTH = PROMPT.length + ${TOKENS};
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const sample = ({ probs, indices }) => {
    let left = random() * probs.reduce((a, b) => a + b);
    return indices[Math.max(0, probs.findIndex((p) => (left -= p) < 0))];
  };
  const greedy = await generate(({ indices }) => indices[0]);
  const sampled = await generate(sample);
  await backend.dispose();
  await session.release();
  return { greedy, sampled };`;

interface Generated {
  tokens: number[];
  locations: string[];
  padded: boolean;
  bytesMapped: number[];
  failures: string[];
}

test("a model in the page generates with its logits on the GPU, and only K results are read back", {
  timeout: 120_000,
}, async () => {
  const engine = createRequire(import.meta.url).resolve("onnxruntime-web/webgpu");
  const report = (await runInBrowser(program, {
    imports: { "onnxruntime-web/webgpu": "/onnxruntime-web/ort.webgpu.min.mjs" },
    folders: {
      "/onnxruntime-web/": new URL(".", pathToFileURL(engine)),
      "/model/": new URL("../../../apps/bench/model/", import.meta.url),
    },
  })) as { greedy: Generated; sampled: Generated };
  const readback = 2 * 256 + 4; // probs and indices, each padded to where a binding may begin, and logSumExp
  for (const { tokens, locations, padded, bytesMapped, failures } of [report.greedy, report.sampled]) {
    expect(failures).toEqual([]);
    expect(tokens.length).toBe(TOKENS);
    expect({ locations, padded }).toEqual({ locations: ["gpu-buffer"], padded: true });
    expect(bytesMapped).toEqual(Array(TOKENS).fill(readback));
  }
  expect(report.sampled.tokens).not.toEqual(report.greedy.tokens);
});
