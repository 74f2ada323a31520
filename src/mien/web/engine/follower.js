// Faces of the frames of one video or camera, as mien.video.tracking: the detector runs now and then, and in between the
// landmark network follows the faces from where they were.

import { intersection } from "./detect.js";

const area = (box) => box.width * box.height;
const overlap = (a, b) => intersection(a, b) / (area(a) + area(b) - intersection(a, b));
const boxOf = ({ detection }) => detection.box;

export class Follower {
  #pipeline;
  #faces = [];
  #searched = -Infinity;
  #pause;

  constructor(pipeline) {
    this.#pipeline = pipeline;
    this.limits = pipeline.settings.tracking;
    this.#pause = this.limits.shortest;
  }

  /** The located faces of the next frame, at `time` seconds, largest first. */
  async locate(image, time) {
    const before = this.#faces;
    const followed = await this.#follow(image);
    const due = this.#due(time) || followed.length < before.length || this.#meet(followed);
    let located = followed;
    if (due) located = await this.#search(image, followed);
    else if (!followed.length) located = await this.#search(image, [], this.#pipeline.settings.detector.first);
    this.#faces = [...located].sort((a, b) => area(boxOf(b)) - area(boxOf(a)));
    if (due) {
      const calm = located.length === before.length && located.every(({ detection }) => detection.score > 0.5);
      this.#pause = calm ? Math.min(2 * this.#pause, this.limits.longest) : this.limits.shortest;
      this.#searched = time;
    }
    return this.#faces;
  }

  #due(time) {
    const passed = time - this.#searched; // below zero when a video was wound back
    return !(passed >= 0 && passed < this.#pause - 0.0005);
  }

  async #follow(image) {
    if (!this.#faces.length) return [];
    const looked = await this.#pipeline.landmarker.follow(image, this.#faces.map(({ points }) => points));
    const moved = this.#faces.map(({ detection, points }, n) => ({ box: movedBox(detection.box, points, looked[n].points), score: detection.score }));
    return this.#pipeline.measure(image, moved, looked);
  }

  async #search(image, followed, side) {
    const detections = await this.#pipeline.detector.find(image, side);
    const located = await this.#pipeline.locate(image, detections);
    const missed = followed.filter((face) => !located.some((other) => overlap(boxOf(face), boxOf(other)) > 0.1));
    for (const face of missed) {
      const score = face.detection.score / 2;
      if (face.presence >= this.limits.sure && score >= this.limits.faintest) located.push({ ...face, detection: { ...face.detection, score } });
    }
    return located;
  }

  #meet(located) {
    return located.some((face, n) => located.slice(n + 1).some((other) => overlap(boxOf(face), boxOf(other)) > this.limits.together));
  }
}

/** A detector's box, shifted and scaled as the bounding box of the points inside it. */
function movedBox({ x, y, width, height }, before, now) {
  const [left, top, right, bottom] = bounds(before);
  const [newLeft, newTop, newRight, newBottom] = bounds(now);
  const across = (newRight - newLeft) / Math.max(right - left, 1e-6);
  const down = (newBottom - newTop) / Math.max(bottom - top, 1e-6);
  return { x: newLeft + (x - left) * across, y: newTop + (y - top) * down, width: width * across, height: height * down };
}

function bounds(points) {
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}
