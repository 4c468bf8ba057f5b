// What the bench compares the kernel with, and the kernel itself, in one module.
export * from "../softmax_topk";
export { read_floor } from "./read_floor";
export { three_pass } from "./three_pass";
