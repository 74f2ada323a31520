// Talks to the server: adds the key where one is asked for, turns every failure into a Problem with a readable line.

import { $ } from "./dom.js";

export class Problem extends Error {
  constructor(code, message, status = 0, retryAfter = 0) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

async function request(path, options = {}) {
  const headers = { ...options.headers };
  const key = sessionStorage.getItem("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (reason) {
    if (reason.name === "AbortError") throw reason;
    throw new Problem("offline", "The server does not answer. Is “mien serve” still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && (await askKey())) return request(path, options);
  const told = await answer.json().catch(() => ({}));
  const said = told.message ?? `the server answered with status ${answer.status}`;
  throw new Problem(told.error ?? "unknown", sentence(said), answer.status, Number(answer.headers.get("Retry-After")) || 0);
}

function askKey() {
  const dialog = $("key");
  sessionStorage.removeItem("key");
  $("key-word").value = "";
  dialog.returnValue = "cancel"; // what Escape leaves behind
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const given = dialog.returnValue === "go" && $("key-word").value;
        if (given) sessionStorage.setItem("key", given);
        resolve(Boolean(given));
      },
      { once: true },
    );
  });
}

const form = (file, fields = {}) => {
  const data = new FormData();
  data.append("file", file, file.name || "photo");
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  return data;
};

export const service = async () => (await request("v1/service")).json();

/** Wait until the models are loaded; the page is there before they are. */
export async function ready() {
  for (;;) {
    try {
      await request("ready");
      return;
    } catch (problem) {
      if (problem.code !== "loading") throw problem;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** Analyse a file, refused here already where the server would only say that it is too large. */
export async function analyse(file, limits, signal) {
  if (file.size > limits.bytes * 0.99) {
    const size = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
    throw new Problem("too_many_bytes", `This file holds ${size(file.size)}, the limit is ${size(limits.bytes)}. Try a smaller copy.`);
  }
  return (await request("v1/analyses", { method: "POST", body: form(file), signal })).json();
}

export async function edit(file, fields, signal) {
  const headers = { Accept: "application/json" };
  const answer = await (await request("v1/edits", { method: "POST", body: form(file, fields), headers, signal })).json();
  const bytes = Uint8Array.from(atob(answer.image), (letter) => letter.charCodeAt(0));
  return { ...answer, file: new Blob([bytes], { type: answer.media_type }) };
}
