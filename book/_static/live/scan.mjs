// A scan of a linear recurrence, one round at a time, beside the loop.

import { composeInRounds, recurrence, SCHEDULES, uniforms } from "./mathematics.mjs";
import { button, buttons, choice, controls, fixed, html, oncePerFrame, picture, probable, redrawOnChange, sayer, slider, stepper, svg } from "./drawing.mjs";

export const LONGEST = 8;
const MANY = 1024;
// The eight steps of the chapter, and others to start from.
export const DECAYS = [0.5, 0.5, 1, 0.5, 0, 1, 0.5, 1];
export const ADDED = [8, 2, 0, 1, 6, 0, 3, 1];
const seeds = uniforms(1);
const random = () => [Math.floor(9 * seeds()) / 4 - 1, Math.floor(19 * seeds()) - 9];
const PRESETS = {
  "The chapter's": () => DECAYS.map((a, k) => [a, ADDED[k]]),
  "A running sum": () => DECAYS.map((_, k) => [1, k + 1]),
  Random: () => DECAYS.map(random),
};
const WAYS = [["pairs", "in pairs, as in the text"], ["doubling", "by doubling (Hillis and Steele)"]];
const [LEFT, TOP, CELL, GAP, LOOP] = [50, 84, 46, 18, 20];
const PITCH = CELL + GAP;
const ROWS = 6; // the steps, and five rounds of eight steps in pairs

const low = (k) => String(k).replace(/./g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);

/** A number as short as a box, or else with up to six digits. */
const short = (x) => trimmed(fixed(x, Math.abs(x) < 9.995 ? 2 : 1));
const long = (x) => trimmed(fixed(x, 6));
const trimmed = (shown) => (shown.includes(".") ? shown.replace(/\.?0+$/, "") : shown);
const factor = (x) => (x < 0 ? `(${long(x)})` : long(x));
const summand = (x) => `${x < 0 ? "−" : "+"} ${long(Math.abs(x))}`;
const pair = ([a, b]) => `(${long(a)}, ${long(b)})`;

const named = (first, last) => (first === last ? `${last + 1}` : `${first + 1}–${last + 1}`);
const inWords = (first, last) => `step${first === last ? "" : "s"} ${named(first, last)}`;
const times = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const work = (rounds) => rounds.reduce((sum, pairs) => sum + pairs.length, 0);

/** Compositions and rounds of a schedule, in words. */
const counted = (rounds) => `${times(rounds.length, "round")} and ${times(work(rounds), "composition")}`;

/** A scan of steps in one of the `SCHEDULES`: its rounds, what stands at each place after them, and
    the `source` of a place: the round in which it was made (0: it is a step as given) and of what. */
export function scanned(steps, way) {
  const rounds = SCHEDULES[way](steps.length);
  const rows = composeInRounds(steps, rounds);
  const source = (place, after) => {
    for (let round = after; round > 0; round--) {
      const made = rounds[round - 1].find(([, later]) => later === place);
      if (made) return { round, earlier: made[0] };
    }
    return { round: 0 };
  };
  return { rounds, rows, source };
}

/** What stands at a place after a round, with the arithmetic that made it. */
export function toldOfCell({ rows, source }, place, after) {
  const { round, earlier } = source(place, after);
  const { step, first } = rows[round][place];
  const state = first === 0 ? ` It begins at step 1, so its second number is the state h${low(place + 1)}.` : "";
  if (round === 0) return `Step ${place + 1} is ${pair(step)}: it replaces h by ${factor(step[0])} · h ${summand(step[1])}.${state}`;
  const [one, two] = [rows[round - 1][earlier], rows[round - 1][place]];
  const [[a1, b1], [a2, b2]] = [one.step, two.step];
  const product = `(${factor(a2)} · ${factor(a1)}, ${factor(a2)} · ${factor(b1)} ${summand(b2)})`;
  return `Round ${round}, ${inWords(first, place)}: ${inWords(one.first, earlier)}, then ${inWords(two.first, place)}. ${pair(two.step)} ∘ ${pair(one.step)} = ${product} = ${pair(step)}.${state}`;
}

