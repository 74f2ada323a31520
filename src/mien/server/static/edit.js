// The editor: one face at the size of the screen while it changes, the whole photo at full size on download.

import * as api from "./api.js";
import { $, arrows, colour, download, drag, h, percent, say, signed, trouble } from "./dom.js";
import { around, bitmapOf, cut, dial, fit, ranked, top } from "./draw.js";
import * as gaze from "./gaze.js";
import * as moves from "./moves.js";

const TARGETS = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear"];
const LONGEST = 560; // pixels of the part that is drawn while sliders move
const REACH = 2.1; // of that part, in sides of the face's box
const TILE = 200; // pixels of a small preview
const TILE_REACH = 1.5;
const QUALITY = 0.92; // of the JPEG that is sent
const STRENGTH = 0.8;
const HOME = { valence: 0.6, arousal: 0.3 };

let circumplex = {};
let session = null; // what is being edited, see `open`

export function setUp(service) {
  circumplex = service.circumplex;
  $("edit-tiles").replaceChildren(
    ...TARGETS.map((name) =>
      h(
        "label",
        { class: "tile" },
        h("input", { type: "radio", name: "target", value: name }),
        h("span", { class: "shot" }),
        h("span", { class: "name" }, h("i", { css: { background: colour(name) } }), name),
      ),
    ),
  );
  const form = $("edit-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", changed);
  moves.setUp(service.limits, changed);
  $("edit-new").addEventListener("click", clear);
  $("edit-reset").addEventListener("click", () => {
    reset();
    say("The photo as it was.");
  });
  $("edit-save").addEventListener("click", save);
  $("edit-compare").addEventListener("click", () => compare($("edit-compare").getAttribute("aria-pressed") !== "true"));
  $("wipe").addEventListener("input", wipe);
  holds();
  drag($("edit-disc"), (x, y) => {
    const [valence, arousal] = [x * 2.44 - 1.22, 1.22 - y * 2.44];
    const length = Math.max(1, Math.hypot(valence, arousal));
    $("valence").value = valence / length;
    $("arousal").value = arousal / length;
    changed();
  });
  arrows($("edit-faces"), (number) => {
    choose(number);
    $("edit-faces").querySelectorAll("button")[number].focus();
  });
  show();
}

function changed() {
  show();
  ask();
}

/** Before, for as long as the button, the picture or the key B is held. */
function holds() {
  const before = (on) => {
    if (!session) return;
    $("edit-stage").classList.toggle("before", on);
    $("edit-side").textContent = on ? "before" : "after";
  };
  const button = $("edit-hold");
  button.addEventListener("pointerdown", (event) => {
    button.setPointerCapture(event.pointerId);
    before(true);
  });
  for (const kind of ["pointerup", "pointercancel"]) button.addEventListener(kind, () => before(false));
  window.addEventListener("blur", () => before(false)); // the end of the hold will be told to another window
  const isHold = (event) => (event.target === button && (event.key === " " || event.key === "Enter")) || (event.key === "b" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.matches("select, [type=password]"));
  document.addEventListener("keydown", (event) => {
    if (!isHold(event) || $("edit").hidden || $("edit-work").hidden) return;
    if (event.target === button) event.preventDefault();
    before(true);
  });
  document.addEventListener("keyup", () => before(false));
  const stage = $("edit-stage");
  drag(stage, (x) => {
    if (stage.classList.contains("wipe")) {
      $("wipe").value = x * 100;
      wipe();
    } else before(true);
  });
  for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, () => before(false));
  stage.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press is not one
}

const mode = () => document.querySelector("#edit-form input[name=mode]:checked").value;
const target = () => document.querySelector("#edit-form input[name=target]:checked")?.value;
const asks = () => ({ expression: target() !== undefined, affect: true, moves: moves.any() })[mode()];

