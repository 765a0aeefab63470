// The trained networks, computed in the page as torch computes them. Weights come from
// tools/train_live_models.py; tests/test_live_figures.py compares every output.

import { affine, dot, sigmoid, sinusoid, softmax } from "./mathematics.mjs";

const PADDING = 0;
const START = 1;
const END = 2;

const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;

/** Undo the packing: whole numbers from -127 to 127, and one factor for each row. */
export function unpack(packed) {
  return Object.fromEntries(
    Object.entries(packed).map(([name, { shape, scales, values }]) => {
      const factors = new DataView(bytes(scales));
      const integers = new Int8Array(bytes(values));
      const columns = integers.length / shape[0];
      const rows = Array.from({ length: shape[0] }, (_, i) => {
        const row = integers.subarray(i * columns, (i + 1) * columns);
        return Float64Array.from(row, (x) => x * factors.getFloat32(4 * i, true));
      });
      return [name, shape.length === 1 ? Float64Array.from(rows, ([x]) => x) : rows];
    }),
  );
}

/** Split a vector into equal parts. */
const chunks = (vector, count) => {
  const size = vector.length / count;
  return Array.from({ length: count }, (_, k) => vector.subarray(k * size, (k + 1) * size));
};

/** One step of an LSTM, with its gates. */
export function lstmStep(input, { hidden, cell }, { weightIH, weightHH, biasIH, biasHH }) {
  const fromHidden = affine(weightHH, hidden, biasHH);
  const gates = affine(weightIH, input, biasIH).map((x, k) => x + fromHidden[k]);
  const [i, f, g, o] = chunks(gates, 4);
  const step = { input: i.map(sigmoid), forget: f.map(sigmoid), output: o.map(sigmoid) };
  step.cell = cell.map((c, k) => step.forget[k] * c + step.input[k] * Math.tanh(g[k]));
  step.hidden = step.cell.map((c, k) => step.output[k] * Math.tanh(c));
  return step;
}

/** One step of a GRU whose reset gate acts after the matrix product. */
export function gruStep(input, hidden, { weightIH, weightHH, biasIH, biasHH }) {
  const [xr, xz, xn] = chunks(affine(weightIH, input, biasIH), 3);
  const [hr, hz, hn] = chunks(affine(weightHH, hidden, biasHH), 3);
  return hidden.map((h, k) => {
    const reset = sigmoid(xr[k] + hr[k]);
    const keep = sigmoid(xz[k] + hz[k]);
    return (1 - keep) * Math.tanh(xn[k] + reset * hn[k]) + keep * h;
  });
}

const layer = (weights, prefix, suffix = "") => ({
  weightIH: weights[`${prefix}.weight_ih_l0${suffix}`],
  weightHH: weights[`${prefix}.weight_hh_l0${suffix}`],
  biasIH: weights[`${prefix}.bias_ih_l0${suffix}`],
  biasHH: weights[`${prefix}.bias_hh_l0${suffix}`],
});

/** Read one more symbol: the gates, both states, and the logits of the symbol after it. */
export function readCharacter(weights, id, state) {
  const next = lstmStep(weights["embedding.weight"][id], state, layer(weights, "layer"));
  return { ...next, logits: affine(weights["readout.weight"], next.hidden, weights["readout.bias"]) };
}

/** Read symbols, from a state of zeros. */
export function readCharacters(weights, ids) {
  const size = weights["readout.weight"][0].length;
  let step = { hidden: new Float64Array(size), cell: new Float64Array(size) };
  return ids.map((id) => (step = readCharacter(weights, id, step)));
}

