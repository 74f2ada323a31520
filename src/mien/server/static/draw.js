// Pictures of numbers: bars, the valence and arousal dial, boxes over a photo. All inline SVG, all with words beside.

import { colour, h, percent, s, signed } from "./dom.js";

const LONGEST = 1600; // pixels kept of a photo for showing it

/** A photo on a canvas, upright. Formats that the browser cannot show (HEIC, TIFF) give an empty canvas of their size. */
export async function canvas(blob, width, height, words) {
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    bitmap = null;
  }
  const wide = bitmap?.width ?? width ?? 800;
  const high = bitmap?.height ?? height ?? 600;
  const scale = Math.min(1, LONGEST / Math.max(wide, high));
  const node = h("canvas", { width: Math.round(wide * scale), height: Math.round(high * scale), role: "img", "aria-label": words });
  if (bitmap) {
    node.getContext("2d").drawImage(bitmap, 0, 0, node.width, node.height);
    bitmap.close();
  }
  return node;
}

/** Give a stage the shape of its photo, no higher than the window allows. */
export function fit(stage, width, height) {
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.maxWidth = `calc(min(72vh, 44rem) * ${(width / height).toFixed(4)})`;
}

/** Face boxes over a photo. They repeat for the eye and the mouse what the buttons of the panel offer everybody. */
export function boxes(analysis, chosen, points, choose) {
  const shapes = analysis.faces.flatMap((face, number) => {
    const { x, y, width, height } = face.detection.box;
    const place = { x, y, width, height, rx: width * 0.12 };
    const on = number === chosen;
    const size = Math.max(width / 5, analysis.width / 60); // of the face's number, pixels
    return [
      s("rect", { ...place, class: "shade" }),
      s("rect", { ...place, class: on ? "box on" : "box", css: on ? { stroke: colour(top(face)) } : {}, onclick: () => choose(number) }),
      ...(analysis.faces.length > 1 ? [s("text", { class: "number", x: x + size / 4, y: y + size, "font-size": size }, number)] : []),
    ];
  });
  const dots = points && analysis.faces[chosen] ? analysis.faces[chosen].landmarks.points : [];
  const radius = Math.max(0.8, (analysis.faces[chosen]?.detection.box.width ?? 0) / 130);
  return s(
    "svg",
    { class: "over", viewBox: `0 0 ${analysis.width} ${analysis.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    shapes,
    dots.map(([x, y]) => s("circle", { class: "point", cx: x, cy: y, r: radius })),
  );
}

export const top = (face) => ranked(face.reading.probabilities)[0][0];
export const ranked = (shares) => Object.entries(shares).sort((a, b) => b[1] - a[1]);

const ROWS = 12; // of more labels, the most probable ones

/** A table of the probabilities, each with a bar. */
export function bars(shares) {
  const rows = ranked(shares).slice(0, ROWS).map(([name, share], place) =>
    h(
      "tr",
      { class: place === 0 && "first" },
      h("th", { scope: "row" }, name),
      h(
        "td",
        null,
        s(
          "svg",
          { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
          s("rect", { class: "track", width: 100, height: 6, rx: 1.2 }),
          s("rect", { width: Math.max(share * 100, 0.6), height: 6, rx: 1.2, fill: colour(name) }),
        ),
      ),
      h("td", { class: "n" }, percent(share)),
    ),
  );
  return h("table", { class: "bars" }, h("caption", { class: "sr" }, "Probability of each expression label"), h("tbody", null, rows));
}

/** Valence to the right, arousal upwards. `marks` are small named places: [name, valence, arousal]. */
export function dial(valence, arousal, name, marks = []) {
  const words = `Valence ${signed(valence)}, arousal ${signed(arousal)}`;
  return s(
    "svg",
    { class: "dial", viewBox: "-1.2 -1.2 2.4 2.4", role: "img", "aria-label": words },
    s("circle", { class: "plate", r: 1 }),
    s("circle", { class: "inner", r: 0.5 }),
    s("path", { class: "cross", d: "M-1 0H1M0-1V1" }),
    s("text", { x: 0, y: -1.06 }, "activated"),
    s("text", { x: 0, y: 1.16 }, "calm"),
    s("text", { x: 0.62, y: 0.17 }, "pleasant"),
    s("text", { x: -0.58, y: 0.17 }, "unpleasant"),
    marks.map(([label, x, y]) => s("circle", { cx: x, cy: -y, r: 0.05, fill: colour(label), opacity: 0.85 }, s("title", null, label))),
    s("line", { class: "arm", x1: 0, y1: 0, x2: valence, y2: -arousal, stroke: colour(name) }),
    s("circle", { class: "dot", cx: valence, cy: -arousal, r: 0.11, fill: colour(name) }),
  );
}

/** What valence and arousal mean in words. */
export function words(valence, arousal) {
  const degree = (value, low, high) => (Math.abs(value) < 0.15 ? null : `${Math.abs(value) < 0.45 ? "a little " : ""}${value < 0 ? low : high}`);
  const said = [degree(valence, "unpleasant", "pleasant"), degree(arousal, "calm", "activated")].filter(Boolean);
  return said.length ? said.join(", ") : "near the middle";
}
