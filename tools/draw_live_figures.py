"""Draw the still pictures of the live figures, from the numbers that the page computes.

    .venv/bin/python tools/draw_live_figures.py [roots] [gradients] ...

They are what a reader sees without JavaScript, and in print. Random numbers and mathematics are
the page's own ``mathematics.mjs``, run in V8; the trained networks are the package's.
"""

import json
import re
import sys
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from py_mini_racer import MiniRacer
from train_live_models import (
    LIVE,
    head_weights,
    load,
    read_letters,
    spell,
    written_heads,
    written_reader,
)

from seqbook.models.sampling import sampling_distribution
from seqbook.plots import use_house_style
from seqbook.plots.attention import alignment
from seqbook.plots.shapes import label_cells
from seqbook.plots.style import COLOURS, WIDTH, label_ends, panels
from seqbook.plots.transformer import position_codes


@cache
def _engine() -> MiniRacer:
    engine = MiniRacer()
    for module in ("mathematics", "beam"):
        code = (LIVE / f"{module}.mjs").read_text(encoding="utf-8")
        engine.eval(re.sub(r"^import .*$|^export ", "", code, flags=re.M))
    return engine


def page(expression: str):
    """What the page's mathematics gives, as lists and dictionaries."""
    as_lists = "(_, x) => ArrayBuffer.isView(x) ? [...x] : x"
    return json.loads(str(_engine().eval(f"JSON.stringify({expression}, {as_lists})")))


def roots() -> Figure:
    """The sun's AR(2): roots in the plane, and the roll-out."""
    weights = [1.3489, -0.6566]
    figure, (plane, path) = plt.subplots(
        2, 1, figsize=(WIDTH, 4.0), height_ratios=(1.4, 1), constrained_layout=True
    )
    angle = np.linspace(0, 2 * np.pi, 200)
    plane.plot(np.cos(angle), np.sin(angle), color=COLOURS["mean"], linewidth=1)
    plane.plot(*np.transpose(page(f"rootsOfWeights({weights})")), "o", color=COLOURS["linear AR"])
    plane.set(aspect="equal", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=[-1, 0, 1])
    plane.set_yticks([-1, 0, 1], ["−i", "0", "i"])
    values = page(f"rollOut({weights}, [0, 1], 40)")
    path.axhline(0, color=COLOURS["noise floor"], linestyle="--", linewidth=1)
    path.plot(np.arange(1, 41), values, color=COLOURS["linear AR"])
    path.set(xlabel="steps ahead", ylim=(-2, 2), xlim=(1, 40), xticks=[1, 10, 20, 30, 40])
    path.set_title("deviation from the mean")
    return figure


def gradients() -> Figure:
    """Norm over the lag at radius 1.3, without an activation and with tanh."""
    network = "randomNetwork({ size: 32, steps: 100, lags: 60, seed: 1 })"
    norms = page(f"gradientNorms({network}, {{ radius: 1.3, strength: 0.5 }})")
    figure, (axes,) = panels(1, height=2.8)
    lags = np.arange(61)
    lines = {"no activation": ("linear", COLOURS["theory"]), "tanh": ("tanh", COLOURS["network"])}
    for key, colour in lines.values():
        axes.plot(lags, norms[key], color=colour)
    axes.axhline(1, color=COLOURS["mean"], linestyle="--", linewidth=1)
    axes.set(yscale="log", ylim=(1e-15, 1e10), xlim=(0, 60), xlabel="lag k (steps)")
    axes.set_title("norm of the product of Jacobians, ρ = 1.3")
    label_ends(axes, {name: (60, norms[key][-1], c) for name, (key, c) in lines.items()})
    return figure


def scaling() -> Figure:
    """Weights of a query of width 64 over sixteen keys, with the square root and without."""
    _engine().eval("const [query, ...keys] = normals(17, 1024, 1)")
    figure, axes = panels(2, height=1.6, sharex=True)
    kinds = {"scaled": "divided by √d", "not scaled": "not divided"}
    for panel, (name, words) in zip(axes, kinds.items(), strict=True):
        weights = page(f"attentionWeights(query, keys, 64, {str(name == 'scaled').lower()})")
        panel.bar(np.arange(1, 17), weights, color=COLOURS[name])
        panel.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        panel.set_title(f"weight, scores {words}, d = 64", color=COLOURS[name])
    axes[-1].set(xlabel="key", xticks=[1, 4, 8, 12, 16])
    return figure


def positions() -> Figure:
    """Codes of 64 positions at width 32, and the products of three of them with those near by."""
    codes = np.array(page("sinusoids(64, 32)"))
    products = {t: codes[t - 16 : t + 17] @ codes[t] for t in (16, 30, 47)}
    return position_codes(codes, products)


