// What the page of `mien serve` and that of `mien web` have in common: tabs, ways to bring a photo or a video, theme.

import * as api from "./api.js";
import * as batch from "./batch.js";
import * as camera from "./camera.js";
import { $, h, say, trouble } from "./dom.js";
import { filesOf } from "./drop.js";
import * as live from "./live.js";
import * as purpose from "./purpose.js";
import * as read from "./read.js";

const EXAMPLES = [
  ["portrait_smiling.jpg", "a smiling woman"],
  ["portrait_neutral.jpg", "a woman with a calm face"],
  ["astronaut.jpg", "an astronaut"],
  ["group_1.jpg", "six people"],
];
const THEMES = { auto: "as the system", light: "light", dark: "dark" };

let page = null; // what `setUp` was given
let current = "read";
let pickFor = "read";

/**
 * Put the page together.
 *
 * `tabs`: their names in order. `opens`: what opens a photo, by the name of a tab, or of a `data-drop` that takes photos
 * for itself and asks for no purpose; "read", "batch" and "live" are known. `limits`: a function that gives the limits of
 * `api.analyse`. `toEditor`: see read.js. `ways`: a function that gives buttons with what else can be done about a video
 * that does not play.
 */
export function setUp({ tabs, opens = {}, limits, toEditor = null, ways = () => [] }) {
  page = { tabs, opens, limits, ways };
  theme();
  tabRow();
  sources();
  purpose.setUp();
  batch.setUp((file, analysis, face) => {
    go("read");
    read.show(file, analysis, face);
  });
  read.setUp(toEditor);
}

export function go(tab, focus = false) {
  if (tab !== "live") live.stop();
  current = tab;
  for (const name of page.tabs) {
    $(name).hidden = name !== tab;
    $(`tab-${name}`).setAttribute("aria-selected", name === tab);
    $(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
  }
  if (focus) $(`tab-${tab}`).focus();
}

const isFilm = (file) => file.type.startsWith("video/") || /\.mkv$/i.test(file.name);
const isPhoto = (file) => file.type.startsWith("image/") || /\.(heic|heif|tiff?)$/i.test(file.name);

/** Everything that brings photos and videos ends here. */
async function take(files, tab = current) {
  if (!page.tabs.includes(tab)) return files.length && page.opens[tab]([...files].find(isPhoto));
  const clip = [...files].find(isFilm);
  const photos = [...files].filter(isPhoto);
  if (!clip && !photos.length) {
    if (!files.length) return;
    go("read");
    read.clear();
    trouble($("read-problem"), new Error("That is not a picture. Choose a JPEG, PNG, WebP or HEIC file."));
    return;
  }
  if (!(await purpose.ask())) return;
  if (!photos.length) return watch(() => live.play(clip), clip);
  if (photos.length > 1) tab = "batch";
  if (tab === "live") tab = "read";
  go(tab);
  try {
    await api.ready();
  } catch (problem) {
    trouble($("read-problem"), problem);
    go("read");
    return;
  }
  if (tab === "batch") return batch.open(photos, page.limits());
  if (tab === "read") return read.open(photos[0], page.limits());
  return page.opens[tab](photos[0]);
}

/** Start the live view with what `begin` brings: the camera, or a `clip`. */
async function watch(begin, clip = null) {
  go("live");
  $("live-problem").hidden = true;
  try {
    await api.ready();
    await begin();
  } catch (problem) {
    trouble($("live-problem"), problem, ...(clip ? page.ways(clip) : []));
  }
}

function tabRow() {
  const { tabs } = page;
  for (const name of tabs) $(`tab-${name}`).addEventListener("click", () => go(name));
  document.querySelector(".tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const place = tabs.indexOf(current);
    if (step) go(tabs[(place + step + tabs.length) % tabs.length], true);
    if (event.key === "Home") go(tabs[0], true);
    if (event.key === "End") go(tabs.at(-1), true);
  });
}

function sources() {
  for (const button of document.querySelectorAll("[data-pick]")) {
    button.addEventListener("click", () => {
      pickFor = button.dataset.pick;
      $({ batch: "file-many", folder: "file-folder", live: "file-film" }[pickFor] ?? "file-one").click();
    });
  }
  for (const input of [$("file-one"), $("file-many"), $("file-folder"), $("file-film")]) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = "";
      take(files, { "file-many": "batch", "file-folder": "batch", "file-film": "live" }[input.id] ?? pickFor);
    });
  }
  for (const button of document.querySelectorAll("[data-camera]")) {
    button.addEventListener("click", async () => {
      const tab = current;
      const shot = await camera.take();
      if (shot) take([shot], tab);
    });
  }
  for (const button of document.querySelectorAll("[data-live-camera]")) {
    button.addEventListener("click", async () => (await purpose.ask()) && watch(live.camera));
  }
  for (const list of document.querySelectorAll(".examples")) {
    const tab = list.closest("section").id;
    list.replaceChildren(
      ...EXAMPLES.filter(([name]) => tab === "read" || !name.startsWith("group")).map(([name, words]) =>
        h(
          "li",
          { class: name.startsWith("group") && "wide" },
          h(
            "button",
            {
              "aria-label": `Example: ${words}`,
              onclick: async () => {
                const answer = await fetch(`examples/${name}`);
                take([new File([await answer.blob()], name, { type: "image/jpeg" })], tab);
              },
            },
            h("img", { src: `examples/${name}`, alt: "", width: 106, height: 106, loading: "lazy" }),
          ),
        ),
      ),
    );
  }
  document.addEventListener("paste", (event) => event.clipboardData?.files.length && take(event.clipboardData.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.querySelectorAll(".drop").forEach((node) => node.classList.add("over"));
    document.querySelectorAll("[data-drop]").forEach((node) => node.classList.toggle("over", node.contains(event.target)));
  });
  for (const kind of ["dragleave", "drop", "dragend"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      document.querySelectorAll(".drop, [data-drop]").forEach((node) => node.classList.remove("over"));
    });
  }
  document.addEventListener("drop", async (event) => {
    const tab = event.target.closest?.("[data-drop]")?.dataset.drop ?? current;
    take(await filesOf(event.dataTransfer), tab);
  });
}

function theme() {
  const set = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    localStorage.setItem("theme", name);
    $("theme").setAttribute("aria-label", `Colours: ${THEMES[name]}`);
  };
  const names = Object.keys(THEMES);
  const kept = localStorage.getItem("theme");
  set(names.includes(kept) ? kept : "auto");
  $("theme").addEventListener("click", () => {
    const now = localStorage.getItem("theme");
    set(names[(names.indexOf(now) + 1) % names.length]);
    say(`Colours: ${THEMES[localStorage.getItem("theme")]}.`);
  });
}

// Not submit buttons: the Enter key takes a form's first one, and must mean "Continue".
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close("cancel"));
}
