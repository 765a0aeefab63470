// What the live figures share: elements, controls and axes. Colours are variables of live.css.

const SVG = "http://www.w3.org/2000/svg";
let names = 0;

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const html = (name, attributes = {}, ...children) =>
  fill(document.createElement(name), attributes, children);

export const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

/** Call `draw` at most once a frame, however often it is asked for. */
export function oncePerFrame(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}

/** Call `act` when nothing has been typed for a moment. */
export function whenQuiet(act, milliseconds = 150) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds);
  };
}

/** Call `draw` now and whenever the room's width or the theme changes. */
export function redrawOnChange(room, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (room.clientWidth && room.clientWidth !== width) {
      width = room.clientWidth;
      draw();
    }
  }).observe(room);
  new MutationObserver(draw).observe(document.documentElement, {
    attributeFilter: ["data-theme"],
  });
  draw();
}

// Controls

/** A row of controls below a picture. */
export const controls = (...children) => html("div", { class: "live-controls" }, ...children);

/** A labelled slider; `shown` says its value in words. */
export function slider({ label, min, max, step = 1, value, shown = String, onInput }) {
  const id = `live-control-${++names}`;
  const input = html("input", { type: "range", id, min, max, step, value });
  const output = html("output", { for: id, "aria-live": "off" });
  const show = () => {
    output.textContent = shown(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => {
    show();
    onInput(Number(input.value));
  });
  show();
  const element = html("div", { class: "live-control" }, html("label", { for: id }, label), input, output);
  const set = (number) => {
    input.value = number;
    show();
  };
  return { element, input, set };
}

/** A labelled field for text of limited length. */
export function textField({ label, value, longest, onInput }) {
  const id = `live-control-${++names}`;
  const input = html("input", {
    type: "text",
    id,
    value,
    maxlength: longest,
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
  });
  input.addEventListener("input", whenQuiet(() => onInput(input.value)));
  const element = html("div", { class: "live-control" }, html("label", { for: id }, label), input);
  const set = (text) => {
    input.value = text;
    onInput(text);
  };
  return { element, input, set };
}

/** A labelled choice; options are [value, words]. */
export function choice({ label, options, onInput }) {
  const id = `live-control-${++names}`;
  const input = html("select", { id }, ...options.map(([value, words]) => html("option", { value }, words)));
  input.addEventListener("input", () => onInput(input.value));
  return { element: html("div", { class: "live-control" }, html("label", { for: id }, label), input), input };
}

export function button(words, onClick) {
  const element = html("button", { type: "button" }, words);
  element.addEventListener("click", onClick);
  return element;
}

/** Buttons in one group with a name. */
export const buttons = (label, ...children) =>
  html("div", { class: "live-buttons", role: "group", "aria-label": label }, ...children);

/** Of some letters the first that are known, and each of the others once. */
function known(letters, knows, longest) {
  return { known: letters.filter(knows).slice(0, longest), unknown: [...new Set(letters.filter((letter) => !knows(letter)))] };
}

/** The letters of a text, with the quotation marks of Alice and single spaces. */
export const plainLetters = (text) =>
  Array.from(text.replace(/[‘‛]/g, "`").replaceAll("’", "'").replace(/[“”]/g, '"').replace(/\s+/g, " "));

/** The letters of a text that stand among the symbols of a network that has read Alice, and the others. */
export const lettersOfText = (text, symbols, longest) =>
  known(plainLetters(text), (letter) => letter !== "<unk>" && symbols.includes(letter), longest);

/** The letters of a word that are known, in small letters and without spaces, and the others. */
export const lettersOfWord = (text, knows, longest) =>
  known(Array.from(text.toLowerCase().replaceAll("’", "'").replace(/\s/g, "")), knows, longest);

/** A sentence about letters that were left out, after what else is said; nothing if there are none. */
export const leftOut = (letters, because) =>
  letters.length ? ` Left out, since ${because}: ${letters.slice(0, 8).join(" ")}.` : "";

/** A letter in a sentence. */
export const quoted = (letter) => (letter === " " ? "a space" : `“${letter}”`);

/** Buttons that go through the steps 0 to `last`, of which there may be more later. */
export function stepper({ label, at, last, onInput }) {
  const clamp = (step) => Math.max(0, Math.min(last, step));
  const go = (step) => {
    if (clamp(step) === at) return;
    set(step);
    onInput();
  };
  const made = [["Start again", () => 0], ["Back", () => at - 1], ["Next step", () => at + 1]].map(([words, to]) => button(words, () => go(to())));
  /** Go to a step; with a number of steps, so many there are from now on. */
  function set(step, steps = last) {
    last = steps;
    at = clamp(step);
    // Not `disabled`: the focus would be lost.
    made.forEach((each, k) => each.setAttribute("aria-disabled", String(at === (k < 2 ? 0 : last))));
  }
  set(at);
  return { element: buttons(label, ...made), at: () => at, last: () => last, set };
}

/** The line that says what the picture shows; read out when it has come to rest. */
export function sayer(lines = 2) {
  const element = html("p", { class: "live-says", role: "status", style: `--lines: ${lines}` });
  const settled = whenQuiet(() => element.setAttribute("aria-busy", "false"), 300);
  const say = (words) => {
    if (element.textContent === words) return;
    element.setAttribute("aria-busy", "true");
    element.textContent = words;
    settled();
  };
  return { element, say };
}

// Pictures

/** A picture as wide as the room, at most 600 pixels; one unit is one pixel. What is drawn goes
    into its `layer`, which `clear` empties; what stays, such as a handle, beside it. */
export function picture(height, description) {
  const options = description ? { role: "img", "aria-label": description } : {};
  const layer = svg("g");
  const element = svg("svg", { class: "live-picture", height, ...options }, layer);
  const clear = (room) => {
    const width = Math.max(260, Math.min(600, room.clientWidth));
    layer.replaceChildren();
    fill(element, { width, viewBox: `0 0 ${width} ${height}` }, []);
    return width;
  };
  return { element, layer, clear };
}

const scale = ([low, high], [from, to]) => (x) => from + ((x - low) / (high - low)) * (to - from);

/** Axes in the box {left, top, right, bottom}. Ticks are numbers or [number, words]. */
export function axes(parent, { box, xlim, ylim, xlabel, ylabel, xticks = [], yticks = [] }) {
  const { left, top, right, bottom } = box;
  const x = scale(xlim, [left, right]);
  const y = scale(ylim, [bottom, top]);
  const clip = `live-clip-${++names}`;
  const words = (tick) => (Array.isArray(tick) ? tick : [tick, String(tick).replace("-", "−")]);
  const text = (attributes, content) => svg("text", { class: "live-text", ...attributes }, content);
  parent.append(
    svg("clipPath", { id: clip }, svg("rect", { x: left, y: top, width: right - left, height: bottom - top })),
    svg("path", { class: "live-axis", d: `M${left},${top}V${bottom}H${right}` }),
    ...xticks.map(words).map(([at, label]) =>
      text({ x: x(at), y: bottom + 16, "text-anchor": "middle" }, label),
    ),
    ...yticks.map(words).map(([at, label]) =>
      text({ x: left - 6, y: y(at) + 4, "text-anchor": "end" }, label),
    ),
  );
  if (xlabel) parent.append(text({ x: right, y: bottom + 33, "text-anchor": "end" }, xlabel));
  if (ylabel) parent.append(text({ x: left - 30, y: top - 9 }, ylabel));
  const inside = svg("g", { "clip-path": `url(#${clip})` });
  parent.append(inside);
  return { x, y, inside, text };
}

/** A curve through points [x, y] of the axes. */
export function curve(frame, points, colour, attributes = {}) {
  const d = points.map(([x, y], i) => `${i ? "L" : "M"}${frame.x(x).toFixed(1)},${frame.y(y).toFixed(1)}`);
  frame.inside.append(
    svg("path", { class: "live-curve", d: d.join(""), style: `stroke: var(--live-${colour})`, ...attributes }),
  );
}

/** Words in a colour of the figures. */
export const label = (x, y, colour, words, attributes = {}) =>
  svg("text", { class: "live-text", x, y, style: `fill: var(--live-${colour})`, ...attributes }, words);

/** A number with `digits` decimals and a proper minus sign. */
export const fixed = (x, digits = 2) => {
  const shown = x.toFixed(digits);
  return Number(shown) === 0 ? shown.replace("-", "") : shown.replace("-", "−");
};

export const percent = (share) => `${(100 * share).toFixed(0)} %`;

/** A power of ten or two, with its exponent above the line. */
export const raised = (base, exponent) =>
  `${base}${String(exponent).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? (c === "-" ? "⁻" : c))}`;

/** A probability with two digits, however small. */
export function probable(p) {
  if (p >= 0.001 || p === 0) return Number(p.toPrecision(2)).toString();
  const [digits, exponent] = p.toExponential(1).split("e");
  return `${digits} · ${raised(10, Number(exponent))}`;
}

/** A probability with three decimals, or with two digits if that would show nothing. */
export const decimals = (p) => (p >= 0.0005 ? fixed(p, 3) : probable(p));
