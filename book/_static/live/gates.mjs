// Type a text: a trained LSTM reads it letter by letter, and one unit shows its gates.

import { readCharacters, unpack } from "./networks.mjs";
import { softmax } from "./mathematics.mjs";
import { button, buttons, choice, controls, fixed, html, label, leftOut, lettersOfText, oncePerFrame, percent, picture, quoted, redrawOnChange, sayer, slider, svg, textField } from "./drawing.mjs";
import { card, symbols, units, weights as packed } from "./weights-alice.mjs";

export const LONGEST = 76;
const EXAMPLES = {
  "From the book's end": "`That's very important,' the King said, turning to the jury.",
  "Not English": "Jabberwocky, mimsy borogoves! Ok?",
  "Without spaces": "thequeenofheartsshemadesometarts",
};
export const ROWS = ["forget", "input", "output", "cell"];
export const COLUMN = 13;
const [BAR, ROW] = [14, 86];


/** The most probable next letters, in words. */
function expected(logits) {
  const p = softmax(logits);
  const order = [...p.keys()].sort((a, b) => p[b] - p[a]).slice(0, 3);
  return order.map((id) => `${quoted(symbols[id])} ${percent(p[id])}`).join(", ");
}

/** Draw a letter, and below it the gates and the cell of one unit, as bars. */
export function drawStep(layer, { letter, step }, unit, x, top) {
  layer.append(svg("text", { class: "live-text live-letter", x: x + COLUMN / 2, y: top + 13, "text-anchor": "middle" }, letter));
  ROWS.forEach((name, k) => {
    const y = top + 18 + 17 * k;
    const value = name === "cell" ? Math.tanh(step.cell[unit]) : step[name][unit];
    const [from, tall] = name === "cell" ? [0.5 - Math.max(0, value) / 2, Math.abs(value) / 2] : [1 - value, value];
    layer.append(
      svg("rect", { class: "live-track", x, y, width: COLUMN - 2, height: BAR }),
      svg("rect", { class: "live-bar", x, y: y + BAR * from, width: COLUMN - 2, height: BAR * tall }),
    );
  });
}

export function mount(room, description) {
  const weights = unpack(packed);
  const size = weights["readout.weight"][0].length;
  let text = Object.values(EXAMPLES)[0];
  let letters;
  let unknown;
  let read;
  const view = picture(0, description);
  const { element: says, say } = sayer(4);

  function readText() {
    ({ known: letters, unknown } = lettersOfText(text, symbols, LONGEST));
    read = readCharacters(weights, letters.map((letter) => symbols.indexOf(letter)));
    letterSlider.input.max = Math.max(1, letters.length);
    letterSlider.set(letters.length);
    redraw();
  }

  function draw() {
    const width = view.clear(room);
    const columns = Math.floor((width - 52) / COLUMN);
    const height = ROW * Math.ceil(LONGEST / columns);
    view.element.setAttribute("height", height);
    view.element.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const unit = unitSlider.input.value - 1;
    const chosen = letterSlider.input.value - 1;
    const rows = Math.ceil(letters.length / columns);
    for (let row = 0; row < rows; row++) {
      ROWS.forEach((name, k) => view.layer.append(label(0, ROW * row + 30 + 17 * k, "theory", name)));
    }
    read.forEach((step, t) => {
      const x = 52 + COLUMN * (t % columns);
      const top = ROW * Math.floor(t / columns);
      drawStep(view.layer, { letter: letters[t], step }, unit, x, top);
      if (t === chosen) view.layer.append(svg("rect", { class: "live-frame", x: x - 1.5, y: top + 0.5, width: COLUMN + 1, height: ROW - 3 }));
    });
    const excuse = leftOut(unknown, "Alice has none");
    if (!read.length) return say(`Type a few words.${excuse}`);
    const step = read[chosen];
    say(`After ${quoted(letters[chosen])} unit ${unit + 1} has forget gate ${fixed(step.forget[unit])}, input gate ${fixed(step.input[unit])}, output gate ${fixed(step.output[unit])}, cell ${fixed(Math.tanh(step.cell[unit]))} (as tanh). The network expects ${expected(step.logits)}.${excuse}`);
  }

  const redraw = oncePerFrame(draw);
  const field = textField({ label: `A text, up to ${LONGEST} letters`, value: text, longest: 200, onInput: (typed) => {
    text = typed;
    readText();
  } });
  const words = ({ unit, gate, follows, r }) => [unit + 1, `Unit ${unit + 1}: ${gate === "cell" ? "cell" : `${gate} gate`}, ${follows}, r = ${fixed(r)}`];
  const unitChoice = choice({ label: "Units that follow something", options: units.map(words), onInput: (unit) => {
    unitSlider.set(unit);
    redraw();
  } });
  const unitSlider = slider({ label: `Any of the ${size} units`, min: 1, max: size, value: units[0].unit + 1, onInput: redraw });
  const letterSlider = slider({ label: "Letter", min: 1, max: LONGEST, value: 1, onInput: redraw });
  view.element.addEventListener("click", (event) => {
    const place = view.element.getBoundingClientRect();
    const columns = Math.floor((Math.max(260, Math.min(600, room.clientWidth)) - 52) / COLUMN);
    const column = Math.floor((event.clientX - place.left - 52) / COLUMN);
    const letter = columns * Math.floor((event.clientY - place.top) / ROW) + column + 1;
    if (column < 0 || column >= columns || letter > letters.length) return;
    letterSlider.set(letter);
    redraw();
  });
  const tried = Object.entries(EXAMPLES).map(([name, example]) => button(name, () => field.set(example)));
  const score = html("p", { class: "live-card" }, `${card.model}, ${card.weights.toLocaleString("en")} weights, trained on ${card.training}; ${card["bits per character, test"].toFixed(2)} bits per character on the last tenth of the book.`);
  room.append(controls(field.element, buttons("Texts to try", ...tried)), view.element, says, controls(unitChoice.element, unitSlider.element, letterSlider.element), score);
  readText();
  redrawOnChange(room, draw);
}
