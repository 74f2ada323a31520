// Pixels: resizing, warping and luma, with the results of OpenCV's functions that the Python package calls.
//
// A picture is { width, height, channels, data }: bytes, row by row. One that was decoded has four channels (the fourth
// is not used), all others three (RGB) or one (luma).

export const picture = (width, height, channels) => ({ width, height, channels, data: new Uint8Array(width * height * channels) });

const clamp = (value, low, high) => (value < low ? low : value > high ? high : value);

/** The nearest whole number, of two equally near the even one, as OpenCV, NumPy and Python round. */
export function rounded(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest > 0.5 || (rest === 0.5 && whole & 1) ? whole + 1 : whole;
}

/** Resize as `cv2.resize`: areas are averaged if the picture shrinks (INTER_AREA), else interpolated (INTER_LINEAR). */
export function resize(image, width, height) {
  if (width === image.width && height === image.height && image.channels < 4) return image;
  const across = image.width / width;
  const down = image.height / height;
  if (across < 1 || down < 1) return enlarged(image, width, height);
  return Number.isInteger(across) && Number.isInteger(down) ? blocks(image, across, down) : areas(image, width, height);
}

/** The mean of each block of `across` x `down` pixels; what is left over at the right and the bottom is dropped. */
export function blocks(image, across, down) {
  const result = picture(Math.floor(image.width / across), Math.floor(image.height / down), Math.min(3, image.channels));
  const { channels } = result;
  const step = image.channels;
  const share = 1 / (across * down);
  let place = 0;
  for (let y = 0; y < result.height; y += 1) {
    for (let x = 0; x < result.width; x += 1) {
      for (let c = 0; c < channels; c += 1, place += 1) {
        let sum = 0;
        for (let row = 0; row < down; row += 1) {
          let from = ((y * down + row) * image.width + x * across) * step + c;
          for (let column = 0; column < across; column += 1, from += step) sum += image.data[from];
        }
        result.data[place] = across === 2 && down === 2 ? (sum + 2) >> 2 : rounded(sum * share);
      }
    }
  }
  return result;
}

/** For each pixel of a shrunk axis the source pixels that it covers and their shares: [start of each, sources, shares]. */
function coverage(source, target) {
  const scale = source / target;
  const starts = new Int32Array(target + 1);
  const places = [];
  const shares = [];
  for (let n = 0; n < target; n += 1) {
    const from = n * scale;
    const to = from + scale;
    const cell = Math.min(scale, source - from);
    const last = Math.min(Math.floor(to), source - 1);
    const first = Math.min(Math.ceil(from), last);
    const add = (place, share) => (places.push(place), shares.push(share / cell));
    if (first - from > 1e-3) add(first - 1, first - from);
    for (let place = first; place < last; place += 1) add(place, 1);
    if (to - last > 1e-3) add(last, Math.min(to - last, 1, cell));
    starts[n + 1] = places.length;
  }
  return [starts, Int32Array.from(places), Float32Array.from(shares)];
}

function areas(image, width, height) {
  const result = picture(width, height, Math.min(3, image.channels));
  const { channels } = result;
  const step = image.channels;
  const [startsX, placesX, sharesX] = coverage(image.width, width);
  const [startsY, placesY, sharesY] = coverage(image.height, height);
  const line = new Float32Array(width * channels);
  const sums = new Float32Array(width * channels);
  let shown = -1;
  for (let y = 0; y < height; y += 1) {
    sums.fill(0);
    for (let n = startsY[y]; n < startsY[y + 1]; n += 1) {
      if (placesY[n] !== shown) {
        shown = placesY[n];
        shrinkRow(image.data, shown * image.width * step, step, line, channels, startsX, placesX, sharesX);
      }
      const share = sharesY[n];
      for (let i = 0; i < sums.length; i += 1) sums[i] += share * line[i];
    }
    const at = y * sums.length;
    for (let i = 0; i < sums.length; i += 1) result.data[at + i] = rounded(sums[i]);
  }
  return result;
}

function shrinkRow(data, at, step, line, channels, starts, places, shares) {
  for (let x = 0, i = 0; i < line.length; x += 1, i += channels) {
    let [a, b, c] = [0, 0, 0];
    for (let n = starts[x]; n < starts[x + 1]; n += 1) {
      const from = at + places[n] * step;
      const share = shares[n];
      a += share * data[from];
      if (channels > 1) {
        b += share * data[from + 1];
        c += share * data[from + 2];
      }
    }
    line[i] = a;
    if (channels > 1) {
      line[i + 1] = b;
      line[i + 2] = c;
    }
  }
}

const ONE = 2048; // of the shares of two neighbours, in whole numbers

/** For each pixel of an enlarged axis the two source pixels it lies between, and the share of each. */
function between(source, target) {
  return Array.from({ length: target }, (_, n) => {
    const place = Math.fround(((n + 0.5) * source) / target - 0.5);
    const low = Math.floor(place);
    const share = low < 0 || low >= source - 1 ? 0 : place - low;
    const first = clamp(low, 0, source - 1);
    return [first, Math.min(first + 1, source - 1), rounded((1 - share) * ONE), rounded(share * ONE)];
  });
}

