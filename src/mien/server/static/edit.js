// The editor: what the face is to show, how much of it, before and after.

import * as api from "./api.js";
import { $, colour, download, h, percent, say, signed, trouble } from "./dom.js";
import { canvas, dial, fit, ranked, top } from "./draw.js";

const EXPRESSIONS = ["happiness", "surprise", "sadness", "anger", "disgust", "fear"];
const PAUSE = 250; // milliseconds without a change before the server is asked

let file = null;
let edited = null;
let running = null;
let waiting = 0;
let circumplex = {};

export function setUp(service) {
  circumplex = service.circumplex;
  $("edit-expressions").replaceChildren(
    ...EXPRESSIONS.map((name, number) =>
      h(
        "label",
        null,
        h("input", { type: "radio", name: "target", value: name, checked: number === 0 }),
        h("span", null, h("i", { css: { background: colour(name) } }), name),
      ),
    ),
  );
  const form = $("edit-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", show);
  form.addEventListener("change", later);
  $("wipe").addEventListener("input", wipe);
  $("edit-new").addEventListener("click", clear);
  $("edit-save").addEventListener("click", save);
  drag($("edit-stage"), (x) => {
    $("wipe").value = x * 100;
    wipe();
  });
  drag($("edit-disc"), (x, y) => {
    const [valence, arousal] = [x * 2.4 - 1.2, 1.2 - y * 2.4];
    const length = Math.max(1, Math.hypot(valence, arousal));
    $("valence").value = valence / length;
    $("arousal").value = arousal / length;
    show();
    later();
  });
  show();
}

/** Follow the pointer over an element, in shares of its width and height. */
function drag(element, move) {
  const at = (event) => {
    const box = element.getBoundingClientRect();
    move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    at(event);
  });
  element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && at(event));
}

const mode = () => document.querySelector("#edit-form input[name=mode]:checked").value;

function show() {
  const affect = mode() === "affect";
  $("by-affect").hidden = !affect;
  $("by-expression").hidden = affect;
  const [valence, arousal] = [Number($("valence").value), Number($("arousal").value)];
  const nearest = Object.entries(circumplex).sort(
    ([, a], [, b]) => Math.hypot(a[0] - valence, a[1] - arousal) - Math.hypot(b[0] - valence, b[1] - arousal),
  )[0];
  const marks = Object.entries(circumplex).map(([name, [x, y]]) => [name, x, y]);
  $("edit-disc").replaceChildren(dial(valence, arousal, nearest ? nearest[0] : "neutral", marks));
  $("valence-out").textContent = signed(valence);
  $("arousal-out").textContent = signed(arousal);
  $("intensity-out").textContent = percent(Number($("intensity").value));
}

export function clear() {
  running?.abort();
  file = edited = null;
  $("edit-work").hidden = true;
  $("edit-empty").hidden = false;
}

export async function open(given, faces) {
  file = given;
  edited = null;
  $("edit-save").disabled = true;
  $("edit-face").replaceChildren(
    ...Array.from({ length: Math.max(1, faces.length) }, (_, n) => h("option", { value: n }, n ? `${n}` : "0, the largest")),
    ...(faces.length > 1 ? [h("option", { value: "all" }, "all of them")] : []),
  );
  // What the face shows already would change nothing, so the first edit asks for something else.
  const shown = faces.length ? top(faces[0]) : "";
  $("edit-expressions").querySelector(`[value=${EXPRESSIONS.find((name) => name !== shown)}]`).checked = true;
  $("edit-empty").hidden = true;
  $("edit-work").hidden = false;
  $("edit-said").replaceChildren();
  const before = await canvas(file, 800, 600, "The photo before the edit");
  fit($("edit-stage"), before.width, before.height);
  $("edit-stage").replaceChildren(before);
  await ask();
}

function later() {
  clearTimeout(waiting);
  waiting = setTimeout(ask, PAUSE);
}

async function ask(force = false) {
  if (!file) return;
  running?.abort();
  const mine = (running = new AbortController());
  const target = mode() === "affect" ? { valence: $("valence").value, arousal: $("arousal").value } : { target: document.querySelector("[name=target]:checked").value };
  const fields = { ...target, intensity: $("intensity").value, face: $("edit-face").value, mouth: $("mouth").value, consent: $("consent").checked, force };
  $("edit-stage").classList.add("busy");
  $("edit-problem").hidden = true;
  $("edit-save").disabled = true;
  try {
    const answer = await api.edit(file, fields, mine.signal);
    if (mine !== running) return;
    edited = answer;
    await reveal();
  } catch (problem) {
    if (problem.name === "AbortError" || mine !== running) return;
    edited = null;
    $("edit-stage").querySelectorAll("canvas + *").forEach((node) => node.remove());
    const again = problem.code === "edit_refused" && !force;
    trouble($("edit-problem"), problem, again ? h("button", { type: "button", onclick: () => ask(true) }, "Edit anyway") : "");
    $("edit-said").replaceChildren();
  } finally {
    if (mine === running) $("edit-stage").classList.remove("busy");
  }
}

async function reveal() {
  const after = await canvas(edited.file, edited.width, edited.height, `The photo after the edit: ${edited.target}`);
  const [before] = $("edit-stage").children;
  $("edit-stage").replaceChildren(
    before,
    after,
    h("div", { class: "edge" }),
    h("span", { class: "side left", "aria-hidden": "true" }, "before"),
    h("span", { class: "side right", "aria-hidden": "true" }, "after"),
  );
  wipe();
  $("edit-save").disabled = false;
  const face = edited.faces[0];
  const label = (reading) => (([name, share]) => `${name} ${percent(share)}`)(ranked(reading.probabilities)[0]);
  $("edit-said").replaceChildren(
    ...(face.before && face.after ? [h("p", null, "Read as ", h("b", null, label(face.before)), " before, ", h("b", null, label(face.after)), " after.")] : []),
    ...face.flags.map((flag) => h("p", null, `Note: ${flag}.`)),
  );
  say("The edit is ready.");
}

function wipe() {
  const share = Number($("wipe").value);
  const [, after, edge] = $("edit-stage").children;
  $("wipe").setAttribute("aria-valuetext", `${Math.round(share)} percent before, ${Math.round(100 - share)} percent after`);
  if (!after) return;
  after.style.clipPath = `inset(0 0 0 ${share}%)`;
  edge.style.left = `${share}%`;
}

function save() {
  const ending = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp" }[edited.media_type];
  const bare = (file.name || "photo").replace(/\.[^.]*$/, "");
  download(edited.file, `${bare}-edited.${ending}`);
  say("Downloaded.");
}
