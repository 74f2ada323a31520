// Puts the page together: tabs, ways to bring a photo, theme. Read, edit, live and batch have their own files.

import * as api from "./api.js";
import * as batch from "./batch.js";
import * as camera from "./camera.js";
import { $, h, say, trouble } from "./dom.js";
import * as edit from "./edit.js";
import * as film from "./film.js";
import * as live from "./live.js";
import * as moves from "./moves.js";
import * as purpose from "./purpose.js";
import * as read from "./read.js";

const TABS = ["read", "edit", "live", "batch"];
const EXAMPLES = [
  ["portrait_smiling.jpg", "a smiling woman"],
  ["portrait_neutral.jpg", "a woman with a calm face"],
  ["astronaut.jpg", "an astronaut"],
  ["group_1.jpg", "six people"],
];
const THEMES = { auto: "as the system", light: "light", dark: "dark" };

let current = "read";
let pickFor = "read";
let service = { limits: { bytes: 16 * 2 ** 20 }, circumplex: {}, editor: true };

function go(tab, focus = false) {
  if (tab !== "live") live.stop();
  current = tab;
  for (const name of TABS) {
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
  if (tab === "like") return files.length && moves.like([...files].find(isPhoto));
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
  if (tab === "batch") return batch.open(photos, service.limits);
  if (tab === "edit") return startEdit(photos[0]);
  return read.open(photos[0], service.limits);
}

/** Whether a photo is dropped for a face to move like, and not to be opened. */
const isLike = (event) => $("like").contains(event.target);

/** Start the live view with what `begin` brings. A `clip` that does not play may still be read by the server. */
async function watch(begin, clip = null) {
  go("live");
  $("live-problem").hidden = true;
  try {
    await api.ready();
    await begin();
  } catch (problem) {
    const summarise = () => {
      $("live-problem").hidden = true;
      film.summarise(clip);
    };
    const ways = clip && film.can() ? [h("button", { onclick: summarise }, "Summary of the whole video")] : [];
    trouble($("live-problem"), problem, ...ways);
  }
}

/** Edit a photo, at a face of its analysis if it has been read before. */
async function startEdit(file, analysis = null, face = 0) {
  await about(); // an editor may have been loaded since
  if (!service.editor) return;
  try {
    await edit.open(file, analysis ?? (await api.analyse(file, service.limits)), face);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    edit.clear();
    read.clear();
    go("read");
    trouble($("read-problem"), problem);
  }
}

async function about() {
  service = await api.service();
  $("edit-none").hidden = service.editor;
  $("edit-empty").hidden = !service.editor || !$("edit-work").hidden;
  $("edit-none").replaceChildren(h("p", null, "This server cannot edit. The person who runs it can install the editor."));
}

function tabs() {
  for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => go(name));
  document.querySelector(".tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const place = TABS.indexOf(current);
    if (step) go(TABS[(place + step + TABS.length) % TABS.length], true);
    if (event.key === "Home") go(TABS[0], true);
    if (event.key === "End") go(TABS.at(-1), true);
  });
}

function sources() {
  for (const button of document.querySelectorAll("[data-pick]")) {
    button.addEventListener("click", () => {
      pickFor = button.dataset.pick;
      $({ batch: "file-many", live: "file-film" }[pickFor] ?? "file-one").click();
    });
  }
  for (const input of [$("file-one"), $("file-many"), $("file-film")]) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = "";
      take(files, { "file-many": "batch", "file-film": "live" }[input.id] ?? pickFor);
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
    $("like").classList.toggle("over", isLike(event));
  });
  for (const kind of ["dragleave", "drop", "dragend"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      document.querySelectorAll(".drop, .like").forEach((node) => node.classList.remove("over"));
    });
  }
  document.addEventListener("drop", (event) => take(event.dataTransfer.files, isLike(event) ? "like" : current));
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
theme();
tabs();
sources();
purpose.setUp();
read.setUp(() => {
  const { file, analysis, chosen } = read.current();
  go("edit");
  startEdit(file, analysis, chosen);
});
$("curl").textContent = `curl -F file=@portrait.jpg ${new URL("v1/analyses", document.baseURI)}`;
try {
  await api.ready();
  await about();
} catch (problem) {
  trouble($("read-problem"), problem);
}
batch.setUp((file, analysis, face) => {
  go("read");
  read.show(file, analysis, face);
}, service);
edit.setUp(service);
live.setUp(service);
film.setUp(service);
document.documentElement.dataset.ready = "";
