/** The command line: what was typed becomes typed options, or a `UsageError` that says how to put it right. */
import { parseArgs } from "node:util";
import type { BackendName, DType } from "@fused-topk/core";
import { type DataKind, dataKinds } from "./data.js";
import { checkShapeName, groupSets, shapeGroups } from "./shapes.js";
import { UsageError } from "./usage-error.js";

const commands = ["run", "verify", "fuzz", "doctor", "compare", "report"] as const;
type Command = (typeof commands)[number];

export interface Options {
  command: Command;
  backends?: BackendName[];
  shapes?: string[];
  k?: number[];
  dtypes?: DType[];
  data?: DataKind[];
  /** Path of a .npy file. */
  input?: string;
  /** Path of the fused kernel to force. */
  path?: string;
  /** Path of the result file to write. */
  json?: string;
  /** Paths of result files to read. */
  files: string[];
  /** The change that counts, in percent. */
  threshold?: number;
  /** Folder of the report. */
  out?: string;
  seed: number;
  /** How long to fuzz. */
  seconds: number;
  /** Beside other libraries, in place of the measurement of devices. */
  peers: boolean;
  quick: boolean;
  full: boolean;
  help: boolean;
}

const backendNames: readonly BackendName[] = ["cuda", "webgpu", "wasm", "cpu"];
const dtypeNames: readonly DType[] = ["f32", "f16", "bf16"];

/** The options each command takes, beside `--help`. */
const accepted: Readonly<Record<Command, readonly string[]>> = {
  run: ["backend", "shapes", "k", "dtype", "data", "input", "path", "json", "seed", "peers", "quick"],
  verify: ["backend", "path", "json", "quick", "full"],
  fuzz: ["backend", "seed", "seconds"],
  doctor: ["backend"],
  compare: ["compare", "threshold"],
  report: ["out"],
};

const FUZZ_SECONDS = 600;
/** The commands that read result files. */
const readers: readonly Command[] = ["compare", "report"];

export const help = `Usage: npm run bench -- [command] [options]

  run      times the fused kernel beside what it replaces and beside a kernel that only reads the logits (default)
  verify   the contract, case by case, on every backend found
  fuzz     random cases against the float64 reference; a failure is printed as a fixture
  doctor   what was found on this machine, what was not, and how to get it
  compare A.json B.json   what got slower from A to B, with the noise of both; exit status 1 past the threshold
  report [FILES]          result files as one Markdown document with charts; without FILES and --out the repository's own,
                          and the tables of README.md and ANALYSIS.md drawn anew

Options
  --backend A,B     of ${backendNames.join(", ")}; default: all that are found
  --shapes A,B      ROWSxVOCAB, ROWSxVOCAB:K, or a group:
${Object.entries(shapeGroups)
  .map(([name, { summary }]) => `                      ${name.padEnd(14)} ${summary}`)
  .join("\n")}
${Object.entries(groupSets)
  .map(([name, members]) => `                      ${name.padEnd(14)} ${members.join(", ")}`)
  .join("\n")}
  --k A,B           how many of the best; at most the vocab counts
  --dtype A,B       of ${dtypeNames.join(", ")}
  --data A,B        generated logits, of ${dataKinds.join(", ")}
  --input FILE.npy  your logits, [rows, vocab] of float32, float16, or uint16 with --dtype bf16
  --path NAME       force one path of the fused kernel (doctor lists them)
  --seed N          of the generated logits; default 1, for fuzz a new one, which it prints
  --seconds N       fuzz: how long; default ${FUZZ_SECONDS}
  --json FILE       run, verify: write the result file
  --peers           run: beside onnxruntime, TensorFlow.js, plain JavaScript and, on an NVIDIA GPU, PyTorch; in float32.
                    With --backend cuda: those on the GPU alone, in any --dtype
  --quick           about 10 seconds instead of about 2 minutes
  --full            verify: the whole matrix
  --compare         the same as the command compare
  --threshold N     compare: the change that counts, in percent; default 10
  --out FOLDER      report: where it is written; default apps/bench/results/report
  --help            this text
`;

/**
 * @param argv without node and the script.
 * @throws {UsageError}
 */
