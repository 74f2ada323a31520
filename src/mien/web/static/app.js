// The page of `mien web`: what it has in common with others is in shell.js.

import * as api from "./api.js";
import { $, trouble } from "./dom.js";
import * as live from "./live.js";
import { setUp } from "./shell.js";

const PATIENCE = 4000; // milliseconds

/** Let a file of `mien adapt` correct the labels. */
function adapting() {
  const said = $("adapt-said");
  const use = async (adaptation, words) => {
    try {
      await api.adapt(adaptation);
      said.textContent = words;
      $("adapt-remove").hidden = !adaptation;
    } catch (problem) {
      said.textContent = problem.message;
    }
  };
  $("adapt-pick").addEventListener("click", () => $("file-adapt").click());
  $("adapt-remove").addEventListener("click", () => use(null, "The labels are those of the recogniser again."));
  $("file-adapt").addEventListener("change", async () => {
    const [file] = $("file-adapt").files;
    $("file-adapt").value = "";
    const content = await file.text();
    let adaptation = {};
    try {
      adaptation = JSON.parse(content);
    } catch {
      // no JSON: refused like any other file that is not of mien adapt
    }
    await use(adaptation, `${file.name} corrects the labels of what is read from now on.`);
  });
}

/** Keep the page for visits without a network: after the first result, or a while, as it fetches every file again. */
async function keep() {
  if (!navigator.serviceWorker) return;
  await Promise.race([api.answered, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
  await navigator.serviceWorker.register("sw.js");
  await navigator.serviceWorker.ready;
  $("offline").textContent = "This device has kept the page: it works without a network now.";
}

setUp({ tabs: ["read", "live", "batch"], limits: () => ({}) });
live.setUp({ key_needed: false });
adapting();
document.documentElement.dataset.ready = "";
try {
  await api.ready();
  document.documentElement.dataset.loaded = "";
} catch (problem) {
  trouble($("read-problem"), problem);
}
keep().catch(() => {}); // without it the page needs a network each time
