// Many photos, one table, one CSV.

import * as api from "./api.js";
import { $, areEight, colour, download, h, percent, say, signed } from "./dom.js";
import { top } from "./draw.js";

const AT_ONCE = 2; // requests; the server has as many processors for them at the least
const PATIENCE = 5; // times that a busy server is asked again

let entries = []; // one per photo, in the order given: its name, its part of the table, and its rows once it is read
let done = 0;
let total = 0;
let stopping = null;

export function setUp() {
  $("batch-stop").addEventListener("click", () => stopping?.abort());
  $("batch-clear").addEventListener("click", clear);
  $("batch-save").addEventListener("click", () => download(new Blob([csv()], { type: "text/csv;charset=utf-8" }), "mien.csv"));
}

function clear() {
  stopping?.abort();
  entries = [];
  done = total = 0;
  for (const body of [...$("batch-table").tBodies]) body.remove();
  $("batch-work").hidden = true;
  document.querySelector("#batch [data-pick]").focus();
}

export async function open(files, limits) {
  const mine = (stopping = stopping && !stopping.signal.aborted ? stopping : new AbortController());
  total += files.length;
  $("batch-work").hidden = false;
  $("batch-stop").disabled = false;
  progress();
  const queue = files.map((file) => [file, place(file.name)]);
  const worker = async () => {
    for (let next = queue.shift(); next && !mine.signal.aborted; next = queue.shift()) {
      const [file, entry] = next;
      try {
        fill(entry, await patient(file, limits, mine.signal));
      } catch (problem) {
        if (problem.name === "AbortError") break;
        fill(entry, { faces: [], error: problem.message });
      }
      if (mine !== stopping) return;
      done += 1;
      progress();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (mine !== stopping) return;
  for (const entry of entries.filter((one) => !one.rows)) entry.body.remove();
  entries = entries.filter((one) => one.rows);
  total = done;
  progress();
  $("batch-stop").disabled = true;
  stopping = null;
  say(`${done} ${done === 1 ? "photo" : "photos"} read.`);
}

async function patient(file, limits, signal) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await api.analyse(file, limits, signal);
    } catch (problem) {
      if (problem.status !== 429 || attempt === PATIENCE) throw problem;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (problem.retryAfter || 1)));
    }
  }
}

function progress() {
  $("batch-bar").value = total ? done / total : 0;
  $("batch-count").textContent = `${done} of ${total}`;
  $("batch-save").disabled = !done;
}

/** A photo's place in the table, before it is read. */
function place(name) {
  const body = h("tbody", null, h("tr", null, head(name), h("td", { colspan: 6, class: "soft" }, "waiting")));
  const entry = { name, body, rows: null };
  entries.push(entry);
  $("batch-table").append(body);
  return entry;
}

const head = (name) => h("th", { scope: "row", title: name }, name);

function fill(entry, { faces, error }) {
  entry.rows = faces.length ? faces.map((face, number) => ({ face, number })) : [{ error: error ?? "" }];
  entry.body.replaceChildren(...entry.rows.map((row) => line(entry.name, row)));
}

function line(name, { face, number, error }) {
  if (!face) return h("tr", null, head(name), h("td", { colspan: 6, class: error ? "wrong" : "soft" }, error || "no face found"));
  const { reading } = face;
  const label = top(face);
  return h(
    "tr",
    null,
    head(name),
    h("td", null, number),
    h("td", null, h("i", { css: { background: colour(label) }, "aria-hidden": "true" }), label, reading.uncertain ? " ?" : ""),
    h("td", { class: "n" }, percent(reading.probabilities[label])),
    h("td", { class: "n" }, signed(reading.valence)),
    h("td", { class: "n" }, signed(reading.arousal)),
    h("td", { class: "n" }, percent(reading.intensity)),
  );
}

/** RFC 4180. A name that a spreadsheet would run as a formula gets an apostrophe in front. */
function csv() {
  const rows = entries.flatMap(({ name, rows }) => (rows ?? []).map((row) => ({ name, ...row })));
  const labels = Object.keys(rows.find((row) => row.face)?.face.reading.probabilities ?? {});
  const header = ["file", "face", "label", "probability", "valence", "arousal", "intensity", "uncertain", "quality", "x", "y", "width", "height", ...(areEight(labels) ? labels : labels.map((label) => `p_${label}`)), "error"];
  const cell = (value) => {
    const text = String(value ?? "");
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = rows.map(({ name, number, face, error }) => {
    if (!face) return [name, ...Array(header.length - 2).fill(""), error];
    const { reading, detection, quality } = face;
    const { x, y, width, height } = detection.box;
    const shares = labels.map((label) => reading.probabilities[label]);
    const label = top(face);
    return [name, number, label, reading.probabilities[label], reading.valence ?? "", reading.arousal ?? "", reading.intensity, reading.uncertain, quality, x, y, width, height, ...shares, ""];
  });
  return [header, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}
