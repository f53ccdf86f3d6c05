// What was asked -> how it is done, in whole numbers only: plan.py in JavaScript.
//
// Sizes are [width, height]. Where Python raises ValueError this throws RangeError, with the same
// words; tests/test_demo.py compares the two.

// How many times the thumbnail's size an image keeps at least where blocks of it are averaged.
const REDUCED = 4;
const LARGEST_REDUCED = 4_000_000; // pixels
const ROUND = { up: Math.ceil, nearest: roundHalfToEven, down: Math.floor };

// The weights that are chosen from where none are named, by native factor.
export const DEFAULT_WEIGHTS = { 2: "x2", 4: "x4" };

/** Python's round(): Math.round() takes halves up. */
export function roundHalfToEven(x) {
  const below = Math.floor(x);
  const rest = x - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/** [width, height] of the thumbnail of a source. size: a factor of 1 or more, or [width, height].
 *  rounding: of sides that a factor does not divide: "up", "nearest" or "down". */
export function targetSize(source, size, rounding = "up") {
  if (!(rounding in ROUND)) {
    throw new RangeError(
      `rounding is '${rounding}'; choose one of ${Object.keys(ROUND).join(", ")}`,
    );
  }
  if (typeof size === "number") return source.map((side) => divided(side, size, rounding));
  if (!Array.isArray(size) || size.length !== 2) {
    throw new TypeError(
      `size is ${JSON.stringify(size)}; expected a factor such as 4, or [width, height]`,
    );
  }
  if (!size.every(Number.isInteger)) {
    throw new TypeError(
      `size is ${JSON.stringify(size)}; width and height are whole numbers of pixels`,
    );
  }
  const [width, height] = size;
  if (width < 1 || height < 1) {
    throw new RangeError(`size is ${width} x ${height}; both sides must be at least 1 pixel`);
  }
  if (width > source[0] || height > source[1]) {
    throw new RangeError(
      `${source[0]} x ${source[1]} to ${width} x ${height} would enlarge; a downscaler only ` +
        "makes images smaller (size is (width, height), in this order)",
    );
  }
  return [width, height];
}

function divided(side, factor, rounding) {
  if (!Number.isFinite(factor) || factor <= 0) {
    throw new RangeError(`factor is ${factor}; it divides the sides: give a number above 1`);
  }
  if (factor < 1) {
    const times = general(1 / factor);
    throw new RangeError(
      `factor ${factor} would enlarge; it divides the sides: ${times} makes the ` +
        `image ${times} times smaller`,
    );
  }
  // 1e-9: 110 / 1.1 is 99.99..., and 100 / 0.1 style errors must not add a pixel
  const exact = side / factor;
  const whole = roundHalfToEven(exact);
  return Math.max(1, Math.abs(exact - whole) < 1e-9 * exact ? whole : ROUND[rounding](exact));
}

/** Python's format "g": six digits at most. */
function general(x) {
  const [digits, exponent] = x.toExponential(5).split("e");
  if (exponent >= -4 && exponent < 6) return String(Number(x.toPrecision(6)));
  const two = String(Math.abs(exponent)).padStart(2, "0");
  return `${Number(digits)}e${exponent < 0 ? "-" : "+"}${two}`;
}

/** The plan for an 8-bit RGB image of `source`; its fields are those of Python's Plan.
 *  weights: names by native factor; the largest factor that fits is taken. required: they must
 *  fit; else what none of them fits is plain bicubic. exact: without means of blocks and patches. */
export function makePlan(source, target, weights, { required = false, exact = false } = {}) {
  if (same(source, target)) return plain(source, target, "a copy: the size stays");
  const factors = Object.keys(weights).map(Number).sort((a, b) => b - a);
  // A native factor fits where the thumbnail has no more pixels than it would give by itself.
  const factor = factors.find((f) => target.every((t, i) => t <= Math.ceil(source[i] / f)));
  if (factor === undefined) {
    const least = factors.at(-1);
    if (required) {
      throw new RangeError(
        `the weights ${weights[least]} divide by ${least}, but ${source[0]} x ${source[1]} ` +
          `to ${target[0]} x ${target[1]} is less; ask for a smaller image, or give no weights`,
      );
    }
    return plain(source, target, `plain bicubic: the factor is below ${least}`);
  }
  const block = exact ? 1 : reduction(source, target);
  const reduced = block === 1 ? null : source.map((side) => Math.ceil(side / block));
  const begins = reduced ? `means of ${block}x${block} pixels, ` : "";
  const prepared = target.map((t) => factor * t);
  const patches = !reduced && !exact && takesPatches(source, target, factor);
  let reason = `learned x${factor} (${weights[factor]})`;
  if (patches) reason += ` of ${factor}x${factor} patches at quarters of a pixel`;
  else if (!same(prepared, source)) {
    reason = `${begins}bicubic to ${prepared[0]}x${prepared[1]}, then ${reason}`;
  }
  return {
    source, target, learned: factor, weights: weights[factor], prepared, reason, reduced, patches,
  };
}

/** The side of the blocks of pixels whose mean is taken first; 1: none is. */
function reduction(source, target) {
  const block = Math.min(...source.map((s, i) => Math.floor(s / (REDUCED * target[i]))));
  if (block < 2) return 1;
  const pixels = source.reduce((product, side) => product * Math.ceil(side / block), 1);
  return pixels > LARGEST_REDUCED ? 1 : block;
}

/** Whether the image is nearly, but not quite, `factor` times the thumbnail. */
function takesPatches(source, target, factor) {
  const fine = target.map((t) => factor * t);
  const near = fine.every((f, i) => 16 * Math.abs(f - source[i]) <= source[i]);
  return near && !same(fine, source) && Math.min(...source) >= factor;
}

function plain(source, target, reason) {
  return {
    source, target, learned: null, weights: null, prepared: null, reason, reduced: null,
    patches: false,
  };
}

export function same([a, b], [c, d]) {
  return a === c && b === d;
}
