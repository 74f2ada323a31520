// From a picture to its faces, as mien.faces.pipeline. Runs in a Web Worker, or wherever a module may await.

import { ActionReader } from "./action_reader.js";
import { crop, faceMatrix, scaleOf, settled } from "./align.js";
import { Detector } from "./detect.js";
import { decode } from "./images.js";
import { Landmarker } from "./landmarker.js";
import { openNetworks } from "./network.js";
import { resize, sharpness } from "./pixels.js";
import { Recogniser } from "./recognise.js";

const radians = (degrees) => (degrees * Math.PI) / 180;

export class Pipeline {
  /** The pipeline of the networks and settings that `openNetworks` gives. */
  constructor({ settings, detector, landmarks, recogniser, visibility, actions }) {
    Object.assign(this, {
      settings,
      detector: new Detector(detector, settings),
      landmarker: new Landmarker(landmarks, settings),
      recogniser: new Recogniser(recogniser, settings),
      visibility,
      actions: new ActionReader(actions, settings),
    });
  }

  static async open(root, threads) {
    return new Pipeline(await openNetworks(root, threads));
  }

  /**
   * Analyse whatever `decode` reads. `name` is what the result calls its source; `boxes` [{ x, y, width, height }] replace
   * the detector; `embeddings` asks for the recogniser's feature vectors.
   */
  async analyse(source, { name = "array", boxes = null, embeddings = false } = {}) {
    const image = await decode(source, this.settings.pipeline.max_pixels);
    const detections = boxes ? boxes.map((box) => ({ box, score: 1 })) : await this.detector.find(image);
    return this.#analysis(image, await this.locate(image, detections), name, embeddings);
  }

  /** Analyse the next frame, at `time` seconds, of the video or camera of a `Follower`. */
  async follow(follower, source, time, { name = "array", embeddings = false } = {}) {
    const image = await decode(source, this.settings.pipeline.max_pixels);
    return { ...(await this.#analysis(image, await follower.locate(image, time), name, embeddings)), time };
  }

  async #analysis(image, faces, name, embeddings) {
    const readings = await this.#read(faces, embeddings);
    return {
      source: name,
      width: image.width,
      height: image.height,
      faces: faces.map(({ detection, points, presence, pose: [yaw, pitch, roll], quality }, n) => ({
        detection: { box: detection.box, score: detection.score },
        landmarks: { points, presence },
        pose: { yaw, pitch, roll },
        reading: this.#doubted(readings[n], quality),
        quality: quality.value,
      })),
      error: null,
      frame: null,
      time: null,
      model: this.recogniser.card.name,
    };
  }

  /** Located and aligned faces with their quality, without detections that are no faces. */
  async locate(image, detections) {
    return detections.length ? this.measure(image, detections, await this.landmarker.locate(image, detections)) : [];
  }

  /** The same from what the landmark network saw in each detection. */
  async measure(image, detections, located) {
    const faces = [];
    for (const [n, { points, presence, pose }] of located.entries()) {
      const needed = neededPresence(detections[n].score, this.settings.pipeline);
      const matrix = presence >= needed ? faceMatrix(points, this.settings) : null;
      if (!matrix) continue;
      const { size } = this.recogniser;
      faces.push({ detection: detections[n], points, presence, pose, matrix, crop: crop(image, settled(matrix, size, this.settings), size, this.settings) });
    }
    const visible = await this.#visible(faces.map((face) => face.crop));
    for (const [n, face] of faces.entries()) face.quality = this.#quality(face, image, visible[n]);
    return faces;
  }

  async #visible(crops) {
    if (!crops.length) return [];
    const { size } = this.settings.visibility;
    const bytes = new Uint8Array(crops.length * size * size);
    crops.forEach((one, n) => bytes.set(resize(one, size, size).data, n * size * size));
    const outputs = await this.visibility.run({ crops: ["uint8", bytes, [crops.length, size, size]] });
    return Object.values(outputs)[0];
  }

  /** How reliable the picture of a face is, 0 to 1, and what lowers it most. */
  #quality({ detection, matrix, crop: pixels, pose: [yaw, pitch, roll], presence }, image, visible) {
    const variance = sharpness(pixels);
    const shares = {
      small: Math.min(1, 1 / scaleOf(matrix) / pixels.width),
      blurred: variance / (variance + this.settings.pipeline.soft),
      turned: Math.max(0, Math.cos(radians(yaw))) * Math.max(0, Math.cos(radians(pitch))),
      "hardly a face": presence,
    };
    const factors = Object.entries(shares).map(([name, share]) => [name, Math.min(1, Math.max(0, share)) ** 0.25]);
    factors.push(["covered", visible * whole(detection.box, image, roll)]);
    const [weakest] = factors.reduce((least, factor) => (factor[1] < least[1] ? factor : least));
    return { value: factors.reduce((product, [, factor]) => product * factor, 1), weakest };
  }

  async #read(faces, embeddings) {
    const crops = faces.map((face) => face.crop);
    const readings = await this.recogniser.read(crops, embeddings);
    const moved = await this.actions.read(crops, faces.map((face) => face.matrix), faces.map((face) => face.points));
    return readings.map((reading, n) => ({ ...reading, ...moved[n] }));
  }

  #doubted(reading, { value, weakest }) {
    return value >= this.settings.pipeline.doubtful ? reading : { ...reading, uncertain: true, doubts: [weakest, ...reading.doubts] };
  }
}

/** The lowest presence at which a detection of this score is kept. */
function neededPresence(score, { presence, unsure, unsure_odds: odds }) {
  return score >= unsure ? presence : (odds * presence) / (1 + (odds - 1) * presence);
}

/** 1 for a face of usual proportions, falling to 0 for one that the picture's border cuts off. */
function whole({ x, y, width, height }, image, roll) {
  if (Math.min(x, y, image.width - x - width, image.height - y - height) > 0.02 * Math.max(width, height)) return 1;
  const turn = Math.abs(roll) % 180;
  const aspect = turn > 45 && turn < 135 ? height / width : width / height;
  return Math.min(1, Math.max(0, (1.1 - aspect) / 0.05));
}
