import { describe, expect, it } from "vitest";
import { help, parseOptions } from "../src/args.js";
import { dataKinds } from "../src/data.js";
import { shapeGroups } from "../src/shapes.js";
import { UsageError } from "../src/usage-error.js";

describe("the command line", () => {
  it("runs when nothing is typed", () => {
    const flags = { peers: false, quick: false, full: false, help: false };
    expect(parseOptions([])).toEqual({ command: "run", files: [], seed: 1, seconds: 600, ...flags });
  });

  it("takes lists separated by commas", () => {
    const options = parseOptions(
      "run --backend cuda,cpu --shapes bulk,1024x50257:256 --k 8,50 --dtype f16,bf16 --data two,ulp --seed 7".split(
        " ",
      ),
    );
    expect(options).toMatchObject({
      backends: ["cuda", "cpu"],
      shapes: ["bulk", "1024x50257:256"],
      k: [8, 50],
      dtypes: ["f16", "bf16"],
      data: ["two", "ulp"],
      seed: 7,
    });
  });

  it("takes files and flags", () => {
    expect(parseOptions(["--input", "a.npy", "--json", "b.json", "--path", "split", "--quick"])).toMatchObject({
      input: "a.npy",
      json: "b.json",
      path: "split",
      quick: true,
    });
    expect(parseOptions(["verify", "--full"])).toMatchObject({ command: "verify", full: true });
  });

  it("explains itself, every group and kind of data included", () => {
    expect(parseOptions(["-h"]).help).toBe(true);
    for (const name of [...Object.keys(shapeGroups), ...dataKinds]) expect(help).toContain(name);
  });

  it.each([
    ["launch", 'Expected one of run, verify, fuzz, doctor, compare, report for the command but received "launch"'],
    ["run doctor", 'received "doctor" too'],
    ["--backend metal", 'Expected one of cuda, webgpu, wasm, cpu for --backend but received "metal"'],
    ["--backend cpu,", 'separated by commas for --backend but received "cpu,"'],
    ["--dtype f64", 'Expected one of f32, f16, bf16 for --dtype but received "f64"'],
    ["--data sorted", 'for --data but received "sorted"'],
    ["--k 0", 'Expected an integer from 1 to 4294967295 for --k but received "0"'],
    ["--k 1.5", 'for --k but received "1.5"'],
    ["--k=-3", 'for --k but received "-3"'],
    ["--k abc", 'for --k but received "abc". Write for instance --k 50.'],
    ["--seed x", 'for --seed but received "x"'],
    ["--seed -1", "Option '--seed' argument is ambiguous. See --help."],
    ["--shapes 64", 'for --shapes but received "64"'],
    ["--shapes 0x10", 'for --shapes but received "0x10"'],
    ["--shapes 3x10:11", "Expected K of at most 10 for --shapes 3x10:11 but received 11"],
    ["--shapes toString", 'for --shapes but received "toString"'],
    ["--speed", "Unknown option '--speed'"],
    ["--json", "--json"],
    ["verify --shapes bulk", "verify does not take --shapes; run does"],
    ["doctor --json a.json", "doctor does not take --json; run and verify do."],
    ["verify --quick --full", "Expected --quick or --full but received both"],
    ["--peers --backend cpu", 'Expected cuda for --backend beside --peers but received "cpu"'],
    ["--peers --dtype bf16", "--peers does not take --dtype"],
    ["--peers --backend cuda --path rows", "--peers does not take --path"],
    ["--input a.npy --data two", "Expected --input or --data but received both"],
  ])("%s is refused", (typed, message) => {
    expect(() => parseOptions(typed.split(" "))).toThrow(message);
    expect(() => parseOptions(typed.split(" "))).toThrow(UsageError);
  });
});
