// The movements of the face that is edited: a slider for each, and another photo that sets them all.

import { MOVEMENTS } from "./actions.js";
import * as api from "./api.js";
import { $, clamp, h, icon, percent, say, trouble } from "./dom.js";
import { around, bitmapOf, cut } from "./draw.js";
import * as gaze from "./gaze.js";

const FIRST = ["browInnerUp", "browDown", "browOuterUp", "eyeBlink", "eyeWide", "eyeSquint", "cheekSquint", "noseSneer", "jawOpen", "mouthSmile", "mouthFrown", "mouthPucker", "mouthPress"];
const APART = 0.1; // sides of another face that differ by this much get a slider each
const TOLD = 2; // movements that are read back under the picture
const NAMED = 3; // and in the record
const SIDES = ["left", "right"];
const INVITATION = "Like another photo: choose one, or drop it here.";

let limits = {};
let changed = () => {};
let measured = {}; // what the face shows now, by action
let rows = [];
const wanted = new Map(); // by action: only those that were moved
let other = null; // the photo to move like: { values }, once it is read

export function setUp(ofService, tell) {
  limits = ofService;
  changed = tell;
  rows = MOVEMENTS.filter(({ name }) => name !== "tongueOut").map(row);
  fill($("moves-first"), rows.filter(({ name }) => FIRST.includes(name)));
  fill($("moves-rest"), rows.filter(({ name }) => !FIRST.includes(name)));
  $("moves-first").querySelector("[data-group=Eyes]").after(gaze.controls(tell));
  $("like-remove").addEventListener("click", () => {
    unlike();
    $("like-pick").focus();
    say("Removed.");
  });
  unlike();
}

function fill(place, some) {
  const groups = Object.entries(Object.groupBy(some, ({ group }) => group));
  place.replaceChildren(...groups.map(([group, those]) => h("fieldset", { class: "part", "data-group": group }, h("legend", null, group), those.map(({ node }) => node))));
}

/** A movement: its words, a slider or two, a way to move the sides apart, and a way back. */
function row({ name, words, group, actions }) {
  const tracks = h("div", { class: "tracks" });
  const sides = h("button", { type: "button", class: "sides", "aria-pressed": "false", "aria-label": `L/R: ${words}, left and right apart`, title: "left and right apart" }, "L/R");
  const back = h("button", { type: "button", class: "back-to", "aria-label": `Undo: ${words}`, title: "as it was" }, icon("i-undo"));
  const node = h("div", { class: "move" }, h("span", { class: "words" }, words), tracks, actions.length > 1 ? sides : h("span"), back);
  const mine = { name, words, group, actions, node, tracks, sides, back, split: false };
  sides.addEventListener("click", () => {
    split(mine, !mine.split);
    if (!mine.split && isMoved(mine)) changed(); // both sides moved to their mean
  });
  back.addEventListener("click", () => {
    for (const action of actions) wanted.delete(action);
    draw(mine);
    tracks.querySelector("input").focus(); // the button is gone
    changed();
  });
  return mine;
}

const round = (value) => Math.round(clamp(value, 0, 1) * 100) / 100;
const now = (action) => round(measured[action] ?? 0);
const at = (action) => wanted.get(action) ?? now(action);
const mean = (actions, value) => actions.reduce((sum, action) => sum + value(action), 0) / actions.length;

/** Ask for a value of an action; what the face shows already is not asked for. */
function want(action, value) {
  if (round(value) === now(action)) wanted.delete(action);
  else wanted.set(action, round(value));
}

/** Both sides on a slider of their own, or together at their mean. */
function split(mine, on) {
  mine.split = on;
  if (!on && mine.actions.some((action) => wanted.has(action))) {
    const both = mean(mine.actions, at);
    for (const action of mine.actions) want(action, both);
  }
  draw(mine);
}

/** The sliders of a movement: [words, actions] of each. */
const parts = ({ words, actions, split: apart }) => (apart ? actions.map((action, side) => [`${words}, ${SIDES[side]}`, [action]]) : [[words, actions]]);

function draw(mine) {
  mine.sides.setAttribute("aria-pressed", String(mine.split));
  mine.tracks.replaceChildren(...parts(mine).map(([words, actions], side) => track(mine, words, actions, mine.split ? SIDES[side] : null)));
  mark(mine);
}

function track(mine, words, actions, side) {
  const start = round(mean(actions, now));
  const known = actions.every((action) => measured[action] != null);
  const input = h("input", { type: "range", min: 0, max: 1, step: 0.01, value: round(mean(actions, at)), "aria-label": words });
  const output = h("output");
  const tell = () => {
    output.textContent = percent(Number(input.value));
    input.setAttribute("aria-valuetext", `${percent(Number(input.value))}, ${known ? `now ${percent(start)}` : "not measured"}`);
  };
  input.addEventListener("input", () => {
    const value = Number(input.value);
    for (const action of actions) {
      if (value === start) wanted.delete(action);
      else wanted.set(action, value);
    }
    tell();
    mark(mine);
  });
  tell();
  return h("div", { class: "track" }, side ? h("span", { class: "side-name", "aria-hidden": "true" }, side) : null, h("span", { class: "rail" }, input, known ? h("i", { class: "now", css: { "--at": start } }) : null), output);
}

/** Show which movements are moved. */
function mark(mine) {
  const moved = isMoved(mine);
  mine.node.classList.toggle("moved", moved);
  mine.back.classList.toggle("away", !moved);
  const more = rows.filter((one) => !FIRST.includes(one.name) && isMoved(one)).length;
  $("moves-count").textContent = more ? ` (${more} moved)` : "";
}