def written_text(seed: int = 1, *, prompt: str = "Alice ", longest: int = 220) -> str:
    """The text that the network on the start page writes, drawn with the page's own numbers."""
    vocabulary, model = written_reader()
    draws = page(
        f"(() => {{ const u = uniforms({seed}); return Array.from({{length: 999}}, u) }})()"
    )
    text = prompt
    while len(text) < longest:
        ids = torch.as_tensor(vocabulary.encode(text))[None]
        with torch.no_grad():
            scores = model(ids)[0][0, -1] / 0.5
        scores[vocabulary.encode(["<unk>"])] = -torch.inf
        later = scores.softmax(-1).cumsum(-1) > draws[len(text) - len(prompt)]
        text += vocabulary.symbols[int(later.int().argmax())]
    return text


def writer() -> Figure:
    """The beginning of the text that the network writes, with the gates of one unit."""
    return gates(written_text()[:39])


def gates(sentence: str = "`That's very important,' the King said,") -> Figure:
    """One unit's gates and cell along a sentence."""
    unit = load("weights-alice")[0]["units"][0]["unit"]
    vocabulary, model = written_reader()
    gate_values = read_letters(model, vocabulary.encode(sentence))
    figure, axes = panels(4, height=0.85, sharex=True)
    steps = np.arange(len(sentence))
    for panel, name in zip(axes, ("forget", "input", "output", "cell"), strict=True):
        lowest = -1 if name == "cell" else 0
        panel.bar(steps, gate_values[name][:, unit], width=0.8, color=COLOURS["LSTM"])
        panel.set(ylim=(lowest, 1), yticks=[lowest, 1])
        panel.set_title("cell, as tanh" if name == "cell" else f"{name} gate")
    axes[-1].set_xticks(steps, list(sentence), fontsize=9)
    axes[-1].tick_params(axis="x", length=0)
    return figure


def spelling() -> Figure:
    """Which letters a trained network looked at as it pronounced a word."""
    word, sounds, weights = spell("knighthood")
    return alignment(weights, [*word, "end"], [*sounds, "end"])


def chain(word: str = "queen") -> Figure:
    """The factors of a word's probability, in both orders of its letters, as bits."""
    parts = load("words-alice")[0]
    model = f"wordModel({json.dumps(parts['counted'])}, {parts['share']})"
    figure, axes = panels(2, height=1.9, sharex=True)
    for panel, backwards in zip(axes, (False, True), strict=True):
        found = page(f"chainOfWord({model}, {json.dumps(word)}, {str(backwards).lower()})")
        bits = [-np.log2(factor["probability"]) for factor in found]
        last = "start" if backwards else "end"
        names = [factor["symbol"] or last for factor in found]
        given = [f" | {factor['given']}" if factor["given"] else "" for factor in found]
        rows = np.arange(len(found))
        panel.barh(rows, bits, color=COLOURS["linear AR"])
        panel.set_yticks(rows, [f"P({x}{y})" for x, y in zip(names, given, strict=True)])
        panel.invert_yaxis()
        for row, value in enumerate(bits):
            panel.text(value + 0.1, row, f"{value:.1f}", va="center")
        order = "right to left" if backwards else "left to right"
        panel.set_title(f"{word}, {order}: {sum(bits):.1f} bits")
        panel.set(xlim=(0, 9))
    axes[-1].set_xlabel("bits")
    return figure


def unrolled() -> Figure:
    """Three steps of one unit: its states, and the derivatives on their way back."""
    found = page("unrolledUnit(0.8, [1, -0.5, 0.25], 0.5)")
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2), constrained_layout=True)
    axes.set(xlim=(-0.45, 3.45), ylim=(-0.6, 3.3))
    axes.axis("off")

    def box(k: int, row: float, words: str, colour: str) -> None:
        style = {"boxstyle": "round,pad=0.4", "facecolor": "none", "edgecolor": colour}
        axes.text(k, row, words, ha="center", va="center", bbox=style)

    def arrow(start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour})

    forward, backward = COLOURS["linear AR"], COLOURS["network"]
    for k, state in enumerate(found["states"]):
        box(k, 2.4, f"$h_{k}$\n{state:.3f}", forward)
        if k:
            arrow((k - 0.7, 2.4), (k - 0.3, 2.4), forward)
            axes.text(k, 3.15, f"$x_{k}$ = {(1, -0.5, 0.25)[k - 1]}", ha="center")
            arrow((k, 3.1), (k, 2.75), forward)
            box(k, 1.2, f"d$h_3$/d$h_{k}$\n{found['reached'][k]:.3f}", backward)
            box(k, 0.2, f"term {k}\n{found['terms'][k]:.3f}", backward)
            arrow((k, 0.87), (k, 0.55), backward)
        if k > 1:
            arrow((k - 0.36, 1.2), (k - 0.64, 1.2), backward)
    axes.text(3.4, -0.5, f"sum of the terms: {found['sum']:.3f}", ha="right")
    return figure


