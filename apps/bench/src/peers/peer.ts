/** What a peer is: another way to the K best and their probabilities, timed beside this project's. No Node here. */
import type { BackendName } from "@fused-topk/core";
import type { Effort, ScenarioInput } from "../measure.js";
import type { Shape } from "../shapes.js";

/** `[rows * k]` each, best first, in whatever arrays the peer gives. */
export interface PeerResult {
  probs: ArrayLike<number>;
  indices: ArrayLike<number | bigint>;
}

export interface AnyPeer<Open> {
  /** Of this project: the backend, whose contract it keeps. */
  backend?: BackendName;
  /** What a person calls it. */
  name: string;
  /** How to get it, where it is not part of this repository. */
  fix?: string;
  /** Loads it. A rejection is the reason why it is absent. */
  open(): Promise<Open>;
}

/** A peer that takes an array of the program. */
export type Peer = AnyPeer<OpenPeer>;

/** A peer whose logits lie on a GPU. It makes its input sets there, and times itself there. */
export type DevicePeer = AnyPeer<OpenDevicePeer>;

export interface OpenPeer {
  /** Its version, and what it runs on. */
  version: string;
  /** Gets ready for float32 logits of a shape; the call returned is what is timed. */
  prepare(shape: Shape): Promise<PeerCall>;
}

export interface PeerCall {
  run(logits: Float32Array): Promise<PeerResult>;
  close(): Promise<void>;
}

export interface OpenDevicePeer {
  /** Its version, and what it runs on. */
  version: string;
  measure(input: ScenarioInput, effort: Effort): Promise<DeviceTimes>;
  close(): Promise<void>;
}

export interface DeviceTimes {
  /** Microseconds a call, one entry a timing. */
  microseconds: number[];
  /** Rows that were asked for, from the first: all of the scenario, or only those that the reference answers. */
  rows: number;
  /** Of these rows of input set 0. */
  result: PeerResult;
}
