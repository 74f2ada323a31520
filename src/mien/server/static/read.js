// The reading of one photo.

import * as api from "./api.js";
import { $, arrows, colour, h, icon, percent, say, signed, trouble } from "./dom.js";
import { around, bars, bitmapOf, boxes, canvas, cut, dial, fit, movementBars, top, words } from "./draw.js";

const MOVED = 5; // facial movements in the panel, at most

/** The buttons that need a face, or, for the data, a reading; a page without the editor has one fewer. */
const buttons = (...names) => names.map($).filter(Boolean);

let photo = null; // the file, its analysis, the face that is chosen, and small pictures of the faces
let points = false;

/** `toEditor` opens the editor, on a page that has one. */
export function setUp(toEditor = null) {
  $("read-new").addEventListener("click", clear);
  if (toEditor) $("read-edit").addEventListener("click", toEditor);
  $("read-points").addEventListener("click", () => {
    points = !points;
    $("read-points").setAttribute("aria-pressed", points);
    draw();
  });
  $("read-copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(JSON.stringify(photo.analysis, null, 2));
      say("Copied.");
      $("read-copy").lastChild.textContent = "Copied";
    } catch {
      $("read-copy").lastChild.textContent = "Not allowed to copy";
    }
    setTimeout(() => ($("read-copy").lastChild.textContent = "Copy data"), 1800);
  });
  const chips = $("read-faces");
  arrows(chips, (number) => {
    choose(number);
    chips.querySelectorAll("button")[number].focus();
  });
  new ResizeObserver(() => photo && !$("read").hidden && overlay()).observe($("read-stage"));
}

export const current = () => photo;

export function clear() {
  photo = null;
  $("read-result").hidden = true;
  $("read-empty").hidden = false;
  document.querySelector("#read [data-pick]").focus();
}

export async function open(file, limits) {
  $("read-problem").hidden = true;
  $("read-panel").replaceChildren(h("div", { class: "blank" }, h("h1", { id: "read-title" }, "Reading the photo …"), h("p", { class: "soft" }, "It stays in memory and is not stored.")));
  photo = null;
  const stage = $("read-stage");
  for (const button of buttons("read-points", "read-copy", "read-edit")) button.disabled = true;
  $("read-faces").hidden = true;
  say("Reading the photo.");
  await picture(file);
  stage.classList.add("busy");
  let analysis;
  try {
    analysis = await api.analyse(file, limits);
  } catch (problem) {
    clear();
    trouble($("read-problem"), problem);
    say("");
    return;
  } finally {
    stage.classList.remove("busy");
  }
  await present(file, analysis, 0);
  say(summary());
}

/** Show a photo that has been read before, at one of its faces. */
export async function show(file, analysis, number) {
  $("read-problem").hidden = true;
  await picture(file);
  await present(file, analysis, number);
}

async function picture(file) {
  $("read-empty").hidden = true;
  $("read-result").hidden = false;
  const node = await canvas(file, `The photo ${file.name}`);
  fit($("read-stage"), node.width, node.height);
  $("read-stage").replaceChildren(node);
}

async function present(file, analysis, number) {
  photo = { file, analysis, chosen: number };
  const { faces } = analysis;
  fit($("read-stage"), analysis.width, analysis.height);
  for (const button of buttons("read-points", "read-edit")) button.disabled = !faces.length;
  $("read-copy").disabled = false;
  await chips(file, analysis);
  draw();
  $("read-panel").focus({ preventScroll: true });
}

function summary() {
  const { faces } = photo.analysis;
  if (!faces.length) return "No face was found.";
  const first = faces[0];
  const found = faces.length === 1 ? "One face." : `${faces.length} faces.`;
  return `${found} The ${faces.length > 1 ? "largest " : ""}face shows ${top(first)}, ${percent(first.reading.probabilities[top(first)])}.`;
}

function choose(number) {
  photo.chosen = number;
  draw();
  say(`Face ${number} shows ${top(photo.analysis.faces[number])}.`);
}

function draw() {
  const { faces } = photo.analysis;
  overlay();
  for (const [number, button] of $("read-faces").querySelectorAll("button").entries()) {
    button.setAttribute("aria-pressed", String(number === photo.chosen));
    button.tabIndex = number === photo.chosen ? 0 : -1;
    if (number === photo.chosen) button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  $("read-panel").replaceChildren(...(faces.length ? panel(faces[photo.chosen]) : nobody()));
}

function overlay() {
  const stage = $("read-stage");
  stage.querySelector("svg")?.remove();
  stage.append(boxes(photo.analysis, photo.chosen, points, choose, stage.clientWidth));
}

/** The faces of a group as a row of numbered pictures. */
async function chips(file, { faces, width, height }) {
  $("read-faces").hidden = faces.length < 2;
  const bitmap = faces.length > 1 ? await bitmapOf(file) : null;
  const scale = bitmap ? bitmap.width / width : 1;
  $("read-faces").replaceChildren(
    ...faces.map((face, number) => {
      const { x, y, width: wide, height: high } = around(face.detection.box, width, height, 1.3);
      const shot = bitmap ? [cut(bitmap, { x: x * scale, y: y * scale, width: wide * scale, height: high * scale }, 96)] : [];
      return h("button", { type: "button", onclick: () => choose(number), title: top(face) }, ...shot, h("span", { class: "sr" }, "Face "), h("b", null, number));
    }),
  );
  bitmap?.close();
}

const nobody = () => [
  h(
    "div",
    { class: "blank" },
    h("h1", { id: "read-title" }, "No face found"),
    h("p", { class: "soft" }, "Try a photo in which the face is larger, upright, and not covered."),
    h("button", { class: "main", onclick: clear }, icon("i-again"), "Another photo"),
  ),
];

function doubt(reading, quality) {
  if (quality < 0.4) return `, but the face is hardly visible (${reading.doubts[0]}): do not rely on the label`;
  return reading.uncertain ? `, uncertain (${reading.doubts.join(", ")}): take the label with care` : "";
}

function panel(face) {
  const { reading, pose, quality } = face;
  const name = top(face);
  const rated = reading.valence !== null; // or the network was not trained on valence and arousal
  return [
    h(
      "div",
      { class: "headline" },
      h("p", { class: "kicker" }, photo.analysis.faces.length > 1 ? `Face ${photo.chosen} shows` : "This face shows"),
      h("h1", { id: "read-title" }, h("i", { css: { background: colour(name) }, "aria-hidden": "true" }), name),
      h("p", { class: "soft" }, `${percent(reading.probabilities[name])} probable${doubt(reading, quality)}`),
    ),
    bars(reading.probabilities),
    h(
      "div",
      { class: "affect" },
      ...(rated ? [dial(reading.valence, reading.arousal, name)] : []),
      h(
        "dl",
        { class: "facts" },
        ...(rated
          ? [
              fact("Appears", words(reading.valence, reading.arousal)),
              fact("Valence", signed(reading.valence)),
              fact("Arousal", signed(reading.arousal)),
            ]
          : []),
        ...(reading.intensity === null ? [] : [fact("Strength", percent(reading.intensity))]),
        fact("Picture quality", percent(quality)),
        fact("Head turned", `${Math.round(Math.abs(pose.yaw))}°`),
      ),
    ),
    movementBars(face, MOVED),
    h("p", { class: "reminder" }, "This describes what the face shows, not what the person feels."),
  ].filter(Boolean);
}

const fact = (term, value) => [h("dt", null, term), h("dd", null, value)];
