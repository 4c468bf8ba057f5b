import {
  type Backend,
  type BackendName,
  createCpuBackend,
  FusedTopKError,
  type SoftmaxTopKOptions,
} from "@fused-topk/core";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Loaders } from "../src/loaders.js";
import { selectFrom } from "../src/select.js";

/** Loaders that make a stand-in for each backend that is present, and give a reason for each that is not. */
function loadersWith(...present: BackendName[]) {
  const tried: BackendName[] = [];
  const loader = (name: BackendName) => async (): Promise<Backend> => {
    tried.push(name);
    if (present.includes(name)) return { ...(await createCpuBackend()), name };
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", `No ${name} here.`, { fix: `Plug in the ${name}.` });
  };
  const loaders: Loaders = {
    cuda: loader("cuda"),
    webgpu: loader("webgpu"),
    wasm: loader("wasm"),
    cpu: loader("cpu"),
  };
  return { loaders, tried };
}

async function errorOf(promise: Promise<unknown>): Promise<FusedTopKError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(FusedTopKError);
  return error as FusedTopKError;
}

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
});

describe("selection for a shape", () => {
  /** Stand-ins that take so many milliseconds a call by a clock of their own, and count how many are alive. */
  const timed = (milliseconds: Partial<Record<BackendName, number>>) => {
    let now = 0;
    vi.spyOn(performance, "now").mockImplementation(() => now);
    const alive = new Set<BackendName>();
    const asked: SoftmaxTopKOptions[] = [];
    const loader = (name: BackendName) => async (): Promise<Backend> => {
      const cpu = await createCpuBackend();
      const wait = milliseconds[name];
      if (wait === undefined) throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", `No ${name} here.`);
      alive.add(name);
      return {
        ...cpu,
        name,
        softmaxTopK: async (logits, options) => {
          asked.push(options);
          if (Number.isNaN(wait)) throw new FusedTopKError("ERR_INVALID_ARGUMENT", "Too large a k.");
          now += wait;
          return cpu.softmaxTopK(logits, options);
        },
        dispose: async () => void alive.delete(name),
      };
    };
    const loaders = { cuda: loader("cuda"), webgpu: loader("webgpu"), wasm: loader("wasm"), cpu: loader("cpu") };
    return { loaders, alive, asked };
  };

  it.each(["f32", "f16", "bf16"] as const)("takes the fastest and reports every time, %s", async (dtype) => {
    const { loaders, alive, asked } = timed({ cuda: 20, webgpu: 60, wasm: 2, cpu: 30 });
    const shape = { rows: 2, vocab: 100, k: 5, dtype };
    const { backend, rejected, timings } = await selectFrom(loaders, { for: shape });
    expect(backend.name).toBe("wasm");
    expect(rejected).toEqual([]);
    expect(timings).toEqual([
      { backend: "cuda", microseconds: 20_000 },
      { backend: "webgpu", microseconds: 60_000 },
      { backend: "wasm", microseconds: 2_000 },
      { backend: "cpu", microseconds: 30_000 },
    ]);
    expect([...alive]).toEqual(["wasm"]);
    for (const options of asked) expect(options).toMatchObject(shape);
  });

  it("takes the fastest even if another cannot be disposed", async () => {
    const { loaders, alive } = timed({ cuda: 20, webgpu: 1, wasm: Number.NaN, cpu: 30 });
    const failing = (name: BackendName) => async () => ({
      ...(await loaders[name]()),
      dispose: () => Promise.reject(new Error("dispose failed")),
    });
    const selecting = { ...loaders, cuda: failing("cuda"), wasm: failing("wasm"), cpu: failing("cpu") };
    const { backend, rejected } = await selectFrom(selecting, { for: { rows: 1, vocab: 10, k: 1 } });
    expect(backend.name).toBe("webgpu");
    expect(alive.has("webgpu")).toBe(true);
    expect(rejected).toMatchObject([{ backend: "wasm", message: "Too large a k." }]);
  });

  it("leaves out, with the reason and disposed, what is missing or cannot take the shape", async () => {
    const { loaders, alive } = timed({ webgpu: Number.NaN, cpu: 1 });
    const { backend, rejected, timings } = await selectFrom(loaders, {
      for: { rows: 1, vocab: 10, k: 10 },
      order: ["webgpu", "wasm", "cpu"],
    });
    expect(backend.name).toBe("cpu");
    expect(rejected).toMatchObject([
      { backend: "webgpu", code: "ERR_INVALID_ARGUMENT" },
      { backend: "wasm", code: "ERR_BACKEND_UNAVAILABLE" },
    ]);
    expect(timings).toMatchObject([{ backend: "cpu" }]);
    expect([...alive]).toEqual(["cpu"]);
  });

  it.each([
    [{ rows: 1, vocab: 10, k: 11 }, "ERR_INVALID_ARGUMENT", "for k but received 11"],
    [null as never, "ERR_INVALID_ARGUMENT", "for rows but received undefined"],
    [{ rows: 2 ** 30, vocab: 2 ** 20, k: 1 }, "ERR_OUT_OF_MEMORY", "1073741824 x 1048576 logits"],
  ])("refuses a bad shape before any backend is made: %s", async (shape, code, message) => {
    const { loaders, alive } = timed({ cpu: 1 });
    const random = vi.spyOn(Math, "random");
    const error = await errorOf(selectFrom(loaders, { for: shape }));
    expect(random).not.toHaveBeenCalled(); // of a large shape that would take minutes
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
    expect(alive.size).toBe(0);
  });
});

