/** Times peers side by side: the same logits, the same process, by turns. No Node here. */
import type { BackendName } from "@fused-topk/core";
import { timeCall } from "@fused-topk/core/measure";
import { checkResult } from "../check.js";
import { repeatRows } from "../data.js";
import type { Effort, ScenarioInput } from "../measure.js";
import { scenarioTitle } from "../result-tables.js";
import type { AbsentPeerRecord, CheckRecord, PeerMemory, PeerRecord, ScenarioRecord } from "../schema.js";
import { quantile, rounded } from "../statistics.js";
import type { AnyPeer, OpenDevicePeer, OpenPeer, PeerCall, PeerResult } from "./peer.js";

/** A peer that was loaded. */
interface Found<Open> {
  peer: { name: string; backend?: BackendName };
  open: Open;
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

/** The peers on one scenario, before they are set in ratio. One that throws is left out with the reason, and stops no other. */
interface Measured {
  measured: Omit<PeerRecord, "firstRatio">[];
  absent: AbsentPeerRecord[];
}

/** The peers that take an array, on one scenario of float32 logits. A sample is the median of a turn. */
export async function measurePeers(
  peers: readonly Found<OpenPeer>[],
  { scenario, template, templateRows, expected }: ScenarioInput,
  { turns, turn }: PeerEffort,
  onPeer: (name: string) => void | Promise<void>,
): Promise<Measured> {
  const logits = repeatRows(template, templateRows, scenario.rows) as Float32Array;
  const absent: AbsentPeerRecord[] = [];
  const opened: { found: Found<OpenPeer>; call: PeerCall }[] = [];
  let begun: ((typeof opened)[number] & { samples: number[]; result: PeerResult; every: number })[] = [];
  for (const found of peers) {
    await onPeer(found.peer.name);
    try {
      const call = await found.open.prepare(scenario);
      opened.push({ found, call });
      const result = copyOf(await call.run(logits));
      const milliseconds = (await timeTurn(call, logits, WARM_UP * turn)) / 1000;
      begun.push({ found, call, samples: [], result, every: milliseconds > WARM_UP * turn ? SLOW : 1 });
    } catch (error) {
      absent.push(absentFrom(scenario, found, error));
    }
  }
  for (let i = 0; i < turns; i++) {
    for (const one of begun.filter(({ every }) => i % every === 0)) {
      const { found, call, samples } = one;
      await onPeer(found.peer.name);
      try {
        await call.run(logits);
        samples.push(await timeTurn(call, logits, turn));
      } catch (error) {
        absent.push(absentFrom(scenario, found, error));
        begun = begun.filter((other) => other !== one);
      }
    }
  }
  for (const { found, call } of opened) {
    await call.close().catch((error) => absent.push(absentFrom(scenario, found, error)));
  }
  const measured = begun.map(({ found, samples, result }) =>
    record(found, scenario, "host", samples, check(found, expected, result)),
  );
  return { measured, absent };
}

/** The peers on a GPU, on one scenario, one after another. */
export async function measureDevicePeers(
  peers: readonly Found<OpenDevicePeer>[],
  input: ScenarioInput,
  effort: Effort,
  onPeer: (name: string) => void | Promise<void>,
): Promise<Measured> {
  const { scenario, expected } = input;
  const measured: Measured["measured"] = [];
  const absent: AbsentPeerRecord[] = [];
  for (const found of peers) {
    await onPeer(found.peer.name);
    try {
      const { microseconds, result, rows } = await found.open.measure(input, effort);
      measured.push(record(found, scenario, "device", microseconds, check(found, expected, result, rows)));
    } catch (error) {
      absent.push(absentFrom(scenario, found, error));
    }
  }
  return { measured, absent };
}

function absentFrom(scenario: ScenarioRecord, { peer }: Found<unknown>, error: unknown): AbsentPeerRecord {
  return { peer: peer.name, reason: `${scenarioTitle(scenario)}: ${firstLine(error)}` };
}

/** The records with their ratios to the first. */
export function inRatio(measured: Measured["measured"]): PeerRecord[] {
  return measured.map((m) => ({ ...m, firstRatio: rounded(measured[0]!.median / m.median) }));
}

function record(
  { peer, open }: Found<{ version: string }>,
  scenario: ScenarioRecord,
  memory: PeerMemory,
  samples: readonly number[],
  check: CheckRecord,
): Measured["measured"][number] {
  return {
    ...scenario,
    peer: peer.name,
    version: open.version,
    memory,
    samples: samples.map(rounded),
    median: rounded(quantile(samples, 0.5)),
    p10: rounded(quantile(samples, 0.1)),
    p90: rounded(quantile(samples, 0.9)),
    check,
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
  { peer: { backend } }: Found<unknown>,
  expected: ScenarioInput["expected"],
  { probs, indices }: PeerResult,
  rows?: number,
): CheckRecord {
  const result = { probs: Float32Array.from(probs), indices: Uint32Array.from(indices, Number) };
  return checkResult(backend ?? "cpu", backend === undefined ? "unfused" : "fused", expected, result, rows);
}

/** A peer may write its next result where this one is. */
function copyOf({ probs, indices }: PeerResult): PeerResult {
  return { probs: Array.from(probs), indices: Array.from(indices) };
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
}
