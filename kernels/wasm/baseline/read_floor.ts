// A read of the logits and nothing else: what no kernel can be faster than.

// Combines every whole word of `bytes` bytes, in four chains.
export function read_floor(address: usize, bytes: usize): u32 {
  let a = i32x4.splat(0);
  let b = a;
  let c = a;
  let d = a;
  const end = address + bytes;
  for (; address + 128 <= end; address += 128) {
    a = v128.xor(a, v128.xor(v128.load(address), v128.load(address, 64)));
    b = v128.xor(b, v128.xor(v128.load(address, 16), v128.load(address, 80)));
    c = v128.xor(c, v128.xor(v128.load(address, 32), v128.load(address, 96)));
    d = v128.xor(d, v128.xor(v128.load(address, 48), v128.load(address, 112)));
  }
  let rest: u32 = 0;
  for (; address + 4 <= end; address += 4) rest ^= load<u32>(address);
  const all = v128.xor(v128.xor(a, b), v128.xor(c, d));
  return (
    rest ^
    i32x4.extract_lane(all, 0) ^
    i32x4.extract_lane(all, 1) ^
    i32x4.extract_lane(all, 2) ^
    i32x4.extract_lane(all, 3)
  );
}
