/** PyTorch on a GPU: a Python process that times it, asked over its standard streams. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { rawBits } from "../data.js";
import { type Effort, type ScenarioInput, setsOf } from "../measure.js";
import { quantile } from "../statistics.js";
import type { DevicePeer, DeviceTimes } from "./peer.js";

const script = fileURLToPath(new URL("./torch_peer.py", import.meta.url));
const fix = "pip install torch, for the python3 on the PATH, on a machine with an NVIDIA GPU";

/** `softmax`: the whole softmax, then its K best. `topk`: the K best logits, then their softmax by logsumexp. */
type Way = "softmax" | "topk";

/** @param python the interpreter to ask; all of them share one process. */
export function torchPeers(python = "python3"): DevicePeer[] {
  let process: Promise<TorchProcess> | undefined;
  type Measure = (torch: TorchProcess, input: ScenarioInput, effort: Effort) => Promise<DeviceTimes>;
  const peer = (name: string, text: string, measure: Measure): DevicePeer => ({
    name,
    fix,
    open: async () => {
      process ??= TorchProcess.start(python);
      const torch = await process;
      return {
        version: `${torch.version}, ${text}`,
        measure: (input, effort) => measure(torch, input, effort),
        close: async () => torch.stop(),
      };
    },
  });
  return [
    peer("PyTorch", "softmax, topk", (torch, ...asked) => torch.measure(...asked, "softmax", false)),
    peer("PyTorch, no softmax", "topk, logsumexp", (torch, ...asked) => torch.measure(...asked, "topk", false)),
    peer("PyTorch, compiled", "the faster of both", async (torch, ...asked) => {
      const both = [
        await torch.measure(...asked, "softmax", true),
        await torch.measure(...asked, "topk", true),
      ] as const;
      const [a, b] = both.map(({ microseconds }) => quantile(microseconds, 0.5));
      return both[a! <= b! ? 0 : 1];
    }),
  ];
}

/** The Python process: one question at a time. */
class TorchProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  /** The last line on its error stream, in case it dies. */
  #lastWords = "";
  #failure: Error | undefined;
  version = "";

  private constructor(python: string) {
    this.#child = spawn(python, [script], { stdio: "pipe" });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    this.#child.on("error", (error) => {
      this.#failure = error;
    });
    this.#child.stdin.on("error", () => {}); // it is gone: the answer that never comes says so
    createInterface({ input: this.#child.stderr }).on("line", (line) => {
      this.#lastWords = line;
    });
  }

  /** @throws {Error} the reason why there is none: no Python, no PyTorch, no CUDA device. */
  static async start(python: string): Promise<TorchProcess> {
    const torch = new TorchProcess(python);
    const { version } = (await torch.#answer()) as { version: string };
    torch.version = version;
    return torch;
  }

  async measure(input: ScenarioInput, effort: Effort, way: Way, compile: boolean): Promise<DeviceTimes> {
    const { scenario, template, expected } = input;
    const bits = rawBits(template);
    const bytes = new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
    const sets = setsOf("gpu", scenario);
    const question = { ...scenario, ...effort, sets, answers: expected.rows, way, compile, bytes: bytes.byteLength };
    this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    this.#child.stdin.write(bytes);
    const { microseconds, probs, indices } = (await this.#answer()) as DeviceTimes & DeviceTimes["result"];
    return { microseconds, rows: expected.rows, result: { probs, indices } };
  }

  stop(): void {
    this.#child.stdin.end();
  }

  async #answer(): Promise<object> {
    const { value, done } = await this.#lines.next();
    if (done) throw this.#failure ?? new Error(this.#lastWords || "Python ended without an answer.");
    const fields = JSON.parse(value) as { error?: string };
    if (fields.error !== undefined) throw new Error(fields.error);
    return fields;
  }
}
