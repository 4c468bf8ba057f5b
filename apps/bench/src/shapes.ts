/** What can be measured: shapes, the named groups of them, and the lists that a run works through. No Node here. */
import type { DType } from "@fused-topk/core";
import type { DataKind } from "./data.js";
import type { DeviceKind, ScenarioRecord } from "./schema.js";
import { UsageError } from "./usage-error.js";

export interface Shape {
  rows: number;
  vocab: number;
  k: number;
}

export interface ShapeGroup {
  summary: string;
  shapes: readonly Shape[];
  /** In place of `shapes` where the CPU does the work: smaller, so that a run ends in minutes. */
  onCpu?: readonly Shape[];
}

/** K where a shape does not bring its own. */
const DEFAULT_K = 50;

const vocabs = [1024, 4096, 16384, 65536, 262144, 1048576];

/** The groups, in the order they are shown. */
export const shapeGroups: Readonly<Record<string, ShapeGroup>> = {
  bulk: {
    summary: "thousands of rows, or hundreds of long ones: training, distillation, prompt scoring",
    shapes: [shape(4096, 128256, 20), shape(2048, 128256, 20), shape(1024, 50257, 256), shape(256, 262144, 64)],
  },
  middling: {
    summary: "fewer rows than the chip holds: a serving batch",
    shapes: [264, 133, 64].map((rows) => shape(rows, 128256, 50)),
  },
  decode: {
    summary: "one token of one to eight sequences",
    shapes: [1, 2, 4, 8].map((rows) => shape(rows, 128256, 50)),
  },
  long: {
    summary: "a million logits a row",
    shapes: [shape(1, 1048576, 256), shape(16, 1048576, 256)],
  },
  "large-k": {
    summary: "thousands of candidates",
    shapes: [shape(1024, 128256, 1024), shape(64, 128256, 1024), shape(64, 128256, 4096)],
  },
  gating: {
    summary: "experts of a mixture: many rows, small vocab",
    shapes: [shape(65536, 256, 8), shape(65536, 128, 8), shape(1048576, 64, 6)],
  },
  exp: {
    summary: "what exp costs: the read floor without, with one and with two exp a logit",
    shapes: [shape(4096, 128256, 20), shape(1024, 50257, 256)],
  },
  "scaling-vocab": {
    summary: "growth over the vocabulary",
    shapes: vocabs.map((vocab) => shape(64, vocab, 50)),
    onCpu: vocabs.map((vocab) => shape(1, vocab, 50)),
  },
  "scaling-rows": {
    summary: "growth over the rows",
    shapes: [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536].map((rows) => shape(rows, 4096, 50)),
    onCpu: [1, 4, 16, 64, 256].map((rows) => shape(rows, 4096, 50)),
  },
  "scaling-k": {
    summary: "growth over K",
    shapes: [1, 4, 16, 64, 256, 1024, 4096].map((k) => shape(64, 128256, k)),
    onCpu: [1, 4, 16, 64, 256, 1024, 4096].map((k) => shape(1, 128256, k)),
  },
};

/** The shapes of a run that names none, beside the sample of real logits. */
const defaultShapes: ShapeGroup = {
  summary: "one shape of each kind",
  shapes: [shape(1024, 50257, 256), shape(64, 128256, 50), shape(1, 128256, 50), shape(65536, 256, 8)],
  onCpu: [shape(4, 50257, 256), shape(1, 128256, 50), shape(1024, 256, 8)],
};

/** Where the axis of a scaling group lies. */
export const scalingAxes: Readonly<Record<string, keyof Shape>> = {
  "scaling-vocab": "vocab",
  "scaling-rows": "rows",
  "scaling-k": "k",
};

/** Whether a group is shown by itself, as curves or a table, and not among the others. */
export function isApart(group: string): boolean {
  return group in scalingAxes || group === "exp";
}

/** Names for several groups at once. */
export const groupSets: Readonly<Record<string, readonly string[]>> = {
  scaling: Object.keys(scalingAxes),
  targets: Object.keys(shapeGroups).filter((name) => !isApart(name)),
};

/** What was asked for; a default fills what was not. */
export interface Plan {
  /** Names of groups and shapes such as `64x128256` or `64x128256:50`. */
  shapes?: readonly string[] | undefined;
  k?: readonly number[] | undefined;
  dtypes?: readonly DType[] | undefined;
  data?: readonly DataKind[] | undefined;
  /** Logits of a file. With no shapes it is measured as it is; with shapes its rows are repeated to fill them. */
  input: { name: string; rows: number; vocab: number; dtype: DType };
  /** The input was asked for by name, so nothing else is measured unless shapes or data are named too. */
  inputOnly: boolean;
  quick: boolean;
}

