// Type a word: a trained network pronounces it, and shows at which letters it looked.

import { knownTo, pronounce, unpack } from "./networks.mjs";
import { button, buttons, controls, fixed, html, leftOut, lettersOfWord, picture, percent, redrawOnChange, sayer, svg, textField } from "./drawing.mjs";
import { card, letters as alphabet, phonemes, weights as packed } from "./weights-spelling.mjs";

export const LONGEST = { word: 16, answer: 20 };
export const EXAMPLES = ["knighthood", "psychology", "photographs", "enough"];
const IPA = { AA: "ɑ", AE: "æ", AH: "ʌ", AO: "ɔ", AW: "aʊ", AY: "aɪ", B: "b", CH: "tʃ", D: "d", DH: "ð", EH: "ɛ", ER: "ɝ", EY: "eɪ", F: "f", G: "ɡ", HH: "h", IH: "ɪ", IY: "i", JH: "dʒ", K: "k", L: "l", M: "m", N: "n", NG: "ŋ", OW: "oʊ", OY: "ɔɪ", P: "p", R: "ɹ", S: "s", SH: "ʃ", T: "t", TH: "θ", UH: "ʊ", UW: "u", V: "v", W: "w", Y: "j", Z: "z", ZH: "ʒ" };

export function mount(room, description) {
  const weights = unpack(packed);
  const view = picture(350, description);
  const { element: says, say } = sayer(5);
  let word = EXAMPLES[0];

  function draw() {
    const width = view.clear(room);
    const { known, unknown } = lettersOfWord(word, knownTo(alphabet), LONGEST.word);
    const excuse = leftOut(unknown, "no word that it learned has it");
    if (!known.length) return say(`Type a word in Latin letters.${excuse}`);
    const steps = pronounce(weights, known.map((letter) => alphabet.indexOf(letter)), LONGEST.answer);
    const columns = [...known, "end"];
    const rows = steps.map(({ symbol }) => (symbol === 2 ? "end" : phonemes[symbol]));
    const cell = Math.min(36, (width - 52) / columns.length);
    const tall = Math.min(30, 320 / rows.length);
    const text = (attributes, words) => svg("text", { class: "live-text", ...attributes }, words);
    columns.forEach((letter, k) => view.layer.append(text({ x: 46 + cell * (k + 0.5), y: 16, "text-anchor": "middle" }, letter)));
    steps.forEach(({ looks }, row) => {
      view.layer.append(text({ x: 38, y: 24 + tall * (row + 0.5) + 4, "text-anchor": "end" }, rows[row]));
      looks.forEach((share, k) => {
        view.layer.append(svg("rect", { class: "live-cell", x: 46 + cell * k, y: 24 + tall * row, width: cell - 1, height: tall - 1, style: `fill: color-mix(in srgb, var(--live-with-attention) ${(100 * share).toFixed(0)}%, var(--pst-color-surface))` }));
      });
    });
    const sounds = rows.filter((name) => name !== "end");
    const looked = steps.filter(({ symbol }) => symbol !== 2).map(({ looks }, row) => {
      const most = looks.indexOf(Math.max(...looks));
      return `${rows[row]} on ${columns[most]}`;
    });
    const sure = steps.reduce((product, { probability }) => product * probability, 1);
    say(`${known.join("")}: ${sounds.join(" ")}, /${sounds.map((name) => IPA[name]).join("")}/; its probability is ${fixed(sure)}. Most weight: ${looked.join(", ")}.${excuse}`);
  }

  const field = textField({ label: `A word, up to ${LONGEST.word} letters`, value: word, longest: 40, onInput: (text) => {
    word = text;
    draw();
  } });
  const score = html("p", { class: "live-card" }, `${card.model}, ${card.weights.toLocaleString("en")} weights, trained on ${card.training}. Of the test words ${percent(card["words wrong, test"])} have a mistake, of their phonemes ${percent(card["phonemes wrong, test"])}.`);
  room.append(controls(field.element, buttons("Words to try", ...EXAMPLES.map((example) => button(example, () => field.set(example))))), view.element, says, score);
  redrawOnChange(room, draw);
}
