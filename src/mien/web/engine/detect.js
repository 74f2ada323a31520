// Faces of a picture, as mien.faces.detect: the network, its decoding, and the search at rising sizes.

import { blocks, cut, picture, resize, rounded, sampled } from "./pixels.js";

const FARTHEST = 8; // logarithm of the largest distance to an edge, in strides

const area = (box) => box.width * box.height;

export function intersection(a, b) {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return width > 0 && height > 0 ? width * height : 0;
}

/** Keep the highest-scored detection of each face; largest first. */
export function nonMaxSuppression(detections, { overlap, inside }) {
  const same = (a, b) => {
    const common = intersection(a, b);
    return common > overlap * (area(a) + area(b) - common) || common > inside * Math.min(area(a), area(b));
  };
  const kept = [];
  for (const candidate of [...detections].sort((a, b) => b.score - a.score || area(b.box) - area(a.box))) {
    if (!kept.some((other) => same(candidate.box, other.box))) kept.push(candidate);
  }
  return kept.sort((a, b) => area(b.box) - area(a.box));
}

export class Detector {
  constructor(network, settings) {
    this.network = network;
    this.options = settings.detector;
  }

  /**
   * Detections { box, score, roll } of a picture, largest first; `roll` is the quarter turn of the head, in degrees. `side`:
   * the longest side to search at.
   */
  async find(image, side = this.options.side) {
    const { minimum, crop, crop_aspect: aspect, unsure } = this.options;
    const { width, height } = image;
    const longest = Math.max(width, height);
    const found = await this.#search(image, side);
    if (longest > crop || longest > aspect * Math.min(width, height) || surest(found) >= unsure) return found;
    // Without surroundings the network tells a face less surely.
    const room = Math.floor(longest / 2);
    const around = await this.#search(surrounded(image, room), side);
    if (surest(around) <= surest(found)) return found;
    return around.map((one) => within(one, room, image)).filter(({ box }) => box.height >= minimum);
  }

  async #search(image, side) {
    const { minimum, first } = this.options;
    const windows = windowsOf(image, this.options.long);
    // All windows together cost at most as much as two thorough searches, or one small search each.
    const many = windows.length > 2 * this.options.long;
    const most = many ? Math.max(Math.min(first, side), rounded(side * Math.sqrt((2 * this.options.long) / windows.length))) : side;
    const found = [];
    for (const [left, top, right, bottom] of windows) {
      const whole = windows.length === 1;
      const part = whole ? image : cut(image, left, top, right, bottom);
      const detections = await this.#rising(part, most);
      found.push(...(whole ? detections : placed(detections, left, top, part, image)));
    }
    return nonMaxSuppression(found.filter(({ box }) => box.height >= minimum), this.options);
  }

  /** The detections at the smallest size that is sufficient. */
  async #rising(image, most) {
    const { first, reliable, small } = this.options;
    const longest = Math.max(image.width, image.height);
    const fine = (longest * reliable) / 2 / small; // finds every face wider than `small`
    const all = sidesOf(longest, first, most, this.options.further);
    const last = all.at(-1);
    const sides = all.filter((side) => side === all[0] || side === last || side >= fine);
    const shown = longest < 2 * last ? image : resizedTo(image, last);
    let large = [];
    for (const side of sides) {
      const [found, narrowest] = await this.#atScale(shown, image, side);
      if (side < Math.min(fine, last)) {
        // Faces that fill the picture are found best, or only, at the small size.
        large = found.filter(({ box }) => box.width * side >= reliable * longest);
      } else if (side === last || (found.length && narrowest >= reliable)) {
        return [...large, ...found];
      }
    }
    return large;
  }

  /** Detections in `image`, in pixels of `whole`, and the width in searched pixels of the narrowest. */
  async #atScale(image, whole, side) {
    const shown = resizedTo(image, side);
    const [across, down] = [whole.width / shown.width, whole.height / shown.height];
    const rows = await this.#raw(shown);
    const found = [];
    for (const { left, top, right, bottom, score, roll } of rows) {
      const [x, y] = [Math.max(0, left * across), Math.max(0, top * down)];
      const [width, height] = [Math.min(whole.width, right * across) - x, Math.min(whole.height, bottom * down) - y];
      if (width > 0 && height > 0) found.push({ box: { x, y, width, height }, score: Math.min(1, score), roll });
    }
    return [found, rows.length ? Math.min(...rows.map(({ left, right }) => right - left)) : 0];
  }

  /** What the network finds in a picture of the searched size; overlapping answers are merged into the best. */
  async #raw(image) {
    const { multiple, grey, strides, confidence, merged } = this.options;
    const [width, height] = [image.width, image.height].map((length) => Math.max(2, Math.ceil(length / multiple)) * multiple);
    const outputs = await this.network.run({ image: ["uint8", padded(image, width, height, grey), [1, height, width, 3]] });
    const found = strides.flatMap((stride) => decoded(outputs[`stride${stride}`], stride, width / stride, height / stride, confidence));
    return best(found, merged);
  }
}

