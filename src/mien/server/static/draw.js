// Pictures of numbers: bars, the valence and arousal dial, boxes over a photo. All inline SVG, all with words beside.

import { MOVEMENTS } from "./actions.js";
import { clamp, colour, h, percent, s, signed } from "./dom.js";

const LONGEST = 1600; // pixels kept of a photo for showing it

/** A photo's pixels, upright; null for formats that the browser cannot show (HEIC, TIFF). */
export const bitmapOf = (blob) => createImageBitmap(blob).catch(() => null);

/** A canvas with a part of a picture, no larger than `longest` pixels. `part`: x, y, width, height in the picture. */
export function cut(bitmap, part, longest, words) {
  const scale = Math.min(1, longest / Math.max(part.width, part.height));
  const node = h("canvas", {
    width: Math.max(1, Math.round(part.width * scale)),
    height: Math.max(1, Math.round(part.height * scale)),
    ...(words ? { role: "img", "aria-label": words } : { "aria-hidden": "true" }),
  });
  const pen = node.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, part.x, part.y, part.width, part.height, 0, 0, node.width, node.height);
  return node;
}

/** A photo on a canvas; an empty one of its size where the browser cannot show it. */
export async function canvas(blob, words) {
  const bitmap = await bitmapOf(blob);
  if (!bitmap) return h("canvas", { width: 800, height: 600, role: "img", "aria-label": words });
  const node = cut(bitmap, { x: 0, y: 0, width: bitmap.width, height: bitmap.height }, LONGEST, words);
  bitmap.close();
  return node;
}

/** The square around a face, `reach` times its box, as far as it lies in the picture. */
export function around(box, width, height, reach) {
  const side = Math.min(reach * Math.max(box.width, box.height), width, height);
  const x = clamp(box.x + box.width / 2 - side / 2, 0, width - side);
  const y = clamp(box.y + box.height / 2 - side / 2, 0, height - side);
  return { x, y, width: side, height: side };
}

/** Give a stage the shape of its photo, no higher than the window allows. */
export function fit(stage, width, height) {
  stage.style.setProperty("--shape", (width / height).toFixed(4));
}

/**
 * Numbered boxes over a photo, for the eye and the mouse; the buttons beside offer the same to everybody. All are white
 * and the chosen one is green: a label's colour would make a neutral face look switched off.
 */
