// The softmax of one query's scores over sixteen keys, scaled by the root of d_k and not.

import { attentionWeights, entropy, normals } from "./mathematics.mjs";
import { axes, button, buttons, controls, fixed, label, oncePerFrame, picture, redrawOnChange, sayer, slider, svg } from "./drawing.mjs";

export const KEYS = 16;
export const WIDEST = 1024;

/** A query, then the keys. */
export const vectors = (seed) => {
  const [query, ...keys] = normals(1 + KEYS, WIDEST, seed);
  return { query, keys };
};

export function mount(room, description) {
  let seed = 1;
  let drawn = vectors(seed);
  const view = picture(326, description);
  const { element: says, say } = sayer(4);

  function draw() {
    const width = view.clear(room);
    const d = 2 ** Number(exponent.input.value);
    const kinds = [["scaled", true, "divided by √d"], ["not-scaled", false, "not divided"]];
    const found = kinds.map(([colour, scaled, words], number) => {
      const weights = attentionWeights(drawn.query, drawn.keys, d, scaled);
      const top = 26 + 150 * number;
      const frame = axes(view.layer, {
        box: { left: 40, right: width - 8, top, bottom: top + 98 },
        xlim: [0.4, KEYS + 0.6], ylim: [0, 1],
        xlabel: number ? "key" : undefined,
        xticks: [1, 4, 8, 12, 16], yticks: [0, 0.5, 1],
      });
      const wide = (frame.x(2) - frame.x(1)) * 0.7;
      weights.forEach((weight, k) => {
        frame.inside.append(svg("rect", { x: frame.x(k + 1) - wide / 2, y: frame.y(weight), width: wide, height: frame.y(0) - frame.y(weight), style: `fill: var(--live-${colour})` }));
      });
      view.layer.append(label(10, top - 11, colour, `weight, scores ${words}`));
      return { entropy: entropy(weights), largest: Math.max(...weights) };
    });
    const words = ({ entropy: nats, largest }) => `entropy ${fixed(nats)} nats, largest weight ${fixed(largest)}`;
    say(`Width d = ${d}. Divided by √d: ${words(found[0])}. Not divided: ${words(found[1])}. (Equal weights: ${fixed(Math.log(KEYS))} nats.)`);
  }

  const redraw = oncePerFrame(draw);
  const exponent = slider({ label: "Width of queries and keys, d", min: 0, max: 10, value: 6, shown: (x) => String(2 ** x), onInput: redraw });
  const again = button("Draw another query and keys", () => {
    drawn = vectors(++seed);
    redraw();
  });
  room.append(view.element, says, controls(exponent.element, buttons("Vectors", again)));
  redrawOnChange(room, draw);
}
