import base64
import html
import importlib
import pkgutil
import re
import warnings
from fractions import Fraction
from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import contrast
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.text import Text

import seqbook.plots
from seqbook.data import prices, sound
from seqbook.plots import (
    COLOURS,
    Player,
    attention,
    comparison,
    compression,
    dependence,
    diagrams,
    forecast,
    gates,
    gradients,
    language,
    linear_recurrence,
    recurrent,
    speed,
    style,
    transformer,
    use_house_style,
)

DAYS = np.datetime64("2004-08-19") + np.arange(0, 1500, 3)
WAVE = np.sin(np.arange(500) / 9)
MONTHS = np.datetime64("1965-01") + np.arange(len(WAVE))
LAGS = np.arange(1, 31)
WEIGHTS = np.linspace(-0.9, 0.9, 31)
WIDTHS = 2 ** np.arange(11)
LENGTHS = 2 ** np.arange(6, 13)

# Every public drawing function, called with small data that have the shapes of the book's.
FIGURES = {
    "attention.encoder_decoders": attention.encoder_decoders,
    "attention.projections": lambda: attention.projections(
        np.eye(3), {name: np.ones((3, 2)) for name in "QKV"}, tokens=["dog", "bites", "man"]
    ),
    "attention.heads": attention.heads,
    "attention.errors_by_damage": lambda: attention.errors_by_damage(
        {
            name: {"without attention": np.array([error, 1.1 * error]), "with attention": WAVE[:2]}
            for name, error in {"natural": 0.15, "trimmed": 0.25, "permuted": 0.6}.items()
        },
        {"trimmed": 0.37, "permuted": 0.75},
    ),
    "attention.errors_by_length": lambda: attention.errors_by_length(
        [6, 8, 10, 12, 16],
        {
            "without attention": np.linspace(0.1, 0.6, 10).reshape(5, 2).T,
            "with attention": WAVE[None, :5],
        },
        longest=12,
    ),
    "attention.soft_look_up": lambda: attention.soft_look_up(
        np.arange(360.0),
        {
            "norm 0": np.full(360, 7.0),
            "norm 3": 7 + WAVE[:360],
            "norm 30": 7 + 3 * WAVE[:360],
        },
        {"north": (0, 4), "south": (180, 10)},
    ),
    "attention.scaling": lambda: attention.scaling(
        WIDTHS,
        {"scaled": np.full((3, 11), 6.4), "not scaled": 6 / WIDTHS[None]},
        {"scaled": np.full((3, 11), 0.05), "not scaled": 1 / WIDTHS[None]},
        keys=1024,
    ),
    "attention.masks": lambda: attention.masks(
        {name: np.tril(np.ones((5, 5), bool)) for name in ("padding", "causal", "both")},
        steps=["a", "b", "c", "\u00b7", "\u00b7"],
    ),
    "attention.alignment": lambda: attention.alignment(
        np.eye(7, 6), list("osloUS"), ["–", "eu", "end"] + ["a"] * 4
    ),
    "attention.costs": lambda: attention.costs(
        LENGTHS,
        {"textbook": LENGTHS**2 / 1e7, "chunked": LENGTHS**2 / 5e7, "GRU": LENGTHS / 1e4},
        {"textbook": LENGTHS**2 / 1e4, "torch": LENGTHS / 90, "GRU": LENGTHS / 100},
    ),
    "speed.ratios": lambda: speed.ratios(
        ["1, 2, 3, 4", "16, 512, 64, 128"],
        {
            name: {form: [(0.9, 1.0, 1.2), (2.0, 4.0, 5.0)] for form in ("ours", "textbook")}
            for name in ("RNN", "LSTM", "GRU")
        },
    ),
    "dependence.waveform": lambda: dependence.waveform(LAGS / 10, WAVE[:30], zoom=(1, 2)),
    "dependence.prices_and_shuffles": lambda: dependence.prices_and_shuffles(
        DAYS, 200 + WAVE, [200 - WAVE, 201 + WAVE]
    ),
    "dependence.correlograms": lambda: dependence.correlograms(
        {"one": WAVE[:20], "two": WAVE[20:60]},
        {"one": 0.1, "two": 0.2},
        robust={"two": np.full(39, 0.3)},
    ),
    "dependence.decomposition": lambda: dependence.decomposition(
        MONTHS, {"series": 300 + WAVE, "trend": np.full(len(WAVE), 300.0), "rest": WAVE}, unit="ppm"
    ),
    "dependence.permutation_tests": lambda: dependence.permutation_tests(
        {"one": WAVE, "two": 2 * WAVE}, {"one": 0.3, "two": 4.0}
    ),
    "dependence.effective_sizes": lambda: dependence.effective_sizes(
        WEIGHTS,
        500 * (1 - WEIGHTS) / (1 + WEIGHTS),
        WEIGHTS[::5],
        490 * (1 - WEIGHTS[::5]) / (1 + WEIGHTS[::5]),
        length=500,
    ),
    "dependence.splits": lambda: dependence.splits(
        DAYS,
        WAVE,
        {
            "random": (np.arange(5, 300, 7), WAVE[5:300:7]),
            "temporal": (np.arange(400, 500), WAVE[400:]),
        },
        ylabel="price (US dollars)",
    ),
    "dependence.information_by_lag": lambda: dependence.information_by_lag(
        LAGS, 1 / LAGS + 0.02, 0.02
    ),
    "diagrams.causal_convolution": diagrams.causal_convolution,
    "diagrams.three_kinds": diagrams.three_kinds,
    "forecast.intervals": lambda: forecast.intervals(
        np.arange(1900, 1990),
        WAVE[:90],
        {1940: (WAVE[:9] - 1, WAVE[:9], WAVE[:9] + 1)},
        ylabel="units",
    ),
    "forecast.powers_of_a_root": lambda: forecast.powers_of_a_root(0.7 + 0.4j, 20),
    "forecast.rolling_origins": lambda: forecast.rolling_origins(4, 3),
    "forecast.roots_and_roll_outs": lambda: forecast.roots_and_roll_outs(
        {"stable": np.array([0.9, -0.5j, 0.5j]), "unstable": np.array([1.1])},
        {"stable": WAVE[:90].reshape(3, 30), "unstable": WAVE[:60].reshape(2, 30)},
    ),
    "forecast.beliefs": lambda: forecast.beliefs(
        (WAVE > 0).astype(int), {name: WAVE**2 for name in list(COLOURS)[:2]}
    ),
    "gradients.gradient_path": gradients.gradient_path,
    "gradients.windows": gradients.windows,
    "gradients.seeds": lambda: gradients.seeds(
        LAGS, {"one": {"default": np.exp(-np.outer([0.2, 0.3], LAGS))}}, xlabel="lag"
    ),
    "gradients.clipped_runs": lambda: gradients.clipped_runs(
        (3 / LAGS, 1 + LAGS), (3.0 * LAGS[:9], 10.0 ** LAGS[:9]), threshold=1.0, level=2.0
    ),
    "comparison.step_diagrams": comparison.step_diagrams,
    "comparison.latch": lambda: comparison.latch(WAVE[:90], np.repeat([0.1, 0.9], 45), [5, 45]),
    "comparison.gradient_by_lag": lambda: comparison.gradient_by_lag(
        {"GRU": 0.6**LAGS, "RNN": 0.5**LAGS}, {"GRU": 0.95**LAGS}
    ),
    "comparison.losses_by_step": lambda: comparison.losses_by_step(
        {"GRU": [np.exp(-np.arange(99) / 9)], "RNN": [np.full(99, 0.2)]},
        {"no memory": 0.17},
        ylabel="error",
    ),
    "comparison.gate_along_text": lambda: comparison.gate_along_text(
        "one line and another", np.linspace(0, 1, 20), columns=10
    ),
    "comparison.states_along_string": lambda: comparison.states_along_string(
        {"LSTM": LAGS[:, None] * [0.1, 1.0], "GRU": WAVE[:90].reshape(30, 3)}, "a" * 15 + "b" * 15
    ),
    "compression.nested_intervals": lambda: compression.nested_intervals(
        "abaa", {"a": Fraction(3, 4), "b": Fraction(1, 4)}
    ),
    "compression.weights_while_reading": lambda: compression.weights_while_reading(
        LAGS, {f"order {count}": count / LAGS for count in range(7)}
    ),
    "compression.reading_costs": lambda: compression.reading_costs(
        LAGS, {"order 2": 3 + 2 / LAGS, "mixture": 2 + 2 / LAGS}, 4 / LAGS[:8]
    ),
    "compression.sizes": lambda: compression.sizes(
        {"zlib": 8000, "lzma": 7800, "mixture": 6000}, lit=["mixture"]
    ),
    "gates.conveyor_belt": gates.conveyor_belt,
    "gates.reading_numbers": lambda: gates.reading_numbers(
        WAVE[:30] ** 2, (LAGS % 13 == 0).astype(int), {"forget": WAVE[:30], "cell": WAVE[30:60]}
    ),
    "language.units_on_text": lambda: language.units_on_text(
        "a line\nand another", {"one": WAVE[:18], "two": -WAVE[:18]}
    ),
    "recurrent.unrolled": recurrent.unrolled,
    "recurrent.dependence_maps": lambda: recurrent.dependence_maps(
        {"one": np.tril(np.ones((6, 6))), "two": np.ones((6, 6))}
    ),
    "transformer.errors_by_time": lambda: transformer.errors_by_time(
        {
            "GRU": [(LAGS, 90 / LAGS), (LAGS, 80 / LAGS)],
            "Transformer": [(LAGS[4:], 70 / LAGS[4:])],
        },
        xlabel="minutes",
        ylabel="words wrong (%)",
        xscale="log",
        levels={"chance": 20.0},
    ),
    "transformer.where_heads_look": lambda: transformer.where_heads_look(
        {"layer 1": np.eye(4, 7), "layer 2": np.full((4, 7), 0.2)}, range(-3, 4), uniform=0.1
    ),
    "transformer.position_codes": lambda: transformer.position_codes(
        np.sin(np.outer(LAGS, 1 / LAGS[:8])), {3: np.hanning(9), 7: np.hanning(9) + 0.1}
    ),
    "transformer.stacks": transformer.stacks,
    "transformer.norm_places": transformer.norm_places,
    "transformer.one_stack": transformer.one_stack,
    "transformer.scores_by_distance": lambda: transformer.scores_by_distance(
        {"rotary": {9: np.ones(8), 20: np.ones(8)}, "added": {9: np.arange(8), 20: np.ones(8)}}
    ),
    "transformer.turned_pairs": lambda: transformer.turned_pairs([(2, 1), (9, 8)], degrees=30),
    "transformer.shared_heads": lambda: transformer.shared_heads(4, [4, 2, 1]),
    "transformer.activations": lambda: transformer.activations(
        np.linspace(-3, 3, 9), {"ReLU": np.arange(9), "SiLU": np.ones(9)}
    ),
    "transformer.cache_costs": lambda: transformer.cache_costs(
        np.array([64, 8192]),
        {"32 heads": np.array([0.03, 4.0]), "8 heads": np.array([0.008, 1.0])},
        {"cached": np.array([1e6, 1e8]), "recomputed": np.array([5e7, 1e12])},
    ),
    "transformer.work_per_step": lambda: transformer.work_per_step(6),
    "transformer.attention_maps": lambda: transformer.attention_maps(
        {"next-letter head": np.eye(4), "previous-letter head": np.eye(4)[::-1], "c": np.eye(4)},
        "abcd",
    ),
    "linear_recurrence.loop_and_scan": lambda: linear_recurrence.loop_and_scan(8),
    "linear_recurrence.remembered": lambda: linear_recurrence.remembered(
        np.arange(1, 1000), {"LRU": np.linspace(0.5, 0.99, 8), "S4D": np.linspace(0.9, 0.999, 8)}
    ),
    "style.curves": lambda: style.curves(
        LAGS,
        {"GRU": 1 / LAGS, "LSTM": 1.02 / LAGS, "RNN": LAGS / 30},
        xlabel="order",
        ylabel="bits per character",
        levels={"noise floor": 0.035},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _house_style():
    with plt.rc_context():
        use_house_style()
        yield
    plt.close("all")


@pytest.fixture(scope="module", params=FIGURES)
def figure(request):
    with warnings.catch_warnings():
        for category in (UserWarning, RuntimeWarning):  # nbval compares stderr: it fails a chapter
            warnings.simplefilter("error", category)
        figure_drawn = FIGURES[request.param]()
        figure_drawn.canvas.draw()
    yield figure_drawn
    plt.close(figure_drawn)


def words(figure):
    """Return the texts that a reader sees: matplotlib keeps tick labels beyond the axes' ends."""
    unseen = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = axis.get_major_ticks() + axis.get_minor_ticks()
        off = not axis.axes.axison
        unseen |= {tick.label1 for tick in ticks if off or not low <= tick.get_loc() <= high}
        unseen |= {tick.label2 for tick in ticks}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return [text for text in texts if text not in unseen]


def test_every_drawing_function_is_tested():
    returning_figures = {
        f"{module.name}.{name}"
        for module in pkgutil.iter_modules(seqbook.plots.__path__)
        for name, value in vars(importlib.import_module(f"seqbook.plots.{module.name}")).items()
        if getattr(value, "__module__", None) == f"seqbook.plots.{module.name}"
        and getattr(value, "__annotations__", {}).get("return") == "Figure"
    }
    assert returning_figures == set(FIGURES)


def test_a_figure_is_as_wide_as_the_page(figure):
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() == style.WIDTH


def test_lines_have_the_colours_of_the_house(figure):
    for line in figure.findobj(lambda artist: artist in getattr(artist.axes, "lines", ())):
        assert any(same_color(line.get_color(), colour) for colour in COLOURS.values())


def test_no_words_overlap(figure):
    for first, second in combinations(words(figure), 2):
        a, b = first.get_window_extent(), second.get_window_extent()
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(width, height) < 4, f"{first.get_text()!r} lies on {second.get_text()!r}"


def test_words_are_readable_on_a_phone(figure):
    assert words(figure)
    assert min(text.get_fontsize() for text in words(figure)) >= 9


@pytest.mark.parametrize("name", COLOURS)
def test_every_colour_stands_out_from_white(name):
    assert contrast(COLOURS[name], "#ffffff") >= 4.5


def test_curves_show_the_data_and_name_them_at_their_ends():
    figure = FIGURES["style.curves"]()
    figure.canvas.draw()
    (axes,) = figure.axes
    curves = [line.get_ydata() for line in axes.lines]
    for expected in (1 / LAGS, 1.02 / LAGS, LAGS / 30):
        assert any(np.array_equal(ys, expected) for ys in curves)
    labels = sorted(axes.texts, key=lambda text: text.get_window_extent().y0)
    assert [text.get_text() for text in labels] == ["GRU", "LSTM", "noise floor", "RNN"]
    assert same_color(labels[0].get_color(), COLOURS["GRU"])
    for low, high in pairwise(labels):
        assert low.get_window_extent().y1 <= high.get_window_extent().y0 + 1
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("order", "bits per character")


@pytest.mark.parametrize("lit", ["forget", "input", "update", "output"])
def test_a_lit_part_of_the_conveyor_belt_alone_is_in_colour(lit):
    whole, part = gates.conveyor_belt(), gates.conveyor_belt(lit)
    assert [text.get_text() for text in words(part)] == [text.get_text() for text in words(whole)]
    labels = {text.get_text(): text.get_color() for text in words(part)}
    for name in ("forget", "input", "candidate", "output"):
        part = "input" if name == "candidate" else name  # they act together
        assert same_color(labels[name], COLOURS["LSTM" if part == lit else "mean"])


def test_the_conveyor_belt_has_only_known_parts():
    with pytest.raises(ValueError, match="lit: expected 'forget'"):
        gates.conveyor_belt("peephole")


def test_the_real_prices_are_labelled_by_year():
    google = prices.load()
    figure = dependence.prices_and_shuffles(google.dates, google.close, [google.close[::-1]])
    figure.canvas.draw()
    years = [
        label.get_text() for label in figure.axes[0].get_xticklabels() if label in words(figure)
    ]
    assert years == ["2005", "2006", "2007", "2008"]


def test_a_player_plays_what_it_was_given():
    recordings = {"seven": sound.load(7), 'a <b> & "c"': sound.load(1)}
    player = Player(recordings)
    page = player._repr_html_()
    sounds = re.findall(r'src="data:audio/wav;base64,([^"]+)"', page)
    assert [base64.b64decode(s) for s in sounds] == [sound.to_wav(r) for r in recordings.values()]
    labels = re.findall(r'<audio controls aria-label="([^"]*)"', page)
    assert [html.unescape(label) for label in labels] == list(recordings)
    assert "<b>" not in page
    assert repr(player) == 'Player(seven, a <b> & "c")'  # no address, which would differ each run
