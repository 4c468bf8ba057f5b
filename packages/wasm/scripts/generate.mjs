// Writes src/generated/module.ts: kernels/wasm, compiled and inlined, so that no bundler and no runtime has a file to find.
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { main } from "assemblyscript/asc";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const target = fileURLToPath(new URL("../src/generated/", import.meta.url));

let binary;
const { error, stderr } = await main(
  [
    "kernels/wasm/softmax_topk.ts",
    ...["--baseDir", root, "--outFile", "softmax_topk.wasm"],
    ...["--runtime", "stub", "--enable", "simd", "--importMemory", "--use", "abort="],
    ...["--optimizeLevel", "3", "--converge", "--noAssert"],
  ],
  { writeFile: (_, contents) => (binary = contents) },
);
if (error) throw new Error(`kernels/wasm does not compile.\n${stderr}`, { cause: error });
const base64 = Buffer.from(binary).toString("base64");
mkdirSync(target, { recursive: true });
writeFileSync(
  `${target}module.ts`,
  `// Written by scripts/generate.mjs from kernels/wasm.\nexport const base64 = "${base64}";\n`,
);
