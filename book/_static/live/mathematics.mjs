// The mathematics of the live figures. Nothing here draws or knows the page;
// tests/test_live_figures.py compares every function with seqbook and torch.
// A complex number is a pair [re, im]. A matrix is an array of rows.

/** Uniform numbers from 0 to 1, the same for the same seed on every machine (mulberry32). */
export function uniforms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Rows of standard normal numbers (Box and Muller). */
export function normals(rows, columns, seed) {
  const draw = uniforms(seed);
  const one = () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
  return Array.from({ length: rows }, () => Float64Array.from({ length: columns }, one));
}

export function dot(a, b, size = a.length) {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += a[i] * b[i];
  return sum;
}

/** Matrix times vector, plus a bias if there is one. */
export function affine(matrix, vector, bias) {
  return Float64Array.from(matrix, (row, i) => dot(row, vector) + (bias ? bias[i] : 0));
}

export function matrixProduct(a, b) {
  return a.map((row) => {
    const sums = new Float64Array(b[0].length);
    for (let k = 0; k < row.length; k++) {
      const factor = row[k];
      const other = b[k];
      for (let j = 0; j < sums.length; j++) sums[j] += factor * other[j];
    }
    return sums;
  });
}

export const sigmoid = (x) => 1 / (1 + Math.exp(-x));

export function softmax(scores) {
  const highest = Math.max(...scores);
  const exponentials = Float64Array.from(scores, (score) => Math.exp(score - highest));
  const total = exponentials.reduce((sum, x) => sum + x, 0);
  return exponentials.map((x) => x / total);
}

/** Entropy of probabilities, in nats. */
export const entropy = (p) => p.reduce((sum, x) => sum - (x > 0 ? x * Math.log(x) : 0), 0);

// The chain rule, on words that were counted

/** A model of words from `counted`, "word count word count ...": a word as often as it was
    counted, but for a `share` of words whose letters are drawn one by one. */
export function wordModel(counted, share) {
  const parts = counted.split(" ");
  const counts = parts.flatMap((word, k) => (k % 2 ? [] : [[word, Number(parts[k + 1])]]));
  const letters = {};
  for (const [word, count] of counts) {
    for (const letter of word) letters[letter] = (letters[letter] ?? 0) + count;
  }
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const all = Object.values(letters).reduce((sum, count) => sum + count);
  for (const letter of Object.keys(letters)) letters[letter] /= all;
  return { counts, total, letters, share, stop: total / all };
}

/** Probability that a word begins with these letters (read backwards: that it ends with them),
    or, if `whole`, that it is the word. */
export function partOfWord({ counts, total, letters, share, stop }, part, { backwards, whole }) {
  if (part === "") return whole ? 0 : 1;
  const fits = (word) => (whole ? word === part : backwards ? word.endsWith(part) : word.startsWith(part));
  const seen = counts.reduce((sum, [word, count]) => (fits(word) ? sum + count : sum), 0);
  let drawn = whole ? stop : 1;
  for (const letter of part) drawn *= letters[letter] ?? 0;
  return ((1 - share) * seen) / total + share * drawn * (1 - stop) ** (part.length - 1);
}

/** The factors of a word's probability in the order of reading. The last is its end or, read
    backwards, its start, with the symbol "". */
export function chainOfWord(model, word, backwards) {
  let before = 1;
  return Array.from({ length: word.length + 1 }, (_, read) => {
    const known = Math.min(read + 1, word.length);
    const part = backwards ? word.slice(word.length - known) : word.slice(0, known);
    const joint = partOfWord(model, part, { backwards, whole: read === word.length });
    const given = backwards ? word.slice(word.length - read) : word.slice(0, read);
    const symbol = backwards ? (word[word.length - read - 1] ?? "") : (word[read] ?? "");
    const factor = { symbol, given, probability: joint / before, joint };
    before = joint;
    return factor;
  });
}

/** The distribution of the next letter, and of the end (""), after letters that were read. */
export function nextOfWord(model, given, backwards) {
  const before = partOfWord(model, given, { backwards, whole: false });
  return ["", ...Object.keys(model.letters)].map((symbol) => {
    const part = backwards ? symbol + given : given + symbol;
    return [symbol, partOfWord(model, part, { backwards, whole: symbol === "" }) / before];
  });
}

// Autoregression: x(t) = w1 x(t-1) + w2 x(t-2)

/** The weights of the AR(2) process with these two roots, [w1, w2]. */
export const weightsOfRoots = ([[a, b], [c, d]]) => [a + c, -(a * c - b * d)];

