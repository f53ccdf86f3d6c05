// The networks, in any onnxruntime for JavaScript: what
// learned_downscale.resize(image, size, exact=True, backend="onnx") does, pixel for pixel, and the
// decoder and the classifier of thumbnails.
//
// An image is { data, width, height }: RGB, 8 bits, height x width x 3, a Uint8Array.

import { bicubic } from "./bicubic.js";
import { DEFAULT_WEIGHTS, makePlan, roundHalfToEven, same, targetSize } from "./plan.js";

// Thumbnail pixels around a strip that its pixels depend on: the downscaler's two layers of 3 x 3
// reach 2 pixels far, and so does bicubic at a native factor; the decoder has three layers.
const HALO = 2;
const DECODER_HALO = 3;
// Pixels of a strip at the image's resolution: what the networks keep of it is some 30 times as many
// bytes, which phones have.
const STRIP = 1_000_000;
// Short sides that the classifier takes, and how many times longer the other side may be.
const SMALLEST = 32;
const LARGEST = 160;
const LONGEST = 4;

/** The networks of models.json, each read when it is first needed. */
export class Networks {
  /** ort: the module onnxruntime-web (or -node). models: the content of models.json.
   *  read: the name of an .onnx file -> its bytes, a promise. strip: see STRIP. */
  constructor(ort, models, read, strip = STRIP) {
    this.ort = ort;
    this.models = models;
    this.read = read;
    this.strip = strip;
    this.sessions = new Map();
  }

  /** The thumbnail of an image, and its plan. size: a factor or [width, height]. weights: a name;
   *  undefined: x4 or x2, whichever fits, else plain bicubic. */
  async resize(image, size, { weights, rounding = "up" } = {}) {
    const source = [image.width, image.height];
    const target = targetSize(source, size, rounding);
    const names = weights === undefined ? DEFAULT_WEIGHTS : { [this.downscaler(weights).factor]: weights };
    const plan = makePlan(source, target, names, { required: weights !== undefined, exact: true });
    if (plan.learned === null) return { image: bicubic(image, target), plan };
    if (same(source, plan.prepared)) return { image: await this.native(image, plan), plan };
    const skip = bicubic(image, target);
    const residual = await this.residual(bicubic(image, plan.prepared), plan);
    const { qim } = this.downscaler(plan.weights);
    (qim === 1 ? add : embed)(skip.data, residual, qim);
    return { image: skip, plan };
  }

  /** The image that the decoder of the weights reconstructs from their thumbnail. */
  async reconstruct(thumbnail, weights) {
    const { factor, decoder } = this.downscaler(weights);
    if (!decoder) throw new RangeError(`the weights ${weights} have no decoder; choose others`);
    const size = [factor * thumbnail.width, factor * thumbnail.height];
    const out = new Uint8Array(3 * size[0] * size[1]);
    const how = { file: decoder, input: "thumbnail", output: "image", inside: 1, halo: DECODER_HALO };
    await this.inStrips(thumbnail, how, factor, out);
    return { data: out, width: size[0], height: size[1] };
  }

  /** What a thumbnail shows: { label, probability, probabilities }. label: null for none of the
   *  classes; probabilities: [label, probability] of every class, the most probable first. Larger
   *  images are made smaller by `resize` first, as ThumbnailClassifier does it. */
  async classify(image) {
    const { file, labels, threshold } = this.models.classifier;
    const { data, width, height } = await this.readable(image);
    const tensor = new this.ort.Tensor("uint8", data, [1, height, width, 3]);
    const session = await this.session(file);
    const found = await session.run({ thumbnail: tensor }, ["probabilities"]);
    const probabilities = labels
      .map((label, i) => [label, found.probabilities.data[i]])
      .sort((a, b) => b[1] - a[1]);
    const [label, probability] = probabilities[0];
    return { label: probability >= threshold ? label : null, probability, probabilities };
  }

