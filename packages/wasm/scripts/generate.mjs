// Writes src/generated/: kernels/wasm, compiled and inlined, so that no bundler and no runtime has a file to find.
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { main } from "assemblyscript/asc";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const target = fileURLToPath(new URL("../src/generated/", import.meta.url));

mkdirSync(target, { recursive: true });
await write("kernels", "softmax_topk.ts");
await write("baselines", "baseline/baseline.ts");

/** A file of modules. */
async function write(name, file) {
  const modules = [await compile(file, "--enable", "relaxed-simd"), await compile(file)];
  writeFileSync(
    `${target}${name}.ts`,
    `// Written by scripts/generate.mjs from kernels/wasm/${file}.\n` +
      `/** With relaxed SIMD, and without. */\nexport const ${name} = ${JSON.stringify(modules)} as const;\n`,
  );
}

/** The module as base64, and where in it a byte says what the memory is that it imports: 3, shared; 1, not. */
async function compile(file, ...options) {
  let binary;
  const { error, stderr } = await main(
    [
      `kernels/wasm/${file}`,
      ...["--baseDir", root, "--outFile", "module.wasm"],
      ...["--runtime", "stub", "--use", "abort=", "--enable", "simd", "--enable", "threads"],
      ...["--importMemory", "--initialMemory", "1", "--sharedMemory", "--maximumMemory", "65536"],
      ...["--optimizeLevel", "3", "--converge", "--noAssert", ...options],
    ],
    { writeFile: (_, contents) => (binary = contents) },
  );
  if (error) throw new Error(`kernels/wasm/${file} does not compile.\n${stderr}`, { cause: error });
  const module = Buffer.from(binary);
  const name = Buffer.from("\u0003env\u0006memory\u0002\u0003");
  return { base64: module.toString("base64"), sharedAt: module.indexOf(name) + name.length - 1 };
}
