/** The conversation with the Python process that times PyTorch, held with a process that only says what it was asked. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { expectedOf } from "../src/check.js";
import { generateLogits } from "../src/data.js";
import { measureDevicePeers, openPeers } from "../src/peers/measure.js";
import { torchPeers } from "../src/peers/torch.js";
import type { ScenarioRecord } from "../src/schema.js";

const folder = mkdtempSync(join(tmpdir(), "fused-topk-torch-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** An interpreter that runs this JavaScript instead of the script it is given. */
function interpreter(name: string, script: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!${process.execPath}\n${script}`);
  chmodSync(path, 0o755);
  return path;
}

/** Answers with the first row's K first logits as probabilities; refuses a vocab of 7. */
const echo = interpreter(
  "echo.cjs",
  `const say = (fields) => process.stdout.write(JSON.stringify(fields) + "\\n");
   say({ version: "9.9", device: "A GPU" });
   let bytes = Buffer.alloc(0);
   process.stdin.on("data", (chunk) => {
     bytes = Buffer.concat([bytes, chunk]);
     for (;;) {
       const end = bytes.indexOf(10);
       const question = end < 0 ? undefined : JSON.parse(bytes.subarray(0, end));
       if (question === undefined || bytes.length < end + 1 + question.bytes) return;
       const { buffer } = Uint8Array.from(bytes.subarray(end + 1, end + 1 + question.bytes));
       bytes = bytes.subarray(end + 1 + question.bytes);
       const { way, compile, k, answers, vocab } = question;
       if (vocab === 7) { say({ error: "out of memory" }); continue; }
       const probs = [...new Float32Array(buffer).subarray(0, k * answers)];
       const one = { softmax: 8, topk: 4 }[way] / (compile ? 2 : 1);
       say({ microseconds: [one, one, one], probs, indices: probs.map((_, i) => i) });
     }
   });`,
);

function inputOf(vocab: number) {
  const scenario: ScenarioRecord = { group: "custom", rows: 2, vocab, k: 3, dtype: "f32", data: "random" };
  const template = generateLogits("random", 2, vocab, "f32", 1);
  return { scenario, template, templateRows: 2, expected: expectedOf(scenario, template, 2) };
}
const effort = { budget: 10, repeats: 3 };

describe("PyTorch as a peer", () => {
  it("gets the logits as they are, and the faster of the compiled ways counts", async () => {
    const { found, absent } = await openPeers(torchPeers(echo));
    expect(absent).toEqual([]);
    const input = inputOf(50_000); // more than a pipe holds at once
    const [plain, noSoftmax, compiled] = await Promise.all([
      found[0]!.open.measure(input, effort),
      found[1]!.open.measure(input, effort),
      found[2]!.open.measure(input, effort),
    ]).then((times) => times.map(({ microseconds: [one] }) => one));
    expect([plain, noSoftmax, compiled]).toEqual([8, 4, 2]);
    const { result } = await found[0]!.open.measure(input, effort);
    expect(Float32Array.from(result.probs)).toEqual(input.template.subarray(0, 3 * input.expected.rows));
    for (const { open } of found) await open.close();
  });

  it("is left out of a scenario that it fails at, with the reason, and is checked where it does not", async () => {
    const { found } = await openPeers(torchPeers(echo));
    const failed = await measureDevicePeers(found, inputOf(7), effort, () => {});
    expect(failed.measured).toEqual([]);
    expect(failed.absent[0]).toEqual({ peer: "PyTorch", reason: "2 x 7, K 3, f32, random: out of memory" });
    const { measured } = await measureDevicePeers(found, inputOf(9), effort, () => {});
    expect(measured.map(({ memory, check }) => [memory, check.passed])).toEqual(Array(3).fill(["device", false]));
    for (const { open } of found) await open.close();
  });

  it.each([
    ["no-such-python", /ENOENT/],
    [
      interpreter("dies.cjs", `console.error("first");console.error("It fell over.");process.exit(1)`),
      /It fell over\./,
    ],
    [interpreter("none.cjs", `console.log('{"error":"No module named torch"}')`), /^No module named torch$/],
  ])("is absent with the reason and the way to get it: %#", async (python, reason) => {
    const { found, absent } = await openPeers(torchPeers(python));
    expect(found).toEqual([]);
    expect(absent.map(({ peer }) => peer)).toEqual(["PyTorch", "PyTorch, no softmax", "PyTorch, compiled"]);
    for (const { reason: why, fix } of absent) {
      expect(why).toMatch(reason);
      expect(fix).toContain("pip install torch");
    }
  });
});
