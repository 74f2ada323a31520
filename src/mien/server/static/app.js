// The page of `mien serve`: what it has in common with others is in shell.js, and the editor is only here.

import * as api from "./api.js";
import { $, h, trouble } from "./dom.js";
import * as edit from "./edit.js";
import * as film from "./film.js";
import * as live from "./live.js";
import * as moves from "./moves.js";
import * as read from "./read.js";
import { go, setUp } from "./shell.js";

let service = { limits: { bytes: 16 * 2 ** 20 }, circumplex: {}, editor: true };

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

setUp({
  tabs: ["read", "edit", "live", "batch"],
  opens: { edit: (photo) => startEdit(photo), like: (photo) => moves.like(photo) },
  limits: () => service.limits,
  toEditor() {
    const { file, analysis, chosen } = read.current();
    go("edit");
    startEdit(file, analysis, chosen);
  },
  ways(clip) {
    const summarise = () => {
      $("live-problem").hidden = true;
      film.summarise(clip);
    };
    return film.can() ? [h("button", { onclick: summarise }, "Summary of the whole video")] : [];
  },
});
$("curl").textContent = `curl -F file=@portrait.jpg ${new URL("v1/analyses", document.baseURI)}`;
try {
  await api.ready();
  await about();
} catch (problem) {
  trouble($("read-problem"), problem);
}
edit.setUp(service);
film.setUp(service);
live.setUp(service, film);
$("batch-parquet").hidden = !service.parquet;
document.documentElement.dataset.ready = "";