/** Read a word with a GRU in both directions: a vector for each letter, and the last state. */
export function encodeWord(weights, ids) {
  const run = (letters, suffix) => {
    const gru = layer(weights, "encoder", suffix);
    let hidden = new Float64Array(gru.weightHH[0].length);
    return letters.map((id) => (hidden = gruStep(weights["source_embedding.weight"][id], hidden, gru)));
  };
  const forwards = run(ids, "");
  const backwards = run([...ids].reverse(), "_reverse").reverse();
  const join = (a, b) => Float64Array.from([...a, ...b]);
  return {
    values: forwards.map((vector, t) => join(vector, backwards[t])),
    final: join(forwards.at(-1), backwards[0]),
  };
}

/** Logits after one more symbol, where the decoder looked, and its new state. */
export function decodeStep(weights, symbol, hidden, values) {
  const state = gruStep(weights["target_embedding.weight"][symbol], hidden, layer(weights, "decoder"));
  const query = affine(weights["query.weight"], state);
  const looks = softmax(values.map((value) => dot(query, value) / Math.sqrt(query.length)));
  const joined = new Float64Array(2 * state.length);
  values.forEach((value, t) => value.forEach((x, k) => (joined[k] += looks[t] * x)));
  joined.set(state, state.length);
  const combined = affine(weights["combine.weight"], joined, weights["combine.bias"]).map(Math.tanh);
  return { logits: affine(weights["readout.weight"], combined, weights["readout.bias"]), looks, state };
}

/** Probabilities of the symbols that may be written: all but padding and the start. */
const writable = (logits) => softmax(logits.map((x, id) => (id === PADDING || id === START ? -Infinity : x)));

/** Write the most probable symbol at each step, until the end or `longest` symbols. */
export function pronounce(weights, letters, longest) {
  const { values, final } = encodeWord(weights, [...letters, END]);
  const steps = [];
  let [symbol, state] = [START, final];
  while (steps.length < longest && symbol !== END) {
    const step = decodeStep(weights, symbol, state, values);
    const probabilities = writable(step.logits);
    symbol = probabilities.indexOf(Math.max(...probabilities));
    state = step.state;
    steps.push({ symbol, looks: step.looks, logits: step.logits, probability: probabilities[symbol] });
  }
  return steps;
}

/** Says of a letter whether it is one of a speller's, after the three symbols that are no letters. */
export const knownTo = (alphabet) => (letter) => letter.length === 1 && alphabet.indexOf(letter) > 2;

/** What the speller would write after a prefix, for `beamSearch`. */
export function speller(weights, letters) {
  const { values, final } = encodeWord(weights, [...letters, END]);
  return (prefix) => {
    const before = prefix.parent ? prefix.parent.state : final;
    const step = decodeStep(weights, prefix.symbols.at(-1) ?? START, before, values);
    prefix.state = step.state;
    return writable(step.logits);
  };
}

/** A vector with mean 0 and variance 1, then a factor and a summand for each entry. */
export function layerNorm(x, weight, bias) {
  const mean = x.reduce((sum, each) => sum + each, 0) / x.length;
  const centred = x.map((each) => each - mean);
  const deviation = Math.sqrt(dot(centred, centred) / x.length + 1e-5);
  return centred.map((each, k) => (each / deviation) * weight[k] + bias[k]);
}

/** Queries, keys and values of a vector, each in several heads. */
const projected = (x, heads, { inWeight, inBias }) => chunks(affine(inWeight, x, inBias), 3).map((part) => chunks(part, heads));

/** The weights of a query on some keys, and the mean of their values with these weights. */
function look(query, keys, values) {
  const weights = softmax(keys.map((key) => dot(query, key) / Math.sqrt(query.length)));
  const mixed = new Float64Array(query.length);
  weights.forEach((share, s) => values[s].forEach((value, k) => (mixed[k] += share * value)));
  return { weights, mixed };
}

/** Attention of each vector to itself and those before it, in several heads: the outputs, and the
    weights of each head as rows of queries, as long as the past. */
