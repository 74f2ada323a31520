// Analyses in this browser, for the modules that the page has in common with that of `mien serve`.

import { load } from "./engine/analyser.js";

let opening = null;

/** The analyser; it is opened once. A failure is told to all that wait, and the next call tries again. */
function analyser() {
  opening ??= load().catch((problem) => {
    opening = null;
    throw problem;
  });
  return opening;
}

analyser().catch(() => {}); // at once, while the page is put together; who waits for it is told of a failure

/** Wait until the networks are loaded; the page is there before they are. */
export const ready = async () => void (await analyser());

let tell = null;

/** Kept when the first file has been analysed. */
export const answered = new Promise((resolve) => {
  tell = resolve;
});

/** Analyse a file. */
export async function analyse(file) {
  try {
    return await (await analyser()).analyse(file, { name: file.webkitRelativePath || file.name });
  } finally {
    tell();
  }
}

/** Use a file of `mien adapt`, or none. */
export const adapt = async (adaptation) => (await analyser()).operate({ adaptation });

/** The columns of `mien predict`, and the rows of an analysis. */
export const columns = async () => (await analyser()).columns();
export const rows = async (analysis) => (await analyser()).rows(analysis);

/** A stream of frames, as that of a server. */
export async function stream() {
  const opened = await analyser();
  const columns = opened.columns();
  const frames = opened.stream();
  return {
    columns,
    open: () => true,
    close: () => frames.close(),
    async ask(canvas, time) {
      const analysis = await frames.analyse(canvas, { time });
      return { analysis, rows: opened.rows(analysis).map((row) => columns.map((name) => row[name])) };
    },
  };
}
