// From a face's box to 112 points, presence and head pose, as mien.faces.landmarker.

import { settledView } from "./align.js";
import { blocks, cut, inverse, luma, warp } from "./pixels.js";

const radians = (degrees) => (degrees * Math.PI) / 180;
/** An angle in degrees as one from -180 to 180. */
const halfTurn = (angle) => ((((angle + 180) % 360) + 360) % 360) - 180;

const odds = (presence) => {
  const sure = Math.min(1 - 1e-6, Math.max(0, presence));
  return sure / (1 - sure);
};

export class Landmarker {
  constructor(network, settings) {
    this.network = network;
    this.known = settings.landmarks;
    this.limits = settings.landmarker;
    this.align = settings.align;
  }

  /**
   * Points [[x, y], ...], presence and [yaw, pitch, roll] of each face. `detections`: boxes { x, y, width, height } and, if
   * a detector saw it, the quarter turn of the head in degrees.
   */
  async locate(image, detections) {
    const { margin, plain, tilt, turned, turn_factor: factor } = this.limits;
    const views = detections.map(({ box, roll = 0 }) => ({
      centre: [box.x + box.width / 2, box.y + box.height / 2],
      side: Math.max(box.width, box.height) * margin,
      angle: roll,
    }));
    const faces = await this.#looks(image, views);
    const tilted = ({ pose }, n) => Math.abs(halfTurn(pose[2] - views[n].angle)) > tilt;
    const odd = faces.flatMap((face, n) => (Math.min(face.presence, face.last) < plain || tilted(face, n) ? [n] : []));
    if (odd.length) {
      const turns = [90, 180, 270];
      const again = await this.#looks(image, odd.flatMap((n) => turns.map((turn) => ({ ...views[n], angle: views[n].angle + turn }))));
      for (const [row, n] of odd.entries()) {
        const tried = again.slice(row * turns.length, (row + 1) * turns.length);
        const scores = tried.map((face) => (Math.min(face.presence, face.last) < turned ? 0 : odds(face.last)));
        const best = scores.indexOf(Math.max(...scores));
        if (scores[best] > factor * odds(faces[n].last)) faces[n] = tried[best];
      }
    }
    for (const { pose } of faces) pose[2] = halfTurn(pose[2]);
    return faces;
  }

  /** As `locate`, in one pass over faces known by their points in the frame before. */
  async follow(image, points) {
    return this.#look(image, points.map((face) => this.#upright(face)));
  }

  /** All passes of the network; `last` is the presence in the last pass. */
  async #looks(image, views) {
    const first = await this.#look(image, views);
    let faces = first;
    for (let pass = 1; pass < this.limits.looks; pass += 1) {
      faces = await this.#look(image, faces.map((face) => this.#upright(face.points)));
    }
    return faces.map((face, n) => ({ points: face.points, pose: face.pose, presence: first[n].presence, last: face.presence }));
  }

  async #look(image, given) {
    const { side, batch } = this.limits;
    const views = given.map((view) => settledView(view, side, this.align));
    const count = this.known.points;
    const faces = [];
    for (let start = 0; start < views.length; start += batch) {
      const part = views.slice(start, start + batch);
      const crops = new Uint8Array(part.length * side * side);
      const maps = part.map((view, n) => {
        const [crop, map] = this.#crop(image, view);
        crops.set(crop.data, n * side * side);
        return map;
      });
      const { points, presence, pose } = await this.network.run({ images: ["uint8", crops, [part.length, 1, side, side]] });
      for (const [n, { angle }] of part.entries()) {
        const [[a, b, c], [d, e, f]] = inverse(maps[n]);
        const at = (place) => {
          // In single precision as in Python, or a square would now and then be rounded to another place.
          const [x, y] = [0, 1].map((axis) => Math.fround(points[(n * count + place) * 2 + axis] * side - 0.5));
          return [a * x + b * y + c, d * x + e * y + f].map(Math.fround);
        };
        const [yaw, pitch, roll] = pose.subarray(n * 3, n * 3 + 3);
        faces.push({ points: Array.from({ length: count }, (_, place) => at(place)), presence: presence[n], pose: [yaw, pitch, roll + angle] });
      }
    }
    return faces;
  }

  /** The square of a view as luma, and the matrix from the picture into it. */
  #crop(image, { centre, side, angle }) {
    const half = side * 0.8 + 2;
    const size = [image.width, image.height];
    const low = size.map((length, axis) => Math.min(Math.max(Math.floor(centre[axis] - half), 0), length - 1));
    const high = size.map((length, axis) => Math.max(Math.min(Math.max(Math.ceil(centre[axis] + half), 0), length), low[axis] + 1));
    const scale = this.limits.side / side;
    const [cosine, sine] = [scale * Math.cos(radians(angle)), scale * Math.sin(radians(angle))];
    const middle = (this.limits.side - 1) / 2;
    const [x, y] = [centre[0] - low[0], centre[1] - low[1]];
    const inside = [
      [cosine, sine, middle - cosine * x - sine * y],
      [-sine, cosine, middle + sine * x - cosine * y],
    ];
    const part = cut(image, low[0], low[1], high[0], high[1]);
    const step = Math.min(Math.floor(1 / scale), part.width, part.height);
    const square =
      step < 2
        ? warp(part, inside, this.limits.side)
        : warp(
            blocks(part, step, step),
            inside.map(([a, b, c]) => [a * step, b * step, c + ((a + b) * (step - 1)) / 2]),
            this.limits.side,
          );
    return [luma(square), inside.map(([a, b, c]) => [a, b, c - a * low[0] - b * low[1]])];
  }

  /** The square, turned with the eyes, about a face of known points. */
  #upright(points) {
    const middle = (places, axis) => (points[places[0]][axis] + points[places[1]][axis]) / 2;
    const { left_eye_corners: left, right_eye_corners: right } = this.known;
    const angle = Math.atan2(middle(left, 1) - middle(right, 1), middle(left, 0) - middle(right, 0));
    const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
    const xs = points.map(([x, y]) => x * cosine + y * sine);
    const ys = points.map(([x, y]) => y * cosine - x * sine);
    const [width, height] = [Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys)];
    // The points end at the brows, the box that a detector draws at the hairline.
    const across = Math.min(...xs) + width / 2;
    const down = Math.min(...ys) + height / 2 - this.limits.lift * height;
    const side = Math.max(width, this.limits.taller * height) * this.limits.margin;
    return {
      centre: [cosine * across - sine * down, sine * across + cosine * down],
      side: Math.max(side, 4),
      angle: (angle * 180) / Math.PI,
    };
  }
}