def beam(width: int = 2) -> Figure:
    """The tree of a beam search on the page's table."""
    found = page(f"beamSearch(tabulated, {{ width: {width}, longest: 3 }})")
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2), constrained_layout=True)
    axes.set(xlim=(-0.5, 8.5), ylim=(-0.5, 3.4))
    axes.axis("off")
    axes.plot(4, 3, "o", color=COLOURS["linear AR"])
    places = {(): 4.0}
    for level, step in enumerate(found["steps"]):
        kept = [tuple(each["symbols"]) for each in step["open"]]
        rows = sorted(
            step["candidates"], key=lambda x: (places[tuple(x["symbols"][:-1])], x["symbols"])
        )
        for number, each in enumerate(rows):
            symbols = tuple(each["symbols"])
            x = places[symbols] = 9 / len(rows) * (number + 0.5) - 0.5
            y = 2.0 - level
            stays = symbols in kept
            colour = COLOURS["linear AR" if stays else "mean"]
            parent = places[symbols[:-1]], y + (0.7 if level else 0.93)
            line = "-" if stays else ":"
            axes.plot([parent[0], x], [parent[1], y + 0.28], line, color=colour, linewidth=1)
            style = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colour}
            words = f"{'ABC'[symbols[-1]]}\n{each['total']:.3f}"
            axes.text(x, y, words, ha="center", va="center", color=colour, bbox=style)
    return figure


def heads(sentence: str = "the queen said to the king") -> Figure:
    """The weights of two heads, of either layer, over a sentence."""
    vocabulary, model = written_heads()
    weights = head_weights(model, vocabulary.encode(sentence)[None])[0]
    notable = load("weights-heads")[0]["notable"]
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 2 * WIDTH - 1), constrained_layout=True)
    for panel, layer in zip(axes, (0, 1), strict=True):
        most = max(
            (each for each in notable if each["layer"] == layer),
            key=lambda each: each["share"] - each["alike"],
        )
        shown = np.ma.masked_array(weights[layer, most["head"]], np.tri(len(sentence)) == 0)
        time = len(sentence)
        panel.imshow(shown, cmap="Blues", vmin=0, vmax=1, extent=(0, time, time, 0))
        panel.set(facecolor="#d9d9d9")
        panel.set_title(f"layer {layer + 1}, head {most['head'] + 1}", loc="center")
        label_cells(panel, [*sentence.replace(" ", "_")], [*sentence.replace(" ", "_")])
    return figure


def written_by_heads(
    beginning: str, length: int, *, seed: int, top_p: float
) -> tuple[str, torch.Tensor, torch.Tensor, int]:
    """A text that the Transformer writes, and what follows it, drawn with the page's own numbers.

    Returns:
        The text, the network's probabilities of the next symbol, those from which it is drawn,
        and its id.
    """
    vocabulary, model = written_heads()
    draws = page(
        f"(() => {{ const u = uniforms({seed}); return Array.from({{length: 999}}, u) }})()"
    )
    text = beginning
    while True:
        with torch.no_grad():
            logits = model(torch.as_tensor(vocabulary.encode(text))[None])[0, -1]
        logits[vocabulary.encode(["<unk>"])] = -torch.inf
        drawn_from = sampling_distribution(logits, top_p=top_p)
        later = drawn_from.cumsum(-1) > draws[len(text) - len(beginning)]
        symbol = int(later.int().argmax())
        if len(text) == length:
            return text, logits.softmax(-1), drawn_from, symbol
        text += vocabulary.symbols[symbol]


def stack(beginning: str = "said the ", *, seed: int = 7, length: int = 40) -> Figure:
    """A text that the Transformer writes: where its heads look, and the next symbol."""
    text, expected, drawn_from, symbol = written_by_heads(beginning, length, seed=seed, top_p=0.9)
    vocabulary, model = written_heads()
    weights = head_weights(model, vocabulary.encode(text)[None])[0, :, :, -1]
    figure, (bars, cells, following) = plt.subplots(
        3, 1, figsize=(WIDTH, 4.6), height_ratios=(1, 1.7, 1.5), constrained_layout=True
    )
    places = np.arange(length)
    bars.bar(places, weights[0, 0], width=0.8, color=COLOURS["with attention"])
    bars.set(ylim=(0, 1), yticks=[0, 1], xlim=(-0.5, length - 0.5))
    bars.set_title("weights of layer 1, head 1, over the letters so far")
    bars.set_xticks(places, list(text), fontsize=9)
    cells.imshow(
        weights.reshape(-1, length), cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="upper"
    )
    cells.set_yticks(range(8), [f"{n // 4 + 1}.{n % 4 + 1}" for n in range(8)], fontsize=9)
    cells.set_xticks([])
    cells.set_title(f"all heads: {length} × 8 cells of the cache, {256 * length:,} numbers")
    named = expected.argsort(descending=True)[:8].tolist()
    if symbol not in named:
        named[-1] = symbol
    ranks, colour = np.arange(8), COLOURS["Transformer"]
    following.bar(ranks, drawn_from[named], width=0.6, color=colour, alpha=0.5)
    place = named.index(symbol)
    following.bar(place, drawn_from[symbol], width=0.6, color=colour)
    following.bar(ranks, expected[named], width=0.6, fill=False, edgecolor=COLOURS["theory"])
    following.set_xticks(ranks, ["␣" if s == " " else s for s in vocabulary.decode(named)])
    following.get_xticklabels()[place].set_fontweight("bold")
    following.set(ylim=(0, 1), yticks=[0, 1])
    following.set_title("next: expected (outline), drawn from (filled)")
    for axes in (bars, cells, following):
        axes.tick_params(axis="x", length=0)
    return figure