/** Where the loop and the scan are after a round of each. */
export function toldOfBoth(steps, { rounds, rows }, after) {
  const states = recurrence(steps);
  const [a, b] = steps[after];
  const loop = after === 0 ? `The loop begins with h₁ = ${long(states[0])}.` : `The loop computes h${low(after + 1)} = ${factor(a)} · ${factor(states[after - 1])} ${summand(b)} = ${long(states[after])}.`;
  if (after < rounds.length) return `${loop} It has made ${after} of ${times(steps.length - 1, "composition")}, the scan ${work(rounds.slice(0, after))} of ${work(rounds)}.`;
  const apart = Math.max(...rows.at(-1).map(({ step }, k) => Math.abs(step[1] - states[k])));
  const left = steps.length - 1 - after;
  const ahead = left ? `the loop has ${times(left, "round")} to go` : `the loop took ${counted(SCHEDULES.loop(steps.length))}`;
  const unequal = apart ? ` (largest difference ${probable(apart)})` : "";
  return `${loop} The scan is finished after ${counted(rounds)}; ${ahead}. The scan's states are the loop's${unequal}: ${states.map(long).join(", ")}.`;
}

export function mount(room, description) {
  const view = picture(TOP + PITCH * ROWS - GAP + 2, description);
  const { element: says, say } = sayer(6);
  let all = PRESETS["The chapter's"]();
  let chosenRow; // of a cell that was pressed; otherwise the last one

  const steps = () => all.slice(0, Number(length.input.value));
  const scan = () => scanned(steps(), way.input.value);

  function draw() {
    const width = view.clear(room);
    const [given, found] = [steps(), scan()];
    const { rounds, rows, source } = found;
    const now = progress.at();
    const done = Math.min(now, rounds.length);
    const place = chosen.input.value - 1;
    const row = source(place, Math.min(chosenRow ?? done, done)).round;
    const gap = (width - LEFT) / given.length;
    const wide = Math.min(64, gap - 2);
    const middle = (k) => LEFT + gap * (k + 0.5);
    const top = (round) => TOP + PITCH * round;
    const text = (x, y, words, style = "") => svg("text", { class: `live-text live-small ${style}`, x, y, "text-anchor": "middle" }, words);
    const side = (y, words) => svg("text", { class: "live-text live-small live-quiet", x: 0, y }, words);
    const box = (k, y, height, style) => svg("rect", { class: `live-box live-filled ${style}`, x: middle(k) - wide / 2, y, width: wide, height, rx: 4 });
    const title = (y, words) => svg("text", { class: "live-text", x: 0, y }, words);

    const states = recurrence(given);
    view.layer.append(title(13, `loop: ${now} of ${times(given.length - 1, "round")}, ${now} of ${times(given.length - 1, "composition")}`), side(LOOP + 18, "state"));
    states.forEach((h, k) => {
      const there = k <= now;
      view.layer.append(box(k, LOOP, 26, `${there ? "live-looped" : "live-dropped"} ${k === now ? "live-now" : ""}`));
      if (there) view.layer.append(text(middle(k), LOOP + 18, short(h), "live-value"));
    });

    const made = work(rounds.slice(0, done));
    view.layer.append(title(TOP - 12, `scan: ${done} of ${times(rounds.length, "round")}, ${made} of ${times(work(rounds), "composition")}`));
    const lines = svg("g");
    view.layer.append(lines); // below the boxes
    for (let round = 0; round <= done; round++) {
      const y = top(round);
      view.layer.append(side(y + 13, round ? `round ${round}` : "step"), side(y + 27, round ? "" : "decay"), side(y + 41, round ? "" : "input"));
      const places = round ? rounds[round - 1].map(([, later]) => later) : given.map((_, k) => k);
      for (const k of places) {
        const { step: [a, b], first } = rows[round][k];
        const on = k === place && round === row;
        if (round) {
          const { earlier } = source(k, round);
          for (const from of [earlier, k]) {
            const start = top(source(from, round - 1).round) + CELL;
            lines.append(svg("path", { class: `live-arrow ${on ? "live-forward live-now" : ""}`, d: `M${middle(from)},${start}V${y - GAP}L${middle(k)},${y}` }));
          }
        }
        view.layer.append(
          box(k, y, CELL, first === 0 ? "live-forward" : ""),
          text(middle(k), y + 13, named(first, k), "live-quiet"),
          text(middle(k), y + 27, short(a)),
          text(middle(k), y + 41, short(b), first === 0 ? "live-value" : ""),
        );
        if (on) view.layer.append(svg("rect", { class: "live-frame", x: middle(k) - wide / 2, y, width: wide, height: CELL, rx: 4 }));
      }
    }
    rounds.slice(done).forEach((pairs, k) => {
      for (const [, later] of pairs) lines.append(box(later, top(done + k + 1), CELL, "live-dropped")); // still to come
    });
    say(`${toldOfCell(found, place, row)} ${toldOfBoth(given, found, now)}`);
  }

  const redraw = oncePerFrame(draw);
  /** After a change of the steps or the way: who has seen the end sees the other end. */
  function redo() {
    const last = steps().length - 1; // the loop's, which never has fewer rounds
    progress.set(progress.at() === progress.last() ? last : progress.at(), last);
    chosen.input.max = steps().length;
    choose(Math.min(chosen.input.value, steps().length));
    const many = SCHEDULES[way.input.value](MANY);
    card.textContent = `For ${MANY.toLocaleString("en")} steps this scan takes ${counted(many)}. The loop takes ${counted(SCHEDULES.loop(MANY))}.`;
  }
  function choose(step) {
    chosen.set(step);
    const [a, b] = all[step - 1];
    decay.set(a);
    input.set(b);
    redraw();
  }
  const change = () => {
    all[chosen.input.value - 1] = [Number(decay.input.value), Number(input.input.value)];
    redraw();
  };
  const progress = stepper({ label: "Rounds", at: 1, last: LONGEST - 1, onInput: () => {
    chosenRow = undefined;
    redraw();
  } });
  const way = choice({ label: "Scan", options: WAYS, onInput: () => {
    chosenRow = undefined;
    redo();
  } });
  const length = slider({ label: "Number of steps", min: 2, max: LONGEST, value: LONGEST, onInput: redo });
  const chosen = slider({ label: "Chosen step", min: 1, max: LONGEST, value: 4, onInput: (step) => {
    chosenRow = undefined;
    choose(step);
  } });
  const decay = slider({ label: "Its decay", min: -1, max: 1, step: 0.25, value: 0, shown: (x) => fixed(x), onInput: change });
  const input = slider({ label: "Its input", min: -9, max: 9, value: 0, shown: (x) => fixed(x, 0), onInput: change });
  view.element.addEventListener("click", ({ clientX, clientY }) => {
    const { left, top, width } = view.element.getBoundingClientRect();
    const step = Math.floor((steps().length * (clientX - left - LEFT)) / (width - LEFT)) + 1;
    const row = Math.floor((clientY - top - TOP) / PITCH);
    if (step < 1 || step > steps().length) return;
    chosenRow = row < 0 ? undefined : row;
    choose(step);
  });
  const tried = Object.entries(PRESETS).map(([name, preset]) => button(name, () => {
    all = preset();
    choose(chosen.input.value);
  }));
  const card = html("p", { class: "live-card" });
  room.append(progress.element, view.element, says, controls(way.element, length.element, chosen.element, decay.element, input.element, buttons("Steps to start from", ...tried)), card);
  redo();
  redrawOnChange(room, draw);
}
