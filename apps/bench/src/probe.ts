/**
 * Prints what WebGPU finds in this environment: `gpu`, `software` or `none`. A process of its own, because the drivers
 * write what they miss to stderr, and one that crashes takes its process along.
 */
import { findWebGPU } from "./dawn.js";

const found = await findWebGPU().catch(() => undefined);
process.stdout.write(found === undefined ? "none" : found.software ? "software" : "gpu");
process.exit();
