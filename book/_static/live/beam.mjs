// Beam search, one step at a time: on a small table, and with the network that pronounces words.

import { beamSearch, mostProbable } from "./mathematics.mjs";
import { knownTo, speller, unpack } from "./networks.mjs";
import { button, buttons, controls, decimals, fixed, html, leftOut, lettersOfWord, oncePerFrame, picture, redrawOnChange, sayer, slider, stepper, svg, textField } from "./drawing.mjs";
import { card, letters as alphabet, phonemes, weights as packed } from "./weights-spelling.mjs";

export const LONGEST = { word: 8, answer: 14 };
export const EXAMPLES = ["", "lifelong", "beauty"]; // without a word: the table
const END = 2;
const [ROW, NODE, SHOWN] = [70, 38, { rows: 4, nodes: 9 }];

// Probabilities of A, B and C after each prefix; where none is listed, those of "other".
export const TABLE = {
  "": [0.5, 0.3, 0.2],
  0: [0.4, 0.35, 0.25],
  1: [0.7, 0.2, 0.1],
  2: [0.02, 0.03, 0.95],
  "00": [0.5, 0.3, 0.2],
  10: [0.2, 0.6, 0.2],
  22: [0.03, 0.02, 0.95],
  other: [0.4, 0.3, 0.3],
};
export const tabulated = ({ symbols }) => TABLE[symbols.join("")] ?? TABLE.other;

/** What is searched: the table, or what the speller writes for a word. */
export function problem(weights, known) {
  if (!known.length) {
    return { extend: tabulated, longest: 3, names: ["A", "B", "C"], join: "", end: undefined };
  }
  const extend = speller(weights, known.map((letter) => alphabet.indexOf(letter)));
  return { extend, longest: LONGEST.answer, names: phonemes.map((name, id) => (id === END ? "end" : name)), join: " ", end: END };
}

/** What happens, in order: [kind, level]. */
export const events = ({ steps }) => [["start", 0], ...steps.flatMap((_, k) => [["extend", k], ["choose", k]]), ["answer", 0]];