/** The zeros of z² - w1 z - w2. */
export function rootsOfWeights([w1, w2]) {
  const half = w1 / 2;
  const square = half * half + w2;
  const root = Math.sqrt(Math.abs(square));
  return square < 0 ? [[half, root], [half, -root]] : [[half + root, 0], [half - root, 0]];
}

/** Move one of two roots. Off the real axis the other is its mirror image, so that the weights
    stay real; on the axis, which attracts, each moves by itself. */
export function moveRoot(roots, which, [re, im], attraction = 0.04) {
  const moved = [...roots];
  const other = 1 - which;
  if (Math.abs(im) > attraction) {
    moved[which] = [re, im];
    moved[other] = [re, -im];
  } else {
    moved[which] = [re, 0];
    if (roots[other][1] !== 0) moved[other] = [re, 0];
  }
  return moved;
}

/** Forecasts from the last two values, each fed back as if it had been observed. */
export function rollOut([w1, w2], [before, last], steps) {
  return Array.from({ length: steps }, () => {
    [before, last] = [last, w1 * last + w2 * before];
    return last;
  });
}

// Backpropagation through time

/** Largest modulus of an eigenvalue: |A^k|^(1/k) for k = 2^30, by squaring thirty times. */
export function spectralRadius(matrix) {
  let power = matrix;
  let logarithm = 0;
  for (let k = 1; k <= 2 ** 30; k *= 2) {
    const size = Math.sqrt(power.reduce((sum, row) => sum + dot(row, row), 0));
    if (size === 0) return 0;
    logarithm += Math.log(size) / k;
    power = power.map((row) => row.map((x) => x / size));
    power = matrixProduct(power, power);
  }
  return Math.exp(logarithm);
}

/** States of h = φ(W h + x) from zero, one for each input. */
export function states(weights, inputs, activation = Math.tanh) {
  let hidden = new Float64Array(weights.length);
  return inputs.map((input) => (hidden = affine(weights, hidden, input).map(activation)));
}

/** Spectral norms of J_T ... J_(T-k+1) for k = 0 to the number of steps, where
    J_j = diag(slopes_j) W. */
export function productNorms(weights, slopes) {
  const size = weights.length;
  let product = weights.map((_, i) => Float64Array.from(weights, (_, j) => Number(i === j)));
  let left = Float64Array.from(weights, (_, i) => 1 + 0.1 * Math.sin(i + 1));
  const norms = [1];
  for (const slope of [...slopes].reverse()) {
    product = matrixProduct(product, weights.map((row, i) => row.map((w) => w * slope[i])));
    // Power iteration. The product grows on its right, so that its left singular vector hardly
    // changes from one lag to the next.
    let norm = 0;
    for (let turn = 0; turn < 2000; turn++) {
      const right = new Float64Array(size);
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) right[j] += product[i][j] * left[i];
      }
      const found = affine(product, right);
      const length = Math.sqrt(dot(found, found));
      if (length === 0) return norms.concat(Array(slopes.length + 1 - norms.length).fill(0));
      left = found.map((x) => x / length);
      const before = norm;
      norm = Math.sqrt(length);
      if (Math.abs(norm - before) < 1e-9 * norm) break;
    }
    norms.push(norm);
  }
  return norms;
}

/** Random weights of spectral radius 1, random inputs, and the norms without an activation. */
export function randomNetwork({ size, steps, lags, seed }) {
  const drawn = normals(size, size, seed);
  const radius = spectralRadius(drawn);
  const unit = drawn.map((row) => row.map((w) => w / radius));
  const ones = Array(lags).fill(new Float64Array(size).fill(1));
  return { unit, inputs: normals(steps, size, seed + 1000), norms: productNorms(unit, ones) };
}

/** How the gradient's norm changes with the lag at a spectral radius, without an activation and
    with tanh, of which the last states of a run count. */
export function gradientNorms({ unit, inputs, norms }, { radius, strength }) {
  const weights = unit.map((row) => row.map((w) => w * radius));
  const scaled = inputs.map((input) => input.map((x) => x * strength));
  const run = states(weights, scaled).slice(1 - norms.length);
  return {
    linear: norms.map((norm, lag) => norm * radius ** lag),
    tanh: productNorms(weights, run.map((hidden) => hidden.map((h) => 1 - h * h))),
  };
}

/** One unit h = tanh(w h + x), forwards over the inputs and back from the last state. Of step k,
    from 1: states[k], slopes[k], reached[k], which is the derivative of the last state by it, and
    terms[k], what that step adds to the derivative by w. The backward pass ends after `reach`
    steps; what it does not come to is undefined. */
