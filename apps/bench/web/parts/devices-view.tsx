/** The backends of this browser: which to use, what each runs on, and why one is missing. */
import type { BackendName } from "@fused-topk/core";
import { useEffect, useState } from "preact/hooks";
import { describeDevice } from "../../src/result-tables.js";
import type { DeviceRecord, RejectedRecord } from "../../src/schema.js";
import { useJob } from "../worker/job.js";
import { Problem } from "./problem.js";

export interface BrowserDevices {
  devices: DeviceRecord[];
  rejected: RejectedRecord[];
}

/** Undefined while they are looked for. */
export function useDevices(): { found: BrowserDevices | undefined; problem: string | undefined } {
  const [found, setFound] = useState<BrowserDevices>();
  const { state, start } = useJob((event) => {
    if (event.type === "result") setFound(event.result);
  });
  useEffect(() => start({ type: "find" }), []);
  return { found, problem: state.message };
}

interface Props {
  found: BrowserDevices | undefined;
  problem: string | undefined;
  /** Backends not to use. */
  without: ReadonlySet<string>;
  onToggle(backend: BackendName, isUsed: boolean): void;
}

export function DevicesView({ found, problem, without, onToggle }: Props) {
  if (problem !== undefined) return <Problem message={problem} />;
  return (
    <fieldset class="devices" aria-busy={found === undefined}>
      <legend>Backends</legend>
      {found === undefined && <p>Looking for devices…</p>}
      {found?.devices.map((device) => (
        <label key={device.backend}>
          <input
            type="checkbox"
            checked={!without.has(device.backend)}
            onChange={(event) => onToggle(device.backend, event.currentTarget.checked)}
          />
          <span>
            <strong>{device.backend}</strong> {describeDevice(device)}
          </span>
        </label>
      ))}
      {found?.rejected.map(({ backend, message }) => (
        <p key={backend} class="missing">
          <span aria-hidden="true">✕</span>
          <span>
            <strong>{backend}</strong> is not here. {message}
          </span>
        </p>
      ))}
    </fieldset>
  );
}
