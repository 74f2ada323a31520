// The tables of a batch: those of `mien predict --out faces.csv` and `faces.jsonl`.

import * as api from "./api.js";

/** The rows of the batch, each with all columns; a photo that could not be read has a row with its error. */
async function table(rows) {
  const all = await Promise.all(
    rows.map(async ({ name, number = 0, analysis, error }) => {
      const empty = { source: name, faces: [], frame: null, time: null, error };
      return (await api.rows(error ? empty : { ...analysis, source: name }))[number];
    }),
  );
  return all;
}

/** The header and a line for each row. */
export async function lines(rows) {
  const columns = await api.columns();
  const words = { true: "True", false: "False" };
  return [columns, ...(await table(rows)).map((row) => columns.map((name) => words[row[name]] ?? row[name]))];
}

/** A line of JSON for each row. */
export async function jsonLines(rows) {
  const text = (await table(rows)).map((row) => `${JSON.stringify(row)}\n`).join("");
  return new Blob([text], { type: "application/jsonl;charset=utf-8" });
}
