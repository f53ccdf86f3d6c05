// The networks in Node, of the files that build.py makes.

import { readFile } from "node:fs/promises";

import { Networks } from "./thumbnail.js";

const BUILT = new URL("./built/", import.meta.url);

/** strip: pixels of a strip; results do not depend on it. */
export async function networks(strip) {
  let ort;
  try {
    ort = await import("./built/ort/ort.wasm.bundle.min.mjs");
  } catch (error) {
    throw new Error("the demo is not built: run python docs/demo/build.py", { cause: error });
  }
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await readFile(new URL("ort/ort-wasm-simd-threaded.wasm", BUILT));
  const models = JSON.parse(await readFile(new URL("models.json", BUILT), "utf-8"));
  return new Networks(ort, models, (file) => readFile(new URL(file, BUILT)), strip);
}
