// The 52 facial actions, the intensity and the gaze, as mien.faces.action_reader.

import { mapped, scaleOf } from "./align.js";
import { resize } from "./pixels.js";

const BATCH = 8;
const radians = (degrees) => (degrees * Math.PI) / 180;
const degrees = (angle) => (angle * 180) / Math.PI;

export class ActionReader {
  constructor(network, settings) {
    this.network = network;
    this.size = settings.action_reader.size;
    this.shut = settings.action_reader.shut;
    this.lids = settings.action_reader.lids;
    this.names = settings.actions;
    this.measured = this.names.map((name) => Boolean(network.card.actions[name].measured));
    const { weights, rest } = network.card.intensity ?? {};
    this.strength = weights ? this.names.map((name) => [weights[name], rest[name]]) : null;
  }

  /** Actions by name, gaze and intensity for each luma crop with its matrix and points; null where not measured. */
  async read(crops, matrices, points) {
    const answers = [];
    for (let start = 0; start < crops.length; start += BATCH) {
      const part = crops.slice(start, start + BATCH);
      const area = this.size * this.size;
      const bytes = new Uint8Array(part.length * area);
      part.forEach((crop, n) => bytes.set(resize(crop, this.size, this.size).data, n * area));
      const unit = part.flatMap((_, n) => mapped(matrices[start + n], points[start + n]).flat());
      const { actions, gaze } = await this.network.run({
        crops: ["uint8", bytes, [part.length, this.size, this.size]],
        points: ["float32", Float32Array.from(unit), [part.length, unit.length / 2 / part.length, 2]],
      });
      const count = this.names.length;
      part.forEach((_, n) => answers.push(this.#answer(actions.subarray(n * count, (n + 1) * count), gaze.subarray(2 * n, 2 * n + 2), matrices[start + n])));
    }
    return answers;
  }

  #answer(values, gaze, matrix) {
    const closed = this.lids.reduce((sum, place) => sum + values[place], 0) / this.lids.length;
    const moved = this.strength?.reduce((sum, [weight, rest], n) => sum + Math.max(values[n] - rest, 0) * weight, 0);
    return {
      actions: Object.fromEntries(this.names.map((name, n) => [name, this.measured[n] ? values[n] : null])),
      gaze: closed > this.shut ? null : turnedBack(gaze, matrix),
      intensity: this.strength ? -Math.expm1(-moved) : null,
    };
  }
}

/** The gaze of the face turned upright as one in the camera's frame, in degrees. */
function turnedBack([yaw, pitch], matrix) {
  const size = scaleOf(matrix);
  const [cosine, sine] = [matrix[0][0] / size, -matrix[1][0] / size];
  const [across, down] = [Math.sin(radians(yaw)) * Math.cos(radians(pitch)), -Math.sin(radians(pitch))];
  const [x, y] = [cosine * across - sine * down, sine * across + cosine * down];
  const ahead = Math.cos(radians(yaw)) * Math.cos(radians(pitch));
  return { yaw: degrees(Math.atan2(x, ahead)), pitch: degrees(Math.asin(Math.min(1, Math.max(-1, -y)))) };
}