export function boxes(analysis, chosen, points, choose, shown) {
  const pixel = analysis.width / Math.max(1, shown);
  const face = analysis.faces[chosen];
  const shapes = analysis.faces.map(({ detection }, number) => {
    const { x, y, width, height } = detection.box;
    const place = { x, y, width, height, rx: Math.min(width, height) * 0.1 };
    const on = number === chosen ? " on" : "";
    const radius = 12 * pixel;
    const [cx, cy] = [clamp(x, radius, analysis.width - radius), clamp(y, radius, analysis.height - radius)];
    return s(
      "g",
      { class: `face${on}`, onclick: () => choose(number) },
      s("rect", { ...place, class: "shade" }),
      s("rect", { ...place, class: "box" }),
      ...(analysis.faces.length > 1
        ? [s("circle", { class: "badge", cx, cy, r: radius }), s("text", { class: "number", x: cx, y: cy + 4.5 * pixel, "font-size": 13 * pixel }, number)]
        : []),
    );
  });
  const last = shapes.splice(chosen, 1); // drawn over the others
  const dots = points && face ? face.landmarks.points : [];
  return s(
    "svg",
    { class: "over", viewBox: `0 0 ${analysis.width} ${analysis.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    shapes,
    last,
    dots.map(([x, y]) => s("circle", { class: "point", cx: x, cy: y, r: Math.max(0.8, face.detection.box.width / 130) })),
  );
}

export const top = (face) => ranked(face.reading.probabilities)[0][0];
export const ranked = (shares) => Object.entries(shares).sort((a, b) => b[1] - a[1]);

const ROWS = 12; // of more labels, the most probable ones

const row = (name, share, fill, first = false) =>
  h(
    "tr",
    { class: first && "first" },
    h("th", { scope: "row" }, name),
    h(
      "td",
      null,
      s(
        "svg",
        { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
        s("rect", { class: "track", width: 100, height: 6, rx: 1.2 }),
        s("rect", { width: Math.max(share * 100, 0.6), height: 6, rx: 1.2, fill }),
      ),
    ),
    h("td", { class: "n" }, percent(share)),
  );

/** A table of the probabilities, each with a bar. */
export const bars = (shares) =>
  h(
    "table",
    { class: "bars" },
    h("caption", { class: "sr" }, "Probability of each expression label"),
    h("tbody", null, ranked(shares).slice(0, ROWS).map(([name, share], place) => row(name, share, colour(name), place === 0))),
  );

const LEAST = 0.1; // smaller movements are left out: at rest a face has many of them

/** The largest movements of a face, [words, strength], largest first; both sides together are their larger one. */
export function movements(face, most) {
  return MOVEMENTS.map(({ words, actions }) => [words, Math.max(...actions.map((one) => face.reading.actions[one] ?? 0))])
    .filter(([, strength]) => strength >= LEAST)
    .sort((a, b) => b[1] - a[1])
    .slice(0, most);
}

/** A table of the largest movements, or nothing where none is measured. */
export function movementBars(face, most) {
  const moved = movements(face, most);
  if (!moved.length) return null;
  return h(
    "table",
    { class: "bars moves" },
    h("caption", null, "Facial movements, from rest to their maximum"),
    h("tbody", null, moved.map(([name, share]) => row(name, share, "var(--accent)"))),
  );
}

/** Named places, so that no two names overlap: [name, x, y, y of the name]. */
function spread(marks) {
  const gap = 0.15;
  const placed = marks.map(([name, x, y]) => [name, x, -y, -y]).sort((a, b) => a[3] - b[3]);
  for (let n = 1; n < placed.length; n += 1) {
    const above = placed.slice(0, n).filter(([, x]) => Math.abs(x - placed[n][1]) < 0.6);
    for (const one of above) placed[n][3] = Math.max(placed[n][3], one[3] + gap);
  }
  return placed;
}

/** Valence to the right, arousal upwards. `marks` are named places [name, valence, arousal]; `trail` earlier ones. */
export function dial(valence, arousal, name, marks = [], trail = []) {
  const words = `Valence ${signed(valence)}, arousal ${signed(arousal)}`;
  return s(
    "svg",
    { class: "dial", viewBox: "-1.22 -1.22 2.44 2.44", role: "img", "aria-label": words },
    s("circle", { class: "plate", r: 1 }),
    s("circle", { class: "inner", r: 0.5 }),
    s("path", { class: "cross", d: "M-1 0H1M0-1V1" }),
    s("text", { x: 0, y: -1.07 }, "activated"),
    s("text", { x: 0, y: 1.17 }, "calm"),
    marks.length ? [] : [s("text", { x: 0.62, y: 0.17 }, "pleasant"), s("text", { x: -0.58, y: 0.17 }, "unpleasant")],
    spread(marks).map(([label, x, y, at]) => [
      s("circle", { cx: x, cy: y, r: 0.045, fill: colour(label) }),
      x > 0.5 ? s("text", { class: "mark over", x, y: at - 0.1 }, label) : s("text", { class: "mark", x: x + 0.09, y: at + 0.045 }, label),
    ]),
    trail.slice(1).map(([x, y], n) => s("line", { class: "trail", x1: trail[n][0], y1: -trail[n][1], x2: x, y2: -y, opacity: (n + 1) / trail.length })),
    trail.length ? [] : [s("line", { class: "arm", x1: 0, y1: 0, x2: valence, y2: -arousal, stroke: colour(name) })],
    s("circle", { class: "dot", cx: valence, cy: -arousal, r: 0.11, fill: colour(name) }),
  );
}

/** What valence and arousal mean in words. */
export function words(valence, arousal) {
  const degree = (value, low, high) => (Math.abs(value) < 0.15 ? null : `${Math.abs(value) < 0.45 ? "a little " : ""}${value < 0 ? low : high}`);
  const said = [degree(valence, "unpleasant", "pleasant"), degree(arousal, "calm", "activated")].filter(Boolean);
  return said.length ? said.join(", ") : "near the middle";
}
