// The pipeline in a Web Worker. Each message asks for one thing and is answered, in order.

import { openNetworks } from "./network.js";

let pipeline = null;
let Follower = null;
const followers = new Map(); // by the number of their stream

const CALLS = {
  async open({ root, threads }) {
    // The networks are asked for before the modules that use them.
    const [networks, { Pipeline }, follower] = await Promise.all([openNetworks(root, threads), import("./pipeline.js"), import("./follower.js")]);
    pipeline = new Pipeline(networks);
    ({ Follower } = follower);
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
  async follow({ source, stream, time, options }) {
    if (!followers.has(stream)) followers.set(stream, new Follower(pipeline));
    try {
      return await pipeline.follow(followers.get(stream), source, time, options);
    } finally {
      source.close?.();
    }
  },
  async forget({ stream }) {
    followers.delete(stream);
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
