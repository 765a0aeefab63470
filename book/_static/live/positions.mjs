// The sinusoids' codes of positions, and the product of one code with all others.

import { dot, sinusoids } from "./mathematics.mjs";
import { axes, controls, curve, fixed, html, label, oncePerFrame, picture, redrawOnChange, sayer, slider, svg } from "./drawing.mjs";

export const TIME = 64;

/** Product of the code at a position with every code. */
export const products = (codes, position) => codes.map((code) => dot(code, codes[position]));

/** Values from -1 to 1 as an image of one pixel each, in two colours over the page's. */
function valuesAsImage(room, codes, width) {
  const canvas = html("canvas", { width: TIME, height: width });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(room);
  const [positive, negative] = ["positive", "negative"].map((name) => style.getPropertyValue(`--live-${name}`));
  codes.forEach((code, t) =>
    code.forEach((value, feature) => {
      context.globalAlpha = Math.abs(value);
      context.fillStyle = value > 0 ? positive : negative;
      context.fillRect(t, feature, 1, 1);
    }),
  );
  return canvas.toDataURL();
}

export function mount(room, description) {
  const view = picture(370, description);
  const { element: says, say } = sayer(3);

  function draw() {
    const across = view.clear(room);
    const [position, width] = [Number(positionSlider.input.value), Number(widthSlider.input.value)];
    const codes = sinusoids(TIME, width);
    const xlim = [-0.5, TIME - 0.5];
    const ticks = [0, 10, 20, 30, 40, 50, 60];
    const box = { left: 40, right: across - 12, top: 26, bottom: 176 };
    const pattern = axes(view.layer, { box, xlim, ylim: [width, 0], xticks: ticks, yticks: [0, width] });
    const places = { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top };
    pattern.inside.append(
      svg("image", { class: "live-pixels", href: valuesAsImage(room, codes, width), preserveAspectRatio: "none", ...places }),
      svg("rect", { class: "live-frame", x: pattern.x(position - 0.5), width: pattern.x(1) - pattern.x(0), y: box.top, height: places.height }),
    );
    view.layer.append(
      label(10, 15, "theory", "feature:"),
      label(70, 15, "positive", "■ above 0"),
      label(150, 15, "negative", "■ below 0"),
    );
    const found = products(codes, position);
    const frame = axes(view.layer, {
      box: { ...box, top: 226, bottom: 328 },
      xlim, ylim: [-width / 4, 0.55 * width], xticks: ticks, yticks: [0, width / 2],
      xlabel: "position", ylabel: `product with the code of position ${position}`,
    });
    curve(frame, [[0, 0], [TIME - 1, 0]], "mean", { "stroke-dasharray": "5 4" });
    curve(frame, found.map((x, t) => [t, x]), "theory");
    frame.inside.append(svg("circle", { cx: frame.x(position), cy: frame.y(found[position]), r: 5, class: "live-point" }));
    const at = (distance) => found[position + distance] ?? found[position - distance];
    say(`Width ${width}. With itself the product is ${fixed(found[position], 1)}, always half the width. One step away it is ${fixed(at(1), 1)}, five steps ${fixed(at(5), 1)}, thirty steps ${fixed(at(30), 1)}, from every position.`);
  }

  const redraw = oncePerFrame(draw);
  const positionSlider = slider({ label: "Position", min: 0, max: TIME - 1, value: 20, onInput: redraw });
  const widthSlider = slider({ label: "Width d of the codes", min: 4, max: 128, step: 4, value: 32, onInput: redraw });
  room.append(view.element, says, controls(positionSlider.element, widthSlider.element));
  redrawOnChange(room, draw);
}