export function parseOptions(argv: readonly string[]): Options {
  const { values, positionals } = parse(argv);
  const [command = "run", ...rest] = values.compare ? ["compare", ...positionals] : positionals;
  if (!isOneOf(commands, command)) {
    throw new UsageError(
      `Expected one of ${commands.join(", ")} for the command but received "${command}". ${SEE_HELP}`,
    );
  }
  if (rest.length > 0 && !readers.includes(command)) {
    throw new UsageError(`Expected one command but received "${rest.join(" ")}" too. ${SEE_HELP}`);
  }
  for (const name of Object.keys(values)) {
    if (name !== "help" && !accepted[command].includes(name)) {
      const takers = commands.filter((other) => accepted[other].includes(name));
      throw new UsageError(
        `${command} does not take --${name}; ${takers.join(" and ")} ${takers.length === 1 ? "does" : "do"}. ${SEE_HELP}`,
      );
    }
  }
  if (values.quick && values.full) throw new UsageError("Expected --quick or --full but received both. Drop one.");
  const options: Options = {
    command,
    files: rest,
    seed:
      values.seed === undefined ? (command === "fuzz" ? Date.now() % 2 ** 31 : 1) : count("seed", values.seed, 0, 1),
    peers: values.peers ?? false,
    seconds: values.seconds === undefined ? FUZZ_SECONDS : count("seconds", values.seconds, 1, FUZZ_SECONDS),
    quick: values.quick ?? false,
    full: values.full ?? false,
    help: values.help ?? false,
  };
  if (values.backend !== undefined) options.backends = list("backend", values.backend, backendNames);
  if (values.dtype !== undefined) options.dtypes = list("dtype", values.dtype, dtypeNames);
  if (values.data !== undefined) options.data = list("data", values.data, dataKinds);
  if (values.k !== undefined) options.k = split("k", values.k).map((k) => count("k", k, 1, 50));
  if (values.shapes !== undefined) {
    options.shapes = split("shapes", values.shapes);
    options.shapes.forEach(checkShapeName);
  }
  if (values.input !== undefined) options.input = values.input;
  if (values.path !== undefined) options.path = values.path;
  if (values.json !== undefined) options.json = values.json;
  if (values.out !== undefined) options.out = values.out;
  if (values.threshold !== undefined) options.threshold = count("threshold", values.threshold, 0, 10);
  if (options.input !== undefined && options.data !== undefined) {
    throw new UsageError("Expected --input or --data but received both. Drop one.");
  }
  if (options.peers) checkPeerOptions(options);
  return options;
}

/** Peers in host memory are this project's CPU backends and their like, in float32; `--backend cuda` is those on the GPU. */
function checkPeerOptions({ backends, dtypes, path }: Options): void {
  if (path !== undefined)
    throw new UsageError("--peers does not take --path: peers are called as users call them. Drop one.");
  const onGpu = backends?.join() === "cuda";
  if (backends !== undefined && !onGpu) {
    throw new UsageError(
      `Expected cuda for --backend beside --peers but received "${backends.join()}". ` +
        "It leaves only the peers on the GPU; without it there are all of them.",
    );
  }
  if (dtypes !== undefined && !onGpu) {
    throw new UsageError(
      "--peers does not take --dtype: in host memory peers take float32. Drop it, or add --backend cuda.",
    );
  }
}

const SEE_HELP = "See --help.";

function parse(argv: readonly string[]) {
  const string = { type: "string" } as const;
  const boolean = { type: "boolean" } as const;
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        backend: string,
        shapes: string,
        k: string,
        dtype: string,
        data: string,
        input: string,
        path: string,
        json: string,
        seed: string,
        seconds: string,
        peers: boolean,
        threshold: string,
        out: string,
        compare: boolean,
        quick: boolean,
        full: boolean,
        help: { ...boolean, short: "h" },
      },
    });
  } catch (error) {
    const [problem] = (error as Error).message.split(/\.(?:\s|$)/);
    throw new UsageError(`${problem}. ${SEE_HELP}`);
  }
}

function split(name: string, value: string): string[] {
  const items = value.split(",").map((item) => item.trim());
  if (items.includes("")) {
    throw new UsageError(`Expected names separated by commas for --${name} but received "${value}". ${SEE_HELP}`);
  }
  return items;
}

function list<T extends string>(name: string, value: string, allowed: readonly T[]): T[] {
  return split(name, value).map((item) => {
    if (isOneOf(allowed, item)) return item;
    throw new UsageError(
      `Expected one of ${allowed.join(", ")} for --${name} but received "${item}". Check the spelling.`,
    );
  });
}

function count(name: string, value: string, least: number, example: number): number {
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (number >= least && number < 2 ** 32) return number;
  throw new UsageError(
    `Expected an integer from ${least} to 4294967295 for --${name} but received "${value}". ` +
      `Write for instance --${name} ${example}.`,
  );
}

function isOneOf<T extends string>(allowed: readonly T[], value: string): value is T {
  return (allowed as readonly string[]).includes(value);
}