export function mount(room, description) {
  const weights = unpack(packed);
  const view = picture(ROW * SHOWN.rows + 14, description);
  const { element: says, say } = sayer(5);
  let text = EXAMPLES[0];
  let task;
  let unknown;
  let search;
  let greedy;

  const written = ({ symbols }) => symbols.filter((id) => id !== task.end).map((id) => task.names[id]).join(task.join);
  const all = () => events(search);

  function searchAgain(at) {
    search = beamSearch(task.extend, { ...task, width: Number(width.input.value) });
    steps.set(at(), all().length - 1);
    redraw();
  }

  function readWord() {
    let known;
    ({ known, unknown } = lettersOfWord(text, knownTo(alphabet), LONGEST.word));
    task = problem(weights, known);
    greedy = beamSearch(task.extend, { ...task, width: 1 }).best;
    searchAgain(() => 2);
  }

  /** The candidates of a level that are drawn, in order: below their parents, the best first. */
  function drawnOf(level, before) {
    const places = new Map(before.map((each, k) => [each, k]));
    const { candidates } = search.steps[level];
    const drawn = candidates.slice(0, SHOWN.nodes).filter((each) => each.kept || each.total >= 0.001);
    return drawn.sort((a, b) => (places.get(a.parent) ?? 0) - (places.get(b.parent) ?? 0) || b.total - a.total);
  }

  function draw() {
    const across = view.clear(room);
    const [kind, level] = all()[steps.at()];
    const last = kind === "start" ? -1 : kind === "answer" ? search.steps.length - 1 : level;
    const dropped = (each, k) => (k < last || kind !== "extend") && !each.kept && each.symbol !== task.end;
    const path = new Set();
    if (kind === "answer") for (let each = search.best; each; each = each.parent) path.add(each);
    const first = Math.max(0, last - SHOWN.rows + 1);
    const text = (x, y, words, look = "") => svg("text", { class: `live-text live-small ${look}`, x, y, "text-anchor": "middle" }, words);
    let before = [];
    let places = new Map();
    for (let k = 0; k <= last; k++) {
      const row = drawnOf(k, before);
      const here = new Map();
      const top = ROW * (k - first) + 36;
      const wide = Math.min(58, across / row.length - 3);
      row.forEach((each, n) => {
        const x = (across / row.length) * (n + 0.5);
        here.set(each, x);
        if (k < first) return;
        const out = dropped(each, k);
        const from = k === 0 ? across / 2 : places.get(each.parent);
        const start = k === first ? (k === 0 ? 6 : top - 32) : top - ROW + NODE;
        view.layer.append(
          svg("path", { class: `live-arrow ${out ? "" : "live-forward"} ${path.has(each) ? "live-now" : ""}`, d: `M${from},${start}L${x},${top}` }),
        );
      });
      if (k >= first) {
        for (const [each, x] of here) {
          const out = dropped(each, k);
          const look = out ? "live-quiet" : "";
          view.layer.append(
            svg("rect", { class: "live-paper", x: x - 13, y: top - 16, width: 26, height: 13 }),
            text(x, top - 5, fixed(each.probability).replace(/^0/, ""), look),
            svg("rect", { class: `live-box live-filled ${out ? "live-dropped" : "live-forward"} ${path.has(each) ? "live-now" : ""}`, x: x - wide / 2, y: top, width: wide, height: NODE, rx: 4 }),
            text(x, top + 15, task.names[each.symbol], look || "live-value"),
            text(x, top + 31, fixed(each.total, 3).replace(/^0/, ""), look),
          );
        }
      }
      places = here;
      before = row;
    }
    if (first === 0) view.layer.append(svg("circle", { cx: across / 2, cy: 6, r: 5, class: "live-point" }));
    say(told(kind, level));
  }

  function told(kind, level) {
    const excuse = leftOut(unknown, "no word that the network learned has it");
    const beam = Number(width.input.value);
    if (kind === "start") return `The search begins with one prefix, the empty one, of probability 1. Press “Next step”.${excuse}`;
    if (kind === "extend") {
      const { candidates } = search.steps[level];
      const from = level === 0 ? 1 : search.steps[level - 1].open.length;
      const [best] = candidates;
      const product = level === 0 ? "" : `${decimals(best.parent.total)} · ${decimals(best.probability)} = `;
      const hidden = candidates.length > SHOWN.nodes ? ", of which the most probable are drawn" : "";
      return `Step ${level + 1}: ${from === 1 ? "the one open prefix is" : `each of the ${from} open prefixes is`} extended by every symbol. That gives ${candidates.length} candidates${hidden}. The most probable is ${written(best)}: ${product}${decimals(best.total)}.${excuse}`;
    }
    if (kind === "choose") {
      const { candidates, open } = search.steps[level];
      const ends = task.end === undefined ? [] : candidates.slice(0, SHOWN.nodes).filter((each) => each.ended && each.total >= 0.001);
      const over = ends.length ? ` Ended: ${ends.map((each) => `${written(each)} ${decimals(each.total)}`).join(", ")}.` : "";
      return `Step ${level + 1}, beam of ${beam}: ${open.length === 1 ? "only the most probable candidate stays" : `the ${open.length} most probable candidates stay`}, ${open.map((each) => `${written(each)} ${decimals(each.total)}`).join(", ")}.${over} The others are dropped.${excuse}`;
    }
    const { best } = search;
    if (!best) return `No prefix has ended within ${task.longest} symbols.${excuse}`;
    const better = best.total > (greedy?.total ?? 1) * (1 + 1e-9);
    const against = beam === 1 ? "This is greedy search." : better ? `Greedy search writes ${written(greedy)}, which has only ${decimals(greedy.total)}.` : `Greedy search writes ${best.total < greedy?.total ? "something more probable" : "the same"}.`;
    let bound = "";
    if (task.end === undefined) {
      const top = mostProbable(task.extend, task.longest);
      bound = top.total > best.total ? ` The most probable of all 27 words is ${written(top)}, with ${decimals(top.total)}: its beginning was dropped.` : " It is the most probable of all 27 words.";
    }
    return `A beam of ${beam} writes ${written(best)}, with the probability ${decimals(best.total)}. ${against}${bound}${excuse}`;
  }

  const redraw = oncePerFrame(draw);
  const steps = stepper({ label: "Steps of the search", at: 2, last: 2, onInput: redraw });
  const field = textField({ label: `A word to pronounce, up to ${LONGEST.word} letters (none: the table)`, value: text, longest: 40, onInput: (typed) => {
    text = typed;
    readWord();
  } });
  const tried = EXAMPLES.map((word) => button(word || "the table", () => field.set(word)));
  const width = slider({ label: "Width of the beam", min: 1, max: 4, value: 2, onInput: () => {
    // Whoever has seen the answer sees the other answer.
    const answered = steps.at() === steps.last();
    searchAgain(() => (answered ? all().length - 1 : steps.at()));
  } });
  const score = html("p", { class: "live-card" }, `Words are pronounced by the network of chapter 7: ${card.model}.`);
  room.append(steps.element, view.element, says, controls(width.element, field.element, buttons("What to search", ...tried)), score);
  readWord();
  redrawOnChange(room, draw);
}