/** The scenarios of a plan on one kind of device, in order, each once. */
export function planScenarios(plan: Plan, device: DeviceKind): ScenarioRecord[] {
  const { input } = plan;
  const scenarios: ScenarioRecord[] = [];
  const add = (group: string, size: Shape, dtype: DType, data: string) => {
    const ks = plan.k ?? [size.k];
    for (const k of ks)
      scenarios.push({ group, rows: size.rows, vocab: size.vocab, k: Math.min(k, size.vocab), dtype, data });
  };
  const kinds: readonly string[] = plan.data ?? (plan.inputOnly ? [input.name] : ["random"]);

  if (plan.shapes !== undefined) {
    for (const { group, sizes } of plan.shapes.flatMap((name) => parseShapes(name, device))) {
      for (const size of sizes) {
        for (const data of kinds) {
          if (data === input.name && size.vocab !== input.vocab) {
            throw new UsageError(
              `--shapes ${size.rows}x${size.vocab} asks for a vocab of ${size.vocab} but ${input.name} has ${input.vocab}. ` +
                `Use ROWSx${input.vocab} with it.`,
            );
          }
          for (const dtype of plan.dtypes ?? [data === input.name ? input.dtype : "f32"]) add(group, size, dtype, data);
        }
      }
    }
    return distinct(scenarios);
  }

  if (plan.data === undefined) {
    const size = { rows: input.rows, vocab: input.vocab, k: DEFAULT_K };
    for (const dtype of plan.dtypes ?? [input.dtype]) add("real logits", size, dtype, input.name);
    if (plan.inputOnly) return distinct(scenarios);
  }
  const groups: [string, ShapeGroup][] = [["synthetic", defaultShapes]];
  if (!plan.quick && plan.data === undefined) {
    for (const name of Object.keys(scalingAxes)) groups.push([name, shapeGroups[name]!]);
  }
  for (const [name, group] of groups) {
    const shapes = sizesOf(group, device);
    for (const size of plan.quick ? shapes.slice(-2) : shapes) {
      for (const data of plan.data ?? ["random"]) {
        for (const dtype of plan.dtypes ?? ["f32" as const]) add(name, size, dtype, data);
      }
    }
  }
  return distinct(scenarios);
}

/** Checks the name of a group or a shape without planning anything. */
export function checkShapeName(name: string): void {
  parseShapes(name, "gpu");
}

function parseShapes(name: string, device: DeviceKind): { group: string; sizes: readonly Shape[] }[] {
  if (Object.hasOwn(groupSets, name)) return groupSets[name]!.flatMap((member) => parseShapes(member, device));
  const group = Object.hasOwn(shapeGroups, name) ? shapeGroups[name] : undefined;
  if (group !== undefined) return [{ group: name, sizes: sizesOf(group, device) }];
  const match = /^(\d+)x(\d+)(?::(\d+))?$/.exec(name);
  const [rows, vocab, k] = match === null ? [] : match.slice(1).map((digits) => Number(digits ?? DEFAULT_K));
  if (!rows || !vocab || !k || !Number.isSafeInteger(rows * vocab)) {
    throw new UsageError(
      `Expected ROWSxVOCAB, ROWSxVOCAB:K or one of ${[...Object.keys(shapeGroups), ...Object.keys(groupSets)].join(", ")} for --shapes but received "${name}". ` +
        "Write for instance --shapes 64x128256,1024x50257:256.",
    );
  }
  if (match?.[3] !== undefined && k > vocab) {
    throw new UsageError(`Expected K of at most ${vocab} for --shapes ${name} but received ${k}. Lower it.`);
  }
  return [{ group: "custom", sizes: [shape(rows, vocab, k)] }];
}

function sizesOf(group: ShapeGroup, device: DeviceKind): readonly Shape[] {
  return device === "gpu" ? group.shapes : (group.onCpu ?? group.shapes);
}

function shape(rows: number, vocab: number, k: number): Shape {
  return { rows, vocab, k };
}

function distinct(scenarios: ScenarioRecord[]): ScenarioRecord[] {
  return [...new Map(scenarios.map((scenario) => [JSON.stringify(scenario), scenario])).values()];
}
