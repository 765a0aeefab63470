// Type a text: models that count as they read, and their mixture, pay for each letter in bits.

import { contextModel, readBytes, readOn } from "./mathematics.mjs";
import { button, buttons, choice, controls, fixed, html, oncePerFrame, picture, plainLetters, quoted, redrawOnChange, sayer, slider, svg, textField } from "./drawing.mjs";
import { stretch } from "./stretch-alice.mjs";

export const LONGEST = 48;
export const ORDERS = [0, 1, 2, 3, 4, 5, 6];
export const RATE = 0.002; // as the chapter chose it
const PLAIN = 8; // bits of a byte
export const EXAMPLES = {
  "From the book's end": "`That's very important,' the King said, turning",
  "Not from the book": "The next bit is a guess, and every guess costs.",
  "Again and again": "abracadabra abracadabra abracadabra abracadabra",
  Korean: "앨리스는 흰 토끼를 따라 굴속으로 들어갔다.",
};
const [LEFT, BAR, LETTERS, ROW, BETWEEN] = [54, 60, 18, 13, 16];
const BLOCK = BAR + LETTERS + ROW * ORDERS.length + BETWEEN;
const LINE = 19; // of the table
const STRONGEST = 12; // bits of the full colour

/** The start of Alice, about so many characters: up to the end of a sentence. */
const start = (count) => stretch.slice(0, count && stretch.indexOf(". ", count - 2) + 2);

const bytesOf = (letter) => [...new TextEncoder().encode(letter)];
const sum = (numbers) => numbers.reduce((total, x) => total + x, 0);

/** A model that has read the start of Alice, and the bits that it paid for each letter of it. */
export function primed(count) {
  const model = contextModel({ orders: ORDERS, rate: RATE });
  return { model, paid: readBytes(model, [...start(count)].flatMap(bytesOf)).map(({ mixed }) => mixed) };
}

/** What a model pays for each letter of a text, which it reads after all that it has read. */
export function costsOfLetters(model, letters) {
  const bytes = letters.map(bytesOf);
  const read = readBytes(readOn(model), bytes.flat());
  let at = 0;
  return letters.map((letter, k) => {
    const parts = read.slice(at, (at += bytes[k].length));
    const alone = ORDERS.map((_, which) => sum(parts.map((part) => part.alone[which])));
    return { letter, plain: PLAIN * parts.length, alone, mixed: sum(parts.map(({ mixed }) => mixed)), weights: parts.at(-1).weights };
  });
}

/** The rows of the table: what each model pays for one letter, and for all of them on average. */
function table(read, chosen) {
  const row = (name, look, of, which) => ({ name, look, which, one: of(read[chosen]), mean: sum(read.map(of)) / read.length });
  return [
    row("plain", "theory", ({ plain }) => plain),
    ...ORDERS.map((order, which) => row(`order ${order}`, "linear-AR", ({ alone }) => alone[which], which)),
    row("mixture", "network", ({ mixed }) => mixed),
  ];
}

