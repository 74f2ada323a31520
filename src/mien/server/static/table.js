// The table of a batch, for spreadsheets.

import { areEight } from "./dom.js";
import { top } from "./draw.js";

/** The header and a line for each row of the batch: one per face, and one per photo without. */
export function lines(rows) {
  const labels = Object.keys(rows.find((row) => row.face)?.face.reading.probabilities ?? {});
  const header = ["file", "face", "label", "probability", "valence", "arousal", "intensity", "uncertain", "quality", "x", "y", "width", "height", ...(areEight(labels) ? labels : labels.map((label) => `p_${label}`)), "error"];
  return [header, ...rows.map((row) => line(row, labels, header.length))];
}

function line({ name, number, face, error }, labels, columns) {
  if (!face) return [name, ...Array(columns - 2).fill(""), error];
  const { reading, detection, quality } = face;
  const { x, y, width, height } = detection.box;
  const shares = labels.map((label) => reading.probabilities[label]);
  const label = top(face);
  return [name, number, label, reading.probabilities[label], reading.valence ?? "", reading.arousal ?? "", reading.intensity, reading.uncertain, quality, x, y, width, height, ...shares, ""];
}
