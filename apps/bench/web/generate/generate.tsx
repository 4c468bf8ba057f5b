/** The tab Generate: a model in the page continues a Python file, and shows what it weighs at each token. */
import { useEffect, useRef, useState } from "preact/hooks";
import { useSetting } from "../link.js";
import { Problem } from "../parts/problem.js";
import { CandidatesView } from "./candidates-view.js";
import type { GenerateEvent, GenerateRequest, Step } from "./protocol.js";
import { ReadbackView } from "./readback-view.js";

const PROMPT = "import numpy as np\n\n\ndef mean(";

type Status = "idle" | "running" | "done" | "cancelled" | "failed";
type Ready = Extract<GenerateEvent, { type: "ready" }>;

export function Generate() {
  const [prompt, setPrompt] = useSetting("generate", "prompt", PROMPT);
  const [temperature, setTemperature] = useSetting("generate", "temperature", "0.8", isNumber(0.05, 2));
  const [k, setK] = useSetting("generate", "k", "20", isNumber(1, 200));
  const [seed, setSeed] = useSetting("generate", "seed", "1", isNumber(0, 2 ** 32 - 1));
  const [tokens, setTokens] = useSetting("generate", "tokens", "40", isNumber(1, 200));
  const [engine, setEngine] = useSetting("generate", "engine", "webgpu", (value) => value === "wasm");
  const [status, setStatus] = useState<Status>("idle");
  const [progress, setProgress] = useState("");
  const [message, setMessage] = useState("");
  const [ready, setReady] = useState<Ready>();
  const [written, setWritten] = useState<{ prompt: string; steps: Step[] }>({ prompt: "", steps: [] });
  const [chosen, setChosen] = useState<number>();
  const worker = useRef<Worker | undefined>(undefined);

  const end = (how: Status, why = "") => {
    setStatus(how);
    setMessage(why);
  };
  const drop = () => {
    worker.current?.terminate();
    worker.current = undefined;
  };
  useEffect(() => drop, []);

  const onEvent = (event: GenerateEvent) => {
    switch (event.type) {
      case "progress":
        return setProgress(event.step);
      case "ready":
        return setReady(event);
      case "step":
        return setWritten(({ prompt, steps }) => ({ prompt, steps: [...steps, event.step] }));
      case "done":
        return end("done", event.reason === "end of text" ? "The model ended the text." : "");
      case "failed":
        return end("failed", event.message);
    }
  };

  const submit = (event: Event) => {
    event.preventDefault();
    if (worker.current === undefined) {
      worker.current = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
      worker.current.onmessage = ({ data }: MessageEvent<GenerateEvent>) => onEvent(data);
      worker.current.onerror = (event) => {
        drop();
        end("failed", event.message || "The worker did not start.");
      };
    }
    setWritten({ prompt, steps: [] });
    setChosen(undefined);
    setProgress("Starting");
    end("running");
    worker.current.postMessage({
      engine: engine === "wasm" ? "wasm" : "webgpu",
      prompt,
      temperature: Number(temperature),
      k: Number(k),
      seed: Number(seed),
      tokens: Number(tokens),
    } satisfies GenerateRequest);
  };

  const cancel = () => {
    drop(); // the model goes with it, and is loaded from the browser's cache next time
    end("cancelled");
  };

  const isRunning = status === "running";
  const { steps } = written;
  const at = Math.min(chosen ?? steps.length - 1, steps.length - 1);
  const number = (name: string, value: string, set: (value: string) => void, least: number, most: number) => (
    <label class="field">
      <span>{name}</span>
      <input
        type="number"
        required
        min={least}
        max={most}
        step={1}
        value={value}
        onInput={(event) => set(event.currentTarget.value)}
      />
    </label>
  );

  return (
    <>
      <form class="card" onSubmit={submit}>
        <label class="field">
          <span>The start of a Python file</span>
          <textarea
            class="code"
            rows={6}
            spellcheck={false}
            value={prompt}
            onInput={(event) => setPrompt(event.currentTarget.value)}
          />
        </label>
        <div class="fields">
          <label class="field wide">
            <span>Temperature: {Number(temperature).toFixed(2)}</span>
            <input
              type="range"
              min={0.05}
              max={2}
              step={0.05}
              value={temperature}
              onInput={(event) => setTemperature(event.currentTarget.value)}
            />
          </label>
          {number("K, how many are weighed", k, setK, 1, 200)}
          {number("Seed", seed, setSeed, 0, 2 ** 32 - 1)}
          {number("Tokens to write", tokens, setTokens, 1, 200)}
          <label class="field">
            <span>Runs on</span>
            <select value={engine} onChange={(event) => setEngine(event.currentTarget.value)}>
              <option value="webgpu">WebGPU, if it is here</option>
              <option value="wasm">WebAssembly</option>
            </select>
          </label>
        </div>
        <div class="buttons">
          <button type="submit" class="primary" disabled={isRunning}>
            Generate
          </button>
          <button type="button" disabled={!isRunning} onClick={cancel}>
            Cancel
          </button>
        </div>
        {isRunning && (
          <div class="progress">
            <progress
              aria-label="Progress"
              max={1}
              {...(steps.length > 0 && { value: steps.length / Number(tokens) })}
            />
            <p>
              <span class="step">{progress}</span>
              <span>{timeLeft(steps, Number(tokens))}</span>
            </p>
          </div>
        )}
        <p role="status" class="status">
          {status === "failed" ? "" : [outcomes[status], message].filter(Boolean).join(" ")}
        </p>
        {status === "failed" && <Problem message={`${message} Generate again to load the model anew.`} />}
        {ready !== undefined && (
          <p>
            Runs on {ready.runsOn}.{ready.fallback !== undefined && ` Not on WebGPU: ${ready.fallback}`}
          </p>
        )}
      </form>
      {written.prompt !== "" && (
        <section class="card" aria-label="What was written">
          <h3>Written</h3>
          <pre class="code written">
            <span class="prompt">{written.prompt}</span>
            {steps.map(({ text }, i) => (
              // biome-ignore lint/a11y/noStaticElementInteractions: a short cut for the slider below
              // biome-ignore lint/a11y/useKeyWithClickEvents: a short cut for the slider below
              <span key={`${i} ${text}`} class={i === at ? "token chosen" : "token"} onClick={() => setChosen(i)}>
                {text}
              </span>
            ))}
          </pre>
          {steps.length > 0 && (
            <>
              <label class="field">
                <span>
                  Token {at + 1} of {steps.length}
                </span>
                <input
                  type="range"
                  min={1}
                  max={steps.length}
                  value={at + 1}
                  onInput={(event) => setChosen(Number(event.currentTarget.value) - 1)}
                />
              </label>
              <CandidatesView step={steps[at]!} />
            </>
          )}
        </section>
      )}
      {ready !== undefined && steps.length > 0 && <ReadbackView step={steps[at]!} steps={steps} onGpu={ready.onGpu} />}
    </>
  );
}

const outcomes: Readonly<Record<Status, string>> = {
  idle: "The model and its engine are 42 MB. They are loaded when you generate.",
  running: "Running.",
  done: "Done.",
  cancelled: "Cancelled.",
  failed: "",
};

function timeLeft(steps: readonly Step[], tokens: number): string {
  if (steps.length === 0) return "";
  const pace = steps.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / steps.length;
  return `about ${Math.ceil(((tokens - steps.length) * pace) / 1000)} s left`;
}

function isNumber(least: number, most: number): (value: string) => boolean {
  return (value) => value.trim() !== "" && Number(value) >= least && Number(value) <= most;
}
