// The tables of a batch: those of `mien predict --out faces.csv` and `faces.jsonl`.

import * as api from "./api.js";
import { csv } from "./dom.js";

/** The file of a table, "csv" or "jsonl", of the rows of a batch; a photo that could not be read has a row with its error. */
export async function table(rows, format) {
  const all = await Promise.all(
    rows.map(async ({ name, number = 0, analysis, error }) => {
      const empty = { source: name, faces: [], frame: null, time: null, error };
      return (await api.rows(error ? empty : { ...analysis, source: name }))[number];
    }),
  );
  if (format === "jsonl") {
    return new Blob(all.map((row) => `${JSON.stringify(row)}\n`), { type: "application/jsonl;charset=utf-8" });
  }
  const columns = await api.columns();
  const words = { true: "True", false: "False" };
  return csv([columns, ...all.map((row) => columns.map((name) => words[row[name]] ?? row[name]))]);
}