export function unrolledUnit(w, inputs, initial, reach = inputs.length) {
  const [states, slopes, reached, terms] = [[initial], [], [], []];
  inputs.forEach((x, k) => {
    states[k + 1] = Math.tanh(w * states[k] + x);
    slopes[k + 1] = 1 - states[k + 1] ** 2;
  });
  let derivative = 1;
  for (let k = inputs.length; k > inputs.length - reach; k--) {
    reached[k] = derivative;
    terms[k] = derivative * slopes[k] * states[k - 1];
    derivative *= w * slopes[k];
  }
  return { states, slopes, reached, terms, sum: terms.reduce((sum, term) => sum + term, 0) };
}

// Attention and positions

/** Weights of one query over the keys, of which the first d components count. */
export function attentionWeights(query, keys, d, scaled) {
  return softmax(keys.map((key) => dot(query, key, d) / (scaled ? Math.sqrt(d) : 1)));
}

/** The code of a position: sines and cosines of growing wavelengths. */
export const sinusoid = (position, width, longest = 10000) =>
  Float64Array.from({ length: width }, (_, feature) => {
    const angle = position * longest ** (-(feature - (feature % 2)) / width);
    return feature % 2 ? Math.cos(angle) : Math.sin(angle);
  });

/** The codes of the positions from 0. */
export const sinusoids = (time, width) => Array.from({ length: time }, (_, t) => sinusoid(t, width));

// Drawing a symbol

/** Probabilities from which to draw: a temperature, then only the `topK` most probable symbols, and
    of these the fewest that together have at least the probability `topP`. */
export function samplingDistribution(logits, { temperature = 1, topK = Infinity, topP = 1 }) {
  const probabilities = softmax(logits.map((x) => x / temperature));
  const ranked = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, topK);
  const total = ranked.reduce((sum, id) => sum + probabilities[id], 0);
  const kept = new Float64Array(probabilities.length);
  let before = 0;
  for (const id of ranked) {
    if (topP < 1 && before >= topP) break;
    kept[id] = probabilities[id];
    before += probabilities[id] / total;
  }
  const left = kept.reduce((sum, p) => sum + p, 0);
  return kept.map((p) => p / left);
}

/** The symbol on which a uniform number from 0 to 1 falls. */
export function symbolAt(probabilities, uniform) {
  const symbol = probabilities.findIndex((p) => (uniform -= p) < 0);
  return symbol < 0 ? probabilities.indexOf(Math.max(...probabilities)) : symbol; // a rounding error is left
}

// Linear recurrences: a step [a, b] replaces h by a h + b

/** The step that does first one step and then another. */
export const composed = ([a1, b1], [a2, b2]) => [a2 * a1, a2 * b1 + b2];

/** All states, one after the other, from zero. */
export function recurrence(steps) {
  let h = 0;
  return steps.map(([a, b]) => (h = a * h + b));
}

function inPairs(places) {
  if (places.length < 2) return [];
  const ends = places.filter((_, k) => k % 2 === 1);
  const between = places.filter((_, k) => k > 0 && k % 2 === 0);
  const first = ends.map((end, k) => [places[2 * k], end]);
  const last = between.map((place, k) => [ends[k], place]);
  return [first, ...inPairs(ends), ...(last.length ? [last] : [])];
}

function byDoubling(count) {
  const rounds = [];
  for (let back = 1; back < count; back *= 2) {
    rounds.push(Array.from({ length: count - back }, (_, k) => [k, k + back]));
  }
  return rounds;
}

/** The rounds in which all prefixes of so many steps are found. A round is a list of pairs of
    places [earlier, later]; the composition of a pair stands at the later place afterwards. */
export const SCHEDULES = {
  loop: (count) => Array.from({ length: count - 1 }, (_, k) => [[k, k + 1]]),
  pairs: (count) => inPairs(Array.from({ length: count }, (_, k) => k)),
  doubling: byDoubling,
};

/** What stands at each place before the first round and after each of them: a step, and the place
    of the `first` of all steps that are composed in it. */
export function composeInRounds(steps, rounds) {
  const rows = [steps.map((step, k) => ({ step, first: k }))];
  for (const pairs of rounds) {
    const before = rows.at(-1);
    const after = [...before];
    for (const [earlier, later] of pairs) {
      after[later] = { step: composed(before[earlier].step, before[later].step), first: before[earlier].first };
    }
    rows.push(after);
  }
  return rows;
}

// Compression: bits are counted after contexts, and the counts mixed in log odds

const LEAST = 2 ** -12; // no counted probability comes nearer to 0 or 1
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const cost = (p, bit) => -Math.log2(bit ? p : 1 - p);