function causalAttention(inputs, heads, maps) {
  const parts = inputs.map((x) => projected(x, heads, maps));
  const found = parts.map(([queries], t) =>
    queries.map((query, head) => {
      const past = parts.slice(0, t + 1);
      return look(query, past.map(([, keys]) => keys[head]), past.map(([, , values]) => values[head]));
    }),
  );
  return {
    outputs: found.map((each) => affine(maps.outWeight, each.flatMap(({ mixed }) => [...mixed]), maps.outBias)),
    looks: Array.from({ length: heads }, (_, head) => found.map((each) => each[head].weights)),
  };
}

/** A layer of the Transformer: its norm, its attention's matrices, and its network at one position. */
function transformerLayer(weights, number) {
  const named = (name) => weights[`encoder.layers.${number}.${name}`];
  const norm = (x, name) => layerNorm(x, named(`${name}.weight`), named(`${name}.bias`));
  const maps = {
    inWeight: named("self_attn.in_proj_weight"),
    inBias: named("self_attn.in_proj_bias"),
    outWeight: named("self_attn.out_proj.weight"),
    outBias: named("self_attn.out_proj.bias"),
  };
  const add = (x, more) => x.map((each, k) => each + more[k]);
  /** What the layer makes of a vector and what its attention found for it. */
  const after = (x, output) => {
    const attended = add(x, output);
    const inner = affine(named("linear1.weight"), norm(attended, "norm2"), named("linear1.bias"));
    return add(attended, affine(named("linear2.weight"), inner.map((each) => Math.max(0, each)), named("linear2.bias")));
  };
  return { before: (x) => norm(x, "norm1"), maps, after };
}

const embedded = (weights, id, position, width) => {
  const code = sinusoid(position, width);
  return weights["embedding.weight"][id].map((x, k) => x + code[k]);
};

const logitsOf = (weights, x) => {
  const final = layerNorm(x, weights["encoder.norm.weight"], weights["encoder.norm.bias"]);
  return affine(weights["readout.weight"], final, weights["readout.bias"]);
};

/** Read letters with a Transformer that looks back only: looks[layer][head][t] are the weights
    of letter t on those so far, logits[t] those of the letter after it. */
export function readWithHeads(weights, ids, { layers, heads, d_model: width }) {
  let states = ids.map((id, t) => embedded(weights, id, t, width));
  const looks = [];
  for (let number = 0; number < layers; number++) {
    const { before, maps, after } = transformerLayer(weights, number);
    const attention = causalAttention(states.map(before), heads, maps);
    looks.push(attention.looks);
    states = states.map((x, t) => after(x, attention.outputs[t]));
  }
  return { looks, logits: states.map((x) => logitsOf(weights, x)) };
}

/** A cache without letters: cache[layer][head] will hold a key and a value of each. */
export const emptyCache = ({ layers, heads }) =>
  Array.from({ length: layers }, () => Array.from({ length: heads }, () => ({ keys: [], values: [] })));

/** How many numbers a cache holds. */
export const numbersIn = (cache) =>
  cache.flat().flatMap(({ keys, values }) => [...keys, ...values]).reduce((sum, { length }) => sum + length, 0);

/** Read one more letter and keep its keys and values: looks[layer][head] are its weights on those
    so far, as `readWithHeads` has them, but only this position is computed. */
export function readOneMore(weights, id, cache, { heads, d_model: width }) {
  let state = embedded(weights, id, cache[0][0].keys.length, width);
  const looks = cache.map((kept, number) => {
    const { before, maps, after } = transformerLayer(weights, number);
    const [queries, keys, values] = projected(before(state), heads, maps);
    const found = kept.map((past, head) => {
      past.keys.push(keys[head].slice()); // a copy, so that the query is not kept too
      past.values.push(values[head].slice());
      return look(queries[head], past.keys, past.values);
    });
    state = after(state, affine(maps.outWeight, found.flatMap(({ mixed }) => [...mixed]), maps.outBias));
    return found.map((each) => each.weights);
  });
  return { looks, logits: logitsOf(weights, state) };
}