/** Decode one output [1, 19, rows, columns]: only cells above the threshold. */
export function decoded(values, stride, columns, rows, confidence) {
  const count = columns * rows;
  const least = Math.log(confidence / (1 - confidence));
  const found = [];
  for (let cell = 0; cell < count; cell += 1) {
    if (!(values[cell] > least)) continue;
    const [x, y] = [(cell % columns) + 0.5, Math.floor(cell / columns) + 0.5].map((place) => place * stride);
    const [left, top, right, bottom] = [1, 2, 3, 4].map((channel) => stride * Math.exp(Math.min(values[channel * count + cell], FARTHEST)));
    const turns = [15, 16, 17, 18].map((channel) => values[channel * count + cell]);
    const roll = 90 * turns.indexOf(Math.max(...turns));
    found.push({ left: x - left, top: y - top, right: x + right, bottom: y + bottom, score: 1 / (1 + Math.exp(-values[cell])), roll });
  }
  return found;
}

/** What stays when each answer removes the lower ones that overlap it. */
function best(found, overlap) {
  const rectangle = ({ left, top, right, bottom }) => ({ x: left, y: top, width: right - left, height: bottom - top });
  const kept = [];
  for (const candidate of [...found].sort((a, b) => b.score - a.score)) {
    const box = rectangle(candidate);
    const same = (other) => {
      const common = intersection(box, other);
      return common > overlap * (area(box) + area(other) - common);
    };
    if (!kept.some((other) => same(other.box))) kept.push({ ...candidate, box });
  }
  return kept;
}

const surest = (found) => Math.max(0, ...found.map(({ score }) => score));

/** The picture with its edge repeated `room` pixels outwards. */
function surrounded(image, room) {
  const { channels } = image;
  const wider = picture(image.width + 2 * room, image.height + 2 * room, channels);
  const inside = (place, length) => Math.min(Math.max(place - room, 0), length - 1);
  for (let y = 0, to = 0; y < wider.height; y += 1) {
    const row = inside(y, image.height) * image.width;
    for (let x = 0; x < wider.width; x += 1) {
      const from = (row + inside(x, image.width)) * channels;
      for (let channel = 0; channel < channels; channel += 1, to += 1) wider.data[to] = image.data[from + channel];
    }
  }
  return wider;
}

/** A detection in a picture with `room` pixels added on each side, in those of the picture itself, cut to it. */
function within({ box, ...rest }, room, { width, height }) {
  const [x, y] = [Math.max(0, box.x - room), Math.max(0, box.y - room)];
  const [right, bottom] = [Math.min(width, box.x + box.width - room), Math.min(height, box.y + box.height - room)];
  return { ...rest, box: { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) } };
}

/** RGB bytes with grey at the right and at the bottom. */
function padded(image, width, height, grey) {
  const data = new Uint8Array(width * height * 3).fill(grey);
  const { channels } = image;
  for (let y = 0; y < image.height; y += 1) {
    let [to, from] = [y * width * 3, y * image.width * channels];
    for (let x = 0; x < image.width; x += 1, to += 3, from += channels) {
      data[to] = image.data[from];
      data[to + 1] = image.data[from + 1];
      data[to + 2] = image.data[from + 2];
    }
  }
  return data;
}

/** The longest sides to search at. A picture smaller than the first is enlarged to it, since a face may fill it. */
function sidesOf(longest, first, most, further) {
  const last = Math.min(most, Math.max(longest, first));
  const sides = [];
  for (let side = Math.min(first, last); side * further < last; side *= 2) sides.push(side);
  return [...sides, last];
}

/** The picture with a longest side of `side`. Whole blocks of pixels are averaged; what is left is less than a factor of two. */
function resizedTo(image, side) {
  const scale = side / Math.max(image.width, image.height);
  const [width, height] = [image.width, image.height].map((length) => Math.max(1, rounded(length * scale)));
  const step = Math.min(Math.floor(1 / scale), image.width, image.height);
  if (step < 2) return resize(image, width, height);
  const [across, down] = [image.width / (width * step), image.height / (height * step)];
  const places = [[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]];
  return sampled(blocks(image, step, step), places, width, height);
}

/** [left, top, right, bottom] of windows that cover a strip and overlap by its width; one for other pictures. */
function windowsOf({ width, height }, long) {
  const breadth = Math.max(Math.min(height, width), 64);
  const length = Math.max(height, width);
  if (length <= long * breadth) return [[0, 0, width, height]];
  const window = long * breadth;
  const count = Math.ceil((length - window) / ((long - 1) * breadth)) + 1;
  const starts = Array.from({ length: count }, (_, n) => rounded((n * (length - window)) / (count - 1)));
  return starts.map((start) => {
    const end = Math.min(length, start + window);
    return width > height ? [start, 0, end, height] : [0, start, width, end];
  });
}

/** In pixels of the whole picture, without boxes at an inner edge of the part: a neighbour has the whole face. */
function placed(detections, left, top, part, whole) {
  const cutOff = ({ x, y, width, height }) =>
    (left > 0 && x <= 1) ||
    (top > 0 && y <= 1) ||
    (left + part.width < whole.width && x + width >= part.width - 1) ||
    (top + part.height < whole.height && y + height >= part.height - 1);
  return detections.filter(({ box }) => !cutOff(box)).map(({ box, ...rest }) => ({ ...rest, box: { ...box, x: box.x + left, y: box.y + top } }));
}
