// Where the eyes of the face that is edited turn: a field to drag in, and a slider for each direction.

import { $, drag, h, icon, s } from "./dom.js";

const MOST = 15; // degrees to each side, up and down, which is 1 for the server
const REACH = 1.3; // of the field, in that of the sliders: the mark stays within it
const START = "as it is";

let changed = () => {};
const sliders = {}; // by direction: the input and its output
const DIRECTIONS = {
  across: { words: "To the side", aria: "gaze to the side", arrows: ["←", "→"], ways: ["to the photo’s left", "to the photo’s right"] },
  up: { words: "Up or down", aria: "gaze up or down", arrows: ["↓", "↑"], ways: ["down", "up"] },
};

/** The controls, to be put among the sliders of the movements; `tell` hears of each change. */
export function controls(tell) {
  changed = tell;
  const rows = Object.entries(DIRECTIONS).map(([name, { words, aria }]) => {
    const input = h("input", { type: "range", id: `gaze-${name}`, min: -MOST, max: MOST, step: 1, value: 0, "aria-label": aria, oninput: draw });
    const output = h("output", { for: `gaze-${name}` });
    sliders[name] = { input, output };
    return [h("label", { class: "slider", for: `gaze-${name}` }, h("span", null, words), output), h("span", { class: "rail" }, input)];
  });
  const field = h("div", { id: "gaze-field", class: "field-of-gaze", "aria-hidden": "true" });
  drag(field, (x, y) => {
    sliders.across.input.value = (2 * x - 1) * MOST * REACH;
    sliders.up.input.value = (1 - 2 * y) * MOST * REACH;
    draw();
    changed();
  });
  const back = h("button", { type: "button", id: "gaze-back", class: "back-to", "aria-label": "Undo: gaze", title: "as it was" }, icon("i-undo"));
  back.addEventListener("click", () => {
    clear();
    sliders.across.input.focus(); // the button is gone
    changed();
  });
  return h("fieldset", { class: "part", id: "gaze" }, h("legend", null, "Gaze"), h("div", { class: "gaze" }, field, h("div", null, rows), back));
}

const degrees = () => [Number(sliders.across.input.value), Number(sliders.up.input.value)];
export const any = () => degrees().some((value) => value !== 0);

/** Both directions as they are asked for, in degrees: the mark of the field, and the words beside the sliders. */
export function draw() {
  const [across, up] = degrees();
  const [x, y] = [across / MOST, -up / MOST];
  $("gaze-field").replaceChildren(
    s(
      "svg",
      { viewBox: `${-REACH} ${-REACH} ${2 * REACH} ${2 * REACH}` },
      s("path", { class: "cross", d: "M-1 0H1M0-1V1" }),
      s("rect", { class: "inner", x: -1, y: -1, width: 2, height: 2, rx: 0.2 }),
      s("line", { class: "arm", x1: 0, y1: 0, x2: x, y2: y }),
      s("circle", { class: "dot", cx: x, cy: y, r: 0.2 }),
    ),
  );
  for (const [name, value] of [["across", across], ["up", up]]) {
    const { input, output } = sliders[name];
    output.textContent = value ? arrow(name, value) : START;
    input.setAttribute("aria-valuetext", value ? `${Math.abs(value)} degrees ${way(name, value)}` : START);
  }
  $("gaze").classList.toggle("moved", any());
  $("gaze-back").classList.toggle("away", !any());
}

const arrow = (name, value) => `${DIRECTIONS[name].arrows[Number(value > 0)]} ${Math.abs(Math.round(value))}°`;
const way = (name, value) => DIRECTIONS[name].ways[Number(value > 0)];

/** The eyes look where they look in the photo. */
export function clear() {
  for (const { input } of Object.values(sliders)) input.value = 0;
  draw();
}

/** What is asked for, as the form field `gaze`; empty where the eyes stay. */
export const text = () => (any() ? degrees().map((value) => (value / MOST).toFixed(4)).join(",") : "");

/** The directions that are not 0, in whole degrees: [name, degrees]. */
const turned = (across, up) => [["across", across], ["up", up]].filter(([, value]) => Math.round(value) !== 0);

/** Degrees across and up in words: "8° to the photo’s right and 3° up". */
const inWords = (across, up) => turned(across, up).map(([name, value]) => `${Math.abs(Math.round(value))}° ${way(name, value)}`).join(" and ");

/** What is asked for in words. */
export const words = () => `eyes turned ${inWords(...degrees())}`;

/** What was drawn less than asked for, in words; null where all was. `drawn` is in the server's units. */
export function shortfall(drawn) {
  const by = inWords(...drawn.map((value) => value * MOST));
  return by ? `The eyes are turned by only ${by}, so that the irises stay in them.` : "The eyes cannot be turned any further that way.";
}

/** What is read back of the gaze: pieces of a sentence. `before` and `after` are readings. */
export function told(before, after) {
  if (!before.gaze || !after.gaze) return [];
  const value = ({ gaze: { yaw, pitch } }) => h("b", null, turned(yaw, pitch).map((one) => arrow(...one)).join(" ") || "straight ahead");
  return ["Gaze ", value(before), " before, ", value(after), " after. "];
}
