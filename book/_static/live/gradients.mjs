// How a gradient's norm changes with the lag, against the spectral radius of W.

import { gradientNorms, randomNetwork } from "./mathematics.mjs";
import { axes, button, buttons, controls, curve, fixed, label, oncePerFrame, picture, raised, redrawOnChange, sayer, slider } from "./drawing.mjs";

export const LAGS = 60;
// The first forty steps let the states settle.
export const network = (seed) => randomNetwork({ size: 32, steps: 100, lags: LAGS, seed });

/** Factor per step from lag 20 to the last. */
export const factor = (norms) => (norms[LAGS] / norms[20]) ** (1 / (LAGS - 20));

export function mount(room, description) {
  let seed = 1;
  let drawn = network(seed);
  const view = picture(270, description);
  const { element: says, say } = sayer(3);

  function draw() {
    const width = view.clear(room);
    const norms = gradientNorms(drawn, { radius: Number(radius.input.value), strength: Number(strength.input.value) });
    const power = (k) => [k, raised(10, k)];
    const frame = axes(view.layer, {
      box: { left: 44, right: width - 12, top: 42, bottom: 228 },
      xlim: [0, LAGS], ylim: [-15, 10],
      xlabel: "lag k (steps)",
      xticks: [0, 10, 20, 30, 40, 50, 60], yticks: [-15, -10, -5, 0, 5, 10].map(power),
    });
    curve(frame, [[0, 0], [LAGS, 0]], "mean", { "stroke-dasharray": "5 4" });
    const lines = { linear: "theory", tanh: "network" };
    for (const [name, colour] of Object.entries(lines)) {
      curve(frame, norms[name].map((x, k) => [k, Math.max(-40, Math.log10(x))]), colour);
    }
    view.layer.append(
      label(14, 14, "mean", "norm of the product of Jacobians"),
      label(44, 33, "theory", "— no activation"),
      label(170, 33, "network", "— with tanh"),
    );
    const fate = (x) => (x > 1.005 ? "explodes" : x < 0.995 ? "vanishes" : "neither vanishes nor explodes");
    const [plain, squashed] = [factor(norms.linear), factor(norms.tanh)];
    say(`Factor per step: ${fixed(plain)} without an activation, so that the gradient ${fate(plain)}; ${fixed(squashed)} with tanh, where it ${fate(squashed)}.`);
  }

  const redraw = oncePerFrame(draw);
  const radius = slider({ label: "Spectral radius ρ", min: 0.5, max: 1.6, step: 0.01, value: 1.3, shown: (x) => x.toFixed(2), onInput: redraw });
  const strength = slider({ label: "Size of the inputs", min: 0, max: 1, step: 0.05, value: 0.5, shown: (x) => x.toFixed(2), onInput: redraw });
  const again = button("Draw other weights", () => {
    drawn = network(++seed);
    redraw();
  });
  room.append(view.element, says, controls(radius.element, strength.element, buttons("Weights", again)));
  redrawOnChange(room, draw);
}
