// The pipeline in a Web Worker. Each message asks for one thing and is answered, in order.

import { Pipeline } from "./pipeline.js";

let pipeline = null;

const CALLS = {
  async open({ root, threads }) {
    pipeline = await Pipeline.open(root, threads);
    return { settings: pipeline.settings, labels: pipeline.recogniser.labels };
  },
  async operate(point) {
    pipeline.recogniser.operate(point);
    return pipeline.recogniser.labels;
  },
  async analyse({ source, options }) {
    try {
      return await pipeline.analyse(source, options);
    } finally {
      source.close?.();
    }
  },
};

let turn = Promise.resolve();

addEventListener("message", ({ data: { id, call, given } }) => {
  turn = turn.then(async () => {
    try {
      postMessage({ id, answer: await CALLS[call](given) });
    } catch (problem) {
      postMessage({ id, problem: { name: problem.name, message: problem.message } });
    }
  });
});
