// From a file, or anything else that a browser can draw, to upright pixels.

import { MienError } from "./errors.js";
import { picture } from "./pixels.js";

const STRIP = 4e6; // pixels that are drawn at once: some phones allow no large canvas

/**
 * The pixels of a picture: a Blob, an ImageBitmap, an ImageData, a canvas, a video or a video's frame. EXIF orientation is
 * applied, transparent pixels are put on white, embedded colour profiles are not applied; all as the Python package does.
 */
export async function decode(source, mostPixels) {
  if (globalThis.ImageData && source instanceof ImageData) source = await createImageBitmap(source);
  const bitmap = source instanceof Blob ? await bitmapOf(source) : source;
  const width = bitmap.displayWidth ?? bitmap.videoWidth ?? bitmap.width;
  const height = bitmap.displayHeight ?? bitmap.videoHeight ?? bitmap.height;
  try {
    if (width * height > mostPixels) {
      throw new MienError(`${width} x ${height} pixels is more than the limit of ${mostPixels}: scale the picture down`);
    }
    return drawn(bitmap, width, height);
  } finally {
    if (bitmap !== source) bitmap.close();
  }
}

async function bitmapOf(blob) {
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new MienError("This browser cannot read the picture: it is damaged, or of a format it does not know. Save it as JPEG or PNG.");
  }
}

function drawn(bitmap, width, height) {
  const result = picture(width, height, 4);
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP / width)));
  const canvas = new OffscreenCanvas(width, rows);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < height; top += rows) {
    const part = Math.min(rows, height - top);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, part);
    pen.drawImage(bitmap, 0, -top, width, height);
    result.data.set(pen.getImageData(0, 0, width, part).data, top * width * 4);
  }
  return result;
}
