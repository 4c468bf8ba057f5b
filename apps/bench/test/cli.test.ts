/** The built command line, as a process of its own. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { drawDocument } from "../src/documents.js";
import { formatResultFile, parseResultFile } from "../src/schema.js";
import { measurement, resultFile } from "./fixtures.js";

const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "bench-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** A machine without CUDA, whatever this one has. */
const withoutCuda = { CUDA_VISIBLE_DEVICES: "-1" };

/** Runs the command; `onOutput` sees what it has written so far and may send it a signal. */
function bench(
  args: string[],
  onOutput?: (stderr: string, kill: (signal: NodeJS.Signals) => void) => void,
  environment: Record<string, string> = {},
) {
  return new Promise<Ended>((resolve, reject) => {
    const child = spawn(process.execPath, [cli, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    const ended: Ended = { status: null, stdout: "", stderr: "" };
    child.stdout.on("data", (chunk) => {
      ended.stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      ended.stderr += chunk;
      onOutput?.(ended.stderr, (signal) => child.kill(signal));
    });
    child.once("error", reject);
    child.once("close", (status) => resolve({ ...ended, status }));
  });
}

describe("run", () => {
  it("--quick measures real logits and writes a valid result file", async () => {
    const json = join(folder, "quick.json");
    const { status, stdout, stderr } = await bench(["--backend", "cpu", "--quick", "--json", json]);
    expect(status, stderr).toBe(0);
    const file = parseResultFile(JSON.parse(readFileSync(json, "utf8")));
    expect(file.measurements[0]).toMatchObject({ data: "tiny-code-lm.npy", rows: 8, vocab: 50257, dtype: "f16" });
    for (const { variant, check } of file.measurements) {
      expect(check?.passed, variant).toBe(variant === "read-floor" ? undefined : true);
    }
    expect(stdout).toContain("every index exact");
    expect(stdout).toContain("x floor");
    expect(stdout).not.toContain("about 2 minutes");
    expect(stderr).toMatch(/^Looking for devices\n\[1\/3\] 8 x 50257/);
    expect(stderr).not.toContain("\x1b");
  });

  it("measures and checks WebGPU on an adapter that is named for what it is", async () => {
    const json = join(folder, "webgpu.json");
    const { status, stdout, stderr } = await bench([
      "--backend",
      "webgpu",
      "--quick",
      "--shapes",
      "2x5000:7",
      "--dtype",
      "f32,bf16",
      "--json",
      json,
    ]);
    expect(status, stdout + stderr).toBe(0);
    const { devices, measurements, skipped } = parseResultFile(JSON.parse(readFileSync(json, "utf8")));
    expect(skipped).toEqual([]);
    for (const variant of ["fused", "unfused", "three-pass", "end-to-end"]) {
      const checks = measurements.filter((m) => m.variant === variant).map(({ check }) => check);
      expect(checks, variant).toMatchObject([
        { rows: 2, passed: true },
        { rows: 2, passed: true },
      ]);
    }
    const [device] = devices;
    expect(device!.details.driver).not.toBe("");
    if (/swiftshader|llvmpipe/i.test(device!.details.driver!)) {
      expect(device).toMatchObject({ kind: "software", name: expect.stringContaining("software adapter") });
      expect(stdout).toContain("webgpu (software)");
      expect(stdout).toContain("its times say nothing about a GPU");
    }
  });

  it("measures a file of the user's", async () => {
    const header = `${"{'descr': '<u2', 'fortran_order': False, 'shape': (1, 4), }".padEnd(117)}\n`;
    const input = join(folder, "mine.npy");
    const data = new Uint8Array(Uint16Array.of(0x3f80, 0x4000, 0, 0).buffer);
    writeFileSync(
      input,
      Buffer.concat([Buffer.from("\x93NUMPY\x01\x00\x76\x00", "latin1"), Buffer.from(header), data]),
    );
    const args = ["--backend", "cpu", "--quick", "--input", input];
    const { status, stdout, stderr } = await bench([...args, "--dtype", "bf16"]);
    expect(status, stderr).toBe(0);
    expect(stdout).toContain("1 x 4, K 4, bf16, mine.npy");
    const unsaid = await bench(args);
    expect(unsaid).toMatchObject({ status: 2, stderr: expect.stringContaining("--dtype bf16") });
  });

  it("says where K was lowered to the vocab", async () => {
    const { status, stdout } = await bench("--backend cpu --quick --shapes 2x100,2x900 --k 8,500".split(" "));
    expect(status).toBe(0);
    expect(stdout).toContain("K is at most the vocab: of 100 all are taken, not 500.");
  });

  it("fails when nothing was compared", async () => {
    const { status, stdout } = await bench("--backend webgpu --quick --shapes 1x40000:40000".split(" "));
    expect(stdout).toContain("Not measured: webgpu fused on 1 x 40000, K 40000");
    expect(stdout).toContain("Nothing was compared with the float64 reference.");
    expect(status).toBe(1);
  });

  it("--path must be a path of the backend", async () => {
    const { status, stderr } = await bench(["--backend", "cpu", "--quick", "--path", "warp"]);
    expect(status).toBe(2);
    expect(stderr).toContain('for --path on cpu but received "warp"');
  });

  it("ends at once and tidily on Ctrl-C, and writes no half of a file", async () => {
    const json = join(folder, "interrupted.json");
    const { status, stdout, stderr } = await bench(["--backend", "cpu", "--json", json], (text, kill) => {
      if (text.includes("[2/")) kill("SIGINT");
    });
    expect(stdout).toMatch(/^fused-topk \S+: measures for about 2 minutes; --quick for 10 seconds\n/);
    expect(status).toBe(130);
    expect(stderr).toContain("Interrupted.");
    expect(existsSync(json)).toBe(false);
  });
});

describe("run --peers", () => {
  it("names every peer, in the table or as absent, and the result file reads back", async () => {
    const json = join(folder, "peers.json");
    const { status, stdout, stderr } = await bench(["--peers", "--quick", "--shapes", "2x3000:9", "--json", json]);
    expect(status, stdout + stderr).toBe(0);
    const { peers, absentPeers } = parseResultFile(JSON.parse(readFileSync(json, "utf8")));
    const here = peers!.map(({ peer }) => peer);
    expect(here).toEqual(expect.arrayContaining(["fused-topk wasm", "JavaScript, careful", "JavaScript, naive"]));
    expect(new Set([...here, ...absentPeers!.map(({ peer }) => peer)])).toEqual(
      expect.toSatisfy((names: Set<string>) =>
        ["onnxruntime-node", "onnxruntime-web wasm", "tfjs wasm", "PyTorch"].every((name) => names.has(name)),
      ),
    );
    for (const { peer, reason, fix } of absentPeers!) {
      expect(stdout).toMatch(new RegExp(`^absent .*${peer}`, "m"));
      expect(stdout).toContain(reason);
      expect(fix).toMatch(/^npm install --no-save --ignore-scripts .*onnxruntime-node@|^pip install torch/);
    }
    for (const { check } of peers!) expect(check).toMatchObject({ rows: 2, passed: true });
  });
});

describe("fuzz", () => {
  it("runs random cases for as long as it is told and prints the seed", async () => {
    const { status, stdout } = await bench("fuzz --backend cpu --seconds 1 --seed 5".split(" "));
    expect(status).toBe(0);
    expect(stdout).toMatch(/^Random cases for 1 s, seed 5\.\ncpu: [\d,]+ cases passed, largest error/);
  });
});

describe("verify", () => {
  it("runs the conformance cases and prints how many passed and the largest error", async () => {
    const json = join(folder, "verify.json");
    const { status, stdout, stderr } = await bench(["verify", "--backend", "cpu", "--json", json]);
    expect(status, stderr).toBe(0);
    const { verifications } = parseResultFile(JSON.parse(readFileSync(json, "utf8")));
    expect(verifications).toMatchObject([{ backend: "cpu", set: "quick", failed: 0, skipped: 0 }]);
    expect(stdout).toContain("the order is exact on every distribution");
    expect(stdout).toMatch(/cpu +quick +\d{3,} +0 +0/);
    expect(stdout).toContain("Every case passed");
  });

  it("--path forces a path through the cases that it can take", async () => {
    const { status, stdout, stderr } = await bench(["verify", "--backend", "cpu", "--path", "one-pass"]);
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/cpu, one-pass +quick +\d{3,} +0/);
    expect(stdout).not.toContain("were beyond it");
    expect(await bench(["verify", "--backend", "cpu", "--path", "warp"])).toMatchObject({ status: 2 });
  });

  it("fails when a backend that was asked for is missing", async () => {
    const { status, stdout } = await bench(["verify", "--backend", "cpu,cuda"], undefined, withoutCuda);
    expect(status).toBe(1);
    expect(stdout).toContain("A backend that --backend asks for is missing.");
  });
});

describe("doctor", () => {
  it("says what was found, what was not, and how to get it", async () => {
    const { status, stdout, stderr } = await bench(["doctor"]);
    expect(status, stderr).toBe(0);
    expect(stdout).toContain("cpu: found");
    expect(stdout).toMatch(/^wasm: found\n {2}device +WebAssembly (relaxed )?SIMD/m);
    expect(stdout).toMatch(/^ {2}largest k +any$/m);
    expect(stdout).toMatch(/^cuda: (found|not here \(ERR_BACKEND_UNAVAILABLE\)\n {2}\S+)/m);
    expect(stdout).toMatch(/^webgpu: found\n {2}device +\S+/m);
    if (stdout.includes("swiftshader")) expect(stdout).toContain("software: it runs on the CPU");
    expect(stdout).toMatch(/^ {2}paths +\S+/m);
  });

  it("fails when a backend that was asked for is missing", async () => {
    const { status, stdout } = await bench(["doctor", "--backend", "cuda"], undefined, withoutCuda);
    expect(status).toBe(1);
    expect(stdout).toContain("cuda: not here (ERR_BACKEND_UNAVAILABLE)");
  });
});

describe("a wrong command line", () => {
  it.each([
    [["--speed"], "Unknown option '--speed'"],
    [["--shapes", "9"], "Expected ROWSxVOCAB"],
    [["--input", "/nowhere/a.npy"], "Could not read --input a.npy"],
    [["--input", cli], "not a .npy file"],
    [["--json", "/nowhere/result.json"], "Could not write --json /nowhere/result.json"],
    [["verify", "--json", folder], `Could not write --json ${folder}`],
  ])("%j ends with 2 and says how to put it right", async (args, message) => {
    const { status, stdout, stderr } = await bench(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toContain(message);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  it("--help is not one", async () => {
    expect(await bench(["--help"])).toMatchObject({ status: 0, stdout: expect.stringContaining("Usage:") });
  });
});

describe("compare", () => {
  const write = (name: string, median: number) => {
    const measurements = [measurement({ median, p10: median, p90: median })];
    const path = join(folder, name);
    writeFileSync(path, formatResultFile({ ...resultFile(), measurements }));
    return path;
  };

  it("ends with 1 when something got slower past the threshold, by its name and by its option", async () => {
    const [before, after] = [write("before.json", 100), write("after.json", 115)];
    const slower = await bench(["compare", before, after]);
    expect(slower.status, slower.stderr).toBe(1);
    expect(slower.stdout).toMatch(/cuda +fused +100 us +115 us +\+15\.0 % .* SLOWER/);
    expect((await bench(["--compare", before, after])).status).toBe(1);
    expect((await bench(["compare", before, after, "--threshold", "20"])).status).toBe(0);
    expect((await bench(["compare", after, before])).status).toBe(0);
  });

  it("ends with 1 when what was measured before is a fault afterwards, and says why", async () => {
    const before = write("worked.json", 100);
    const { backend, variant, group, rows, vocab, k, dtype, data } = measurement({});
    const fault = { backend, variant, group, rows, vocab, k, dtype, data, reason: "It fell over.", fault: true };
    const after = join(folder, "broke.json");
    writeFileSync(after, formatResultFile({ ...resultFile(), measurements: [], skipped: [fault] }));
    const broken = await bench(["compare", before, after]);
    expect(broken.status, broken.stderr).toBe(1);
    expect(broken.stdout).toContain("FAILED: cuda fused on 64 x 128256, K 50, f32, random: It fell over.");
    expect(broken.stdout).toContain("1 failed in the second file.");
  });

  it("names the field of a file that is wrong, and the path of one that is not there", async () => {
    const good = write("good.json", 100);
    const bad = join(folder, "bad.json");
    writeFileSync(bad, readFileSync(good, "utf8").replace('"cores": 2', '"cores": "two"'));
    const wrong = await bench(["compare", good, bad]);
    expect(wrong).toMatchObject({ status: 2, stdout: "" });
    expect(wrong.stderr).toBe('Expected a count for bad.json.host.cores but received "two".\n');
    expect((await bench(["compare", good, "none.json"])).stderr).toContain("Could not read none.json");
    expect((await bench(["compare", good])).stderr).toContain("Expected two result files for compare but received 1.");
  });
});

describe("report", () => {
  const DRAW_ANEW = "draw it anew with npm run bench -- report";

  it("writes one document with its charts; run twice it changes nothing", async () => {
    const out = join(folder, "report");
    const own = fileURLToPath(new URL("../results/two-cores.json", import.meta.url));
    const read = () =>
      Object.fromEntries(readdirSync(out).map((name) => [name, readFileSync(join(out, name), "utf8")]));
    const first = await bench(["report", own, "--out", out]);
    expect(first.status, first.stderr).toBe(0);
    const written = read();
    expect(first.stdout).toMatch(/^Wrote .*\n$/); // and nothing else
    expect((await bench(["report", own, "--out", out])).status).toBe(0);
    expect(read()).toEqual(written);
    for (const [, image] of written["README.md"]!.matchAll(/!\[[^\]]*\]\(([^)]+)\)/g)) {
      expect(written[image!]).toMatch(/^<svg /);
    }
    expect(written["README.md"]).toContain("every index exact");
  });

  it("of the repository's own results is up to date", async () => {
    const out = join(folder, "own");
    expect((await bench(["report", "--out", out])).status).toBe(0);
    const results = fileURLToPath(new URL("../results", import.meta.url));
    const kept = join(results, "report");
    expect(readdirSync(out)).toEqual(readdirSync(kept));
    for (const name of readdirSync(out)) {
      const drawn = readFileSync(join(out, name), "utf8").replaceAll(`(${relative(out, results)}/`, "(../");
      expect(drawn === readFileSync(join(kept, name), "utf8"), `${name}: ${DRAW_ANEW}`).toBe(true);
    }
  });

  it.each(["README.md", "ANALYSIS.md"])("of %s: its tables are up to date", async (name) => {
    const text = readFileSync(new URL(`../../../${name}`, import.meta.url), "utf8");
    expect((await drawDocument(text)) === text, `${name}: ${DRAW_ANEW}`).toBe(true);
  });
});
