/// <reference types="node" />
/**
 * A vitest `globalSetup`: the forks that run the tests start with the software adapter in their environment.
 *
 * A VK_DRIVER_FILES that is already set stays: name the driver of a real GPU there to test on it.
 */
import { softwareAdapterEnvironment, softwareAdapterSupported } from "./software-adapter.js";

export default async function setup(): Promise<void> {
  if (!softwareAdapterSupported || process.env.VK_DRIVER_FILES !== undefined) return;
  Object.assign(process.env, await softwareAdapterEnvironment());
}
