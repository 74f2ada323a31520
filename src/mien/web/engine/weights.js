// The weights of a network as float32, which its file stores as int8 or in half precision (mien.training.onnx_export).
// ONNX Runtime can do it too, when it opens the file, but its code for that costs a second of processor time to compile.

const [FLOAT, INT8, HALF] = [1, 3, 10]; // ONNX's numbers of the types
const text = new TextDecoder();
const bytesOf = new TextEncoder();

/** The fields of a message of protocol buffers, in order: { number, value, bytes }; `value` is a number or bytes. */
function* fields(data) {
  let at = 0;
  const integer = () => {
    let [value, factor] = [0, 1];
    for (;;) {
      const byte = data[at];
      at += 1;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
  };
  while (at < data.length) {
    const start = at;
    const key = integer();
    const kind = key & 7;
    let value = null;
    if (kind === 0) value = integer();
    else {
      const length = { 1: 8, 5: 4 }[kind] ?? integer();
      value = data.subarray(at, at + length);
      at += length;
    }
    yield { number: key >>> 3, value, bytes: data.subarray(start, at) };
  }
}

function integer(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Uint8Array.from([...bytes, value]);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A field of bytes. */
const field = (number, content) => joined([integer(number * 8 + 2), integer(content.length), content]);

function tensorOf(message) {
  const tensor = { dims: [] };
  for (const { number, value } of fields(message)) {
    if (number === 1) tensor.dims.push(value);
    if (number === 2) tensor.type = value;
    if (number === 8) tensor.name = text.decode(value);
    if (number === 9) tensor.raw = value.slice().buffer; // a copy, since floats lie at multiples of four bytes
  }
  return tensor;
}

function nodeOf(message) {
  const node = { inputs: [], kind: "" };
  for (const { number, value } of fields(message)) {
    if (number === 1) node.inputs.push(text.decode(value));
    if (number === 2) node.output = text.decode(value);
    if (number === 4) node.kind = text.decode(value);
  }
  return node;
}

const stored = ({ name, dims, values }) =>
  field(5, joined([...dims.flatMap((length) => [integer(8), integer(length)]), integer(16), integer(FLOAT), field(8, bytesOf.encode(name)), field(9, new Uint8Array(values.buffer))]));

// Plain loops, as they run but once, before the browser has made them fast.

/** Numbers in half precision as floats. */
function floats(halves) {
  const steps = Float32Array.from({ length: 32 }, (_, power) => 2 ** (Math.max(power, 1) - 25)); // between two neighbours
  const values = new Float32Array(halves.length);
  for (let n = 0; n < halves.length; n += 1) {
    const half = halves[n];
    const power = (half >> 10) & 31;
    const size = ((half & 1023) + (power ? 1024 : 0)) * steps[power];
    values[n] = half >> 15 ? -size : size;
  }
  return values;
}

/** Values with a scale for each channel, of equally many values in order. */
function scaled(values, scales) {
  const length = values.length / scales.length;
  const products = new Float32Array(values.length);
  for (let channel = 0, n = 0; channel < scales.length; channel += 1) {
    const scale = scales[channel];
    for (let end = n + length; n < end; n += 1) products[n] = values[n] * scale;
  }
  return products;
}

/** A network's file with all weights in float32, without the nodes that make them so. */
export function unpacked(model) {
  return joined([...fields(model)].map(({ number, value, bytes }) => (number === 7 ? field(7, unpackedGraph(value)) : bytes)));
}

function unpackedGraph(graph) {
  const parts = [...fields(graph)];
  const tensors = new Map();
  for (const { number, value } of parts) {
    if (number !== 5) continue;
    const tensor = tensorOf(value);
    tensors.set(tensor.name, tensor);
  }
  const made = new Map();
  const used = new Set();
  const unpacks = ({ inputs: [first, second], output, kind }) => {
    const tensor = tensors.get(first);
    if (kind === "Cast" && (tensor?.type === INT8 || tensor?.type === HALF)) {
      const values = tensor.type === HALF ? floats(new Uint16Array(tensor.raw)) : new Float32Array(new Int8Array(tensor.raw));
      made.set(output, { name: output, dims: tensor.dims, values, scaled: tensor.type === HALF });
      used.add(first);
      return true;
    }
    if (kind !== "Mul" || !made.has(first) || made.get(first).scaled) return false;
    const { dims, values } = made.get(first);
    made.set(output, { name: output, dims, values: scaled(values, new Float32Array(tensors.get(second).raw)), scaled: true });
    made.delete(first);
    used.add(second);
    return true;
  };
  const kept = parts.filter(({ number, value }) => number !== 1 || !unpacks(nodeOf(value)));
  const rest = kept.filter(({ number, value }) => number !== 5 || !used.has(tensorOf(value).name));
  return joined([...rest.map(({ bytes }) => bytes), ...[...made.values()].map(stored)]);
}