/** A model that has read nothing. The context of order k are the last k bytes. */
export const contextModel = ({ orders, rate, bits = 8, limit = 30 }) => ({
  orders,
  rate,
  bits,
  limit,
  counted: orders.map(() => new Map()),
  weights: new Float64Array(orders.length).fill(0.3),
  past: "\0".repeat(Math.max(...orders)),
});

/** A model that has read the same and reads on by itself. It copies counters before they change. */
export const readOn = (before) => ({ ...before, before, counted: before.orders.map(() => new Map()), weights: before.weights.slice() });

/** The counters after a context, one for each prefix of the next byte (with a leading 1): the
    estimated probability p of a 1, and the number n of bits that it rests on. */
function countersAfter(model, which, context) {
  const own = model.counted[which];
  if (!own.has(context)) {
    let earlier = model.before;
    while (earlier && !earlier.counted[which].has(context)) earlier = earlier.before;
    const counters = earlier?.counted[which].get(context) ?? [];
    own.set(context, new Map([...counters].map(([prefix, counter]) => [prefix, { ...counter }])));
  }
  return own.get(context);
}

function counterAt(counters, prefix) {
  let counter = counters.get(prefix);
  if (!counter) counters.set(prefix, (counter = { p: 0.5, n: 0 }));
  return counter;
}

/** Read bytes. The bits of each are predicted, the highest first, and after each bit counters and
    weights learn. Of every byte: what it costs each order `alone`, what it costs when `mixed`, and
    the weights after it. */
export function readBytes(model, bytes) {
  const { orders, rate, limit, weights } = model;
  const inputs = new Float64Array(orders.length);
  return bytes.map((byte) => {
    const counters = orders.map((order, which) => countersAfter(model, which, model.past.slice(model.past.length - order)));
    const read = { alone: new Float64Array(orders.length), mixed: 0 };
    let prefix = 1;
    for (let shift = model.bits - 1; shift >= 0; shift--) {
      const bit = (byte >> shift) & 1;
      const said = counters.map((each) => counterAt(each, prefix));
      said.forEach(({ p }, which) => (inputs[which] = Math.log(p / (1 - p))));
      const mixture = sigmoid(clamp(dot(weights, inputs), -12, 12));
      read.mixed += cost(mixture, bit);
      said.forEach((counter, which) => {
        const { p, n } = counter;
        read.alone[which] += cost(p, bit);
        weights[which] += rate * (bit - mixture) * inputs[which];
        counter.p = clamp(p + (bit - p) / (n + 1.5), LEAST, 1 - LEAST);
        counter.n = Math.min(n + 1, limit);
      });
      prefix = (prefix << 1) | bit;
    }
    model.past = (model.past + String.fromCharCode(byte)).slice(1);
    return { ...read, weights: weights.slice() };
  });
}

// Search

/** Beam search. `extend(prefix)` gives a probability for each symbol after a prefix, which holds
    its `symbols`, and may note in it what it needs for the next. At every step each open prefix is
    extended by every symbol, and the `width` most probable candidates stay open. Those that wrote
    the `end` are complete and take no place; the search stops when no open prefix can overtake the
    best of them, or after `longest` symbols. Without an `end`, prefixes are complete then. */
export function beamSearch(extend, { width, longest, end }) {
  let open = [{ symbols: [], total: 1 }];
  let best;
  const steps = [];
  while (steps.length < longest) {
    const candidates = open.flatMap((parent) =>
      [...extend(parent)].map((probability, symbol) => ({ parent, symbol, probability, symbols: [...parent.symbols, symbol], total: parent.total * probability })),
    );
    candidates.sort((a, b) => b.total - a.total);
    const complete = (each) => (end === undefined ? steps.length === longest - 1 : each.symbol === end);
    // As many places as the package looks at: at most half of these end. Of width 1 it is greedy.
    for (const each of candidates.slice(0, width === 1 ? 1 : 2 * width)) {
      if (complete(each) && !(best?.total >= each.total)) best = each;
    }
    open = candidates.filter(({ symbol }) => symbol !== end).slice(0, width);
    for (const each of candidates) {
      each.ended = complete(each);
      each.kept = open.includes(each);
    }
    steps.push({ candidates, open });
    if (best?.total >= open[0].total) break;
  }
  return { steps, best };
}

/** The most probable of all words of so many symbols, by trying all of them. */
export function mostProbable(extend, longest, prefix = { symbols: [], total: 1 }) {
  if (prefix.symbols.length === longest) return prefix;
  const words = [...extend(prefix)].map((probability, symbol) =>
    mostProbable(extend, longest, { parent: prefix, symbol, symbols: [...prefix.symbols, symbol], total: prefix.total * probability }),
  );
  return words.reduce((best, word) => (word.total > best.total ? word : best));
}
