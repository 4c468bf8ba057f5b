import { createCpuBackend } from "@fused-topk/core";
import { describeBackend } from "../src/index.js";

describeBackend(createCpuBackend, { variant: "cpu" });
