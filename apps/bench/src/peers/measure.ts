/** Times peers side by side: the same logits, the same process, by turns. No Node here. */
import type { BackendName } from "@fused-topk/core";
import { timeCall } from "@fused-topk/core/measure";
import { checkResult } from "../check.js";
import { repeatRows } from "../data.js";
import type { Effort, ScenarioInput } from "../measure.js";
import { scenarioTitle } from "../result-tables.js";
import type { AbsentPeerRecord, CheckRecord, PeerMemory, PeerRecord, ScenarioRecord } from "../schema.js";
import { quantile } from "../statistics.js";
import type { AnyPeer, OpenDevicePeer, OpenPeer, PeerCall, PeerResult } from "./peer.js";

/** A peer that was loaded. */
export interface Found<Open> {
  peer: { name: string; backend?: BackendName };
  open: Open;
}
export type FoundPeer = Found<OpenPeer>;
export type FoundDevicePeer = Found<OpenDevicePeer>;

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
export async function openPeers<Open>(peers: readonly AnyPeer<Open>[]) {
  const found: Found<Open>[] = [];
  const absent: AbsentPeerRecord[] = [];
  for (const peer of peers) {
    try {
      found.push({ peer, open: await peer.open() });
    } catch (error) {
      absent.push({ peer: peer.name, reason: firstLine(error), ...(peer.fix !== undefined && { fix: peer.fix }) });
    }
  }
  return { found, absent };
}

/** A record before it is set in ratio. */
type Measured = Omit<PeerRecord, "firstRatio">;

/** The peers that take an array, on one scenario of float32 logits. A sample is the median of a turn. */
export async function measurePeers(
  peers: readonly FoundPeer[],
  { scenario, template, templateRows, expected }: ScenarioInput,
  { turns, turn }: PeerEffort,
  onPeer: (name: string) => void | Promise<void>,
): Promise<Measured[]> {
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
  for (const { call } of taken) await call.close();
  return taken.map(({ found, samples, result }) => record(found, scenario, "host", samples, expected, result));
}

/** The peers on a GPU, on one scenario, one after another. One that throws is left out with the reason, and stops no other. */
export async function measureDevicePeers(
  peers: readonly FoundDevicePeer[],
  input: ScenarioInput,
  effort: Effort,
  onPeer: (name: string) => void | Promise<void>,
): Promise<{ measured: Measured[]; absent: AbsentPeerRecord[] }> {
  const { scenario, expected } = input;
  const measured: Measured[] = [];
  const absent: AbsentPeerRecord[] = [];
  for (const found of peers) {
    const { name } = found.peer;
    await onPeer(name);
    try {
      const { microseconds, result } = await found.open.measure(input, effort);
      measured.push(record(found, scenario, "device", microseconds, expected, result));
    } catch (error) {
      absent.push({ peer: name, reason: `${scenarioTitle(scenario)}: ${firstLine(error)}` });
    }
  }
  return { measured, absent };
}

/** The records with their ratios to the first. */
export function inRatio(measured: readonly Measured[]): PeerRecord[] {
  return measured.map((m) => ({ ...m, firstRatio: rounded(measured[0]!.median / m.median) }));
}

function record(
  { peer, open }: Found<{ version: string }>,
  scenario: ScenarioRecord,
  memory: PeerMemory,
  samples: readonly number[],
  expected: ScenarioInput["expected"],
  result: PeerResult,
): Measured {
  return {
    ...scenario,
    peer: peer.name,
    version: open.version,
    memory,
    samples: samples.map(rounded),
    median: rounded(quantile(samples, 0.5)),
    p10: rounded(quantile(samples, 0.1)),
    p90: rounded(quantile(samples, 0.9)),
    check: check(peer.backend, scenario, expected, result),
  };
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
  backend: BackendName | undefined,
  { k }: ScenarioRecord,
  expected: ScenarioInput["expected"],
  { probs, indices }: PeerResult,
): CheckRecord {
  const result = {
    rows: probs.length / k,
    k,
    probs: Float32Array.from(probs),
    indices: Uint32Array.from(indices, Number),
  };
  return checkResult(backend ?? "cpu", backend === undefined ? "unfused" : "fused", expected, result);
}

/** A peer may write its next result where this one is. */
function copyOf({ probs, indices }: PeerResult): PeerResult {
  return { probs: Array.from(probs), indices: Array.from(indices) };
}

function rounded(value: number): number {
  return Number(value.toPrecision(5));
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
}
