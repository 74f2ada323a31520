// Asks once a session what this is for, before the first photo is read, and warns where the law forbids the use.

import { $, h } from "./dom.js";

const PURPOSES = [
  ["personal", "My own photos, or art"],
  ["research", "Research with people who agreed"],
  ["trial", "Trying out or testing the software"],
  ["care", "Medical care or safety"],
  ["work", "At work: staff, applicants, contractors"],
  ["education", "At school or university: pupils, students"],
  ["other", "Something else"],
];
const WARNED = ["work", "education"];

export function setUp() {
  $("purposes").replaceChildren(
    ...PURPOSES.map(([name, words]) =>
      h("label", null, h("input", { type: "radio", name: "purpose", value: name, onchange: update }), h("span", null, words)),
    ),
  );
  $("purpose-read").addEventListener("change", update);
  $("purpose-change").addEventListener("click", () => ask(true));
  show();
}

const chosen = () => document.querySelector("#purposes input:checked")?.value;

function update() {
  const warned = WARNED.includes(chosen());
  $("purpose-warning").hidden = !warned;
  $("purpose-go").disabled = !chosen() || (warned && !$("purpose-read").checked);
}

function show() {
  const purpose = PURPOSES.find(([name]) => name === sessionStorage.getItem("purpose"));
  $("purpose-change").hidden = !purpose;
  const kept = "Photos are held in the server's memory while they are read, and never stored.";
  $("purpose-said").textContent = purpose ? `${kept} Purpose: ${purpose[1].toLowerCase()}.` : kept;
}

/** Whether a purpose has been stated; asks for it where not. It stays in this tab. */
export function ask(again = false) {
  if (!again && sessionStorage.getItem("purpose")) return Promise.resolve(true);
  const dialog = $("purpose");
  dialog.returnValue = "cancel";
  $("purpose-read").checked = false;
  update();
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const said = dialog.returnValue === "go";
        if (said) sessionStorage.setItem("purpose", chosen());
        show();
        resolve(said || Boolean(sessionStorage.getItem("purpose")));
      },
      { once: true },
    );
  });
}
