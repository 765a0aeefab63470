// A small decoder-only model writes, letter by letter: where its heads look back, what it expects
// next, what is drawn, and how its cache grows.

import { emptyCache, numbersIn, readOneMore, unpack } from "./networks.mjs";
import { samplingDistribution, softmax, symbolAt, uniforms } from "./mathematics.mjs";
import { button, buttons, choice, controls, fixed, html, leftOut, lettersOfText, oncePerFrame, percent, picture, quoted, redrawOnChange, sayer, slider, svg, textField } from "./drawing.mjs";
import { largest, nameOfHead, shown } from "./heads.mjs";
import { card, notable, shape, symbols, weights as packed } from "./weights-heads.mjs";

export const TRAINED = 64; // letters in a window of its training
export const LONGEST = { beginning: 32, text: 96 };
export const BEYOND = 5.3; // bits per character of unseen text after 65 to 96 letters
export const EXAMPLES = ["said the ", "said the Quee", "Alice was"];
const START = { temperature: 1, topP: 0.9, seed: 7, head: 0 };
const ALL = 21; // on the slider of top-k
const PAUSE = 220; // milliseconds between two letters, fewer than `sayer` waits for
const COLUMNS = 32; // letters in a line
const LINE = { bar: 30, high: 50 };
const TOP = { text: 22, heads: 214, bars: 388 };
const HEAD = { high: 13, gap: 5, left: 30 };
const TALL = 76; // a bar of probability 1
const MOST = 8; // symbols that are named
const UNKNOWN = symbols.indexOf("<unk>");

/** Begin a text: read its first letters. Further ones are drawn with the numbers of a seed. */
export function begin(weights, ids, seed) {
  const random = uniforms(seed);
  const text = { weights, ids: [], cache: emptyCache(shape), random, uniform: random() };
  for (const id of ids) read(text, id);
  return text;
}

/** Read one more letter, with what the cache holds of those before. */
function read(text, id) {
  text.ids.push(id);
  Object.assign(text, readOneMore(text.weights, id, text.cache, shape));
}

/** What the network gives the next symbol, what it is drawn from, and what is drawn. */
export function drawNext({ logits, uniform }, settings) {
  const writable = logits.map((x, id) => (id === UNKNOWN ? -Infinity : x));
  const expected = softmax(writable);
  const probabilities = samplingDistribution(writable, settings);
  return { expected, probabilities, symbol: symbolAt(probabilities, uniform) };
}

/** Append a symbol that was drawn. */
export function append(text, symbol) {
  read(text, symbol);
  text.uniform = text.random();
}

