import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createTokenizer } from "../web/generate/tokenizer.js";

const file = readFileSync(new URL("../model/tiny-code-lm.merges", import.meta.url));
const { encode, bytesOf } = createTokenizer(new Uint16Array(file.buffer, file.byteOffset, file.length / 2));

describe("the tokenizer of the page", () => {
  // What the tokenizer gives that the model was trained with.
  it.each([
    ["import numpy as np\n\n\ndef mean(", [816, 1592, 369, 466, 429, 199, 326, 2148, 8]],
    ["don't we'll I'm 'quoted'", [17715, 1421, 888, 9009, 467, 12862, 366, 10454, 7]],
    ["a  b   c    \n\n   d", [65, 221, 310, 257, 284, 258, 9848, 312]],
    ["naïve café — λ 🙂\t\r\n", undefined],
    ["", []],
  ])("%j", (text, tokens) => {
    if (tokens !== undefined) expect(encode(text)).toEqual(tokens);
    expect(Buffer.concat(encode(text).map(bytesOf)).toString()).toBe(text);
  });
});
