/** Assembles the WGSL of a kernel: a header of constants, then the files of kernels/webgpu. */
import type { DType } from "@fused-topk/core";
import * as wgsl from "./generated/wgsl.js";

/** What is compiled into a kernel. Two calls with the same kernel share their pipelines. */
export interface Kernel {
  dtype: DType;
  /** Whether reductions use subgroup operations, of whatever size the device has. */
  subgroups: boolean;
  /** Invocations a workgroup, a power of two >= 16. */
  workgroupSize: number;
  /** Words of workgroup memory for group maxima, and for candidates if that is where they live. */
  workWords: number;
  candidates: "workgroup" | "storage";
  /** For rows of a small vocabulary: invocations a row and 16-byte loads an invocation. */
  small?: { lanes: number; loads: number };
  /** For those of at most 256 logits and K at most 8: invocations a row, and tiles of LOADS loads an invocation. */
  gating?: { lanes: number; tiles: number };
  /** Whether the temperature is so small that subnormal logits matter. */
  tinyTemperature: boolean;
}

/** 16-byte loads an invocation has in flight: LOADS in logits.wgsl. */
export const LOADS = 4;

/** Bytes of workgroup memory a kernel needs beside its work words. */
export function fixedWorkgroupBytes(workgroupSize: number): number {
  const sums = workgroupSize * 4;
  const bins = Math.max(256, workgroupSize) * 4;
  return sums + bins + 256;
}

/** Bytes that it needs beside them where workgroups hold parts: `named` and what shares say, in decode.wgsl. */
export function heldWorkgroupBytes(workgroupSize: number): number {
  return (2 * workgroupSize + 16) * 8 + workgroupSize;
}

export function kernelKey({
  dtype,
  subgroups,
  workgroupSize,
  workWords,
  candidates,
  small,
  gating,
  tinyTemperature,
}: Kernel): string {
  const memory = gating
    ? `gating-${gating.lanes}x${gating.tiles * LOADS}`
    : small
      ? `small-${small.lanes}x${small.loads}`
      : `${workWords}${candidates === "storage" ? "-storage" : ""}`;
  return `${dtype}-${subgroups ? "subgroups" : "plain"}-${workgroupSize}-${memory}${tinyTemperature ? "-tiny" : ""}`;
}

export function kernelText(kernel: Kernel): string {
  const team = kernel.subgroups ? wgsl.team_subgroups : wgsl.team_workgroup;
  return [
    header(kernel),
    wgsl.params,
    wgsl.row_state,
    wgsl.logits,
    kernel.subgroups ? wgsl.reduce_subgroups : wgsl.reduce_workgroup,
    kernel.candidates === "storage" ? wgsl.candidates_storage : wgsl.candidates_workgroup,
    wgsl.select,
    wgsl.softmax_topk,
    kernel.small || kernel.gating ? "" : wgsl.decode,
    kernel.small ? wgsl.softmax_topk_small : "",
    kernel.gating ? [team, wgsl.gating].join("\n") : "",
  ].join("\n");
}

/** The constants that the WGSL files leave open. */
export function header({ dtype, subgroups, workgroupSize, workWords, small, gating, tinyTemperature }: Kernel): string {
  return [
    subgroups ? "enable subgroups;\nrequires subgroup_id;" : "",
    `const WORKGROUP_SIZE = ${workgroupSize}u;`,
    `const WORK_WORDS = ${workWords}u;`,
    `const LOGITS_PER_WORD = ${dtype === "f32" ? 1 : 2}u;`,
    small ? `const LANES = ${small.lanes}u;\nconst ROW_LOADS = ${small.loads}u;` : "",
    gating ? `const LANES = ${gating.lanes}u;\nconst TILES = ${gating.tiles}u;` : "",
    `const TINY_TEMPERATURE = ${tinyTemperature};`,
    `const IS_F16 = ${dtype === "f16"};`,
    // +inf, its own bits left-aligned in 32.
    `const INFINITY_BITS = ${dtype === "f16" ? "0x7c000000u" : "0x7f800000u"};`,
    "",
  ].join("\n");
}