export function mount(room, description) {
  const weights = unpack(packed);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const view = picture(TOP.bars + TALL + 36, description);
  const { element: says, say } = sayer(room.parentElement.clientWidth < 450 ? 10 : 6);
  let beginning = EXAMPLES[0];
  let unknown;
  let begun; // letters of the beginning
  let text;
  let next;
  let timer;

  const settings = () => {
    const k = Number(topK.input.value);
    return { temperature: Number(temperature.input.value), topK: k === ALL ? Infinity : k, topP: Number(topP.input.value) };
  };
  const full = () => !begun || text.ids.length === LONGEST.text;

  function choose() {
    next = begun ? drawNext(text, settings()) : undefined;
    onwards.setAttribute("aria-disabled", String(full()));
    write.setAttribute("aria-disabled", String(full()));
    again.setAttribute("aria-disabled", String(!begun || text.ids.length === begun));
    redraw();
  }

  function start() {
    stop();
    const { known, unknown: left } = lettersOfText(beginning, symbols, LONGEST.beginning);
    unknown = left;
    begun = known.length;
    text = begin(weights, known.map((letter) => symbols.indexOf(letter)), Number(seed.input.value));
    choose();
  }

  function step() {
    if (full()) return;
    append(text, next.symbol);
    choose();
  }

  function stop() {
    clearTimeout(timer);
    timer = undefined;
    write.textContent = "Write";
  }

  /** Write to the end of the trained length, and when that is reached, beyond. */
  function goOn() {
    if (full()) return;
    const goal = text.ids.length < TRAINED ? TRAINED : LONGEST.text;
    const one = () => {
      step();
      if (text.ids.length === goal) stop();
      else timer = setTimeout(one, PAUSE);
    };
    if (still.matches) {
      while (text.ids.length < goal) step();
    } else {
      write.textContent = "Stop";
      one();
    }
  }

  function draw() {
    const width = view.clear(room);
    const excuse = leftOut(unknown, "Alice has none");
    if (!begun) return say(`Type a few letters.${excuse}`);
    const chosen = notable[headChoice.input.value];
    drawText(width, text.looks[chosen.layer][chosen.head]);
    drawHeads(width, chosen);
    drawBars(width);
    say(`${told(chosen)}${excuse}`);
  }

  const words = (x, y, content, look = "", attributes = {}) => view.layer.append(svg("text", { class: `live-text ${look}`, x, y, ...attributes }, content));
  const middle = { "text-anchor": "middle" };
  const own = { style: "fill: var(--live-Transformer)" };

  /** The letters so far, with the weights of the chosen head as bars, and the symbol that is drawn. */
  function drawText(width, looks) {
    const cell = width / COLUMNS;
    const at = (k) => [cell * (k % COLUMNS), TOP.text + LINE.high * Math.floor(k / COLUMNS)];
    const last = text.ids.length - 1;
    words(0, 12, "Weights of one head over the letters so far");
    const [, beyond] = at(TRAINED);
    view.layer.append(svg("rect", { class: "live-masked", x: 0, y: beyond, width, height: LINE.high - 4 }));
    if (last < TRAINED - 1) words(width / 2, beyond + 27, "places that it never saw in training", "", middle);
    text.ids.forEach((id, k) => {
      const [x, y] = at(k);
      const letter = shown(symbols[id]);
      view.layer.append(
        svg("rect", { class: "live-track", x, y, width: cell - 1, height: LINE.bar }),
        svg("rect", { x, y: y + LINE.bar * (1 - looks[k]), width: cell - 1, height: LINE.bar * looks[k], style: "fill: var(--live-with-attention)" }),
      );
      words(x + cell / 2, y + 43, letter, `live-letter ${letter === "␣" ? "live-quiet" : ""}`, { ...middle, ...(k < begun || letter === "␣" ? {} : own) });
    });
    const frame = (k, attributes) => {
      const [x, y] = at(k);
      view.layer.append(svg("rect", { class: "live-frame", x: x - 0.5, y: y - 0.5, width: cell, height: LINE.high - 3, ...attributes }));
    };
    frame(last);
    if (full()) return;
    const [x, y] = at(last + 1);
    frame(last + 1, { style: "stroke: var(--live-Transformer)", "stroke-dasharray": "3 2" });
    words(x + cell / 2, y + 43, shown(symbols[next.symbol]), "live-letter live-value", { ...middle, ...own });
  }

  /** A row of cells for each head: its weights on the letters so far, and what the cache keeps. */
  function drawHeads(width, chosen) {
    const { layers, heads } = shape;
    const cell = (width - HEAD.left) / LONGEST.text;
    const top = (layer, head) => TOP.heads + HEAD.high * (heads * layer + head) + HEAD.gap * layer;
    const right = HEAD.left + cell * LONGEST.text;
    const limit = HEAD.left + cell * TRAINED;
    const bottom = top(layers - 1, heads);
    const count = text.ids.length;
    words(0, TOP.heads - 24, `All heads: ${layers} layers of ${heads}`);
    words(0, TOP.heads - 8, `Cache: ${count} × ${layers * heads} cells of ${numbersIn(text.cache) / count / layers / heads} = ${numbersIn(text.cache).toLocaleString("en")} numbers`);
    view.layer.append(svg("rect", { class: "live-masked", x: limit, y: TOP.heads, width: right - limit, height: bottom - TOP.heads }));
    text.looks.forEach((rows, layer) =>
      rows.forEach((looks, head) => {
        const y = top(layer, head);
        const picked = layer === chosen.layer && head === chosen.head;
        words(0, y + 10.5, `${layer + 1}.${head + 1}`, `live-small ${picked ? "live-value" : "live-quiet"}`);
        looks.forEach((share, k) => {
          view.layer.append(svg("rect", { class: "live-cell", x: (HEAD.left + cell * k).toFixed(2), y, width: Math.max(cell - 1, cell * 0.8).toFixed(2), height: HEAD.high - 1, style: `fill: color-mix(in srgb, var(--live-with-attention) ${(100 * share).toFixed(0)}%, var(--pst-color-surface))` }));
        });
        if (picked) view.layer.append(svg("rect", { class: "live-frame", x: HEAD.left - 1, y: y - 1, width: cell * count + 1, height: HEAD.high + 1 }));
        const row = svg("rect", { class: "live-row", x: 0, y, width, height: HEAD.high });
        row.addEventListener("click", () => {
          headChoice.input.value = notable.findIndex((each) => each.layer === layer && each.head === head);
          redraw();
        });
        view.layer.append(row);
      }),
    );
    words(limit, bottom + 15, `${TRAINED}: longest in training`, "live-small live-quiet", { "text-anchor": "end" });
    words(right, bottom + 15, String(LONGEST.text), "live-small live-quiet", { "text-anchor": "end" });
  }

  /** The most probable next symbols and the drawn one, as the network has them and as they are drawn. */
  function drawBars(width) {
    const { expected, probabilities, symbol } = next;
    const { temperature: t, topK: k, topP: p } = settings();
    words(0, TOP.bars - 24, "Next: expected (outline), drawn from (filled)");
    words(0, TOP.bars - 8, `T = ${fixed(t, 1)}, k = ${k === Infinity ? "all" : k}, p = ${fixed(p)}; random number ${fixed(text.uniform, 3)}`);
    const order = [...expected.keys()].filter((id) => id !== UNKNOWN).sort((a, b) => expected[b] - expected[a]);
    const named = order.slice(0, MOST);
    if (!named.includes(symbol)) named[MOST - 1] = symbol;
    const sum = (values) => order.reduce((total, id) => total + (named.includes(id) ? 0 : values[id]), 0);
    const columns = named.map((id) => [shown(symbols[id]), expected[id], probabilities[id]]);
    columns.push([`${order.length - MOST} others`, sum(expected), sum(probabilities)]);
    const step = width / (MOST + 1.7);
    columns.forEach(([name, given, drawn], k) => {
      const wide = k < MOST ? step : 1.7 * step;
      const centre = step * k + wide / 2;
      const thick = 0.62 * step;
      const bar = (share, attributes) => svg("rect", { x: centre - thick / 2, y: TOP.bars + TALL * (1 - share), width: thick, height: TALL * share, ...attributes });
      const here = named[k] === symbol;
      view.layer.append(
        svg("rect", { class: "live-track", x: centre - thick / 2, y: TOP.bars, width: thick, height: TALL }),
        bar(drawn, { style: `fill: color-mix(in srgb, var(--live-Transformer) ${here ? 100 : 50}%, var(--pst-color-surface))` }),
        bar(given, { fill: "none", style: "stroke: var(--pst-color-text-base)", "stroke-width": 1.5, ...(drawn ? {} : { "stroke-dasharray": "2 2" }) }),
      );
      words(centre, TOP.bars + TALL + 16, name, `${k < MOST ? "live-letter" : "live-small"} ${here ? "live-value" : ""}`, { ...middle, ...(here ? own : {}) });
      words(centre, TOP.bars + TALL + 32, drawn === 0 ? "cut" : drawn < 0.005 ? "< 1 %" : percent(drawn), `live-small ${here ? "live-value" : "live-quiet"}`, middle);
    });
  }

  function told({ layer, head }) {
    const { expected, probabilities, symbol } = next;
    const { layers, heads, d_model: size } = shape;
    const count = text.ids.length;
    const looks = text.looks[layer][head];
    const places = (k) => `${quoted(symbols[text.ids[k]])}${k === count - 1 ? " itself" : ` ${count - 1 - k} back`}`;
    const { temperature: t, topK: k, topP: p } = settings();
    const kept = probabilities.filter((each) => each > 0).length;
    const options = `With temperature ${fixed(t, 1)}, ${k === Infinity ? "no top-k" : `top-k ${k}`} and ${p === 1 ? "no top-p" : `top-p ${fixed(p)}`}`;
    const drawn = full() ? "" : ` ${options}, ${kept} of ${symbols.length - 1} symbols can be drawn. The random number ${fixed(text.uniform, 3)} falls on ${quoted(symbols[symbol])}, with the probability ${fixed(probabilities[symbol])}.`;
    const end = full() ? " The figure ends here." : count < TRAINED ? "" : count === TRAINED ? " It never read a longer text in training: press “Write” again." : ` It never saw place ${count} in training.`;
    return `Letter ${count}, ${quoted(symbols[text.ids[count - 1]])}: layer ${layer + 1}, head ${head + 1} reads ${largest(looks, places)}. The network expects ${largest(expected, (id) => quoted(symbols[id]))}.${drawn} The cache holds 2 · ${layers} layers · ${heads} heads · ${size / heads} features · ${count} letters = ${numbersIn(text.cache).toLocaleString("en")} numbers.${end}`;
  }

  const redraw = oncePerFrame(draw);
  const again = button("Start again", () => text.ids.length > begun && start());
  const onwards = button("Next letter", () => {
    stop();
    step();
  });
  const write = button("Write", () => (timer === undefined ? goOn() : stop()));
  const field = textField({ label: `A beginning, up to ${LONGEST.beginning} letters`, value: beginning, longest: 200, onInput: (typed) => {
    beginning = typed;
    start();
  } });
  const tried = EXAMPLES.map((example) => button(example.trim(), () => field.set(example)));
  const temperature = slider({ label: "Temperature T", min: 0.1, max: 2, step: 0.1, value: START.temperature, shown: (t) => fixed(t, 1), onInput: choose });
  const topK = slider({ label: "Top-k", min: 1, max: ALL, value: ALL, shown: (k) => (k === ALL ? "all" : String(k)), onInput: choose });
  const topP = slider({ label: "Top-p", min: 0.05, max: 1, step: 0.05, value: START.topP, shown: (p) => fixed(p), onInput: choose });
  const seed = slider({ label: "Seed of the random numbers", min: 1, max: 50, value: START.seed, onInput: start });
  const headChoice = choice({ label: "Head", options: notable.map((each, k) => [k, nameOfHead(each)]), onInput: redraw });
  headChoice.input.value = START.head;
  const origin = `${card.model}, ${card.weights.toLocaleString("en")} weights, trained on ${card.training}, in windows of ${TRAINED}. On the last tenth of the book it needs ${card["bits per character, test"].toFixed(1)} bits for a character after 32 to 63 others, and ${BEYOND} after 65 to 96. Equal probabilities would need ${fixed(Math.log2(symbols.length - 1), 1)}.`;
  const score = html("p", { class: "live-card" }, origin);
  room.append(controls(field.element, buttons("Beginnings to try", ...tried), buttons("The writing", again, onwards, write)), view.element, says, controls(temperature.element, topK.element, topP.element, seed.element, headChoice.element), score);
  start();
  redrawOnChange(room, draw);
  // Nothing moves where nobody looks.
  new IntersectionObserver((entries) => entries.at(-1).isIntersecting || stop()).observe(room);
}
