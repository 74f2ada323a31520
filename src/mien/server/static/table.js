// The tables of a batch, which the server writes as for `mien predict`.

import * as api from "./api.js";
import { spreadsheetText } from "./dom.js";

/** The file of a table, "csv" or "parquet", of the rows of a batch. */
export function table(rows, format) {
  const photos = new Map(rows.map(({ file, name, analysis, error }) => [file, { name, analysis, error }]));
  const analyses = [...photos.values()].map(({ name, analysis, error }) => {
    const source = format === "csv" ? spreadsheetText(name) : name;
    if (error) return { source, width: 0, height: 0, error };
    const faces = analysis.faces.map((face) => ({ ...face, landmarks: { ...face.landmarks, points: [] } }));
    return { ...analysis, source, faces };
  });
  return api.table(analyses, format);
}
