/** What the page asks of the worker that generates, and what it hears back. */
import type { JobProgress } from "../worker/protocol.js";

/** "webgpu" falls back to WebAssembly where it cannot run. */
export type Engine = "webgpu" | "wasm";

export interface GenerateRequest {
  engine: Engine;
  prompt: string;
  temperature: number;
  k: number;
  seed: number;
  /** How many tokens to write, at most. */
  tokens: number;
}

export interface Candidate {
  text: string;
  /** Over the whole vocabulary, at the temperature. */
  probability: number;
}

export interface Step {
  text: string;
  /** Place of the token that was drawn among the candidates, from 0. */
  rank: number;
  /** The K best, best first. */
  best: Candidate[];
  /** Bytes of GPU memory that were mapped for reading, by anyone, for this token. */
  bytesRead: number;
  /** Bytes of the row of logits: what reading it back would have moved. */
  bytesOfRow: number;
}

export type GenerateEvent =
  | JobProgress
  /** What the model and the kernel run on, and why not on WebGPU where that was asked for. */
  | { type: "ready"; runsOn: string; onGpu: boolean; fallback?: string }
  | { type: "step"; step: Step };
