// Pictures that are drawn by whole numbers alone, so that Python draws the same ones
// (tests/test_demo.py): a sky, hills, stripes that alias, discs, and noise.

/** RGB, 8 bits: { data, width, height }. */
export function drawn(width, height, seed) {
  const data = new Uint8Array(3 * width * height);
  let state = (2 * seed + 1) >>> 0; // of a linear congruential generator
  const disc = 5 + (seed % 4);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const hill = ((x * (seed + 3)) >> 1) % 97;
      const low = 3 * y > 2 * height - hill;
      const stripe = (x * disc + y * (seed % 7)) % 23 < 9;
      const [u, v] = [(x % 64) - 32, (y % 64) - 32];
      const round = u * u + v * v < 14 * disc * disc;
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const noise = (state >>> 24) % 25;
      const sky = Math.floor((150 * y) / height);
      data[to] = (low ? (stripe ? 190 : 60) : sky) + noise;
      data[to + 1] = (low ? 70 + hill : 60 + sky) + (round ? 20 : 0);
      data[to + 2] = round ? 40 + noise : low ? 50 : 220 - sky;
    }
  }
  return { data, width, height };
}
