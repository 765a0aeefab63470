// Backpropagation through three steps of one unit, one operation at a time.

import { unrolledUnit } from "./mathematics.mjs";
import { choice, controls, fixed, oncePerFrame, picture, redrawOnChange, sayer, slider, stepper, svg } from "./drawing.mjs";

// The example of the chapter.
export const INPUTS = [1, -0.5, 0.25];
export const INITIAL = 0.5;
export const WEIGHT = 0.8;
const LAST = INPUTS.length;
const ROWS = { input: 0, state: 46, slope: 114, reached: 150, term: 222, sum: 300 };
const [BOX, TALL] = [66, 42];

const low = (k) => "₀₁₂₃"[k];
const derivative = (k) => `dh${low(LAST)}/dh${low(k)}`;
const three = (x) => fixed(x, 3);
// What is multiplied may be negative.
const factor = (x, digits = 3) => (x < 0 ? `(${fixed(x, digits)})` : fixed(x, digits));

/** What happens, in order: [kind, step]. */
export function events(reach) {
  const forwards = INPUTS.map((_, k) => ["state", k + 1]);
  const back = [];
  for (let k = LAST; k > LAST - reach; k--) back.push(["reached", k], ["term", k]);
  if (reach < LAST) back.push(["cut", LAST - reach]);
  return [["nothing", 0], ...forwards, ...back, ["sum", 0]];
}

/** An event in words and numbers. */
export function told([kind, k], w, reach) {
  const { states, slopes, reached, terms, sum } = unrolledUnit(w, INPUTS, INITIAL, reach);
  if (kind === "state") {
    const x = INPUTS[k - 1];
    return `Forward, step ${k}: h${low(k)} = tanh(${factor(w, 2)} · ${factor(states[k - 1])} ${x < 0 ? "−" : "+"} ${fixed(Math.abs(x))}) = ${three(states[k])}. The slope of tanh there is 1 − h${low(k)}² = ${three(slopes[k])}.`;
  }
  if (kind === "reached") {
    return k === LAST
      ? `The backward pass begins at h${low(k)}, whose derivative by itself is 1.`
      : `Back, through step ${k + 1}: ${derivative(k)} = ${derivative(k + 1)} · w · slope of step ${k + 1} = ${factor(reached[k + 1])} · ${factor(w, 2)} · ${three(slopes[k + 1])} = ${three(reached[k])}.`;
  }
  if (kind === "term") {
    return `Term of step ${k}: ${derivative(k)} · slope · h${low(k - 1)} = ${factor(reached[k])} · ${three(slopes[k])} · ${factor(states[k - 1])} = ${three(terms[k])}.`;
  }
  if (kind === "cut") return `The backward pass is cut here: h${low(k)} is taken as a given number, and the earlier terms are not computed.`;
  if (kind === "sum") {
    const whole = unrolledUnit(w, INPUTS, INITIAL).sum;
    const found = terms.filter((x) => x !== undefined).map((x) => factor(x)).join(" + ");
    return reach < LAST
      ? `The truncated backward pass gives ${reach === 1 ? "one term" : `${reach} terms`}, ${found}${reach > 1 ? ` = ${three(sum)}` : ""}. The whole derivative is ${three(whole)}, so that ${three(whole - sum)} is missing.`
      : `The derivative of h${low(LAST)} by w is the sum of the terms, ${found} = ${three(sum)}.`;
  }
  return `Known are w = ${fixed(w)}, h₀ = ${fixed(INITIAL)} and the inputs. Press “Next step”.`;
}

