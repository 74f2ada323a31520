// The columns of `mien predict`, and the rows of an analysis, as mien.io.columns with its layout "mien".

import { unit } from "./units.js";

const isEight = (labels, settings) => labels.join("\n") === settings.expressions.join("\n");

/** The names of the columns, in order. With own labels `p_<label>` replaces the eight expressions. */
export function columns(settings, labels, landmarks = true) {
  const { expressions } = settings;
  const named = isEight(labels, settings)
    ? settings.columns
    : settings.columns.flatMap((name) => (name === expressions[0] ? labels.map((label) => `p_${label}`) : expressions.includes(name) ? [] : [name]));
  const points = landmarks ? ["x", "y"].flatMap((axis) => Array.from({ length: settings.landmarks.points }, (_, n) => `${axis}_${n}`)) : [];
  return [...named, ...points];
}

/** One object for each face of an analysis, or a single one without a face; null where there is no value. */
export function rows(analysis, settings, labels, landmarks = true) {
  const names = columns(settings, labels, landmarks);
  const { source, frame, time, faces, error } = analysis;
  const picture = { input: source, frame, approx_time: time, faces: faces.length, error };
  const found = faces.length ? faces.map((face, number) => ({ ...picture, ...values(face, number, settings, labels) })) : [picture];
  return found.map((row) => Object.fromEntries(names.map((name) => [name, row[name] ?? null])));
}

function values(face, number, settings, labels) {
  const { detection, landmarks, pose, reading, quality } = face;
  const { probabilities, gaze } = reading;
  const expression = labels.reduce((best, label) => (probabilities[label] > probabilities[best] ? label : best));
  const prefix = isEight(labels, settings) ? "" : "p_";
  return {
    face: number,
    FaceRectX: detection.box.x,
    FaceRectY: detection.box.y,
    FaceRectWidth: detection.box.width,
    FaceRectHeight: detection.box.height,
    FaceScore: detection.score,
    Pitch: pose.pitch,
    Roll: pose.roll,
    Yaw: pose.yaw,
    expression,
    probability: probabilities[expression],
    ...Object.fromEntries(labels.map((label) => [`${prefix}${label}`, probabilities[label]])),
    valence: reading.valence,
    arousal: reading.arousal,
    intensity: reading.intensity,
    uncertain: reading.uncertain,
    doubts: reading.doubts.join("; ") || null,
    quality,
    presence: landmarks.presence,
    gaze_yaw: gaze?.yaw,
    gaze_pitch: gaze?.pitch,
    ...reading.actions,
    ...Object.fromEntries(settings.unit_names.map((name) => [name, unit(reading.actions, name, settings)])),
    ...Object.fromEntries(landmarks.points.flatMap(([x, y], n) => [[`x_${n}`, x], [`y_${n}`, y]])),
  };
}
