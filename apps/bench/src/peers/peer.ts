/** What a peer is: another way to the K best and their probabilities, timed beside this project's. No Node here. */
import type { BackendName } from "@fused-topk/core";

/** What is asked of a peer: float32 logits in host memory. */
export interface PeerProblem {
  rows: number;
  vocab: number;
  k: number;
}

/** `[rows * k]` each, best first, in whatever arrays the peer gives. */
export interface PeerResult {
  probs: ArrayLike<number>;
  indices: ArrayLike<number | bigint>;
}

export interface Peer {
  /** Of this project: the backend, whose contract it keeps. */
  backend?: BackendName;
  /** What a person calls it. */
  name: string;
  /** How to get it, where it is not part of this repository. */
  fix?: string;
  /** Loads it. A rejection is the reason why it is absent. */
  open(): Promise<OpenPeer>;
}

export interface OpenPeer {
  /** Its version, and what it runs on. */
  version: string;
  /** Gets ready for a shape; the call returned is what is timed. */
  prepare(problem: PeerProblem): Promise<PeerCall>;
}

export interface PeerCall {
  run(logits: Float32Array): Promise<PeerResult>;
  close(): Promise<void>;
}
