/** The work of a run: devices opened for it, and the scenarios of a plan shared out to them. No Node here. */
import type { Device } from "./device.js";
import type { MeasuredDevice } from "./measure.js";
import { groupBy } from "./result-tables.js";
import type { ScenarioRecord } from "./schema.js";

/** A device with a backend and a meter made on it; who opens it disposes of both. */
export async function openDevice(device: Device): Promise<MeasuredDevice> {
  return { ...device, backendInstance: await device.createBackend(), meter: await device.createMeter() };
}

export interface Work {
  scenario: ScenarioRecord;
  devices: MeasuredDevice[];
}

/** Every scenario once, with the devices that measure it, so that logits and reference are made once for all of them. */
export function planForAll(
  devices: readonly MeasuredDevice[],
  plan: (device: MeasuredDevice) => ScenarioRecord[],
): Work[] {
  const work = new Map<string, Work>();
  for (const device of devices) {
    for (const scenario of plan(device)) {
      const key = JSON.stringify(scenario);
      const shared = work.get(key) ?? { scenario, devices: [] };
      shared.devices.push(device);
      work.set(key, shared);
    }
  }
  return [...groupBy(work.values(), ({ scenario }) => scenario.group).values()].flat();
}
