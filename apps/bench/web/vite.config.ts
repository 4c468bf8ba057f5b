/** The page as static files that run from any host, also under a sub-path. */
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: { outDir: "../dist/web", emptyOutDir: true, target: "es2022", chunkSizeWarningLimit: 1000 },
  worker: { format: "es" },
});
