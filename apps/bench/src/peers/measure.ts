/** Times peers side by side: the same logits, the same process, by turns. No Node here. */
import { timeCall } from "@fused-topk/core/measure";
import { checkResult } from "../check.js";
import { repeatRows } from "../data.js";
import type { ScenarioInput } from "../measure.js";
import type { CheckRecord, PeerRecord, ScenarioRecord } from "../schema.js";
import { quantile } from "../statistics.js";
import type { OpenPeer, Peer, PeerCall, PeerResult } from "./peer.js";

/** A peer that was loaded. */
export interface FoundPeer {
  peer: Peer;
  open: OpenPeer;
}

export interface PeerEffort {
  /** Turns that each peer gets. */
  turns: number;
  /** Milliseconds of a turn, beside an untimed call that brings its code and its threads back. */
  turn: number;
}

export function peerEffort(isQuick: boolean): PeerEffort {
  return isQuick ? { turns: 5, turn: 5 } : { turns: 20, turn: 20 };
}

/** Turns before it begins; a peer of which one call takes longer is slow, and gets one turn in so many. */
const WARM_UP = 10;
const SLOW = 7;

/** Loads those that are here; the reason for each that is not. */
export async function openPeers(peers: readonly Peer[]) {
  const found: FoundPeer[] = [];
  const absent: { peer: string; reason: string; fix?: string }[] = [];
  for (const peer of peers) {
    try {
      found.push({ peer, open: await peer.open() });
    } catch (error) {
      const [reason] = (error instanceof Error ? error.message : String(error)).split("\n");
      absent.push({ peer: peer.name, reason: reason!, ...(peer.fix !== undefined && { fix: peer.fix }) });
    }
  }
  return { found, absent };
}

/** All peers on one scenario of float32 logits. A sample is the median of a turn; ratios are to the first peer. */
export async function measurePeers(
  peers: readonly FoundPeer[],
  { scenario, template, templateRows, expected }: ScenarioInput,
  { turns, turn }: PeerEffort,
  onPeer: (name: string) => void | Promise<void>,
): Promise<PeerRecord[]> {
  const logits = repeatRows(template, templateRows, scenario.rows) as Float32Array;
  const taken: { found: FoundPeer; call: PeerCall; samples: number[]; result: PeerResult; every: number }[] = [];
  for (const found of peers) {
    await onPeer(found.peer.name);
    const call = await found.open.prepare(scenario);
    const result = copyOf(await call.run(logits));
    const milliseconds = (await timeTurn(call, logits, WARM_UP * turn)) / 1000;
    taken.push({ found, call, samples: [], result, every: milliseconds > WARM_UP * turn ? SLOW : 1 });
  }
  for (let i = 0; i < turns; i++) {
    for (const { found, call, samples, every } of taken) {
      if (i % every !== 0) continue;
      await onPeer(found.peer.name);
      await call.run(logits);
      samples.push(await timeTurn(call, logits, turn));
    }
  }
  const first = quantile(taken[0]!.samples, 0.5);
  const records = taken.map(({ found, samples, result }) => {
    const median = quantile(samples, 0.5);
    return {
      ...scenario,
      peer: found.peer.name,
      version: found.open.version,
      samples: samples.map(rounded),
      median: rounded(median),
      p10: rounded(quantile(samples, 0.1)),
      p90: rounded(quantile(samples, 0.9)),
      firstRatio: rounded(first / median),
      check: check(found.peer, scenario, expected, result),
    };
  });
  for (const { call } of taken) await call.close();
  return records;
}

/** The median time of a call, in microseconds, over calls of so many milliseconds: one at least. */
async function timeTurn(call: PeerCall, logits: Float32Array, milliseconds: number): Promise<number> {
  const times: number[] = [];
  const end = performance.now() + milliseconds;
  do {
    times.push((await timeCall(() => call.run(logits))).microseconds);
  } while (performance.now() < end);
  return quantile(times, 0.5);
}

/** A peer of this project keeps its contract; the others have no such bound, and need to be plausible. */
function check(
  { backend }: Peer,
  { rows, k }: ScenarioRecord,
  expected: ScenarioInput["expected"],
  { probs, indices }: PeerResult,
): CheckRecord {
  const result = { rows, k, probs: Float32Array.from(probs), indices: Uint32Array.from(indices, Number) };
  return checkResult(backend ?? "cpu", backend === undefined ? "unfused" : "fused", expected, result);
}

/** A peer may write its next result where this one is. */
function copyOf({ probs, indices }: PeerResult): PeerResult {
  return { probs: Array.from(probs), indices: Array.from(indices) };
}

function rounded(value: number): number {
  return Number(value.toPrecision(5));
}
