/** A job in a worker of its own, as a hook: its progress, the time left, and a way to cancel it at once. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { Job, JobEvent } from "./protocol.js";

export interface JobState {
  status: "idle" | "running" | "done" | "cancelled" | "failed";
  done: number;
  total: number;
  step: string;
  /** Seconds, by the pace so far. */
  left?: number;
  /** Why it failed. */
  message?: string;
}

const idle: JobState = { status: "idle", done: 0, total: 0, step: "" };

/** Runs one job at a time; `onEvent` hears everything but progress and the end. */
export function useJob(onEvent: (event: JobEvent) => void): {
  state: JobState;
  start(job: Job): void;
  cancel(): void;
} {
  const [state, setState] = useState(idle);
  const worker = useRef<Worker | undefined>(undefined);
  const stop = () => {
    worker.current?.terminate();
    worker.current = undefined;
  };
  useEffect(() => stop, []);

  const finish = (end: Partial<JobState>) => {
    stop();
    setState(({ left, ...last }) => ({ ...last, ...end }));
  };

  const start = (job: Job) => {
    stop();
    setState({ ...idle, status: "running", step: "Looking for devices" });
    const began = performance.now();
    const current = new Worker(new URL("./bench.ts", import.meta.url), { type: "module" });
    worker.current = current;
    current.onerror = ({ message }) => finish({ status: "failed", message: message || "The worker did not start." });
    current.onmessage = ({ data }: MessageEvent<JobEvent>) => {
      switch (data.type) {
        case "progress": {
          const { done, total, step } = data;
          const seconds = (performance.now() - began) / 1000;
          setState((last) => ({
            ...last,
            done,
            total,
            step,
            ...(done > 0 && { left: (seconds / done) * (total - done) }),
          }));
          break;
        }
        case "done":
          finish({ status: "done" });
          break;
        case "failed":
          finish({ status: "failed", message: data.message });
          break;
        default:
          onEvent(data);
      }
    };
    current.postMessage(job);
  };

  return { state, start, cancel: () => finish({ status: "cancelled" }) };
}
