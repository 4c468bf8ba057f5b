// Writes src/generated/wgsl.ts: the text of every file of kernels/webgpu, one export each, so that a bundle takes what it uses.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const kernels = fileURLToPath(new URL("../../../kernels/webgpu/", import.meta.url));
const target = fileURLToPath(new URL("../src/generated/", import.meta.url));

const files = readdirSync(kernels, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".wgsl"))
  .sort();
const lines = files.map((path) => {
  const name = path.slice(0, -".wgsl".length).replaceAll(/[\\/]/g, "_");
  return `export const ${name} = ${JSON.stringify(readFileSync(kernels + path, "utf8"))};\n`;
});
mkdirSync(target, { recursive: true });
writeFileSync(`${target}wgsl.ts`, `// Written by scripts/generate.mjs from kernels/webgpu.\n${lines.join("")}`);
