/** The page as static files that run from any host, also under a sub-path. */
import { defineConfig } from "vite";

/** Where there is none, opening a browser ends in an error beside the address. */
const hasScreen = process.platform !== "linux" || Boolean(process.env.DISPLAY || process.env.WAYLAND_DISPLAY);

export default defineConfig({
  base: "./",
  build: { outDir: "../dist/web", emptyOutDir: true, target: "es2022", chunkSizeWarningLimit: 1000 },
  worker: { format: "es" },
  preview: { open: hasScreen },
});
