/**
 * One suite that every backend passes: `describeBackend(create)`, for vitest. The cases alone, for any runtime, are in
 * `@fused-topk/conformance/cases`.
 *
 * @packageDocumentation
 */
export { type DescribeOptions, describeBackend } from "./describe.js";
