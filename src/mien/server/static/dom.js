// Small pieces that the page is built of. Everything is made by createElement: no markup in strings, so nothing that
// a file's name or an answer holds can become part of the page.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

export function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child != null && child !== false));
  return node;
}

export const h = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => put(document.createElementNS(SVG, tag), attributes, children);
export const icon = (name) => s("svg", { "aria-hidden": "true" }, s("use", { href: `#${name}` }));

/** Say something to people who listen instead of look. */
export function say(text) {
  const status = $("status"); // held, since the page may be left before the next frame
  status.textContent = "";
  requestAnimationFrame(() => (status.textContent = text));
}

// A network with own labels may not know valence, arousal or intensity: null.
export const percent = (share) => (share === null ? "–" : `${Math.round(share * 100)} %`);
export const signed = (value) => (value === null ? "–" : `${Math.round(value * 100) < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`);
const EIGHT = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"];
/** The colour of a label: that of the style sheet for the eight expressions, a hue made of its letters for others. */
export const colour = (name) =>
  EIGHT.includes(name) ? `var(--${name})` : `hsl(${[...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7)} 55% 45%)`;
/** Values from low to high, and back. */
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Give a file to the person as a download. */
export function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A text that a spreadsheet would run as a formula gets an apostrophe in front. */
export const spreadsheetText = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);

/** A table for spreadsheets, RFC 4180. */
export function csv(lines) {
  const cell = (value) => {
    const safe = typeof value === "string" ? spreadsheetText(value) : String(value ?? "");
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return new Blob([lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n"], { type: "text/csv;charset=utf-8" });
}

/** The arrow keys, Home and End go through a row of buttons; only the chosen one is reached with the Tab key. */
export function arrows(group, choose) {
  group.addEventListener("keydown", (event) => {
    const buttons = [...group.querySelectorAll("button")];
    const place = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: place + 1, ArrowDown: place + 1, ArrowLeft: place - 1, ArrowUp: place - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose((to + buttons.length) % buttons.length);
  });
}

/** Follow the pointer over an element, in shares of its width and height. */
export function drag(element, move) {
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

/** Show a problem in a notice, with what can be done about it. */
export function trouble(notice, problem, ...actions) {
  notice.replaceChildren(h("p", null, problem.message), ...actions);
  notice.hidden = false;
}
