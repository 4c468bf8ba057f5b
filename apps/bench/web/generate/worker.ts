/** The worker that generates: it holds the model from one request to the next. Each request ends before the next begins. */
import mergesUrl from "../../model/tiny-code-lm.merges?url";
import { createUniform } from "../../src/data.js";
import { createGpuModel, createWasmModel, type Model, VOCAB } from "./model.js";
import type { GenerateEvent, GenerateRequest } from "./protocol.js";
import { drawToken } from "./sample.js";
import { createTokenizer, END_OF_TEXT, type Tokenizer } from "./tokenizer.js";

let tokenizer: Tokenizer | undefined;
let held: { engine: string; model: Model; fallback?: string } | undefined;

function tell(event: GenerateEvent): void {
  postMessage(event);
}

addEventListener("message", async ({ data }: MessageEvent<GenerateRequest>) => {
  try {
    await generate(data);
  } catch (error) {
    await held?.model.dispose().catch(() => {}); // what broke it may break this too
    held = undefined;
    const message = error instanceof Error ? error.message : String(error);
    tell({ type: "failed", message: `${message} Generate again to load the model anew.` });
  }
});

async function generate({ engine, prompt, temperature, k, seed, tokens }: GenerateRequest): Promise<void> {
  tokenizer ??= createTokenizer(await fetchMerges());
  if (held?.engine !== engine) {
    await held?.model.dispose();
    held = undefined;
    tell({ type: "progress", done: 0, total: 0, step: "Loading the model and its engine, 42 MB the first time" });
    held = { engine, ...(await load(engine)) };
  }
  const { model, fallback } = held;
  tell({ type: "ready", runsOn: model.runsOn, onGpu: model.onGpu, ...(fallback !== undefined && { fallback }) });

  const ids = [END_OF_TEXT, ...tokenizer.encode(prompt)];
  const random = createUniform(seed);
  const decoder = new TextDecoder(); // it keeps the bytes of a character that is not whole yet
  const textOf = (token: number) => new TextDecoder().decode(tokenizer!.bytesOf(token));
  for (let written = 0; written < tokens; written++) {
    tell({ type: "progress", done: written, total: tokens, step: `Token ${written + 1} of ${tokens}` });
    const { best, bytesRead } = await model.next(ids, k, temperature);
    const rank = drawToken(best, random());
    const token = best.indices[rank]!;
    if (token === END_OF_TEXT) return tell({ type: "done", note: "The model ended the text." });
    ids.push(token);
    const candidates = Array.from(best.indices, (index, i) => ({
      text: index === END_OF_TEXT ? "⟨end⟩" : textOf(index),
      probability: best.probs[i]!,
    }));
    const text = decoder.decode(tokenizer.bytesOf(token), { stream: true });
    tell({ type: "step", step: { text, rank, best: candidates, bytesRead, bytesOfRow: 4 * VOCAB } });
  }
  tell({ type: "done" });
}

async function load(engine: GenerateRequest["engine"]): Promise<{ model: Model; fallback?: string }> {
  if (engine === "wasm") return { model: await createWasmModel() };
  try {
    return { model: await createGpuModel() };
  } catch (error) {
    return { model: await createWasmModel(), fallback: error instanceof Error ? error.message : String(error) };
  }
}

async function fetchMerges(): Promise<Uint16Array> {
  const response = await fetch(mergesUrl);
  if (!response.ok) throw new Error(`Could not fetch the tokenizer: ${response.status} ${response.statusText}.`);
  return new Uint16Array(await response.arrayBuffer());
}
