/**
 * Byte-level byte-pair encoding: text to tokens and back.
 *
 * Token 0 ends a text, tokens 1 to 256 are the bytes, and token 257 + r is what merge r makes of two earlier tokens. A
 * text is cut into words, each word becomes its bytes, and then the pair with the lowest merge is joined, until none is left.
 *
 * Source: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units" (2016); over bytes, and
 * with this way to cut words: Radford et al., "Language models are unsupervised multitask learners" (2019).
 */
export const END_OF_TEXT = 0;
const FIRST_BYTE = 1;
const FIRST_MERGE = 257;

/** English contractions, words, numbers and signs with the space before them, and other white space. */
const WORDS = /'(?:[smtd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** The bytes in the order of their tokens: those that print in Latin-1 first. */
const byteOrder = (() => {
  const prints = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  return [...bytes.filter(prints), ...bytes.filter((byte) => !prints(byte))];
})();

export interface Tokenizer {
  encode(text: string): number[];
  /** The bytes of a token: a character may be spread over several tokens. */
  bytesOf(token: number): Uint8Array;
}

/** @param merges the two tokens that each merge joins, one after the other. */
export function createTokenizer(merges: Uint16Array): Tokenizer {
  const tokenOfByte = new Uint16Array(256);
  byteOrder.forEach((byte, i) => {
    tokenOfByte[byte] = FIRST_BYTE + i;
  });
  const merged = new Map<number, number>();
  const keyOf = (left: number, right: number) => left * 65536 + right;
  for (let m = 0; 2 * m < merges.length; m++) merged.set(keyOf(merges[2 * m]!, merges[2 * m + 1]!), FIRST_MERGE + m);

  const encodeWord = (word: string): number[] => {
    const tokens = Array.from(new TextEncoder().encode(word), (byte) => tokenOfByte[byte]!);
    for (;;) {
      let best = Number.POSITIVE_INFINITY;
      for (let i = 1; i < tokens.length; i++) {
        best = Math.min(best, merged.get(keyOf(tokens[i - 1]!, tokens[i]!)) ?? Number.POSITIVE_INFINITY);
      }
      if (best === Number.POSITIVE_INFINITY) return tokens;
      for (let i = 1; i < tokens.length; i++) {
        if (merged.get(keyOf(tokens[i - 1]!, tokens[i]!)) === best) tokens.splice(i - 1, 2, best);
      }
    }
  };

  const bytesOf = (token: number): Uint8Array => {
    if (token === END_OF_TEXT) return new Uint8Array();
    if (token < FIRST_MERGE) return Uint8Array.of(byteOrder[token - FIRST_BYTE]!);
    const m = token - FIRST_MERGE;
    return Uint8Array.from([...bytesOf(merges[2 * m]!), ...bytesOf(merges[2 * m + 1]!)]);
  };

  return { encode: (text) => (text.match(WORDS) ?? []).flatMap(encodeWord), bytesOf };
}
