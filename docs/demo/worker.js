// What computes, beside the page so that the page stays responsive. It takes
// { job, kind: "open", file } (no file: the drawn picture) and { job, kind: "make", factor, size },
// and answers with messages that carry the job's number; a newer job ends an older one.

import * as ort from "./built/ort/ort.wasm.bundle.min.mjs";
import { bicubic } from "./bicubic.js";
import { drawn } from "./drawn.js";
import { makePlan, roundHalfToEven, targetSize } from "./plan.js";
import { Networks } from "./thumbnail.js";

// The weights of a factor: for thumbnails that people see, and with a decoder.
const WEIGHTS = { 4: ["x4", "x4-machine"], 2: ["x2", "x2-machine"] };
const PREVIEW = 1200; // px, of the longest side of the photo as it is shown
const ROWS = 256; // that are read at once: large canvases fail on phones
const LARGEST_RECONSTRUCTED = 16_000_000; // pixels, of a canvas on phones

ort.env.logLevel = "error";
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = {
  wasm: new URL("built/ort/ort-wasm-simd-threaded.wasm", import.meta.url).href,
};

let latest = 0;
let photo = null;
let networks = null;

class Superseded extends Error {}

/** What its message says is for the person who looks at the page. */
class Told extends Error {}

onmessage = async ({ data: message }) => {
  const job = (latest = message.job);
  const say = (kind, more = {}, moved = []) => {
    if (job !== latest) throw new Superseded();
    postMessage({ job, kind, ...more }, moved);
  };
  try {
    if (message.kind === "open") await open(message.file, say);
    else await make(message, say);
  } catch (error) {
    if (!(error instanceof Superseded) && job === latest) {
      const words =
        error instanceof Told
          ? error.message
          : `The browser could not compute this (${error.message}): load the page again, or choose ` +
            "a smaller photo.";
      postMessage({ job, kind: "error", message: words });
    }
  }
};

async function open(file, say) {
  networks ??= await describe();
  let image, preview;
  if (file) ({ image, preview } = await decode(file));
  else {
    image = drawn(640, 480, 4);
    preview = withAlpha(image);
  }
  const { width, height } = image;
  // first: this ends a job that is not the latest
  say("photo", { width, height, preview }, [preview.pixels.buffer]);
  photo = image;
}

async function describe() {
  const models = JSON.parse(new TextDecoder().decode(await fetched("models.json")));
  return new Networks(ort, models, fetched);
}

async function fetched(file) {
  const response = await fetch(new URL(`built/${file}`, import.meta.url));
  if (!response.ok) {
    throw new Told(
      `${file} could not be fetched (status ${response.status}): the demo must be built and served ` +
        "as its README.md says.",
    );
  }
  return new Uint8Array(await response.arrayBuffer());
}

/** The photo upright, as RGB; and smaller, to be shown. */
async function decode(file) {
  let bitmap;
  try {
    // the levels that are in the file, as Python reads them
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Told(
      `Your browser cannot read ${file.name || "this file"} as an image: choose a JPEG, PNG or WebP.`,
    );
  }
  const { width, height } = bitmap;
  const data = new Uint8Array(3 * width * height);
  const strip = context(width, Math.min(ROWS, height));
  for (let top = 0, to = 0; top < height; top += ROWS) {
    const rows = Math.min(ROWS, height - top);
    strip.fillStyle = "white"; // under what is transparent
    strip.fillRect(0, 0, width, rows);
    strip.drawImage(bitmap, 0, -top);
    const { data: read } = strip.getImageData(0, 0, width, rows);
    for (let from = 0; from < read.length; from += 4, to += 3) {
      data[to] = read[from];
      data[to + 1] = read[from + 1];
      data[to + 2] = read[from + 2];
    }
  }
  const scale = Math.min(1, PREVIEW / Math.max(width, height));
  const [w, h] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const shown = context(w, h);
  shown.fillStyle = "white";
  shown.fillRect(0, 0, w, h);
  shown.imageSmoothingQuality = "high";
  shown.drawImage(bitmap, 0, 0, w, h);
  bitmap.close();
  const preview = { pixels: shown.getImageData(0, 0, w, h).data, width: w, height: h };
  return { image: { data, width, height }, preview };
}

function context(width, height) {
  return new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
}

async function make({ factor, size }, say) {
  if (photo === null) return;
  const image = photo;
  const [weights, machine] = WEIGHTS[factor];
  const target = sizeOf(image, factor, size, weights);
  const show = (name, picture, note) => {
    const shown = withAlpha(picture);
    say("picture", { name, ...shown, note }, [shown.pixels.buffer]);
  };
  const pictures = { photo: image, bicubic: bicubic(image, target) };
  show("bicubic", pictures.bicubic, "as Pillow does it");
  pictures.learned = (await networks.resize(image, target, { weights })).image;
  show("learned", pictures.learned, `weights ${weights}`);
  const thumbnail = (await networks.resize(image, target, { weights: machine })).image;
  const [w, h] = target;
  if (factor * factor * w * h > LARGEST_RECONSTRUCTED) {
    say("left out", { name: "reconstructed", note: "not computed: larger than 16 megapixels" });
  } else {
    pictures.reconstructed = await networks.reconstruct(thumbnail, machine);
    show("reconstructed", pictures.reconstructed, `of ${w} × ${h} px, by ${machine} and its decoder`);
  }
  say("reading");
  for (const [name, picture] of Object.entries(pictures)) {
    try {
      say("verdict", { name, verdict: await networks.classify(picture) });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      say("verdict", { name, refused: error.message });
    }
  }
  say("done");
}

/** [width, height] of the thumbnail; size: its short side, or "factor". */
function sizeOf({ width, height }, factor, size, weights) {
  const scale = size / Math.min(width, height);
  const target =
    size === "factor"
      ? targetSize([width, height], factor)
      : [width, height].map((side) => Math.max(1, roundHalfToEven(side * scale)));
  try {
    makePlan([width, height], target, { [factor]: weights }, { required: true, exact: true });
  } catch {
    throw new Told(
      `The photo has ${width} × ${height} px, too few for the network ${weights} to make ` +
        `${target[0]} × ${target[1]} px of it: choose a smaller thumbnail, x2, or a larger photo.`,
    );
  }
  return target;
}

function withAlpha({ data, width, height }) {
  const pixels = new Uint8ClampedArray(4 * width * height);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    pixels[to] = data[from];
    pixels[to + 1] = data[from + 1];
    pixels[to + 2] = data[from + 2];
    pixels[to + 3] = 255;
  }
  return { pixels, width, height };
}