  async readable(image) {
    const { width, height } = image;
    const [short, long] = [Math.min(width, height), Math.max(width, height)];
    if (short < SMALLEST) {
      throw new RangeError(
        `${width} × ${height} px is too small for the classifier, which reads ${SMALLEST} px and more`,
      );
    }
    if (long > LONGEST * short) {
      throw new RangeError(
        `${width} × ${height} px is too long for the classifier, which reads sides of up to 1 : ${LONGEST}`,
      );
    }
    if (short <= LARGEST) return image;
    const scale = LARGEST / short;
    const size = [width, height].map((side) => Math.max(1, roundHalfToEven(side * scale)));
    return (await this.resize(image, size)).image;
  }

  downscaler(name) {
    const found = this.models.downscalers[name];
    if (found) return found;
    const known = Object.keys(this.models.downscalers).join(", ");
    throw new RangeError(`no weights named '${name}'; there are ${known}`);
  }

  /** Where the image is the factor times the thumbnail, model.onnx does everything. */
  async native(image, { target, learned, weights }) {
    const out = new Uint8Array(3 * target[0] * target[1]);
    const { file } = this.downscaler(weights);
    const how = { file, input: "image", output: "thumbnail", inside: learned, halo: HALO };
    await this.inStrips(image, how, 1, out);
    return { data: out, width: target[0], height: target[1] };
  }

  /** In levels, float32: what is added or embedded. */
  async residual(prepared, { target, learned, weights }) {
    const out = new Float32Array(3 * target[0] * target[1]);
    const { file } = this.downscaler(weights);
    const how = { file, input: "image", output: "residual", inside: learned, halo: HALO };
    await this.inStrips(prepared, how, 1, out);
    return out;
  }

  /** Run a network on strips of rows, each with its halo, and put the results below each other.
   *  inside, outside: pixels of input and output for one of the thumbnail's, in each direction. */
  async inStrips({ data, width, height }, { file, input, output, inside, halo }, outside, out) {
    const session = await this.session(file);
    const rows = height / inside; // of the thumbnail
    const finest = Math.max(inside, outside);
    const each = Math.max(1, Math.floor(this.strip / ((width / inside) * finest * finest)));
    const across = 3 * (width / inside) * outside * outside; // values of one of the rows, in `out`
    for (let start = 0; start < rows; start += each) {
      const stop = Math.min(rows, start + each);
      const first = Math.max(0, start - halo);
      const last = Math.min(rows, stop + halo);
      const part = data.subarray(3 * width * inside * first, 3 * width * inside * last);
      const shape = [1, inside * (last - first), width, 3];
      const tensor = new this.ort.Tensor("uint8", part, shape);
      const made = (await session.run({ [input]: tensor }, [output]))[output];
      out.set(made.data.subarray(across * (start - first), across * (stop - first)), across * start);
      made.dispose();
    }
  }

  session(file) {
    if (!this.sessions.has(file)) {
      const loading = this.load(file);
      loading.catch(() => this.sessions.delete(file)); // so that the next call tries again
      this.sessions.set(file, loading);
    }
    return this.sessions.get(file);
  }

  async load(file) {
    const options = { executionProviders: ["cpu"], logSeverityLevel: 3 };
    return this.ort.InferenceSession.create(await this.read(file), options);
  }
}

/** skip = round(skip + residual), half to even, in float32. */
function add(skip, residual) {
  for (let i = 0; i < skip.length; i++) {
    const total = roundHalfToEven(Math.fround(skip[i] + residual[i]));
    skip[i] = Math.min(255, Math.max(0, total));
  }
}

/** skip = the level nearest to it that is the payload modulo qim (learned_downscale.core.qim). */
function embed(skip, residual, qim) {
  for (let i = 0; i < skip.length; i++) {
    const payload = Math.min(qim - 1, Math.max(0, roundHalfToEven(residual[i]) + qim / 2));
    const steps = Math.floor((skip[i] - payload) / qim + 0.5);
    skip[i] = Math.min(256 / qim - 1, Math.max(0, steps)) * qim + payload;
  }
}
