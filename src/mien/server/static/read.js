// The reading of one photo.

import * as api from "./api.js";
import { $, colour, h, icon, percent, say, signed, trouble } from "./dom.js";
import { bars, boxes, canvas, dial, fit, top, words } from "./draw.js";

let analysis = null;
let chosen = 0;
let points = false;

export function setUp(toEditor) {
  $("read-new").addEventListener("click", clear);
  $("read-edit").addEventListener("click", toEditor);
  $("read-points").addEventListener("click", () => {
    points = !points;
    $("read-points").setAttribute("aria-pressed", points);
    draw();
  });
  $("read-copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(JSON.stringify(analysis, null, 2));
      say("Copied.");
      $("read-copy").lastChild.textContent = "Copied";
    } catch {
      $("read-copy").lastChild.textContent = "Not allowed to copy";
    }
    setTimeout(() => ($("read-copy").lastChild.textContent = "Copy JSON"), 1800);
  });
}

export function clear() {
  analysis = null;
  $("read-result").hidden = true;
  $("read-empty").hidden = false;
  document.querySelector("#read [data-pick]").focus();
}

export async function open(file, limits) {
  const stage = $("read-stage");
  $("read-problem").hidden = true;
  $("read-empty").hidden = true;
  $("read-result").hidden = false;
  $("read-panel").replaceChildren(h("div", { class: "blank" }, h("h1", { id: "read-title" }, "Reading the photo …"), h("p", { class: "soft" }, "It stays in memory and is not stored.")));
  for (const name of ["read-points", "read-copy", "read-edit"]) $(name).disabled = true;
  say("Reading the photo.");
  const picture = await canvas(file, 800, 600, `The photo ${file.name}`);
  fit(stage, picture.width, picture.height);
  stage.classList.add("busy");
  stage.replaceChildren(picture);
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
  fit(stage, analysis.width, analysis.height);
  chosen = 0;
  for (const name of ["read-points", "read-edit"]) $(name).disabled = !analysis.faces.length;
  $("read-copy").disabled = false;
  draw();
  say(summary());
  $("read-panel").focus({ preventScroll: true });
}

function summary() {
  const { faces } = analysis;
  if (!faces.length) return "No face was found.";
  const first = faces[0];
  const found = faces.length === 1 ? "One face." : `${faces.length} faces.`;
  return `${found} The ${faces.length > 1 ? "largest " : ""}face shows ${top(first)}, ${percent(first.reading.probabilities[top(first)])}.`;
}

function choose(number) {
  chosen = number;
  draw();
}

function draw() {
  const { faces } = analysis;
  $("read-stage").querySelector("svg")?.remove();
  $("read-stage").append(boxes(analysis, chosen, points, choose));
  $("read-panel").replaceChildren(...(faces.length ? panel(faces[chosen]) : nobody()));
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
    analysis.faces.length > 1 ? chips() : null,
    h(
      "div",
      { class: "headline" },
      h("p", { class: "kicker" }, "This face shows"),
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
        ...(reading.intensity === null ? [] : [fact("Intensity", percent(reading.intensity))]),
        fact("Picture quality", percent(quality)),
        fact("Head turned", `${Math.round(Math.abs(pose.yaw))}°`),
      ),
    ),
    h("p", { class: "reminder" }, "This describes what the face shows, not what the person feels."),
  ].filter(Boolean);
}

const fact = (term, value) => [h("dt", null, term), h("dd", null, value)];

function chips() {
  const buttons = analysis.faces.map((face, number) =>
    h(
      "button",
      {
        "aria-pressed": String(number === chosen),
        onclick: () => {
          choose(number);
          $("read-panel").querySelectorAll(".chips button")[number].focus();
          say(`Face ${number} shows ${top(face)}.`);
        },
      },
      `Face ${number}`,
    ),
  );
  return h("div", { class: "chips", role: "group", "aria-label": "Which face" }, buttons);
}
