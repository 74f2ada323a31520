// Faces in motion: the camera, or a video that plays here. One frame at a time is analysed, the latest one.

import * as api from "./api.js";
import { $, clamp, colour, csv, download, h, percent, s, say, signed, trouble } from "./dom.js";
import { dial, fit, movementBars, ranked, top } from "./draw.js";

const LONGEST = 720; // pixels of a frame that is analysed
const MOVED = 5;
const TRAIL = 12; // seconds of the trail in the disc
const [SHORTEST, SPAN] = [10, 60]; // seconds of the curves: as many as there are, within these
const PAUSE = 700; // milliseconds until a busy server is asked again

let clip = null; // the file of the video that was brought last
let film = null; // film.js, where a server reads whole videos
let running = null; // the source that is being read
let keyNeeded = false;
let recording = false;
let last = null; // a canvas with the frame that was sent last: what is left to see when all is stopped
let rows = []; // recorded: [columns, values]

/** `whole`: film.js, if the page has it. */
export function setUp(service, whole = null) {
  keyNeeded = service.key_needed;
  film = whole;
  $("live-stop").addEventListener("click", stop);
  $("live-record").addEventListener("click", record);
  $("live-save").addEventListener("click", save);
  $("live-summary")?.addEventListener("click", () => {
    stop();
    film.summarise(clip);
  });
}

const video = () => $("live-video");

export async function camera() {
  stop();
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("This browser gives the camera only to secure addresses: open the page by https or on localhost.");
  }
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" } });
  } catch (reason) {
    const denied = reason.name === "NotAllowedError";
    throw new Error(denied ? "The browser may not use the camera. Allow it in the address bar, then try again." : "No camera was found. Connect one, or choose a video instead.");
  }
  video().srcObject = media;
  clip = null;
  await begin("camera", () => media.getTracks().forEach((track) => track.stop()), true);
}

export async function play(file) {
  stop();
  clip = file;
  const address = URL.createObjectURL(file);
  video().src = address;
  video().loop = false;
  await begin(file.name, () => URL.revokeObjectURL(address), false);
}

/** Start to show a source and to read it; `end` gives it back. */
async function begin(name, end, mirrored) {
  const mine = (running = { name, end, mirrored, frame: 0, start: performance.now(), history: [], took: [] });
  $("live-problem").hidden = true;
  $("live-stage").classList.toggle("mirrored", mirrored);
  $("live-stage").querySelector("canvas")?.remove();
  video().controls = !mirrored;
  try {
    await video().play();
  } catch (reason) {
    if (mine !== running) return;
    stop();
    throw reason.name === "NotSupportedError" ? new Error("This browser cannot play that video. Try an MP4 or WebM file.") : new Error("The video does not start. Try once more.");
  }
  film?.clear();
  $("live-empty").hidden = true;
  $("live-work").hidden = false;
  controls(true);
  fit($("live-stage"), video().videoWidth, video().videoHeight);
  panel(mine, null);
  say("Reading what the camera or the video shows.");
  await follow(mine);
}

/** Stop reading; what was recorded stays. */
export function stop() {
  if (recording) record();
  running?.end();
  running?.stream?.close();
  running = null;
  video().pause();
  video().srcObject = null;
  video().removeAttribute("src");
  video().load();
  controls(false);
  $("live-stage").querySelector("svg")?.remove();
  if (last) $("live-stage").append(last);
  last = null;
  $("live-rate").textContent = "";
  if (!rows.length) {
    $("live-work").hidden = true;
    $("live-empty").hidden = Boolean(film?.shown());
  }
}

function controls(on) {
  $("live-stop").hidden = $("live-record").hidden = !on;
  $("live-again").hidden = on;
  $("live-summary")?.toggleAttribute("hidden", !clip || !film?.can());
}

