/** The cases and their runner, without a test framework: for Node, Deno, a browser page and the bench. */
export { type ArrayKind, catalogue, type Family, type Input, inputsOf } from "./catalogue.js";
export {
  type Comparison,
  compare,
  isLogSumExpRight,
  isProbabilityRight,
  probabilityBound,
  probabilityErrorOf,
} from "./compare.js";
export { type Distribution, type DistributionName, distributions } from "./distributions.js";
export { type FuzzOptions, type FuzzReport, fuzz } from "./fuzz.js";
export { makeLogits, optionsOf } from "./logits.js";
export { createRandom, type Random } from "./random.js";
export {
  type Call,
  type GroupReport,
  type Progress,
  type RunOptions,
  runCases,
} from "./run.js";
