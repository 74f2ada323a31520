// Many photos, one table: small pictures, sorting, filters, and files to keep. The page brings `table.js` for the files.

import * as api from "./api.js";
import { $, colour, download, h, percent, put, say, signed, trouble } from "./dom.js";
import { around, bitmapOf, cut, movements, top } from "./draw.js";
import { table } from "./table.js";

const AT_ONCE = 2; // requests; the server has as many processors for them at the least
const PATIENCE = 5; // times that a busy server is asked again
const THUMB = 96; // pixels of a small picture
const FILTERS = { all: "all faces", uncertain: "uncertain", none: "no face, or an error" };
const NOTE = "An expression label describes what a face shows to an observer, not what the person feels.";

/** Buttons that save a table, and its format; a page has those that its `table.js` can write. */
const SAVED = { "batch-save": "csv", "batch-parquet": "parquet", "batch-lines": "jsonl" };

let rows = []; // one per face, and one per photo without: in the order given
let finished = 0; // photos
let total = 0;
let stopping = null;
let toRead = null;
let order = { by: "place", down: false };
let filter = "all";

/** What a row is sorted by; null goes last. */
const KEYS = {
  place: (row) => row.place,
  name: (row) => row.name.toLowerCase(),
  label: (row) => row.face && top(row.face),
  probability: (row) => row.face?.reading.probabilities[top(row.face)],
  valence: (row) => row.face?.reading.valence,
  arousal: (row) => row.face?.reading.arousal,
};

/** `show` opens a photo that has been read at one of its faces. */
export function setUp(show) {
  toRead = show;
  $("batch-stop").addEventListener("click", () => stopping?.abort());
  $("batch-clear").addEventListener("click", clear);
  for (const [id, format] of Object.entries(SAVED)) $(id)?.addEventListener("click", () => save(format));
  $("batch-report").addEventListener("click", () => download(new Blob([report()], { type: "text/html;charset=utf-8" }), "mien-report.html"));
  $("batch-filter").addEventListener("change", () => {
    filter = $("batch-filter").value;
    list();
  });
  for (const button of document.querySelectorAll("#batch-table [data-by]")) {
    button.addEventListener("click", () => {
      const { by } = button.dataset;
      if (order.by !== by) order = { by, down: false };
      else order = order.down ? { by: "place", down: false } : { by, down: true };
      list();
    });
  }
}

function clear() {
  stopping?.abort();
  stopping = null;
  rows = [];
  finished = total = 0;
  order = { by: "place", down: false };
  filter = "all";
  $("batch-work").hidden = $("batch-problem").hidden = true;
  list();
  document.querySelector("#batch [data-pick]").focus();
}