/** Have a frame analysed, show its answer, and only then take the next: the one that is shown, if it is a new one. */
async function follow(mine) {
  const fresh = frames(mine);
  while (mine === running) {
    await fresh();
    if (mine !== running) return;
    const shot = h("canvas");
    const scale = Math.min(1, LONGEST / Math.max(video().videoWidth, video().videoHeight));
    shot.width = Math.round(video().videoWidth * scale);
    shot.height = Math.round(video().videoHeight * scale);
    shot.getContext("2d").drawImage(video(), 0, 0, shot.width, shot.height);
    const time = mine.mirrored ? (performance.now() - mine.start) / 1000 : video().currentTime;
    last = shot;
    try {
      if (!mine.stream?.open()) mine.stream = await api.stream(keyNeeded);
      if (mine !== running) return mine.stream.close();
      const begun = performance.now();
      const answer = await mine.stream.ask(shot, time);
      if (mine !== running) return;
      mine.took = [...mine.took.slice(-9), [begun, performance.now()]];
      take(mine, answer, time);
    } catch (problem) {
      if (mine !== running) return;
      if (problem.code === "busy") {
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
        continue;
      }
      stop();
      trouble($("live-problem"), problem);
      return;
    }
  }
}

/**
 * A function that waits until a frame is shown that was not there when it was called last; a video that is paused or has
 * ended has none. It does not wait for the next frame where one came meanwhile: of 30 in a second every other would be
 * lost to an analysis that takes 40 ms.
 */
function frames(mine) {
  const ask = video().requestVideoFrameCallback ? (call) => video().requestVideoFrameCallback(call) : requestAnimationFrame;
  let [shown, wake] = [false, null];
  const watch = () => {
    shown = true;
    wake?.();
    if (mine === running) ask(watch);
  };
  ask(watch);
  return async () => {
    if (!shown) await new Promise((resolve) => (wake = resolve));
    shown = false;
  };
}

function take(mine, { analysis, rows: values }, time) {
  if (recording) {
    const { columns } = mine.stream;
    const known = { input: mine.name, frame: mine.frame, approx_time: Number(time.toFixed(3)) };
    rows.push(...values.map((row) => [columns, columns.map((name, n) => known[name] ?? row[n])]));
    $("live-count").textContent = `${rows.length} ${rows.length === 1 ? "row" : "rows"}`;
  }
  mine.frame += 1;
  const face = followed(mine, analysis.faces);
  if (mine.history.length && time < mine.history.at(-1).time) mine.history = []; // the video was wound back
  if (face) {
    const { valence, arousal } = face.reading;
    mine.history.push({ time, valence, arousal, label: top(face) });
  }
  mine.history = mine.history.filter((one) => one.time > time - SPAN);
  overlay(mine, analysis);
  panel(mine, face, time);
  const [[begun]] = mine.took;
  const shown = (mine.took.length - 1) / ((mine.took.at(-1)[0] - begun) / 1000);
  const took = mine.took.reduce((sum, [from, to]) => sum + to - from, 0) / mine.took.length;
  $("live-rate").textContent = Number.isFinite(shown) ? `${shown < 9.5 ? shown.toFixed(1) : Math.round(shown)} frames per second, each answered in ${Math.round(took)} ms` : "";
}

/** The face that the panel describes: the one nearest to where it was, at first the largest. */
function followed(mine, faces) {
  if (!faces.length) return null;
  const middle = ({ detection: { box } }) => [box.x + box.width / 2, box.y + box.height / 2];
  const far = (face) => Math.hypot(...middle(face).map((value, axis) => value - mine.place[axis]));
  const face = mine.place ? faces.reduce((a, b) => (far(b) < far(a) ? b : a)) : faces[0];
  mine.place = middle(face);
  mine.number = faces.indexOf(face);
  return face;
}

