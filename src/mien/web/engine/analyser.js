// What a page uses: the pipeline in a Web Worker, so that the page stays responsive.

import { columns, rows } from "./columns.js";
import { MienError } from "./errors.js";

export { MienError };

/**
 * Open the networks. `threads` are those of each network: with two a frame takes an eighth less time on idle processors,
 * but more than twice as long on busy ones, where the threads of networks this small mostly wait for one another.
 */
export async function load({ threads = 1 } = {}) {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const analyser = new Analyser(worker);
  try {
    await analyser.open(new URL("../", import.meta.url).href, threads);
  } catch (problem) {
    analyser.close();
    throw problem;
  }
  return analyser;
}

class Analyser {
  #worker;
  #waiting = new Map();
  #count = 0;

  constructor(worker) {
    this.#worker = worker;
    worker.addEventListener("message", ({ data: { id, answer, problem } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (!problem) resolve(answer);
      else reject(problem.name === "MienError" ? new MienError(problem.message) : new Error(`${problem.name}: ${problem.message}`));
    });
    worker.addEventListener("error", (event) => {
      const reason = new MienError(`The analysis cannot start (${event.message || "its script cannot be loaded"}): copy the whole folder to the web server again.`);
      for (const { reject } of this.#waiting.values()) reject(reason);
      this.#waiting.clear();
    });
  }

  #call(call, given, transfer = []) {
    this.#count += 1;
    const id = this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call, given }, transfer);
    });
  }

  async open(root, threads) {
    const { settings, labels } = await this.#call("open", { root, threads });
    this.settings = settings;
    this.labels = labels;
  }

  /**
   * Analyse a picture: a File or Blob, an <img>, a <canvas>, a <video>'s frame, an ImageBitmap or an ImageData.
   *
   * Options: `name` (the result's source), `boxes` [{ x, y, width, height }] to analyse instead of searching for faces,
   * `embeddings` (also give feature vectors).
   */
  async analyse(source, options = {}) {
    if (source instanceof Blob) return this.#call("analyse", { source, options: { name: source.name ?? "blob", ...options } });
    if (source instanceof HTMLImageElement) await source.decode();
    const bitmap = await createImageBitmap(source, { colorSpaceConversion: "none" });
    return this.#call("analyse", { source: bitmap, options }, [bitmap]);
  }

  /**
   * A stream of the frames of one camera or video, in order, which takes less time than pictures: in between two searches
   * faces are followed from where they were, as `mien video` does. `analyse` takes what the analyser's takes, except
   * files, and the frame's `time` in seconds; a new face beside others can be missed for up to 0.8 s.
   */
  stream() {
    this.#count += 1;
    const stream = this.#count;
    return {
      analyse: async (source, { time = performance.now() / 1000, ...options } = {}) => {
        const bitmap = await createImageBitmap(source, { colorSpaceConversion: "none" });
        return this.#call("follow", { source: bitmap, stream, time, options }, [bitmap]);
      },
      close: () => this.#call("forget", { stream }),
    };
  }

  /** Set the operating point: `prior` ("trained", "uniform" or shares by label) and `adaptation` (a file of `mien adapt`). */
  async operate({ prior = null, adaptation = null }) {
    this.labels = await this.#call("operate", { prior, adaptation });
    return this.labels;
  }

  /** The columns of `mien predict`, and the rows of an analysis: one for each face, or one without. */
  columns(landmarks = true) {
    return columns(this.settings, this.labels, landmarks);
  }

  rows(analysis, landmarks = true) {
    return rows(analysis, this.settings, this.labels, landmarks);
  }

  /** End the worker. */
  close() {
    this.#worker.terminate();
  }
}
