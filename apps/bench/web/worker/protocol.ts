/** What the page asks of the bench worker, and what it hears back. One worker does one job. */
import type { BackendName, DType } from "@fused-topk/core";
import type { DataKind } from "../../src/data.js";
import type { CaseGroupRecord, ResultFile } from "../../src/schema.js";

export type Job = FindJob | MeasureJob | VerifyJob;

/** Looks for devices. */
export interface FindJob {
  type: "find";
}

export interface MeasureJob {
  type: "measure";
  backends: BackendName[];
  shapes: string[];
  /** Absent: the K of each shape. */
  k?: number[];
  dtypes: DType[];
  /** "sample" is the file of real logits. */
  data: DataKind | "sample";
  seed: number;
  quick: boolean;
  /** Names of peers to measure beside the backends. */
  peers: string[];
}

export interface VerifyJob {
  type: "verify";
  backends: BackendName[];
  set: "quick" | "full";
}

export type JobEvent =
  | { type: "progress"; done: number; total: number; step: string }
  /** All that is there so far. */
  | { type: "result"; result: ResultFile }
  /** One promise of the contract, of a verification that is under way. */
  | { type: "group"; configuration: string; group: CaseGroupRecord }
  | { type: "done" }
  /** The job could not be done. */
  | { type: "failed"; message: string };