function overlay(mine, { width, height, faces }) {
  const stage = $("live-stage");
  const pixel = width / Math.max(1, stage.clientWidth);
  const marks = faces.map((face, number) => {
    const { box } = face.detection;
    const x = mine.mirrored ? width - box.x - box.width : box.x;
    const place = { x, y: box.y, width: box.width, height: box.height, rx: box.width * 0.1 };
    const name = top(face);
    const said = `${faces.length > 1 ? `${number}  ` : ""}${name}${face.reading.uncertain ? " ?" : ""}`;
    const [wide, high] = [(said.length * 7.6 + 18) * pixel, 24 * pixel];
    const left = clamp(x, 0, Math.max(0, width - wide));
    const above = Math.max(0, box.y - high - 4 * pixel);
    return s(
      "g",
      { class: number === mine.number ? "face on" : "face" },
      s("rect", { ...place, class: "shade" }),
      s("rect", { ...place, class: "box" }),
      s("rect", { class: "tag", x: left, y: above, width: wide, height: high, rx: high / 2 }),
      s("text", { class: "tag-text", x: left + wide / 2, y: above + 16.5 * pixel, "font-size": 13.5 * pixel }, said),
    );
  });
  const over = s("svg", { class: "over", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, marks);
  stage.querySelector("svg")?.remove();
  stage.append(over);
}

function panel(mine, face, time = 0) {
  const parts = face ? described(mine, face, time) : [h("div", { class: "blank" }, h("h1", { id: "live-title" }, mine.frame ? "No face in view" : "One moment …"), h("p", { class: "soft" }, mine.frame ? "Come closer, or turn towards the camera." : "The first frame is being read."))];
  $("live-panel").replaceChildren(...parts.filter(Boolean));
  $("live-curves").replaceChildren(...(mine.history.length > 1 ? [curves(mine.history)] : []));
  $("live-over-time").hidden = mine.history.length < 2;
}

function described(mine, face, time) {
  const { reading } = face;
  const name = top(face);
  const rated = reading.valence !== null;
  const trail = mine.history.filter((one) => one.time > time - TRAIL && one.valence !== null).map((one) => [one.valence, one.arousal]);
  const others = ranked(reading.probabilities).slice(1, 3).filter(([, share]) => share >= 0.05);
  return [
    h(
      "div",
      { class: "headline" },
      h("p", { class: "kicker" }, "This face shows"),
      h("h1", { id: "live-title" }, h("i", { css: { background: colour(name) }, "aria-hidden": "true" }), name),
      h("p", { class: "soft" }, `${percent(reading.probabilities[name])} probable${reading.uncertain ? ", uncertain" : ""}${others.length ? `; ${others.map(([other, share]) => `${other} ${percent(share)}`).join(", ")}` : ""}`),
    ),
    rated ? h("div", { class: "moving" }, dial(reading.valence, reading.arousal, name, [], trail)) : null,
    h("div", { class: "moves-place" }, movementBars(face, MOVED)),
  ];
}

/** Valence and arousal over time, above a band of the labels. */
function curves(history) {
  const now = history.at(-1).time;
  const [wide, high] = [600, 120];
  const span = clamp(now - history[0].time, SHORTEST, SPAN);
  const x = (time) => wide * (1 - (now - time) / span);
  const words = `the last ${Math.round(span)} seconds`;
  $("live-span").textContent = words;
  const labels = [...new Set(history.map((one) => one.label))];
  $("live-labels").replaceChildren(...labels.map((label) => h("span", null, h("i", { css: { background: colour(label) } }), label)));
  const y = (value) => high / 2 - (value * high) / 2;
  const line = (name) => history.filter((one) => one[name] !== null).map((one, n) => `${n ? "L" : "M"}${x(one.time).toFixed(1)} ${y(one[name]).toFixed(1)}`).join("");
  const { valence, arousal } = history.at(-1);
  return s(
    "svg",
    { class: "curves", viewBox: `0 0 ${wide} ${high + 16}`, preserveAspectRatio: "none", role: "img", "aria-label": `Over ${words}; now valence ${signed(valence)}, arousal ${signed(arousal)}` },
    s("line", { class: "zero", x1: 0, x2: wide, y1: high / 2, y2: high / 2 }),
    s("path", { class: "valence", d: line("valence") }),
    s("path", { class: "arousal", d: line("arousal") }),
    spells(history).map(({ label, from, to }) => s("rect", { x: x(from), y: high + 6, width: Math.max(0.5, x(to) - x(from)), height: 10, fill: colour(label) })),
  );
}

/** The spells of time with one label: frames one by one would show the joints between them. */
function spells(history) {
  const found = [];
  for (const [n, { label, time }] of history.slice(1).entries()) {
    const last = found.at(-1);
    if (last?.label === label) last.to = time;
    else found.push({ label, from: history[n].time, to: time });
  }
  return found;
}

function record() {
  recording = !recording;
  if (recording) rows = [];
  $("live-record").setAttribute("aria-pressed", String(recording));
  $("live-record").lastChild.textContent = recording ? "Stop recording" : "Record";
  $("live-save").hidden = recording || !rows.length;
  $("live-count").textContent = recording ? "0 rows" : rows.length ? `${rows.length} ${rows.length === 1 ? "row" : "rows"} recorded` : "";
  say(recording ? "Recording." : `${rows.length} rows recorded.`);
}

function save() {
  const [[columns]] = rows;
  download(csv([columns, ...rows.map(([, values]) => values)]), "mien-live.csv");
}
