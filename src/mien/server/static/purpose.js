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

let kept = ""; // what becomes of photos, in the page's words

export function setUp() {
  kept = $("purpose-said").textContent;
  $("purposes").replaceChildren(
    ...PURPOSES.map(([name, words]) =>
      h("label", null, h("input", { type: "radio", name: "purpose", value: name, onchange: update }), h("span", null, words)),
    ),
  );
  $("purpose-read").addEventListener("change", update);
  $("purpose-change").addEventListener("click", () => ask(true));
  $("purpose").addEventListener("close", closed);
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
  $("purpose-said").textContent = purpose ? `${kept} Purpose: ${purpose[1].toLowerCase()}.` : kept;
}

let answer = null; // of the question that is open

/** Whether a purpose has been stated; asks for it where not. It stays in this tab. */
export function ask(again = false) {
  if (!again && sessionStorage.getItem("purpose")) return Promise.resolve(true);
  const dialog = $("purpose");
  answer?.(false); // another photo was brought meanwhile: the question is asked once more, for that one
  dialog.returnValue = "cancel";
  $("purpose-read").checked = false;
  update();
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    answer = resolve;
  });
}

function closed() {
  const dialog = $("purpose");
  // A dialog tells that it was closed only some time after it was. If it is open again, this is about the question
  // before, which has had its answer.
  if (dialog.open) return;
  const said = dialog.returnValue === "go";
  if (said) sessionStorage.setItem("purpose", chosen());
  show();
  answer?.(said || Boolean(sessionStorage.getItem("purpose")));
  answer = null;
}
