// One picture from the webcam. The camera runs only while the dialog is open.

import { $, trouble } from "./dom.js";

let stream = null;

function stop() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $("camera-view").srcObject = null;
}

async function start() {
  $("camera-problem").hidden = true;
  $("camera-take").disabled = true;
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("This browser gives the camera only to secure addresses: open the page by https or on localhost.");
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" } });
  } catch (reason) {
    const denied = reason.name === "NotAllowedError";
    throw new Error(denied ? "The browser may not use the camera. Allow it in the address bar, then try again." : "No camera was found. Connect one, or choose a photo instead.");
  }
  if (!$("camera").open) return stop(); // closed while the browser was asking
  $("camera-view").srcObject = stream;
  await $("camera-view").play();
  $("camera-take").disabled = false;
}

/** Open the camera; resolves to a JPEG file, or null when it was closed without a picture. */
export function take() {
  const dialog = $("camera");
  let file = null;
  dialog.showModal();
  start().catch((problem) => trouble($("camera-problem"), problem));
  $("camera-close").onclick = () => dialog.close();
  $("camera-take").onclick = () => {
    const view = $("camera-view");
    const shot = document.createElement("canvas");
    shot.width = view.videoWidth;
    shot.height = view.videoHeight;
    shot.getContext("2d").drawImage(view, 0, 0);
    shot.toBlob(
      (blob) => {
        file = new File([blob], "camera.jpg", { type: "image/jpeg" });
        dialog.close();
      },
      "image/jpeg",
      0.95,
    );
  };
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => (stop(), resolve(file)), { once: true });
  });
}
