// The summary page of a whole video, made by the server and shown in place, with its tables.

import * as api from "./api.js";
import { $, download, h, icon, say, trouble } from "./dom.js";

const TABLES = { "table.csv": "CSV", "table.parquet": "Parquet" };

let service = null;
let under = null; // what stops the video that is being read

export function setUp(about) {
  service = about;
  $("film-stop").addEventListener("click", clear);
}

/** Whether the server reads whole videos. */
export const can = () => Boolean(service?.video && service.limits.jobs);

/** Whether a summary is shown, or being made. */
export const shown = () => !$("film").hidden;

/** Forget the summary that is shown, and stop the one that is being made. */
export function clear() {
  under?.abort();
  under = null;
  $("film").hidden = true;
  for (const id of ["film-page", "film-tables", "film-note"]) $(id).replaceChildren();
  $("live-empty").hidden = false;
}

export async function summarise(file) {
  clear();
  const mine = (under = new AbortController());
  $("film").hidden = $("film-progress").hidden = false;
  $("live-empty").hidden = $("film-problem").hidden = $("film-files").hidden = true;
  $("film-name").textContent = file.name;
  $("film-count").textContent = "Sending the video …";
  $("film-bar").removeAttribute("value");
  say("Reading the whole video.");
  const wanted = ["page.html", "table.csv", ...(service.parquet ? ["table.parquet"] : [])];
  let made;
  try {
    made = await api.video(file, { files: wanted.join() }, service.limits, mine.signal, progress);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    trouble($("film-problem"), problem);
    return;
  } finally {
    if (mine === under) {
      $("film-progress").hidden = true;
      $("film-files").hidden = false;
    }
  }
  show(file.name, made);
  say("The summary is there.");
}

function progress({ state, progress: { done, total, rate } }) {
  if (!done) {
    $("film-count").textContent = state === "waiting" ? "Waiting for its turn …" : "Starting …";
    return;
  }
  if (total) $("film-bar").value = Math.min(1, done / total);
  $("film-count").textContent = `${done}${total ? ` of ${total}` : ""} frames${rate ? `, ${rate < 9.5 ? rate.toFixed(1) : Math.round(rate)} per second` : ""}`;
}

/** Give the summary the colours of this page, which may be others than the system's. */
function dress(root) {
  const look = getComputedStyle(document.documentElement);
  for (const name of ["ink", "soft", "line", "wash", "accent"]) root.style.setProperty(`--${name}`, look.getPropertyValue(`--${name}`));
  root.style.setProperty("--paper", look.getPropertyValue("--surface"));
  root.style.setProperty("color-scheme", look.colorScheme);
}

/** The page in a frame that runs no scripts, as high as it is; below it nothing scrolls by itself. */
function show(name, { files, note }) {
  const page = files["page.html"];
  const frame = h("iframe", { title: `Summary of ${name}`, sandbox: "allow-same-origin", src: URL.createObjectURL(page) });
  frame.addEventListener("load", () => {
    const { documentElement: root, body } = frame.contentDocument;
    new ResizeObserver(() => frame.style.setProperty("height", `${root.offsetHeight}px`)).observe(body);
    dress(root);
    new MutationObserver(() => dress(root)).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  });
  $("film-page").replaceChildren(frame);
  const stem = name.replace(/\.[^.]*$/, "");
  const button = (file, words, kind) => h("button", { class: kind, onclick: () => download(files[file], `${stem}${file.slice(file.indexOf("."))}`) }, icon("i-down"), words);
  $("film-tables").replaceChildren(
    button("page.html", "Summary page", "main"),
    ...Object.entries(TABLES).filter(([file]) => files[file]).map(([file, words]) => button(file, words)),
  );
  $("film-note").textContent = note;
}
