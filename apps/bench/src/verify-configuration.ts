/** The conformance cases on one backend in one configuration of it. No Node here. */
import { type Family, type GroupReport, type Progress, runCases } from "@fused-topk/conformance/cases";
import type { Configuration } from "./configuration.js";
import type { DeviceRecord, VerificationRecord } from "./schema.js";

export interface VerifyOptions {
  set: "quick" | "full";
  /** The configuration forces a path through the meter, which takes dense rows at temperature 1. */
  forced: boolean;
  /** Called before each call: lets the event loop turn. */
  breathe(): Promise<void>;
  /** @param title the backend and its configuration. */
  onProgress(title: string, progress: Progress): void;
  /** Hears the outcome of each promise as soon as it is there. */
  onGroup?(title: string, group: GroupReport): void;
}

/** @returns the outcome, and whether some case took the path of the configuration. */
export async function verifyConfiguration(
  { backend: name }: DeviceRecord,
  configuration: Configuration,
  { set, forced, breathe, onProgress, onGroup }: VerifyOptions,
): Promise<{ record: VerificationRecord; taken: boolean }> {
  const title = configuration.name === "" ? name : `${name}, ${configuration.name}`;
  const { backend, call, taken, outside, close } = await configuration.open();
  const report = await runCases(backend, {
    set,
    filter: forced ? isPlain : () => true,
    call: async (logits, problem) => {
      await breathe();
      return call(logits, problem);
    },
    onProgress: (progress) => onProgress(title, progress),
    onGroup: (group) => onGroup?.(title, group),
  });
  await close();
  return { record: { backend: name, configuration: title, set, outside: outside(), ...report }, taken: taken() };
}

function isPlain({ offsets, paddings, temperatures }: Family): boolean {
  return offsets === undefined && paddings === undefined && temperatures === undefined;
}
