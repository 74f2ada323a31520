// Talks to the server: adds the key where one is asked for, turns every failure into a Problem with a readable line.

import { $ } from "./dom.js";

const QUALITY = 0.85; // of the JPEG of a frame

export class Problem extends Error {
  constructor(code, message, status = 0, retryAfter = 0) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

// What a person at the page can do differs from what a program or the server's owner can.
const NO_PICTURE = "That is not a picture. Choose a JPEG, PNG, WebP or HEIC file.";
const WORDS = {
  defect: "Something went wrong on the server. Try another photo, and tell the person who runs the server.",
  loading: "The server is still starting. Try again in a few seconds.",
  no_models: "The server cannot read faces at the moment. Tell the person who runs it.",
  no_provenance: "The server cannot record in the file that it was edited, so it does not edit. Tell the person who runs it.",
  no_editor: "This server reads faces and does not edit them.",
  no_face: "No face was found. Try a photo in which the face is larger, upright, and not covered.",
  too_slow: "That took too long. Try a smaller copy of the photo.",
  busy: "The server is busy. Try again in a moment.",
  stopping: "The server is being stopped. Try again later.",
  wrong_host: "The server does not know the address of this page. Tell the person who runs it.",
  too_many_jobs: "The server is busy with other videos. Try again in a few minutes.",
  disk_full: "The server has no room for this at the moment. Try again later.",
  no_video: "This server cannot read whole videos. Tell the person who runs it.",
  no_job: "The server no longer has this video. Try again.",
  damaged_video: "The video cannot be read: the file is damaged, or of a kind that is not read. Try an MP4 or WebM file.",
  damaged_picture: "The picture cannot be read: its file is damaged. Copy, download or convert it again.",
  not_a_picture: NO_PICTURE,
  wrong_media_type: NO_PICTURE,
};

/** A refusal in words for people: what only the server's owner or a program can do is left out. */
export const plain = (code, message) => WORDS[code] ?? sentence(message.replace(/(,? or|,|:) [^,:]*--[^,:]*/g, ""));

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
  throw new Problem(told.error ?? "unknown", plain(told.error ?? "defect", told.message ?? ""), answer.status, Number(answer.headers.get("Retry-After")) || 0);
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

/** Refuse a file here already where the server would only say that it is too large. */
function checkSize(file, most, remedy) {
  if (file.size <= most * 0.99) return;
  const size = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
  throw new Problem("too_many_bytes", `This file holds ${size(file.size)}, the limit is ${size(most)}. ${remedy}`);
}

export async function analyse(file, limits, signal) {
  checkSize(file, limits.bytes, "Try a smaller copy.");
  return (await request("v1/analyses", { method: "POST", body: form(file), signal })).json();
}

/** The file of a table of analyses, without facial points. */
export async function table(analyses, format) {
  const lines = new Blob(analyses.map((one) => `${JSON.stringify(one)}\n`));
  return (await request("v1/tables", { method: "POST", body: form(lines, { format, landmarks: false }) })).blob();
}

const LOOK_AGAIN = 400; // milliseconds between two questions of how far a video is

/** Let the server read a whole video. `told` gets each state on the way; the answer is its files by name, and a note. */
export async function video(file, fields, limits, signal, told) {
  checkSize(file, limits.job_bytes, "A shorter video, or a smaller one, may work.");
  const { id } = await (await request("v1/videos", { method: "POST", body: form(file, fields), signal })).json();
  const place = `v1/jobs/${id}`;
  try {
    for (;;) {
      const job = await (await request(place, { signal })).json();
      if (job.state === "done") {
        const files = {};
        for (const name of job.files) files[name] = await (await request(`${place}/files/${name}`, { signal })).blob();
        return { files, note: job.problem?.message ?? "" };
      }
      if (job.problem) throw new Problem(job.problem.error, plain(job.problem.error, job.problem.message));
      if (job.state === "cancelled") throw new Problem("cancelled", "The server stopped reading the video. Try again.");
      told(job);
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN));
    }
  } catch (problem) {
    request(place, { method: "DELETE" }).catch(() => {}); // it may be gone already
    throw problem;
  }
}

/**
 * A stream of frames: `ask` sends a canvas and resolves to its answer. The next may be sent when the answer is there.
 * A browser cannot add headers to it, so the key is offered as a subprotocol.
 */
export async function stream(keyNeeded) {
  if (keyNeeded) await request("v1/models"); // asks for the key
  const key = sessionStorage.getItem("key");
  const coded = key && btoa(key).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const address = new URL("v1/live", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address, ["mien.live", ...(coded ? [`mien.key.${coded}`] : [])]);
  let waiting = null;
  const next = () =>
    new Promise((resolve, reject) => {
      waiting = { resolve, reject };
    });
  socket.addEventListener("message", ({ data }) => waiting?.resolve(JSON.parse(data)));
  const closed = () => new Problem("closed", "The server takes no more live pictures at the moment. Try again in a minute.");
  socket.addEventListener("close", () => waiting?.reject(closed()));
  const { columns } = await next();
  return {
    columns,
    open: () => socket.readyState === WebSocket.OPEN,
    close: () => socket.close(),
    async ask(canvas) {
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
      if (socket.readyState !== WebSocket.OPEN) throw closed(); // meanwhile, perhaps by this page
      const answer = next();
      socket.send(blob);
      const told = await answer;
      if (told.error) throw new Problem(told.error, plain(told.error, told.message));
      return told;
    },
  };
}

export async function edit(file, fields, signal) {
  const headers = { Accept: "application/json" };
  const answer = await (await request("v1/edits", { method: "POST", body: form(file, fields), headers, signal })).json();
  const bytes = Uint8Array.from(atob(answer.image), (letter) => letter.charCodeAt(0));
  return { ...answer, file: new Blob([bytes], { type: answer.media_type }) };
}

/** The pixels of a photo that the browser cannot show, as the server shows it: an edit that changes nothing. */
export async function pixels(file, signal) {
  const same = await edit(file, { target: "neutral", intensity: 0, force: true, format: "jpg" }, signal);
  return createImageBitmap(same.file);
}
