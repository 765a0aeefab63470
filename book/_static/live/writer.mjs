// A trained LSTM writes, letter by letter, and one of its units shows its gates. It stops by itself.

import { readCharacter, readCharacters, unpack } from "./networks.mjs";
import { softmax, symbolAt, uniforms } from "./mathematics.mjs";
import { button, buttons, controls, html, label, oncePerFrame, picture, redrawOnChange } from "./drawing.mjs";
import { COLUMN, drawStep, ROWS } from "./gates.mjs";
import { symbols, units, weights as packed } from "./weights-alice.mjs";

export const PROMPT = "Alice ";
export const LONGEST = 220;
const TEMPERATURE = 0.5;
const PAUSE = 90; // milliseconds between two letters
const unknown = symbols.indexOf("<unk>");

/** Yield letters and what the network does at each: first those of the prompt, then its own. */
export function* write(weights, seed) {
  const draw = uniforms(seed);
  const ids = Array.from(PROMPT, (letter) => symbols.indexOf(letter));
  let step;
  for (const [k, read] of readCharacters(weights, ids).entries()) {
    step = read;
    yield { letter: PROMPT[k], step };
  }
  for (let written = PROMPT.length; written < LONGEST; written++) {
    const scores = step.logits.map((x, id) => (id === unknown ? -Infinity : x / TEMPERATURE));
    const id = symbolAt(softmax(scores), draw());
    step = readCharacter(weights, id, step);
    yield { letter: symbols[id], step };
  }
}

export function mount(room, description) {
  const weights = unpack(packed);
  const { unit } = units[0];
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const view = picture(88, description);
  const own = html("span");
  const text = html("p", { class: "writer-text" }, PROMPT, own);
  let seed = 0;
  let letters;
  let written;
  let timer;

  function draw() {
    const width = view.clear(room);
    const columns = Math.floor((width - 52) / COLUMN);
    ROWS.forEach((name, k) => view.layer.append(label(0, 30 + 17 * k, "theory", name)));
    written.slice(-columns).forEach((each, column) => {
      drawStep(view.layer, each, unit, 52 + COLUMN * column, 0);
    });
  }

  const redraw = oncePerFrame(draw);

  /** Write a letter, and say whether there are more. */
  function next() {
    const { value, done } = letters.next();
    if (done) return false;
    written.push(value);
    if (written.length > PROMPT.length) own.append(value.letter);
    return true;
  }

  function stop() {
    clearTimeout(timer);
    timer = undefined;
    pause.textContent = "Go on";
  }

  function goOn() {
    pause.textContent = "Pause";
    timer = setTimeout(() => {
      if (next()) goOn();
      else finish();
      redraw();
    }, PAUSE);
  }

  function finish() {
    while (next());
    stop();
    pause.textContent = "Pause";
    pause.disabled = true;
  }

  function start() {
    clearTimeout(timer);
    letters = write(weights, ++seed);
    written = [];
    own.textContent = "";
    pause.disabled = false;
    for (let k = 0; k < PROMPT.length; k++) next();
    if (still.matches) finish();
    else goOn();
    redraw();
  }

  const pause = button("Pause", () => (timer === undefined ? goOn() : stop()));
  const again = button("Write again", start);
  room.append(text, view.element, controls(buttons("The writing", pause, again)));
  start();
  redrawOnChange(room, draw);
}
