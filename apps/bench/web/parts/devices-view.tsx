/** The backends of this browser: which to use, what each runs on, and why one is missing. */
import type { BackendName } from "@fused-topk/core";
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { describeDevice } from "../../src/result-tables.js";
import type { DeviceRecord, RejectedRecord } from "../../src/schema.js";
import type { Tab } from "../link.js";
import { useJob } from "../worker/job.js";
import { Problem } from "./problem.js";
import { useSet } from "./use-set.js";

interface BrowserDevices {
  devices: DeviceRecord[];
  rejected: RejectedRecord[];
}

/** Undefined while they are looked for. */
function useDevices(): { found: BrowserDevices | undefined; problem: string | undefined } {
  const [found, setFound] = useState<BrowserDevices>();
  const { state, start } = useJob((event) => {
    if (event.type === "result") setFound(event.result);
  });
  useEffect(() => start({ type: "find" }), []);
  return { found, problem: state.status === "failed" ? state.message : undefined };
}

/** The backends that a tab is to use, all that are here until the reader leaves one out, and the choice of them. */
export function useBackends(tab: Tab): { backends: BackendName[]; choice: VNode } {
  const { found, problem } = useDevices();
  const [without, toggle] = useSet(tab, "without");
  const backends = found?.devices.map(({ backend }) => backend).filter((name) => !without.has(name)) ?? [];
  const onToggle = (name: BackendName, isUsed: boolean) => toggle(name, !isUsed);
  return { backends, choice: <DevicesView {...{ found, problem, without, onToggle }} /> };
}

interface Props {
  found: BrowserDevices | undefined;
  problem: string | undefined;
  /** Backends not to use. */
  without: ReadonlySet<string>;
  onToggle(backend: BackendName, isUsed: boolean): void;
}

function DevicesView({ found, problem, without, onToggle }: Props) {
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