def scan() -> Figure:
    """The rounds of a scan of the chapter's eight steps, in pairs."""
    steps = [[0.5, 8], [0.5, 2], [1, 0], [0.5, 1], [0, 6], [1, 0], [0.5, 3], [1, 1]]
    rounds = page("SCHEDULES.pairs(8)")
    rows = page(f"composeInRounds({steps}, SCHEDULES.pairs(8))")
    figure, axes = plt.subplots(figsize=(WIDTH, 5.2), constrained_layout=True)
    axes.set(xlim=(-0.5, 7.5), ylim=(0.5 - len(rows), 0.7))
    axes.axis("off")
    made = [0] * 8  # the round in which each place was composed last
    for number, row in enumerate(rows):
        pairs = [(k, k) for k in range(8)] if number == 0 else rounds[number - 1]
        for earlier, later in pairs:
            for place in {earlier, later} if number else ():
                path = ([place, place, later], [-made[place], 0.7 - number, -number])
                axes.plot(*path, color=COLOURS["mean"], linewidth=0.8, zorder=0)
        for _, later in pairs:
            (a, b), first = row[later]["step"], row[later]["first"]
            name = f"{later + 1}" if first == later else f"{first + 1}–{later + 1}"
            colour = COLOURS["scan" if first == 0 else "mean"]
            style = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colour}
            words = f"{name}\n{a:.3g}\n{b:.3g}"
            axes.text(later, -number, words, ha="center", va="center", fontsize=9, bbox=style)
            made[later] = number
    work = sum(map(len, rounds))
    axes.set_title(f"steps, decay, input: {work} compositions in {len(rounds)} rounds")
    return figure


def bits(text: str = "`That's very important,' the King said, turning") -> Figure:
    """What the models of the capstone pay for each letter of a text, after the start of Alice."""
    orders = range(7)
    before, letters = (
        json.dumps(list(each.encode())) for each in (load("stretch-alice")[0]["stretch"], text)
    )
    model = f"contextModel({{ orders: {list(orders)}, rate: 0.002 }})"
    read = page(f"((m) => [readBytes(m, {before}), readBytes(m, {letters})][1])({model})")
    figure, (above, below) = panels(2, height=1.7, sharex=True)
    mixed = [letter["mixed"] for letter in read]
    above.bar(np.arange(len(text)) + 0.5, mixed, color=COLOURS["network"], width=0.9)
    above.axhline(8, color=COLOURS["mean"], linestyle="--", linewidth=1)
    above.set_title(f"bits that the mixture pays, {np.mean(mixed):.2f} a letter; dashed: 8")
    alone = np.transpose([letter["alone"] for letter in read])
    size = (0, len(text), len(orders), 0)
    below.imshow(alone, cmap="Blues", vmin=0, vmax=12, aspect="auto", extent=size)
    below.set_yticks(np.array(orders) + 0.5, [f"order {order}" for order in orders], fontsize=9)
    below.set_xticks(np.arange(len(text)) + 0.5, list(text), fontsize=7)
    below.tick_params(length=0)
    return figure


FIGURES = [
    scan,
    bits,
    chain,
    unrolled,
    beam,
    heads,
    roots,
    gradients,
    scaling,
    positions,
    gates,
    spelling,
    writer,
    stack,
]


if __name__ == "__main__":
    use_house_style()
    plt.rcParams["svg.hashsalt"] = "seqbook"  # the same file from the same numbers
    for draw in FIGURES:
        if len(sys.argv) == 1 or draw.__name__ in sys.argv[1:]:
            path = LIVE / f"{draw.__name__}.svg"
            draw().savefig(path, metadata={"Date": None})
            print(path.name, path.stat().st_size)
