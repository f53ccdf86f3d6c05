// Proof that Node computes Python's pixels: ten drawn pictures, made smaller, have the SHA-256 that
// parity.json says; tests/test_demo.py has Python compute the same, and says how to renew them.
//
//     node docs/demo/parity.js

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

import { drawn } from "./drawn.js";
import { networks } from "./node.js";

const file = process.argv[2] ?? new URL("./parity.json", import.meta.url);
const strip = process.argv[3] === undefined ? undefined : Number(process.argv[3]);
const all = await networks(strip);
let wrong = 0;
for (const { picture, size, weights, sha256 } of JSON.parse(await readFile(file, "utf-8"))) {
  const { image, plan } = await all.resize(drawn(...picture), size, { weights: weights ?? undefined });
  const same = createHash("sha256").update(image.data).digest("hex") === sha256;
  wrong += same ? 0 : 1;
  const sizes = `${plan.source.join("x")} -> ${plan.target.join("x")}`;
  console.log(`${same ? "equal" : "DIFFERENT"}  ${sizes}: ${plan.reason}`);
}
if (wrong) {
  console.error(`${wrong} pictures are not Python's`);
  process.exitCode = 1;
}
