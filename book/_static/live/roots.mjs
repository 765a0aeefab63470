// An AR(2) process: drag its roots and see its roll-out.

import { moveRoot, rollOut, rootsOfWeights, weightsOfRoots } from "./mathematics.mjs";
import { axes, button, buttons, controls, curve, fixed, oncePerFrame, picture, redrawOnChange, sayer, svg } from "./drawing.mjs";

export const SUN = [1.3489, -0.6566]; // fitted to the sunspot numbers to 1920
export const STEPS = 40;
const LIMIT = 1.3;
const START = [0, 1];

const PRESETS = {
  "The sun's": rootsOfWeights(SUN),
  "On the circle": [[Math.cos(0.57), Math.sin(0.57)], [Math.cos(0.57), -Math.sin(0.57)]],
  Outside: [[0.95, 0.5], [0.95, -0.5]],
  "Both real": [[0.9, 0], [-0.6, 0]],
};

/** What the roots say of the roll-out, in words. */
export function meaning(roots) {
  const moduli = roots.map(([re, im]) => Math.hypot(re, im));
  const modulus = Math.max(...moduli);
  const [w1, w2] = weightsOfRoots(roots);
  const steps = (Math.log(2) / Math.abs(Math.log(modulus))).toFixed(1);
  const fate =
    Math.abs(modulus - 1) < 0.005
      ? "on the circle: it neither forgets nor grows"
      : modulus < 1
        ? `below 1: it contracts, to half in ${steps} steps`
        : `above 1: it explodes, to double in ${steps} steps`;
  const turn = Math.abs(Math.atan2(roots[0][1], roots[0][0]));
  const cycle = roots[0][1] === 0 ? "No cycle." : `A cycle takes ${((2 * Math.PI) / turn).toFixed(1)} steps.`;
  return `x(t) = ${fixed(w1)} x(t−1) ${w2 < 0 ? "−" : "+"} ${fixed(Math.abs(w2))} x(t−2). Largest modulus ${fixed(modulus)}, ${fate}. ${cycle}`;
}

export function mount(room, description) {
  let roots = PRESETS["The sun's"];
  const plane = picture(280);
  const path = picture(190, description);
  const { element: says, say } = sayer(3);
  let frame;

  const handles = [0, 1].map((which) => {
    const handle = svg("g", { class: "live-handle", tabindex: 0, role: "slider", "aria-label": `Root ${which + 1}`, "aria-valuemin": 0, "aria-valuemax": 2 },
      svg("circle", { r: 20, class: "live-reach" }),
      svg("circle", { r: 8, class: "live-point" }));
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const place = plane.element.getBoundingClientRect();
      move(which, [frame.toRe(event.clientX - place.left), frame.toIm(event.clientY - place.top)]);
    });
    handle.addEventListener("keydown", (event) => {
      const [right, up] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [];
      if (right === undefined) return;
      event.preventDefault();
      const size = event.shiftKey ? 0.1 : 0.02;
      const [re, im] = roots[which];
      // No attraction: a step of an arrow key must be able to leave the axis.
      move(which, [re + right * size, im + up * size], 0.01);
    });
    return handle;
  });

  function move(which, [re, im], attraction) {
    const inside = (x) => Math.max(-LIMIT, Math.min(LIMIT, x));
    roots = moveRoot(roots, which, [inside(re), inside(im)], attraction);
    redraw();
  }

  function draw() {
    const width = plane.clear(room);
    const middle = width / 2;
    const size = 105;
    const place = axes(plane.layer, {
      box: { left: middle - size, right: middle + size, top: 24, bottom: 24 + 2 * size },
      xlim: [-LIMIT, LIMIT], ylim: [-LIMIT, LIMIT],
      xticks: [-1, 0, 1], yticks: [[-1, "−i"], 0, [1, "i"]],
      xlabel: "real part of a root", ylabel: "imaginary part",
    });
    frame = {
      toRe: (x) => ((x - middle) / size) * LIMIT,
      toIm: (y) => ((24 + size - y) / size) * LIMIT,
    };
    plane.layer.append(svg("circle", { class: "live-guide", cx: middle, cy: 24 + size, r: size / LIMIT }));
    roots.forEach(([re, im], which) => {
      handles[which].setAttribute("transform", `translate(${place.x(re)}, ${place.y(im)})`);
      handles[which].setAttribute("aria-valuenow", Math.hypot(re, im).toFixed(2));
      handles[which].setAttribute("aria-valuetext", `${fixed(re)} ${im < 0 ? "−" : "+"} ${fixed(Math.abs(im))} i`);
    });

    path.clear(room);
    const steps = axes(path.layer, {
      box: { left: 34, right: width - 10, top: 24, bottom: 148 },
      xlim: [1, STEPS], ylim: [-2, 2],
      xlabel: "steps ahead", ylabel: "deviation from the mean",
      xticks: [1, 10, 20, 30, 40], yticks: [-2, 0, 2],
    });
    curve(steps, [[1, 0], [STEPS, 0]], "noise-floor", { "stroke-dasharray": "5 4" });
    const values = rollOut(weightsOfRoots(roots), START, STEPS);
    curve(steps, values.map((x, t) => [t + 1, Math.max(-99, Math.min(99, x))]), "linear-AR");
    say(meaning(roots));
  }

  const redraw = oncePerFrame(draw);
  const choose = (name) => () => {
    roots = PRESETS[name];
    redraw();
  };
  plane.element.append(...handles);
  room.append(plane.element, path.element, says,
    controls(buttons("Roots to start from", ...Object.keys(PRESETS).map((name) => button(name, choose(name))))));
  redrawOnChange(room, draw);
}
