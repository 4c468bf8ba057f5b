/** What the peers of a browser are called: the page names them, the worker has their code. */
export const peerNames = [
  "onnxruntime-web wasm",
  "onnxruntime-web webgpu",
  "tfjs wasm",
  "tfjs webgpu",
  "JavaScript, careful",
  "JavaScript, naive",
] as const;

export type PeerName = (typeof peerNames)[number];
