// ONNX Runtime Web, and networks that are opened only when their SHA-256 is the one on their card. It imports as little as
// it can, since what it asks for takes longest.

import { MienError } from "./errors.js";
import { unpacked } from "./weights.js";

const NETWORKS = ["detector", "landmarks", "recogniser", "visibility", "actions"];

/** The settings and the networks, by name, of a folder that `mien web` wrote, at the address `root`, which ends with a slash. */
export async function openNetworks(root, threads) {
  const address = (path) => new URL(path, root);
  const ort = openRuntime(address("runtime/"), threads); // all files are asked for at once
  const [settings, ...networks] = await Promise.all([
    file(address("engine/settings.json")).then((answer) => answer.json()),
    ...NETWORKS.map((name) => Network.open(ort, address("weights/"), name)),
  ]);
  return { settings, ...Object.fromEntries(NETWORKS.map((name, n) => [name, networks[n]])) };
}

/** A file of the folder, or an error that says which one cannot be had. */
async function file(address) {
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok) throw new MienError(`${new URL(address).pathname} cannot be loaded: copy the whole folder to the web server again`);
  return answer;
}

/**
 * ONNX Runtime Web from the folder at `address`, with this many threads; without cross-origin isolation a page has no
 * memory that threads could share, and it runs on one.
 */
async function openRuntime(address, threads) {
  const module = (name) => import(new URL(name, address).href);
  const [binary, ort] = await Promise.all([
    decompressed(new URL("ort-wasm-simd-threaded.bin", address)),
    module("ort.wasm.min.mjs"),
    module("ort-wasm-simd-threaded.mjs"), // which the other imports later
  ]);
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.wasmPaths = address.href;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? threads : 1;
  return ort;
}

async function decompressed(address) {
  const { body } = await file(address);
  return new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

class Network {
  constructor(ort, session, card) {
    Object.assign(this, { ort, session, card });
  }

  /** Open the network `name` of the folder at `address`; `runtime` is a promise of what `openRuntime` gives. */
  static async open(runtime, address, name) {
    const content = async (suffix) => file(new URL(`${name}${suffix}`, address));
    const [bytes, card] = await Promise.all([content(".onnx").then((answer) => answer.arrayBuffer()), content(".json").then((answer) => answer.json())]);
    // Browsers have SHA-256 only on secure addresses, which any but a test's or an intranet's is.
    if (globalThis.crypto?.subtle) {
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
      const hexadecimal = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
      if (hexadecimal !== card.sha256) throw new MienError(`${name}.onnx is not the network of its card: copy the whole folder to the web server again`);
    }
    const options = {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      // There are no constants to compute when the weights are floats.
      extra: { session: { intra_op: { allow_spinning: "0" } }, optimization: { disable_specified_optimizers: "ConstantFolding" } },
    };
    const model = unpacked(new Uint8Array(bytes));
    const ort = await runtime;
    const session = await ort.InferenceSession.create(model, options);
    return new Network(ort, session, card);
  }

  /** Run on inputs { name: [type, values, shape] }; returns the values of each output by name. */
  async run(inputs) {
    const feeds = Object.entries(inputs).map(([name, [type, values, shape]]) => [name, new this.ort.Tensor(type, values, shape)]);
    const outputs = await this.session.run(Object.fromEntries(feeds));
    return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data]));
  }
}