function show() {
  for (const name of ["expression", "affect", "moves"]) $(`by-${name}`).hidden = mode() !== name;
  $("edit-strength").hidden = mode() === "moves"; // each movement has its own
  const [valence, arousal] = [Number($("valence").value), Number($("arousal").value)];
  const marks = Object.entries(circumplex).map(([name, [x, y]]) => [name, x, y]);
  const [nearest] = marks.toSorted((a, b) => Math.hypot(a[1] - valence, a[2] - arousal) - Math.hypot(b[1] - valence, b[2] - arousal));
  $("edit-disc").replaceChildren(dial(valence, arousal, nearest?.[0] ?? "neutral", marks));
  $("valence-out").textContent = signed(valence);
  $("arousal-out").textContent = signed(arousal);
  const strength = percent(Number($("intensity").value));
  $("intensity-out").textContent = strength;
  const told = { expression: () => `${target()}, strength ${strength}`, affect: () => `valence ${signed(valence)}, arousal ${signed(arousal)}, strength ${strength}`, moves: moves.words };
  $("record-target").textContent = asks() ? told[mode()]() : "nothing yet";
  $("record-consent").textContent = $("consent").checked ? "stated by you" : "not stated";
}

export function clear() {
  session?.stop.abort();
  session = null;
  $("edit-work").hidden = true;
  $("edit-empty").hidden = false;
}

/** Open a photo at one of its faces. `analysis` is what was read of it. */
export async function open(file, analysis, chosen) {
  session?.stop.abort();
  const mine = (session = { file, analysis, stop: new AbortController(), tiles: new Map() });
  $("edit-empty").hidden = true;
  $("edit-work").hidden = false;
  $("edit-problem").hidden = true;
  blank();
  const bitmap = (await bitmapOf(file)) ?? (await api.pixels(file, mine.stop.signal));
  if (mine !== session) return;
  mine.bitmap = bitmap;
  mine.scale = bitmap.width / analysis.width;
  const { faces } = analysis;
  $("edit-faces").hidden = faces.length < 2;
  $("edit-all").closest("label").hidden = faces.length < 2;
  $("edit-faces").replaceChildren(
    ...faces.map(({ detection }, number) =>
      h("button", { type: "button", "aria-label": `Face ${number}`, onclick: () => choose(number) }, cut(bitmap, part(detection.box, 1.3), 96), h("b", null, number)),
    ),
  );
  await choose(chosen);
}

const part = (box, reach) => {
  const { bitmap, scale } = session;
  const scaled = Object.fromEntries(Object.entries(box).map(([name, value]) => [name, value * scale]));
  return around(scaled, bitmap.width, bitmap.height, reach);
};
const jpeg = (node) => new Promise((resolve) => node.toBlob(resolve, "image/jpeg", QUALITY));

/** Take the picture and the previews of the face before away. */
function blank() {
  $("edit-stage").replaceChildren();
  for (const shot of $("edit-tiles").querySelectorAll(".shot")) shot.replaceChildren();
}

/** Show a face and make the part that is sent of it while sliders move. */
async function choose(number) {
  const mine = session;
  mine.face = number;
  mine.force = false;
  mine.sent = null;
  blank();
  for (const [n, button] of $("edit-faces").querySelectorAll("button").entries()) {
    button.setAttribute("aria-pressed", String(n === number));
    button.tabIndex = n === number ? 0 : -1;
  }
  const { bitmap, analysis } = mine;
  const face = analysis.faces[number];
  const place = face ? part(face.detection.box, REACH) : { x: 0, y: 0, width: bitmap.width, height: bitmap.height };
  const before = cut(bitmap, place, LONGEST, "The photo before the edit");
  const after = h("canvas", { width: before.width, height: before.height, class: "after", role: "img", "aria-label": "The photo after the edit" });
  fit($("edit-stage"), before.width, before.height);
  $("edit-stage").replaceChildren(before, after, h("div", { class: "edge" }), h("span", { id: "edit-side", class: "side", "aria-hidden": "true" }, "after"));
  compare(false);
  moves.start(face?.reading.actions ?? {});
  reset();
  const blob = await jpeg(before);
  const within = analysis.faces.length > 1 ? await find(blob, face.detection.box, place, before.width) : 0;
  if (mine !== session || mine.face !== number) return;
  mine.sent = { blob, face: within };
  const shows = face ? top(face) : "";
  document.querySelector(`#edit-tiles [value=${TARGETS.slice(1).find((name) => name !== shows)}]`).checked = true;
  show();
  await ask();
  tiles(mine, number);
}

