// Type a sentence: a trained Transformer reads it, and one of its heads shows where it looks.

import { readWithHeads, unpack } from "./networks.mjs";
import { softmax } from "./mathematics.mjs";
import { button, buttons, choice, controls, html, leftOut, lettersOfText, oncePerFrame, percent, picture, quoted, redrawOnChange, sayer, slider, svg, textField } from "./drawing.mjs";
import { card, notable, shape, symbols, weights as packed } from "./weights-heads.mjs";

export const LONGEST = 28;
export const EXAMPLES = ["the queen said to the king", "a mock turtle, a mock turt"];
const [LEFT, TOP] = [20, 98]; // of the matrix, below the lines
const WIDEST = 340;

/** A letter as it is drawn. */
export const shown = (letter) => (letter === " " ? "␣" : letter);

/** The largest of some shares with their names, in words. */
export function largest(shares, names, count = 3) {
  const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, count);
  return order.filter((k) => shares[k] > 0.005).map((k) => `${names(k)} ${percent(shares[k])}`).join(", ");
}

/** A head and what it looks at, for a list. */
export const nameOfHead = ({ layer, head, on, share }) => `Layer ${layer + 1} head ${head + 1}: ${on}, ${percent(share)}`;

export function mount(room, description) {
  const weights = unpack(packed);
  const view = picture(TOP + WIDEST, description);
  const { element: says, say } = sayer(5);
  let text = EXAMPLES[0];
  let letters;
  let unknown;
  let read;
  let cell = 1;

  function readText() {
    ({ known: letters, unknown } = lettersOfText(text, symbols, LONGEST));
    read = readWithHeads(weights, letters.map((letter) => symbols.indexOf(letter)), shape);
    query.input.max = Math.max(1, letters.length);
    query.set(letters.length);
    redraw();
  }

  function draw() {
    const width = Math.min(view.clear(room), LEFT + WIDEST);
    const excuse = leftOut(unknown, "Alice has none");
    if (!letters.length) return say(`Type a few words.${excuse}`);
    const { layer, head, on, share: usual, alike } = notable[headChoice.input.value];
    score.textContent = `In the last tenth of the book this head has ${percent(usual)} of its weight on ${on}; equal weights would have ${percent(alike)}. ${origin}`;
    const rows = read.looks[layer][head];
    const chosen = query.input.value - 1;
    cell = Math.min(26, (width - LEFT) / letters.length);
    const middle = (k) => LEFT + cell * (k + 0.5);
    const letter = (x, y, words, on) => svg("text", { class: `live-text live-letter ${on ? "live-value" : "live-quiet"}`, x, y, "text-anchor": "middle" }, words);
    letters.forEach((each, k) => {
      view.layer.append(letter(middle(k), 14, shown(each), k === chosen), letter(middle(k), TOP - 6, shown(each), k <= chosen), letter(9, TOP + cell * (k + 0.5) + 4, shown(each), k === chosen));
    });
    rows[chosen].forEach((share, k) => {
      view.layer.append(svg("path", { class: "live-look", d: `M${middle(chosen)},20L${middle(k)},${TOP - 20}`, "stroke-width": (0.4 + 5 * share).toFixed(2), "stroke-opacity": Math.min(1, 0.15 + share).toFixed(2) }));
    });
    rows.forEach((row, t) => {
      row.forEach((share, k) => {
        view.layer.append(svg("rect", { class: "live-cell", x: LEFT + cell * k, y: TOP + cell * t, width: cell - 1, height: cell - 1, style: `fill: color-mix(in srgb, var(--live-with-attention) ${(100 * share).toFixed(0)}%, var(--pst-color-surface))` }));
      });
    });
    // What the mask hides: all letters to the right of the row's own.
    const stairs = letters.slice(1).map((_, k) => `H${LEFT + cell * (k + 1)}V${TOP + cell * (k + 1)}`);
    const right = LEFT + cell * letters.length;
    view.layer.append(
      svg("path", { class: "live-masked", d: `M${right},${TOP}${stairs.join("")}H${right}Z` }),
      svg("rect", { class: "live-frame", x: LEFT - 0.5, y: TOP + cell * chosen - 0.5, width: cell * (chosen + 1), height: cell }),
    );
    if (letters.length > 9) {
      view.layer.append(svg("text", { class: "live-text", x: right - 6, y: TOP + cell * 1.5 + 4, "text-anchor": "end" }, "masked: still to come"));
    }
    const places = (k) => `${quoted(letters[k])}${k === chosen ? " itself" : ` ${chosen - k} back`}`;
    const next = softmax(read.logits[chosen]);
    say(`Layer ${layer + 1}, head ${head + 1}: letter ${chosen + 1}, ${quoted(letters[chosen])}, reads ${largest(rows[chosen], places)}. The whole network expects next: ${largest(next, (id) => quoted(symbols[id]))}.${excuse}`);
  }

  const redraw = oncePerFrame(draw);
  const field = textField({ label: `A sentence, up to ${LONGEST} letters`, value: text, longest: 200, onInput: (typed) => {
    text = typed;
    readText();
  } });
  const headChoice = choice({ label: "Head", options: notable.map((each, k) => [k, nameOfHead(each)]), onInput: redraw });
  const most = notable.reduce((best, each, k) => (each.share - each.alike > notable[best].share - notable[best].alike ? k : best), 0);
  headChoice.input.value = most;
  const query = slider({ label: "Letter that reads", min: 1, max: LONGEST, value: 1, shown: (k) => (letters?.length ? `${k}: ${letters[k - 1]}` : String(k)), onInput: redraw });
  const point = ({ clientX, clientY }) => {
    const place = view.element.getBoundingClientRect();
    const [x, y] = [clientX - place.left, clientY - place.top];
    const found = Math.floor(y < TOP ? (x - LEFT) / cell : (y - TOP) / cell);
    if (x > LEFT + cell * letters.length || !(found in letters) || found === query.input.value - 1) return;
    query.set(found + 1);
    redraw();
  };
  view.element.addEventListener("click", point);
  view.element.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(event));
  const tried = EXAMPLES.map((example) => button(example, () => field.set(example)));
  const origin = `${card.model}, ${card.weights.toLocaleString("en")} weights, trained on ${card.training}; ${card["bits per character, test"].toFixed(2)} bits per character on the last tenth.`;
  const score = html("p", { class: "live-card" });
  room.append(controls(field.element, buttons("Sentences to try", ...tried), headChoice.element), view.element, says, controls(query.element), score);
  readText();
  redrawOnChange(room, draw);
}
