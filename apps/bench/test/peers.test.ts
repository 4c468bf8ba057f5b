/** Peers: what is absent is named, what is wrong is marked, and ratios are to the first. */
import { type SoftmaxTopK, softmaxTopKReference } from "@fused-topk/core";
import { expect, it } from "vitest";
import { expectedOf } from "../src/check.js";
import { generateLogits } from "../src/data.js";
import { carefulJavaScript, naiveJavaScript } from "../src/peers/javascript.js";
import { inRatio, measurePeers, openPeers } from "../src/peers/measure.js";
import { softmaxTopKModel } from "../src/peers/onnx-model.js";
import type { Peer, PeerResult } from "../src/peers/peer.js";
import type { ScenarioRecord } from "../src/schema.js";

const scenario: ScenarioRecord = { group: "custom", rows: 3, vocab: 500, k: 7, dtype: "f32", data: "random" };
const template = generateLogits("random", 3, 500, "f32", 1);
const input = { scenario, template, templateRows: 3, expected: expectedOf(scenario, template, 3) };

/** A peer that answers with the reference, changed. */
const changed = (name: string, change: (result: SoftmaxTopK) => PeerResult): Peer => ({
  name,
  open: async () => ({
    version: "1",
    prepare: async (problem) => ({
      run: async (logits) => change(softmaxTopKReference(logits, problem)),
      close: async () => {},
    }),
  }),
});

it("times and checks every peer that is here, and names those that are not", async () => {
  const absentPeer: Peer = {
    name: "elsewhere",
    fix: "npm install it",
    open: () => import("no-such-package" as string),
  };
  const wrong = changed("wrong", ({ probs, indices }) => ({ probs: probs.fill(0.5), indices }));
  const empty = changed("empty", () => ({ probs: [], indices: [] }));
  const { found, absent } = await openPeers([carefulJavaScript, naiveJavaScript, absentPeer, wrong, empty]);
  expect(absent).toEqual([
    { peer: "elsewhere", reason: expect.stringContaining("no-such-package"), fix: "npm install it" },
  ]);
  const records = inRatio((await measurePeers(found, input, { turns: 3, turn: 1 }, () => {})).measured);
  expect(records.map(({ peer, check }) => [peer, check.passed])).toEqual([
    ["JavaScript, careful", true],
    ["JavaScript, naive", true],
    ["wrong", false],
    ["empty", false],
  ]);
  for (const { samples, median, firstRatio } of records) {
    expect(samples).toHaveLength(3);
    expect(firstRatio).toBeCloseTo(records[0]!.median / median, 3);
  }
});

it("leaves out a peer that throws, at once or later, with the reason, and goes on with the others", async () => {
  const told: string[] = [];
  /** Throws from the time on that its name was told so often: once to begin with, and once a turn. */
  const failing = (name: string, from: number) =>
    changed(name, (result) => {
      if (told.filter((other) => other === name).length >= from) throw new Error("It fell over.\nA trace.");
      return result;
    });
  const { found } = await openPeers([failing("at once", 1), carefulJavaScript, failing("later", 2)]);
  const { measured, absent } = await measurePeers(found, input, { turns: 2, turn: 1 }, (name) => void told.push(name));
  expect(measured.map(({ peer, samples }) => [peer, samples.length])).toEqual([["JavaScript, careful", 2]]);
  const reason = "3 x 500, K 7, f32, random: It fell over.";
  expect(absent).toEqual([
    { peer: "at once", reason },
    { peer: "later", reason },
  ]);
});

it("writes the model as onnx.proto has it", () => {
  const bytes = Buffer.from(softmaxTopKModel({ rows: 3, vocab: 300, k: 200 })).toString("hex");
  const hex = (text: string) => Buffer.from(text).toString("hex");
  expect(bytes.startsWith("08083a")).toBe(true); // ir_version 8, then the graph
  expect(bytes.endsWith("42040a00100d")).toBe(true); // opset 13 of the default domain
  expect(bytes).toContain(`2207${hex("Softmax")}2a140a04${hex("axis")}18${"ff".repeat(9)}01a00102`); // axis -1
  expect(bytes).toContain(`0801100738c8014201${hex("k")}`); // the initializer k: one int64, 200
  expect(bytes).toContain("080112090a0208030a0308ac02"); // float32, [3, 300]
});