/** The number that a face has in the part that is sent: it may show other, larger ones too. */
async function find(blob, box, place, width) {
  const { faces } = await api.analyse(blob, { bytes: Infinity }, session.stop.signal);
  const zoom = width / place.width;
  const [x, y] = [(box.x + box.width / 2) * session.scale, (box.y + box.height / 2) * session.scale].map((value, axis) => (value - [place.x, place.y][axis]) * zoom);
  const distance = ({ detection: { box: one } }) => Math.hypot(one.x + one.width / 2 - x, one.y + one.height / 2 - y);
  return faces.length ? faces.indexOf(faces.toSorted((a, b) => distance(a) - distance(b))[0]) : 0;
}

/** Back to the photo as it was. Movements stay what is chosen by, as they are all at rest then. */
function reset() {
  moves.clear();
  for (const input of document.querySelectorAll("#edit-form [name=target]")) input.checked = false;
  if (mode() === "affect") document.querySelector("#edit-form [name=mode][value=expression]").checked = true;
  $("intensity").value = STRENGTH;
  $("mouth").value = "auto";
  Object.entries(HOME).forEach(([name, value]) => ($(name).value = value));
  session.wanted = null;
  show();
  unedited();
}

/** Show the photo as it was, with nothing to download and nothing said. */
function unedited() {
  $("edit-problem").hidden = true;
  $("edit-save").disabled = true;
  for (const name of ["edit-said", "edit-back"]) $(name).replaceChildren();
  paint(null);
}

const fields = () => ({
  ...{
    expression: () => ({ target: target(), intensity: $("intensity").value }),
    affect: () => ({ valence: $("valence").value, arousal: $("arousal").value, intensity: $("intensity").value }),
    moves: () => ({ ...moves.fields(), intensity: 1 }),
  }[mode()](),
  mouth: $("mouth").value,
  consent: $("consent").checked,
  force: session.force,
});

/** Draw what is asked for now. One request at a time: the latest choice waits for the answer to the one before. */
async function ask() {
  const mine = session;
  if (!mine?.sent) return;
  if (!asks()) {
    mine.wanted = null;
    return unedited();
  }
  mine.wanted = fields();
  if (mine.running) return;
  mine.running = true;
  $("edit-stage").classList.add("busy");
  try {
    while (mine.wanted && mine === session) {
      const asked = mine.wanted;
      const { sent } = mine;
      mine.wanted = null;
      await draw(mine, sent, asked);
    }
  } finally {
    mine.running = false;
    if (mine === session) $("edit-stage").classList.remove("busy");
  }
}

async function draw(mine, sent, asked) {
  const current = () => mine === session && sent === mine.sent && asks();
  try {
    const edited = await api.edit(sent.blob, { ...asked, face: sent.face }, mine.stop.signal);
    const picture = await createImageBitmap(edited.file);
    if (!current()) return;
    $("edit-problem").hidden = true;
    paint(picture);
    $("edit-save").disabled = false;
    tell(edited.faces[0], asked);
  } catch (problem) {
    if (problem.name === "AbortError" || !current()) return;
    unedited();
    trouble($("edit-problem"), problem, problem.code === "edit_refused" && !asked.force ? h("button", { type: "button", onclick: anyway }, "Edit anyway") : "");
  }
}

function anyway() {
  session.force = true;
  ask();
}

/** Show the edited part, or the one before the edit. */
function paint(picture) {
  const [before, after] = $("edit-stage").children;
  if (!after) return;
  after.getContext("2d").drawImage(picture ?? before, 0, 0, after.width, after.height);
  picture?.close();
}