function enlarged(image, width, height) {
  const result = picture(width, height, Math.min(3, image.channels));
  const { channels: step, data } = image;
  const columns = between(image.width, width);
  let place = 0;
  for (const [above, below, near, far] of between(image.height, height)) {
    const [first, second] = [above * image.width, below * image.width];
    for (const [left, right, a, b] of columns) {
      for (let c = 0; c < result.channels; c += 1, place += 1) {
        const upper = data[(first + left) * step + c] * a + data[(first + right) * step + c] * b;
        const lower = data[(second + left) * step + c] * a + data[(second + right) * step + c] * b;
        result.data[place] = (((near * (upper >> 4)) >> 16) + ((far * (lower >> 4)) >> 16) + 2) >> 2;
      }
    }
  }
  return result;
}

/** A square of `size` pixels as `sampled`; `matrix` maps pixels of the picture to pixels of the square. */
export const warp = (image, matrix, size) => sampled(image, inverse(matrix), size, size);

/**
 * A picture of other pixels, as `cv2.warpAffine`: bilinear, with the picture's border pixels repeated outside it. Places
 * are rounded to a 32nd of a pixel, as there.
 *
 * `matrix`: [[a, b, c], [d, e, f]] from pixels of the result to pixels of the picture.
 */
export function sampled(image, [[a, b, c], [d, e, f]], columns, rows) {
  const result = picture(columns, rows, Math.min(3, image.channels));
  const { channels } = result;
  const { width, height, data, channels: step } = image;
  const along = Array.from({ length: columns }, (_, x) => [rounded(a * x * 1024), rounded(d * x * 1024)]);
  let place = 0;
  for (let y = 0; y < rows; y += 1) {
    const [startX, startY] = [rounded((b * y + c) * 1024) + 16, rounded((e * y + f) * 1024) + 16];
    for (let x = 0; x < columns; x += 1) {
      const [fineX, fineY] = [(startX + along[x][0]) >> 5, (startY + along[x][1]) >> 5];
      const [left, top, across, down] = [fineX >> 5, fineY >> 5, fineX & 31, fineY & 31];
      const [x0, x1] = [clamp(left, 0, width - 1), clamp(left + 1, 0, width - 1)];
      const [y0, y1] = [clamp(top, 0, height - 1) * width, clamp(top + 1, 0, height - 1) * width];
      const [p, q, r, s] = [(y0 + x0) * step, (y0 + x1) * step, (y1 + x0) * step, (y1 + x1) * step];
      for (let n = 0; n < channels; n += 1, place += 1) {
        const upper = data[p + n] * (32 - across) + data[q + n] * across;
        const lower = data[r + n] * (32 - across) + data[s + n] * across;
        result.data[place] = (upper * (32 - down) + lower * down + 512) >> 10;
      }
    }
  }
  return result;
}

/** Luma, 0.299 R + 0.587 G + 0.114 B in the fixed point of OpenCV. */
export function luma(image) {
  const result = picture(image.width, image.height, 1);
  const { data, channels } = image;
  for (let n = 0, from = 0; n < result.data.length; n += 1, from += channels) {
    result.data[n] = (data[from] * 9798 + data[from + 1] * 19235 + data[from + 2] * 3735 + 16384) >> 15;
  }
  return result;
}

/** A rectangle of a picture, copied; all numbers are whole and lie in the picture. */
export function cut(image, left, top, right, bottom) {
  const result = picture(right - left, bottom - top, image.channels);
  const row = result.width * image.channels;
  for (let y = 0; y < result.height; y += 1) {
    const from = ((top + y) * image.width + left) * image.channels;
    result.data.set(image.data.subarray(from, from + row), y * row);
  }
  return result;
}

/** The variance of the Laplacian of a luma picture; the border is mirrored about the outermost pixels. */
export function sharpness({ width, height, data }) {
  const mirrored = (n, length) => (n < 0 ? -n : n >= length ? 2 * length - 2 - n : n);
  let [sum, squares] = [0, 0];
  for (let y = 0; y < height; y += 1) {
    const row = y * width;
    const [above, below] = [mirrored(y - 1, height) * width, mirrored(y + 1, height) * width];
    for (let x = 0; x < width; x += 1) {
      const beside = data[row + mirrored(x - 1, width)] + data[row + mirrored(x + 1, width)];
      const value = beside + data[above + x] + data[below + x] - 4 * data[row + x];
      sum += value;
      squares += value * value;
    }
  }
  const count = width * height;
  return squares / count - (sum / count) ** 2;
}

/** The matrix [[a, b, c], [d, e, f]] that undoes another; null where none does. */
export function inverse([[a, b, c], [d, e, f]]) {
  const determinant = a * e - b * d;
  if (!Number.isFinite(determinant) || determinant === 0) return null;
  return [
    [e / determinant, -b / determinant, (b * f - e * c) / determinant],
    [-d / determinant, a / determinant, (d * c - a * f) / determinant],
  ];
}
