// Small pieces that the page is built of. Everything is made by createElement: no markup in strings, so nothing that
// a file's name or an answer holds can become part of the page.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

export const h = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => put(document.createElementNS(SVG, tag), attributes, children);
export const icon = (name) => s("svg", { "aria-hidden": "true" }, s("use", { href: `#${name}` }));

/** Say something to people who listen instead of look. */
export function say(text) {
  $("status").textContent = "";
  requestAnimationFrame(() => ($("status").textContent = text));
}

// A network with own labels may not know valence, arousal or intensity: null.
export const percent = (share) => (share === null ? "–" : `${Math.round(share * 100)} %`);
export const signed = (value) => (value === null ? "–" : `${Math.round(value * 100) < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`);
const EIGHT = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"];
/** The colour of a label: that of the style sheet for the eight expressions, a hue made of its letters for others. */
export const colour = (name) =>
  EIGHT.includes(name) ? `var(--${name})` : `hsl(${[...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7)} 55% 45%)`;
export const areEight = (names) => names.length === EIGHT.length && names.every((name) => EIGHT.includes(name));

/** Give a file to the person as a download. */
export function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Show a problem in a notice, with what can be done about it. */
export function trouble(notice, problem, ...actions) {
  notice.replaceChildren(h("p", null, problem.message), ...actions);
  notice.hidden = false;
}