export function mount(room, description) {
  const view = picture(0, description);
  const { element: says, say } = sayer(5);
  const models = new Map(); // by how many characters they have read
  let text = Object.values(EXAMPLES)[0];
  let read;

  function prime() {
    const count = Number(before.input.value);
    if (!models.has(count)) models.set(count, primed(count));
    return models.get(count);
  }

  function readText() {
    const { model, paid } = prime();
    const letters = plainLetters(text).slice(0, LONGEST);
    read = costsOfLetters(model, letters);
    letter.input.max = Math.max(1, read.length);
    letter.set(read.length);
    const late = paid.slice(-1000);
    card.textContent = paid.length
      ? `Before your text the mixture paid ${fixed(sum(paid) / paid.length)} bits for each of these characters, and ${fixed(sum(late) / late.length)} for each of the last thousand.`
      : "Before your text all estimates are one half, and all weights are 0.3.";
    redraw();
  }

  function draw() {
    const width = view.clear(room);
    const columns = width < 480 ? LONGEST / 2 : LONGEST;
    const top = (BLOCK * LONGEST) / columns;
    const height = top + 24 + LINE * (ORDERS.length + 2);
    view.element.setAttribute("height", height);
    view.element.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (!read.length) return say("Type a few words.");
    const chosen = letter.input.value - 1;
    drawLetters(width, columns, chosen);
    const rows = table(read, chosen);
    drawTable(rows, width, top, chosen);
    say(told(rows, chosen));
  }

  function drawLetters(width, columns, chosen) {
    const column = (width - LEFT) / columns;
    const most = Math.max(10, ...read.map(({ mixed }) => mixed));
    const tall = (bits) => (BAR * bits) / most;
    const cell = (x, y, tall, colour, share) => svg("rect", { x, y, width: column - 1, height: tall, style: `fill: color-mix(in srgb, var(--live-${colour}) ${(100 * share).toFixed(0)}%, var(--pst-color-surface))` });
    for (let block = 0; block * columns < read.length; block++) {
      const base = BLOCK * block + BAR;
      const end = LEFT + column * Math.min(columns, read.length - block * columns);
      const side = (y, words) => svg("text", { class: "live-text live-small", x: 0, y }, words);
      view.layer.append(side(Math.min(base - tall(PLAIN) + 4, base - 14), "8 bits"), side(base - 1, "mixture"), svg("path", { class: "live-guide", "stroke-dasharray": "4 4", d: `M${LEFT},${base - tall(PLAIN)}H${end}` }));
      ORDERS.forEach((order, k) => view.layer.append(side(base + LETTERS + ROW * k + 11, `order ${order}`)));
    }
    read.forEach(({ letter, alone, mixed }, t) => {
      const x = LEFT + column * (t % columns);
      const base = BLOCK * Math.floor(t / columns) + BAR;
      const strength = (bits) => Math.min(1, bits / STRONGEST);
      view.layer.append(
        cell(x, base - tall(mixed), tall(mixed), "network", 0.4 + 0.6 * strength(mixed)),
        svg("text", { class: "live-text live-small live-letter", x: x + (column - 1) / 2, y: base + 13, "text-anchor": "middle" }, letter),
        ...alone.map((bits, k) => cell(x, base + LETTERS + ROW * k, ROW - 1, "linear-AR", strength(bits))),
      );
      if (t === chosen) view.layer.append(svg("rect", { class: "live-frame", x: x - 1, y: base - tall(mixed) - 1, width: column + 1, height: tall(mixed) + LETTERS + ROW * ORDERS.length + 1 }));
    });
  }

  function drawTable(rows, width, top, chosen) {
    const wide = (width - LEFT) / 3;
    const { weights: first } = prime().model;
    const { weights } = read[chosen];
    const columns = [
      { title: `bits for ${read[chosen].letter === " " ? "␣" : quoted(read[chosen].letter)}`, of: ({ one }) => one },
      { title: "bits a letter", of: ({ mean }) => mean },
      { title: "weight", of: ({ which }) => weights[which], was: ({ which }) => first[which] },
    ];
    rows.forEach(({ name }, row) => view.layer.append(svg("text", { class: "live-text live-small", x: 0, y: top + 33 + LINE * row }, name)));
    columns.forEach(({ title, of, was }, k) => {
      const [number, bar] = [LEFT + wide * k + 34, LEFT + wide * k + 40];
      const room = wide - 44;
      const shown = rows.filter((each) => of(each) !== undefined);
      const most = Math.max(was ? 0.4 : PLAIN, ...shown.map((each) => Math.abs(of(each))));
      view.layer.append(svg("text", { class: "live-text live-small", x: number - 28, y: top + 14 }, title));
      rows.forEach((each, row) => {
        const value = of(each);
        if (value === undefined) return;
        const y = top + 22 + LINE * row;
        const colour = was ? (value < 0 ? "negative" : "positive") : each.look;
        view.layer.append(
          svg("text", { class: "live-text live-small", x: number, y: y + 11, "text-anchor": "end" }, fixed(value)),
          svg("rect", { x: bar, y, width: (room * Math.abs(value)) / most, height: LINE - 6, style: `fill: var(--live-${colour})` }),
        );
        if (was) view.layer.append(svg("path", { class: "live-mark", d: `M${bar + (room * Math.abs(was(each))) / most},${y - 2}v${LINE - 2}` }));
      });
    });
  }

  function told(rows, chosen) {
    const [plain, ...others] = rows;
    const [zero, mixture] = [others[0], others.at(-1)];
    const least = others.slice(0, -1).reduce((best, row) => (row.one < best.one ? row : best));
    const { weights: first } = prime().model;
    const { weights } = read[chosen];
    const moved = ORDERS.reduce((best, _, k) => (Math.abs(weights[k] - first[k]) > Math.abs(weights[best] - first[best]) ? k : best), 0);
    const apart = weights[moved] === first[moved] ? "no weight has moved" : `the weight of order ${ORDERS[moved]} has moved most, from ${fixed(first[moved], 3)} to ${fixed(weights[moved], 3)}`;
    const all = read.length === 1 ? "The letter costs" : `The ${read.length} letters cost`;
    return `Letter ${chosen + 1}, ${quoted(read[chosen].letter)}, costs the mixture ${fixed(mixture.one)} bits. Alone, ${least.name} pays least for it, ${fixed(least.one)}. ${all} the mixture ${fixed(mixture.mean * read.length, 1)} bits, ${fixed(mixture.mean)} a letter; order 0 alone pays ${fixed(zero.mean)}, and plain bytes take ${fixed(plain.mean)}. Since your text began, ${apart}.`;
  }

  const redraw = oncePerFrame(draw);
  const field = textField({ label: `A text, up to ${LONGEST} letters`, value: text, longest: 200, onInput: (typed) => {
    text = typed;
    readText();
  } });
  const counts = [stretch.length, 1000, 0];
  const before = choice({ label: "Read before your text", options: counts.map((count) => [count, count ? `the first ${start(count).length.toLocaleString("en")} characters of Alice` : "nothing"]), onInput: readText });
  const letter = slider({ label: "Letter", min: 1, max: LONGEST, value: 1, shown: (k) => (read?.length ? `${k}: ${read[k - 1].letter}` : String(k)), onInput: redraw });
  view.element.addEventListener("click", ({ clientX, clientY }) => {
    const { left, top, width } = view.element.getBoundingClientRect();
    const columns = width < 480 ? LONGEST / 2 : LONGEST;
    const column = Math.floor((columns * (clientX - left - LEFT)) / (width - LEFT));
    const pressed = columns * Math.floor((clientY - top) / BLOCK) + column + 1;
    if (column < 0 || column >= columns || pressed > read.length) return;
    letter.set(pressed);
    redraw();
  });
  const tried = Object.entries(EXAMPLES).map(([name, example]) => button(name, () => field.set(example)));
  const card = html("p", { class: "live-card" });
  room.append(controls(field.element, buttons("Texts to try", ...tried), before.element), view.element, says, controls(letter.element), card);
  readText();
  redrawOnChange(room, draw);
}