export function mount(room, description) {
  const view = picture(322, description);
  const { element: says, say } = sayer(4);

  function draw() {
    const width = view.clear(room);
    const w = Number(weight.input.value);
    const reach = Number(path.input.value);
    const found = unrolledUnit(w, INPUTS, INITIAL, reach);
    const all = events(reach);
    const now = steps.at();
    const done = (kind, k) => all.slice(0, now + 1).some(([a, b]) => a === kind && b === k);
    const active = (kind, k) => all[now][0] === kind && all[now][1] === k;
    const gap = (width - BOX) / LAST;
    const middle = (k) => BOX / 2 + gap * k;
    const text = (x, y, words, style = "") => svg("text", { class: `live-text ${style}`, x, y, "text-anchor": "middle" }, words);
    const arrow = (x1, y1, x2, y2, style) => {
      const [along, across] = [Math.sign(x2 - x1), Math.sign(y2 - y1)];
      const head = `M${x2 - 5 * along - 4 * across},${y2 - 5 * across - 4 * along}L${x2},${y2}L${x2 - 5 * along + 4 * across},${y2 - 5 * across + 4 * along}`;
      view.layer.append(svg("path", { class: `live-arrow ${style}`, d: `M${x1},${y1}L${x2},${y2}${head}` }));
    };
    const box = (k, row, name, value, { lit, on, way }) => {
      const look = `live-box ${lit ? way : ""} ${on ? "live-now" : ""}`;
      const x = middle(k);
      view.layer.append(svg("rect", { class: look, x: x - BOX / 2, y: ROWS[row], width: BOX, height: TALL, rx: 4 }), text(x, ROWS[row] + 16, name));
      if (lit) view.layer.append(text(x, ROWS[row] + 34, value, "live-value"));
    };

    box(0, "state", "h₀", three(INITIAL), { lit: true, way: "live-forward" });
    view.layer.append(
      text(BOX / 2, ROWS.slope + 4, "slope", "live-quiet"),
      text(BOX / 2, ROWS.reached + 25, "backward", "live-quiet"),
      text(BOX / 2, ROWS.term + 25, "terms", "live-quiet"),
    );
    INPUTS.forEach((x, before) => {
      const k = before + 1;
      const [from, to] = [middle(before) + BOX / 2, middle(k) - BOX / 2];
      const ahead = done("state", k);
      view.layer.append(text(middle(k), ROWS.input + 14, `x${low(k)} = ${fixed(x)}`));
      arrow(middle(k), ROWS.input + 20, middle(k), ROWS.state - 2, ahead ? "live-forward" : "");
      arrow(from + 2, ROWS.state + TALL / 2, to - 2, ROWS.state + TALL / 2, ahead ? "live-forward" : "");
      if (to - from > 16) view.layer.append(text((from + to) / 2, ROWS.state + TALL / 2 - 7, "w"));
      box(k, "state", `h${low(k)}`, three(found.states[k]), { lit: ahead, on: active("state", k), way: "live-forward" });
      if (ahead) view.layer.append(text(middle(k), ROWS.slope + 4, three(found.slopes[k])));

      const cut = k <= LAST - reach;
      const style = { way: "live-backward" };
      if (cut) {
        const shown = done("cut", LAST - reach) && k === LAST - reach;
        view.layer.append(text(middle(k), ROWS.reached + 25, shown ? "cut" : "–", "live-quiet"), text(middle(k), ROWS.term + 25, "–", "live-quiet"));
        if (shown) view.layer.append(svg("path", { class: "live-cut", d: `M${middle(k) + gap / 2},${ROWS.reached - 4}v${TALL + 8}` }));
        return;
      }
      box(k, "reached", derivative(k), three(found.reached[k]), { ...style, lit: done("reached", k), on: active("reached", k) });
      box(k, "term", `term ${k}`, three(found.terms[k] ?? 0), { ...style, lit: done("term", k), on: active("term", k) });
      arrow(middle(k), ROWS.reached + TALL + 2, middle(k), ROWS.term - 2, done("term", k) ? "live-backward" : "");
      if (k < LAST) {
        const passed = done("reached", k);
        arrow(middle(k + 1) - BOX / 2 - 2, ROWS.reached + TALL / 2, middle(k) + BOX / 2 + 2, ROWS.reached + TALL / 2, passed ? "live-backward" : "");
        if (passed) view.layer.append(text(middle(k) + gap / 2, ROWS.reached - 8, `× ${factor(w * found.slopes[k + 1])}`, "live-small"));
      }
    });
    if (done("sum", 0)) {
      const parts = found.terms.filter((x) => x !== undefined).map((x) => factor(x));
      const total = parts.length > 1 ? ` = ${three(found.sum)}` : "";
      const mark = reach < LAST ? "truncated: " : "dh₃/dw = ";
      view.layer.append(svg("text", { class: "live-text live-value", x: width, y: ROWS.sum, "text-anchor": "end" }, `${mark}${parts.join(" + ")}${total}`));
    }
    say(told(all[now], w, reach));
  }

  const redraw = oncePerFrame(draw);
  const weight = slider({ label: "Weight w", min: -1.5, max: 1.5, step: 0.05, value: WEIGHT, shown: (x) => fixed(x), onInput: redraw });
  const reaches = [[3, "through all three steps"], [2, "truncated after two steps"], [1, "truncated after one step"]];
  const path = choice({ label: "Backward pass", options: reaches, onInput: (reach) => {
    const last = events(Number(reach)).length - 1;
    // Whoever has seen the sum sees the other sum.
    steps.set(steps.at() === steps.last() ? last : steps.at(), last);
    redraw();
  } });
  const steps = stepper({ label: "Steps", at: 1, last: events(LAST).length - 1, onInput: redraw });
  room.append(steps.element, view.element, says, controls(path.element, weight.element));
  redrawOnChange(room, draw);
}