function tell({ before, after, flags, gaze: turned }, asked) {
  const label = (reading) => (([name, share]) => `${name} ${percent(share)}`)(ranked(reading.probabilities)[0]);
  const reads = () => h("span", null, "Reads as ", h("b", null, label(before)), " before, ", h("b", null, label(after)), " after.");
  const told = () => (asked.actions || asked.gaze) && h("span", { class: "told" }, moves.told(before, after));
  $("edit-back").replaceChildren(...(before && after ? [told(), reads()].filter(Boolean) : []));
  $("edit-said").replaceChildren(...flags.map((flag) => inWords(flag, turned)).filter(Boolean).map((note) => h("p", null, note)));
}

/** A note of the editor in words for people; what only concerns how it draws is left out. */
function inWords(flag, turned) {
  if (flag.startsWith("forced although ")) return `Edited although ${flag.replace("forced although ", "")}.`;
  if (flag.startsWith("weakened to ")) return `Drawn ${flag}.`;
  if (flag.startsWith("the eyes turned by ")) return gaze.shortfall(turned);
  return flag.startsWith("mouth interior ") ? "The photo does not show the inside of this mouth, so it is made up." : null;
}

/** Small previews of this face, one request at a time, kept for as long as the photo is open. */
async function tiles(mine, number) {
  const shots = [...$("edit-tiles").querySelectorAll(".shot")];
  const face = mine.analysis.faces[number];
  if (!face) return;
  const unedited = cut(mine.bitmap, part(face.detection.box, TILE_REACH), TILE);
  const kept = mine.tiles.get(number) ?? new Map();
  mine.tiles.set(number, kept);
  const blob = await jpeg(unedited);
  for (const [n, name] of TARGETS.entries()) {
    if (mine !== session || mine.face !== number) return;
    if (!kept.has(name)) {
      try {
        const { file } = await api.edit(blob, { target: name, intensity: 1, force: true }, mine.stop.signal);
        const picture = await createImageBitmap(file);
        kept.set(name, cut(picture, { x: 0, y: 0, width: picture.width, height: picture.height }, TILE));
        picture.close();
      } catch (problem) {
        if (problem.name === "AbortError") return;
        if (problem.status !== 429) kept.set(name, unedited); // a face too small to be drawn: as it is
      }
    }
    if (mine === session && mine.face === number && kept.has(name)) shots[n].replaceChildren(copy(kept.get(name)));
  }
}

const copy = (node) => cut(node, { x: 0, y: 0, width: node.width, height: node.height }, TILE);

function compare(on) {
  $("edit-compare").setAttribute("aria-pressed", String(on));
  $("edit-stage").classList.toggle("wipe", on);
  $("wiper").hidden = !on;
  $("edit-side").hidden = on;
  wipe();
}

function wipe() {
  const share = Number($("wipe").value);
  const [, after, edge] = $("edit-stage").children;
  $("wipe").setAttribute("aria-valuetext", `${Math.round(share)} percent before, ${Math.round(100 - share)} percent after`);
  if (!after) return;
  after.style.clipPath = $("edit-stage").classList.contains("wipe") ? `inset(0 0 0 ${share}%)` : "";
  edge.style.left = `${share}%`;
}

/** Edit the photo itself at full size, and give it as a file. */
async function save() {
  const { file, face, stop } = session;
  const button = $("edit-save");
  const words = button.lastChild;
  button.disabled = true;
  words.textContent = "Drawing at full size …";
  try {
    const edited = await api.edit(file, { ...fields(), face: $("edit-all").checked ? "all" : face }, stop.signal);
    const ending = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp" }[edited.media_type];
    download(edited.file, `${(file.name || "photo").replace(/\.[^.]*$/, "")}-edited.${ending}`);
    say("Downloaded. The file records that it was edited.");
  } catch (problem) {
    if (problem.name !== "AbortError") trouble($("edit-problem"), problem);
  } finally {
    words.textContent = "Download";
    button.disabled = false;
  }
}
