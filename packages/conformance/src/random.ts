/** A small seeded generator, so that a case is the same logits on every machine. */
export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
  /** Uniform among 0 .. count - 1. */
  below(count: number): number;
}

/** Sources: xorshift32 (Marsaglia, "Xorshift RNGs", 2003); normal deviates by Box and Muller (1958). */
export function createRandom(seed: number): Random {
  let state = Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b || 1; // spreads small seeds apart; xorshift must not begin at 0
  const uniform = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  return {
    uniform,
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    below: (count) => Math.floor(uniform() * count),
  };
}
