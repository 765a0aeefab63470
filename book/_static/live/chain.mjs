// Type a word: its probability is a product of conditional ones, in either order of its letters.

import { chainOfWord, nextOfWord, wordModel } from "./mathematics.mjs";
import { button, buttons, choice, controls, decimals, fixed, html, leftOut, lettersOfWord, oncePerFrame, percent, picture, probable, redrawOnChange, sayer, slider, svg, textField } from "./drawing.mjs";
import { card, counted, share } from "./words-alice.mjs";

export const LONGEST = 11;
export const EXAMPLES = ["queen", "thing", "night", "jabberwocky"];
const ORDERS = [["forwards", "from left to right"], ["backwards", "from right to left"]];
const [LABELS, NUMBERS, TOP] = [150, 56, 100];
const ROWS = 286; // pixels for all factors

/** A factor's name, as P(e | qu). */
export function named({ symbol, given }, backwards) {
  const what = symbol || (backwards ? "start" : "end");
  return given ? `P(${what} | ${given})` : `P(${what})`;
}

const bits = (p) => -Math.log2(p);

export function mount(room, description) {
  const model = wordModel(counted, share);
  const view = picture(TOP + ROWS, description);
  const { element: says, say } = sayer(5);
  let text = EXAMPLES[0];
  let word;
  let unknown;
  let chains;

  const backwards = () => order.input.value === "backwards";
  const chosenChain = () => chains[backwards() ? 1 : 0];

  function readWord() {
    const read = lettersOfWord(text, (letter) => /^[a-z']$/.test(letter), LONGEST);
    unknown = read.unknown;
    word = read.known.join("");
    chains = word ? [false, true].map((back) => chainOfWord(model, word, back)) : undefined;
    factor.input.max = word.length + 1;
    factor.set(Math.min(2, word.length + 1));
    redraw();
  }

  /** The bits of every letter in a row, as they stand in the word: together the word's. */
  function drawSum(chain, back, top, width, chosen) {
    const total = bits(chain.at(-1).joint);
    const right = width - 62;
    view.layer.append(
      svg("text", { class: "live-text", x: 0, y: top + 11 }, back ? "right to left ←" : "left to right →"),
      svg("text", { class: "live-text", x: right + 6, y: top + 30 }, `${fixed(total, 1)} bits`),
    );
    let x = 0;
    let frame = "";
    const inWord = chain.map((each, k) => ({ ...each, k }));
    for (const { symbol, probability, k } of back ? inWord.reverse() : inWord) {
      const wide = (bits(probability) / total) * right;
      const place = { x, y: top + 16, width: Math.max(0, wide), height: 19 };
      view.layer.append(svg("rect", { class: "live-part", "data-factor": k, ...place }));
      if (k === chosen) frame = svg("rect", { class: "live-frame live-through", ...place });
      if (wide > 9) {
        view.layer.append(svg("text", { class: "live-text live-letter live-through", x: x + wide / 2, y: top + 30, "text-anchor": "middle" }, symbol || "·"));
      }
      x += wide;
    }
    view.layer.append(frame); // over its neighbours
  }

  function draw() {
    const width = view.clear(room);
    const excuse = leftOut(unknown, "no word of Alice has it");
    if (!word) return say(`Type a word in Latin letters.${excuse}`);
    const back = backwards();
    const chain = chosenChain();
    const chosen = factor.input.value - 1;
    chains.forEach((each, k) => drawSum(each, k === 1, 46 * k, width, back === (k === 1) ? chosen : -1));
    const most = Math.max(8, ...chain.map(({ probability }) => bits(probability)));
    const left = LABELS + NUMBERS;
    const tall = Math.min(32, ROWS / chain.length);
    chain.forEach((each, k) => {
      const y = TOP + tall * k;
      const middle = y + tall / 2 + 4;
      const wide = (bits(each.probability) / most) * (width - left - 30);
      view.layer.append(
        svg("rect", { class: k === chosen ? "live-row live-chosen" : "live-row", "data-factor": k, x: 0, y, width, height: tall - 2 }),
        svg("text", { class: "live-text live-through", x: LABELS, y: middle, "text-anchor": "end" }, named(each, back)),
        svg("text", { class: "live-text live-through", x: LABELS + 8, y: middle }, decimals(each.probability)),
        svg("rect", { class: "live-blue live-through", x: left, y: y + 3, width: Math.max(0, wide), height: tall - 8 }),
        svg("text", { class: "live-text live-through", x: left + wide + 5, y: middle }, fixed(bits(each.probability), 1)),
      );
    });
    const { joint } = chain.at(-1);
    const following = nextOfWord(model, chain[chosen].given, back).filter(([, p]) => p > 0.005).sort(([, p], [, q]) => q - p).slice(0, 3);
    const end = back ? "start" : "end";
    const likely = following.map(([symbol, p]) => `${symbol || end} ${percent(p)}`).join(", ");
    say(`The ${chain.length} factors multiply to P(${word}) = ${probable(joint)}; their bits add up to ${fixed(bits(joint), 1)}. Factor ${chosen + 1} is ${named(chain[chosen], back)} = ${probable(chain[chosen].probability)}. Most probable there: ${likely}.${excuse}`);
  }

  const redraw = oncePerFrame(draw);
  const field = textField({ label: `A word, up to ${LONGEST} letters`, value: text, longest: 40, onInput: (typed) => {
    text = typed;
    readWord();
  } });
  const order = choice({ label: "Take the letters", options: ORDERS, onInput: () => {
    factor.set(factor.input.value);
    redraw();
  } });
  const factor = slider({ label: "Factor", min: 1, max: LONGEST + 1, value: 1, shown: (k) => (chains ? named(chosenChain()[k - 1], backwards()) : String(k)), onInput: redraw });
  view.element.addEventListener("click", ({ target }) => {
    if (!target.dataset?.factor) return;
    factor.set(Number(target.dataset.factor) + 1);
    redraw();
  });
  const tried = EXAMPLES.map((example) => button(example, () => field.set(example)));
  const score = html("p", { class: "live-card" }, `Counted in ${card.training}; ${percent(share)} of the probability is kept for words that were not counted, with their letters drawn one by one. It spends ${card["bits per word, test"].toFixed(1)} bits on a word of the book's last tenth.`);
  room.append(controls(field.element, buttons("Words to try", ...tried), order.element), view.element, says, controls(factor.element), score);
  readWord();
  redrawOnChange(room, draw);
}