describe("selection", () => {
  it("tries cuda, webgpu, wasm, cpu and stops at the first that runs here", async () => {
    const { loaders, tried } = loadersWith("webgpu", "cpu");
    const { backend, rejected } = await selectFrom(loaders);
    expect(backend.name).toBe("webgpu");
    expect(tried).toEqual(["cuda", "webgpu"]);
    expect(rejected).toEqual([
      {
        backend: "cuda",
        code: "ERR_BACKEND_UNAVAILABLE",
        message: "No cuda here. Plug in the cuda.",
        fix: "Plug in the cuda.",
      },
    ]);
  });

  it("follows the order it is given", async () => {
    const { loaders, tried } = loadersWith("cuda", "cpu");
    expect((await selectFrom(loaders, { order: ["wasm", "cpu", "cuda"] })).backend.name).toBe("cpu");
    expect(tried).toEqual(["wasm", "cpu"]);
  });

  it("reports a loader that fails in a way of its own as unavailable", async () => {
    const { loaders } = loadersWith("cpu");
    const broken = { ...loaders, cuda: () => Promise.reject(new Error("Cannot find package '@fused-topk/cuda'")) };
    const { rejected } = await selectFrom(broken, { order: ["cuda", "cpu"] });
    expect(rejected).toEqual([
      {
        backend: "cuda",
        code: "ERR_BACKEND_UNAVAILABLE",
        message: "Could not load it: Cannot find package '@fused-topk/cuda'. Check that @fused-topk/cuda is installed.",
        fix: "Check that @fused-topk/cuda is installed.",
      },
    ]);
  });

  it("lists every reason when nothing in the order runs here", async () => {
    const error = await errorOf(selectFrom(loadersWith().loaders, { order: ["cuda", "webgpu"] }));
    expect(error.code).toBe("ERR_BACKEND_UNAVAILABLE");
    expect(error.message).toContain("cuda: No cuda here. Plug in the cuda.");
    expect(error.message).toContain("webgpu: No webgpu here. Plug in the webgpu.");
    expect(error.message).toMatch(/\nAdd "cpu" to the order: it runs everywhere\.$/);
  });
});

describe("FUSED_TOPK_BACKEND", () => {
  it("forces one backend, whatever the order says", async () => {
    vi.stubEnv("FUSED_TOPK_BACKEND", "cpu");
    const { loaders, tried } = loadersWith("cuda", "webgpu", "cpu");
    expect((await selectFrom(loaders, { order: ["cuda"] })).backend.name).toBe("cpu");
    expect(tried).toEqual(["cpu"]);
  });

  it("is an error, never a fallback, when the forced backend cannot run here", async () => {
    vi.stubEnv("FUSED_TOPK_BACKEND", "cuda");
    const { loaders, tried } = loadersWith("webgpu", "cpu");
    const error = await errorOf(selectFrom(loaders));
    expect(error.code).toBe("ERR_BACKEND_UNAVAILABLE");
    expect(error.message).toContain("No cuda here. Plug in the cuda.");
    expect(tried).toEqual(["cuda"]);
  });

  it("must name a backend", async () => {
    vi.stubEnv("FUSED_TOPK_BACKEND", "metal");
    const error = await errorOf(selectFrom(loadersWith("cpu").loaders));
    expect(error.code).toBe("ERR_INVALID_ARGUMENT");
    expect(error.message).toContain(
      'Expected one of "cuda", "webgpu", "wasm", "cpu" for FUSED_TOPK_BACKEND but received "metal".',
    );
  });

  it("asks for nothing when empty", async () => {
    vi.stubEnv("FUSED_TOPK_BACKEND", "");
    expect((await selectFrom(loadersWith("webgpu").loaders)).backend.name).toBe("webgpu");
  });
});

describe("bad orders", () => {
  it.each([
    [[], "Expected at least one backend name for order but received []."],
    [["cpu", "gpu"], 'for order[1] but received "gpu"'],
    [[undefined], "for order[0] but received undefined"],
    ["cpu", 'Expected an array of backend names for order but received "cpu"'],
  ])("%j is refused before any backend is tried", async (order, text) => {
    const { loaders, tried } = loadersWith("cpu");
    const error = await errorOf(selectFrom(loaders, { order: order as BackendName[] }));
    expect(error.code).toBe("ERR_INVALID_ARGUMENT");
    expect(error.message).toContain(text);
    expect(tried).toEqual([]);
  });

  it("options must be an object", async () => {
    const error = await errorOf(selectFrom(loadersWith("cpu").loaders, null as never));
    expect(error.message).toContain("Expected an object for options but received null.");
  });
});

it("needs no process", async () => {
  const { loaders } = loadersWith("cpu");
  vi.stubGlobal("process", undefined);
  const { backend } = await selectFrom(loaders, { order: ["cpu"] }).finally(() => vi.unstubAllGlobals());
  expect(backend.name).toBe("cpu");
});
