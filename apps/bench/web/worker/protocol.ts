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

/** How a job is getting on, whatever it is. */
export type JobProgress =
  /** A total of 0 where it is not known. */
  | { type: "progress"; done: number; total: number; step: string }
  /** With what there is to say of the end. */
  | { type: "done"; note?: string }
  /** The job could not be done. */
  | { type: "failed"; message: string };

export type JobEvent =
  | JobProgress
  /** All that is there so far. */
  | { type: "result"; result: ResultFile }
  /** One promise of the contract, of a verification that is under way. */
  | { type: "group"; configuration: string; group: CaseGroupRecord };