export async function open(files, limits) {
  const mine = (stopping = stopping && !stopping.signal.aborted ? stopping : new AbortController());
  total += files.length;
  $("batch-work").hidden = false;
  $("batch-stop").disabled = false;
  const queue = files.map((file) => [file, wait(file)]);
  progress();
  const worker = async () => {
    for (let next = queue.shift(); next && !mine.signal.aborted; next = queue.shift()) {
      const [file, row] = next;
      try {
        await fill(row, await patient(file, limits, mine.signal));
      } catch (problem) {
        if (problem.name === "AbortError") break;
        await fill(row, { faces: [] }, problem.message);
      }
      if (mine !== stopping) return;
      finished += 1;
      progress();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (mine !== stopping) return;
  rows = rows.filter((row) => row.read);
  total = finished;
  progress();
  $("batch-stop").disabled = true;
  stopping = null;
  say(`${finished} ${finished === 1 ? "photo" : "photos"} read.`);
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
  $("batch-bar").value = total ? finished / total : 0;
  $("batch-count").textContent = `${finished} of ${total} photos`;
  for (const id of [...Object.keys(SAVED), "batch-report"]) {
    const button = $(id);
    if (button) button.disabled = !finished;
  }
  list();
}

/** The rows that have been read, whatever the filter shows. */
const done = () => rows.filter((row) => row.read);

/** A photo's row before it is read. */
function wait(file) {
  const row = { name: file.webkitRelativePath || file.name, file, place: rows.length, read: false };
  row.node = h("tr", { class: "wait" }, h("td"), h("th", { scope: "row", title: row.name }, row.name), h("td", { colspan: 6, class: "soft" }, "waiting"));
  rows.push(row);
  return row;
}

/** Replace it by one for each face. */
async function fill(row, analysis, error = "") {
  const bitmap = await bitmapOf(row.file);
  const scale = bitmap ? bitmap.width / (analysis.width ?? bitmap.width) : 1;
  const base = { ...row, analysis, error, read: true };
  const faces = analysis.faces.map((face, number) => {
    const part = around(face.detection.box, analysis.width, analysis.height, 1.35);
    const thumb = bitmap && cut(bitmap, Object.fromEntries(Object.entries(part).map(([name, value]) => [name, value * scale])), THUMB);
    return { ...base, place: row.place + number / 1000, face, number, thumb };
  });
  const whole = bitmap && cut(bitmap, { x: 0, y: 0, width: bitmap.width, height: bitmap.height }, THUMB);
  const made = faces.length ? faces : [{ ...base, thumb: whole }];
  bitmap?.close();
  for (const one of made) one.node = line(one);
  const at = rows.indexOf(row);
  if (at >= 0) rows.splice(at, 1, ...made);
}

function line(row) {
  const { name, face, number, error, thumb } = row;
  const opens = error ? null : () => toRead(row.file, row.analysis, number ?? 0);
  const words = face ? `Open face ${number} of ${name}` : `Open ${name}`;
  const head = h("th", { scope: "row", title: name }, opens ? h("button", { class: "link plain", "aria-label": words }, name) : name);
  const cells = face ? values(row) : [h("td", { colspan: 6, class: error ? "wrong" : "soft" }, h("span", null, error || "no face found"))];
  return h("tr", { class: opens && "opens", onclick: opens }, h("td", { class: "thumb" }, thumb), head, ...cells);
}

function values({ face, number }) {
  const { reading } = face;
  const label = top(face);
  return [
    h("td", { class: "n" }, number),
    h("td", null, h("i", { css: { background: colour(label) }, "aria-hidden": "true" }), label, reading.uncertain ? h("span", { class: "doubt" }, "uncertain") : ""),
    h("td", { class: "n" }, percent(reading.probabilities[label])),
    h("td", { class: "n" }, signed(reading.valence)),
    h("td", { class: "n" }, signed(reading.arousal)),
    h("td", { class: "soft moved" }, movements(face, 2).map(([words]) => words).join(", ")),
  ];
}

const passes = ({ face, read }, wanted) => {
  if (wanted === "all" || !read) return true;
  if (wanted === "none") return !face;
  return Boolean(face) && (wanted === "uncertain" ? face.reading.uncertain : `label ${top(face)}` === wanted);
};

const sorted = () => {
  const key = KEYS[order.by];
  const sign = order.down ? -1 : 1;
  return rows.filter((row) => passes(row, filter)).sort((a, b) => {
    const [x, y] = [key(a) ?? null, key(b) ?? null];
    if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
    return x < y ? -sign : x > y ? sign : a.place - b.place;
  });
};

/** Show the rows that pass the filter, in their order. */
function list() {
  const labels = [...new Set(rows.filter((row) => row.face).map((row) => top(row.face)))].sort();
  const options = [...Object.entries(FILTERS), ...labels.map((label) => [`label ${label}`, label])];
  if (!options.some(([value]) => value === filter)) filter = "all";
  const count = (value) => rows.filter((row) => row.read && passes(row, value)).length;
  $("batch-filter").replaceChildren(...options.map(([value, words]) => h("option", { value, selected: value === filter }, `${words} (${count(value)})`)));
  $("batch-table").tBodies[0].replaceChildren(...sorted().map((row) => row.node));
  for (const button of document.querySelectorAll("#batch-table [data-by]")) {
    const on = button.dataset.by === order.by;
    button.closest("th").setAttribute("aria-sort", on ? (order.down ? "descending" : "ascending") : "none");
  }
}

/** Download the table of all photos, whatever the filter shows. */
async function save(format) {
  $("batch-problem").hidden = true;
  try {
    download(await table(done(), format), `mien.${format}`);
  } catch (problem) {
    trouble($("batch-problem"), problem);
  }
}

const LOOK = `body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#22262b;background:#fff}
h1{font:500 1.9rem Georgia,serif;margin:0 0 .3rem}p{margin:.3rem 0;color:#5b616a}table{border-collapse:collapse;width:100%;margin-top:1.5rem}
caption{text-align:left;font-weight:600;padding:.4rem 0}td,th{border-bottom:1px solid #e5e0d7;padding:.4rem .7rem;text-align:left}
th{font-weight:500}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}img{height:48px;border-radius:8px;display:block}`;

/** A page that needs nothing else: what was found, counted, and each face with its small picture. */
function report() {
  const page = document.implementation.createHTMLDocument("What the faces show");
  page.documentElement.lang = "en-GB";
  // In that page from the start: here the small pictures would be loaded, which this page's policy forbids.
  const add = (tag, attributes, ...children) => put(page.createElement(tag), attributes, children);
  page.head.append(add("meta", { charset: "utf-8" }));
  const faces = rows.filter((row) => row.face);
  const labels = new Map();
  for (const { face } of faces) labels.set(top(face), (labels.get(top(face)) ?? 0) + 1);
  const photos = new Set(rows.filter((row) => row.read).map((row) => row.file)).size;
  const doubted = faces.filter((row) => row.face.reading.uncertain).length;
  const mean = (name) => signed(faces.length && faces[0].face.reading[name] !== null ? faces.reduce((sum, row) => sum + row.face.reading[name], 0) / faces.length : null);
  const many = (count, one, more) => `${count} ${count === 1 ? one : more}`;
  page.body.append(
    add("h1", null, "What the faces show"),
    add("p", null, `${many(photos, "photo", "photos")}, ${many(faces.length, "face", "faces")}, ${doubted} of them uncertain. Mean valence ${mean("valence")}, mean arousal ${mean("arousal")}. Made on ${new Date().toISOString().slice(0, 10)} with mien.`),
    add("p", null, NOTE),
    add(
      "table",
      null,
      add("caption", null, "Labels"),
      add("tbody", null, [...labels].sort((a, b) => b[1] - a[1]).map(([label, count]) => add("tr", null, add("th", { scope: "row" }, label), add("td", { class: "n" }, count), add("td", { class: "n" }, percent(count / faces.length))))),
    ),
    add(
      "table",
      null,
      add("caption", null, "Faces"),
      add("thead", null, add("tr", null, ["Face", "Photo", "No.", "Label", "Probability", "Valence", "Arousal", "Movements"].map((name) => add("th", { scope: "col" }, name)))),
      h(
        "tbody",
        null,
        rows.filter((row) => row.read).map(({ name, number, face, error, thumb }) => {
          const shot = add("td", null, thumb ? add("img", { src: thumb.toDataURL("image/jpeg", 0.8), alt: "" }) : "");
          if (!face) return add("tr", null, shot, add("th", { scope: "row" }, name), add("td", { colspan: 6 }, error || "no face found"));
          const { reading } = face;
          return h(
            "tr",
            null,
            shot,
            add("th", { scope: "row" }, name),
            add("td", { class: "n" }, number),
            add("td", null, `${top(face)}${reading.uncertain ? " (uncertain)" : ""}`),
            add("td", { class: "n" }, percent(reading.probabilities[top(face)])),
            add("td", { class: "n" }, signed(reading.valence)),
            add("td", { class: "n" }, signed(reading.arousal)),
            add("td", null, movements(face, 3).map(([words]) => words).join(", ")),
          );
        }),
      ),
    ),
  );
  // The style is put in as text: this page's policy forbids styles inside of pages, also of those made here.
  return `<!doctype html>\n${page.documentElement.outerHTML.replace("</head>", `<style>${LOOK}</style></head>`)}`;
}
