/// <reference types="node" />
/** Every TypeScript example of the documents compiles as it is printed, against the built packages. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const documents = [
  "README.md",
  ...["auto", "core", "cuda", "wasm", "webgpu"].map((name) => `packages/${name}/README.md`),
];

/** The examples by the name of a file beside this one, which finds the packages as a user's file does. */
const examples = new Map(
  documents.flatMap((document) =>
    [...readFileSync(root + document, "utf8").matchAll(/^```[jt]s\n(.*?)^```$/gms)].map(([, code], i) => [
      `${root}packages/auto/test/${document.replace(/\W/g, "-")}-${i + 1}.ts`,
      code!,
    ]),
  ),
);

const options: ts.CompilerOptions = {
  strict: true,
  noEmit: true,
  target: ts.ScriptTarget.ES2022,
  lib: ["lib.es2022.d.ts"], // without Float16Array, which the packages must do without
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  types: ["node", "@webgpu/types"],
  skipLibCheck: true,
};

it("the documents have examples", () => {
  for (const document of documents) {
    const name = document.replace(/\W/g, "-");
    expect([...examples.keys()].filter((file) => file.includes(`/${name}-`)).length, document).toBeGreaterThan(0);
  }
});

it("every example compiles", () => {
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile } = host;
  host.fileExists = (file) => examples.has(file) || fileExists(file);
  host.readFile = (file) => examples.get(file) ?? readFile(file);
  const program = ts.createProgram([...examples.keys()], options, host);
  const faults = ts.getPreEmitDiagnostics(program).map(({ file, start = 0, messageText }) => {
    const line = file?.text.slice(start).split("\n")[0];
    return `${file?.fileName.replace(root, "")}: ${ts.flattenDiagnosticMessageText(messageText, "\n")} at ${line}`;
  });
  expect(faults).toEqual([]);
});
