// Antialiased bicubic of 8-bit images, bit for bit Pillow's: the weights are whole numbers with 22
// bits after the point; rows are filtered first, and rounded, then columns.

const BITS = 22;
const SUPPORT = 2; // of the kernel, on each side, in samples of the coarser grid

/** Of pixels (height x width x 3, Uint8Array), to [width, height]. */
export function bicubic({ data, width, height }, [newWidth, newHeight]) {
  let pixels = data;
  if (newWidth !== width) pixels = filterRows(pixels, width, height, newWidth);
  if (newHeight !== height) pixels = filterColumns(pixels, newWidth, height, newHeight);
  return { data: pixels === data ? data.slice() : pixels, width: newWidth, height: newHeight };
}

function kernel(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/** Of each target sample: the first source sample, how many, and their weights (from sample *
 *  widest on). The kernel is widened by the scale; weights outside the image are left out. */
function taps(source, target) {
  const scale = source / target;
  const widened = Math.max(scale, 1);
  const support = SUPPORT * widened;
  const widest = 2 * Math.ceil(support) + 1;
  const first = new Int32Array(target);
  const count = new Int32Array(target);
  const weights = new Int32Array(target * widest);
  const exact = new Float64Array(widest);
  for (let i = 0; i < target; i++) {
    const centre = (i + 0.5) * scale;
    first[i] = Math.max(0, Math.trunc(centre - support + 0.5));
    count[i] = Math.min(source, Math.trunc(centre + support + 0.5)) - first[i];
    let sum = 0;
    for (let k = 0; k < count[i]; k++) {
      exact[k] = kernel((k + first[i] - centre + 0.5) * (1 / widened));
      sum += exact[k];
    }
    for (let k = 0; k < count[i]; k++) {
      const weight = sum === 0 ? exact[k] : exact[k] / sum;
      weights[i * widest + k] = Math.trunc(weight * (1 << BITS) + (weight < 0 ? -0.5 : 0.5));
    }
  }
  return { first, count, weights, widest };
}

function filterRows(data, width, height, newWidth) {
  const { first, count, weights, widest } = taps(width, newWidth);
  const out = new Uint8ClampedArray(newWidth * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    const row = y * width * 3;
    for (let i = 0; i < newWidth; i++, to += 3) {
      let r = 1 << (BITS - 1);
      let g = r;
      let b = r;
      let from = row + 3 * first[i];
      const end = i * widest + count[i];
      for (let k = i * widest; k < end; k++, from += 3) {
        const weight = weights[k];
        r = (r + Math.imul(data[from], weight)) | 0;
        g = (g + Math.imul(data[from + 1], weight)) | 0;
        b = (b + Math.imul(data[from + 2], weight)) | 0;
      }
      out[to] = r >> BITS;
      out[to + 1] = g >> BITS;
      out[to + 2] = b >> BITS;
    }
  }
  return bytes(out);
}

function filterColumns(data, width, height, newHeight) {
  const { first, count, weights, widest } = taps(height, newHeight);
  const length = width * 3;
  const out = new Uint8ClampedArray(length * newHeight);
  const sums = new Int32Array(length);
  for (let i = 0; i < newHeight; i++) {
    sums.fill(1 << (BITS - 1));
    for (let k = 0; k < count[i]; k++) {
      const weight = weights[i * widest + k];
      const row = (first[i] + k) * length;
      for (let x = 0; x < length; x++) sums[x] += Math.imul(data[row + x], weight);
    }
    const to = i * length;
    for (let x = 0; x < length; x++) out[to + x] = sums[x] >> BITS;
  }
  return bytes(out);
}

/** The same memory; ONNX Runtime wants this type. */
function bytes(clamped) {
  return new Uint8Array(clamped.buffer);
}
