// Align faces by three points, as mien.faces.align: the eyes' centres and the base of the nose come to fixed places.

import { inverse, luma, resize, rounded, warp } from "./pixels.js";

const mean = (points, places) => [0, 1].map((axis) => places.reduce((sum, place) => sum + points[place][axis], 0) / places.length);

/**
 * The matrix from a picture's pixels to the unit square in which the face stands upright; null for points that are no
 * face: they coincide, are not finite, or are mirrored.
 */
export function faceMatrix(points, { align, landmarks }) {
  const anchors = [mean(points, landmarks.right_eye_corners), mean(points, landmarks.left_eye_corners), points[landmarks.nose_bottom]];
  const middle = (rows) => [0, 1].map((axis) => (rows[0][axis] + rows[1][axis] + rows[2][axis]) / 3);
  const [centre, goal] = [middle(anchors), middle(align.template)];
  let [spread, wanted, real, imaginary] = [0, 0, 0, 0];
  for (const [n, anchor] of anchors.entries()) {
    const [x, y] = [anchor[0] - centre[0], anchor[1] - centre[1]];
    const [u, v] = [align.template[n][0] - goal[0], align.template[n][1] - goal[1]];
    spread += x * x + y * y;
    wanted += u * u + v * v;
    real += x * u + y * v;
    imaginary += x * v - y * u;
  }
  if (!(spread > 1e-6)) return null;
  const [a, b] = [real / spread, imaginary / spread];
  if (!(((a * a + b * b) * spread) / wanted > 0.2)) return null;
  return [
    [a, -b, goal[0] - a * centre[0] + b * centre[1]],
    [b, a, goal[1] - b * centre[0] - a * centre[1]],
  ];
}

/** The nearest multiple of the step. */
const toStep = (value, step) => rounded(value / step) * step;

/** The step to which places and sides of a crop are rounded; `pixel` is the width of one of its pixels in the picture. */
const grid = (pixel) => 2 ** Math.floor(Math.log2(pixel / 8));

/** The centre, side and angle in degrees of a square that is cut to `size` pixels, rounded as mien.faces.align.settled. */
export function settledView({ centre, side, angle }, size, { angle_step: turn }) {
  const step = grid(side / size);
  return { centre: centre.map((place) => toStep(place, step)), side: Math.max(toStep(side, step), step), angle: toStep(angle, turn) };
}

/** The matrix of a square with its place rounded, so that its pixels are the same on every processor. */
export function settled(matrix, size, { align }) {
  const [[a, b, c], [d, e, f]] = inverse(matrix);
  const centre = [(a + b) / 2 + c, (d + e) / 2 + f];
  const angle = (Math.atan2(matrix[1][0], matrix[0][0]) * 180) / Math.PI;
  const view = settledView({ centre, side: 1 / scaleOf(matrix), angle }, size, align);
  const [x, y] = view.centre;
  const radians = (view.angle * Math.PI) / 180;
  const [cosine, sine] = [Math.cos(radians) / view.side, Math.sin(radians) / view.side];
  return [
    [cosine, -sine, 0.5 - cosine * x + sine * y],
    [sine, cosine, 0.5 - sine * x - cosine * y],
  ];
}

/** Unit lengths per pixel of the picture. */
export const scaleOf = (matrix) => Math.hypot(matrix[0][0], matrix[1][0]);

/** Points of the picture in the unit square. */
export const mapped = ([[a, b, c], [d, e, f]], points) => points.map(([x, y]) => [a * x + b * y + c, d * x + e * y + f]);

/** The aligned face as luma, a square of `size` pixels; faces larger than it are averaged over several samples. */
export function crop(image, matrix, size, { align }) {
  const magnification = scaleOf(matrix) * size;
  const samples = magnification < 0.5 ? Math.min(align.sharpest, Math.max(1, Math.ceil(0.5 / magnification))) : 1;
  const side = size * samples;
  const pixels = matrix.map(([a, b, c]) => [a * side, b * side, c * side - 0.5]);
  return luma(resize(warp(image, pixels, side), size, size));
}