const isMoved = ({ actions }) => actions.some((action) => wanted.has(action));

/** Begin with a face: `actions` are the measured values of what it shows. */
export function start(actions) {
  measured = actions;
  clear();
}

/** All movements as the face shows them. */
export function clear() {
  wanted.clear();
  for (const mine of rows) {
    mine.split = false;
    draw(mine);
  }
  gaze.clear();
  unlike();
}

export const any = () => wanted.size > 0 || gaze.any();

/** What is asked for, as fields of the form. */
export const fields = () => Object.fromEntries(Object.entries({ actions: text(), gaze: gaze.text() }).filter(([, value]) => value));

/** The movements that are asked for; both sides alike by the movement's name. */
const text = () =>
  rows
    .filter(isMoved)
    .flatMap(({ name, actions }) => {
      const values = actions.map((action) => wanted.get(action));
      return values.every((value) => value === values[0]) ? [[name, values[0]]] : actions.map((action, side) => [action, values[side]]);
    })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${value}`)
    .join(",");

/** What is asked for, [words, actions], the largest change first. */
const asked = () => {
  const change = ([, actions]) => Math.abs(mean(actions, at) - mean(actions, now));
  return rows
    .flatMap(parts)
    .filter(([, actions]) => actions.some((action) => wanted.has(action)))
    .sort((a, b) => change(b) - change(a));
};

/** What is asked for in words. */
export function words() {
  const all = [...(gaze.any() ? [gaze.words()] : []), ...asked().map(([name, actions]) => `${name} ${percent(mean(actions, at))}`)];
  const more = all.length > NAMED ? `, and ${all.length - NAMED} more` : "";
  return all.slice(0, NAMED).join("; ") + more;
}

/** What is read back of the gaze and of the largest movements: pieces of a sentence. `before` and `after` are readings. */
export function told(before, after) {
  const [all, looks] = [asked(), gaze.any() ? gaze.told(before, after) : []];
  const known = ([, actions]) => actions.every((action) => before.actions[action] != null && after.actions[action] != null);
  const most = looks.length ? TOLD - 1 : TOLD;
  const pieces = all.filter(known).slice(0, most).flatMap(([name, actions], place) => {
    const value = (reading) => percent(mean(actions, (action) => reading.actions[action]));
    return [place ? `; ${name} ` : `${capital(name)} `, h("b", null, value(before)), " before, ", h("b", null, value(after)), " after"];
  });
  if (pieces.length) return [...looks, ...pieces, ". "];
  return all.length ? [...looks, `${capital(all[0][0])} cannot be read back. `] : looks;
}

const capital = (sentence) => sentence.charAt(0).toUpperCase() + sentence.slice(1);

/** Move like the largest face of another photo. */
export async function like(file) {
  unlike();
  const mine = (other = { values: new Map() });
  if (!file) return refuse("That is not a picture. Choose a JPEG, PNG, WebP or HEIC file.");
  $("like-said").textContent = "Reading the photo …";
  $("like").classList.add("busy");
  try {
    const { faces, width } = await api.analyse(file, limits);
    if (mine !== other) return;
    const [face] = faces;
    if (!face) return refuse("There is no face in that photo. Choose one in which the face is larger, upright, and not covered.");
    const values = Object.entries(face.reading.actions ?? {}).filter(([, value]) => value !== null);
    if (!values.length) return refuse("The movements of that face were not measured by this server.");
    const bitmap = (await bitmapOf(file)) ?? (await api.pixels(file));
    if (mine !== other) return;
    present(face, bitmap, width);
    take(mine, Object.fromEntries(values));
    say(`Moved like the face in ${file.name}.`);
  } catch (problem) {
    if (mine === other) refuse(problem.message);
  } finally {
    if (mine === other || !other) $("like").classList.remove("busy");
  }
}

function refuse(message) {
  other = null;
  invite();
  trouble($("like-problem"), new Error(message));
}

function present(face, bitmap, width) {
  const zoom = bitmap.width / width;
  const box = Object.fromEntries(Object.entries(face.detection.box).map(([name, value]) => [name, value * zoom]));
  $("like-face").replaceChildren(cut(bitmap, around(box, bitmap.width, bitmap.height, 1.4), 144, "The face to move like"));
  bitmap.close();
  $("like-said").textContent = "Moves like this face.";
  $("like-pick").lastChild.textContent = "Another";
  $("like-remove").hidden = false;
}

/** Take over the values that were measured on the other face; sides that differ little move together. */
function take(mine, values) {
  for (const one of rows.filter(({ actions }) => actions.every((action) => action in values))) {
    const shown = one.actions.map((action) => values[action]);
    const apart = Math.max(...shown) - Math.min(...shown) >= APART;
    one.actions.forEach((action, side) => want(action, apart ? shown[side] : mean(one.actions, (each) => values[each])));
    one.split = apart;
    draw(one);
    for (const action of one.actions.filter((each) => wanted.has(each))) mine.values.set(action, wanted.get(action));
  }
  changed();
}

function invite() {
  $("like").classList.remove("busy");
  $("like-face").replaceChildren();
  $("like-said").textContent = INVITATION;
  $("like-pick").lastChild.textContent = "Choose a photo";
  $("like-remove").hidden = true;
}

/** Without the other photo, and without the movements that it set and nobody has moved since. */
function unlike() {
  const values = other?.values ?? new Map();
  other = null;
  $("like-problem").hidden = true;
  invite();
  if (!values.size) return;
  for (const [action, value] of values) if (wanted.get(action) === value) wanted.delete(action);
  for (const mine of rows) {
    if (!isMoved(mine)) mine.split = false;
    draw(mine);
  }
  changed();
}
