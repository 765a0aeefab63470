"""The figures that the reader can touch, in a real browser: `make book` first.

What the page computes is compared with seqbook and torch; then every figure is touched.
"""

import inspect
import json
import math
import re
from collections import Counter
from contextlib import ExitStack
from functools import cache

import numpy as np
import pytest
import torch
from browser import AXE, NARROW, WIDE, expect, settle, visiting
from bs4 import BeautifulSoup, SoupStrainer
from conftest import HTML, ROOT, build_pages
from train_live_models import (
    LIVE,
    alice_parts,
    bits_with_past,
    character_model,
    head_weights,
    load,
    notable_heads,
    notable_units,
    read_letters,
    train_heads,
    word_probability,
    words_of,
    written_heads,
    written_reader,
    written_speller,
)

from seqbook.data import pronunciations, read_bytes, sunspots
from seqbook.data.batches import encode_pairs
from seqbook.data.pairs import Pair
from seqbook.kernels.scan import AffineMaps, associative_scan, compose_affine_maps
from seqbook.layers.attention import scaled_dot_product_attention
from seqbook.layers.rnn import RNN
from seqbook.layers.transformer import sinusoids
from seqbook.models.decoding import beam, greedy
from seqbook.models.language_model import bits_per_character
from seqbook.models.metrics import error_rates
from seqbook.models.sampling import sampling_distribution
from seqbook.plots.style import COLOURS
from seqbook.statistics.autoregressive import LinearAR
from seqbook.training.bptt import bptt_terms, jacobian_products

TOLERANCE = 1e-4
FIGURES = {
    "chain": "sequences",
    "roots": "autoregressive",
    "gradients": "bptt",
    "unrolled": "bptt",
    "gates": "lstm",
    "scaling": "attention",
    "spelling": "attention",
    "heads": "attention",
    "positions": "transformer",
    "beam": "transformer",
    "stack": "decoder_only",
    "scan": "linear_recurrence",
    "bits": "compression",
}


@pytest.fixture(scope="module")
def javascript(browser, site):
    """Evaluate an expression over the exports of the page's own modules and an argument x."""
    with visiting(browser, site) as visit:
        page = visit.open("genindex.html")

        def run(modules: str, expression: str, argument=None):
            script = """async ([addresses, expression, argument]) => {
              const exports = await Promise.all(addresses.map((address) => import(address)));
              const known = Object.assign({}, ...exports, { x: JSON.parse(argument) });
              const value = new Function(...Object.keys(known), `return ${expression}`)(
                ...Object.values(known));
              return JSON.stringify(value, (_, y) => (ArrayBuffer.isView(y) ? [...y] : y));
            }"""
            addresses = [f"{site}_static/live/{module}.mjs" for module in modules.split()]
            return json.loads(page.evaluate(script, [addresses, expression, json.dumps(argument)]))

        yield run


def same(actual, expected) -> None:
    """Compare to ``TOLERANCE``, relative to what is large and absolute in what is small."""
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


# What the page computes


def test_the_page_draws_normal_numbers_from_its_own_generator(javascript):
    samples = np.array(javascript("mathematics", "normals(200, 500, 7)"))
    assert abs(samples.mean()) < 0.01
    assert abs(samples.std() - 1) < 0.01
    assert abs((samples**4).mean() - 3) < 0.1
    assert samples.tolist() == javascript("mathematics", "normals(200, 500, 7)")
    assert samples[0].tolist() != javascript("mathematics", "normals(1, 500, 8)")[0]


def test_roots_and_roll_outs_are_those_of_the_package(javascript, generator):
    edges = [[0, 0], [2, -1], [1, 0], [0, 1], [0, -1], [-2, -1]]
    weights = generator.uniform(-2, 2, size=(200, 2)).tolist() + edges
    roots = np.array(javascript("mathematics", "x.map(rootsOfWeights)", weights))
    steps = javascript("mathematics", "x.map((w) => rollOut(w, [0.5, -1], 30))", weights)
    again = javascript("mathematics", "x.map((w) => weightsOfRoots(rootsOfWeights(w)))", weights)
    same(again, weights)
    for (w1, w2), root, path in zip(weights, roots @ [1, 1j], steps, strict=True):
        model = LinearAR(0.0, np.array([w1, w2]))
        same(np.sort_complex(root), np.sort_complex(model.roots))
        same(path, model.roll_out(np.array([0.5, -1.0]), 30))


def test_the_sunspot_roots_are_those_that_the_chapter_fits(javascript):
    numbers = sunspots.load()
    fitted = LinearAR.fit(numbers.numbers[numbers.years <= 1920], 2)
    same(javascript("roots", "SUN"), fitted.weights)


@pytest.mark.parametrize(
    ("roots", "to", "moved"),
    [
        ([[0.5, 0.5], [0.5, -0.5]], [0.1, 0.9], [[0.1, 0.9], [0.1, -0.9]]),
        ([[0.5, 0.5], [0.5, -0.5]], [0.3, -0.2], [[0.3, -0.2], [0.3, 0.2]]),
        ([[0.5, 0.5], [0.5, -0.5]], [0.4, 0.03], [[0.4, 0], [0.4, 0]]),
        ([[0.5, 0], [-0.5, 0]], [0.9, 0.01], [[0.9, 0], [-0.5, 0]]),
        ([[0.5, 0], [-0.5, 0]], [0.5, 0.1], [[0.5, 0.1], [0.5, -0.1]]),
    ],
)
def test_roots_move_as_a_pair_off_the_axis_and_alone_on_it(javascript, roots, to, moved):
    assert javascript("mathematics", "moveRoot(x[0], 0, x[1])", [roots, to]) == moved


def test_a_spectral_radius_is_the_largest_eigenvalue(javascript, generator):
    matrices = [generator.normal(size=(n, n)) for n in (1, 2, 5, 16, 32) for _ in range(4)]
    matrices += [np.eye(3), np.zeros((3, 3)), np.array([[0.0, -2.0], [2.0, 0.0]]), -np.eye(2)]
    radii = javascript("mathematics", "x.map(spectralRadius)", [m.tolist() for m in matrices])
    same(radii, [np.abs(np.linalg.eigvals(m)).max() for m in matrices])


def cut_unit(w, inputs, initial, reach):
    """States of one unit and, by autograd, what each step of the last few adds to dh/dw."""
    copies = torch.full((len(inputs),), w, dtype=torch.float64, requires_grad=True)
    states = [torch.tensor(initial, dtype=torch.float64)]
    for k, (copy, x) in enumerate(zip(copies, inputs, strict=True)):
        past = states[-1].detach() if k == len(inputs) - reach else states[-1]
        states.append(torch.tanh(copy * past + x))
    states[-1].backward()
    return torch.stack(states).detach(), copies.grad[len(inputs) - reach :]


def test_the_unrolled_unit_s_terms_are_autograd_s_and_the_package_s(javascript, generator):
    settings = [[0.8, [1, -0.5, 0.25], 0.5]]
    settings += [[w, generator.normal(size=5).tolist(), -0.3] for w in (-1.5, -0.4, 0, 0.7, 1.5)]
    for w, inputs, initial in settings:
        for reach in range(1, len(inputs) + 1):
            arguments = [w, inputs, initial, reach]
            found = javascript("mathematics", "unrolledUnit(...x)", arguments)
            states, terms = cut_unit(*arguments)
            same(found["states"], states)
            same(found["terms"][-reach:], terms)
            assert found["terms"][:-reach] == [None] * (1 + len(inputs) - reach)
            same(found["sum"], terms.sum())
        weight = torch.tensor([[w]], dtype=torch.float64)
        whole = bptt_terms(states[1:, None], weight, initial=states[:1])
        same(found["terms"][1:], whole.flatten())


def test_the_unrolled_unit_tells_what_it_does_in_order(javascript):
    told = "events(x).map((event) => [...event, told(event, WEIGHT, x)])"
    whole = javascript("unrolled", told, 3)
    order = [f"{kind} {k}" for kind, k, _ in whole]
    back = [f"{kind} {k}" for k in (3, 2, 1) for kind in ("reached", "term")]
    assert order == ["nothing 0", "state 1", "state 2", "state 3", *back, "sum 0"]
    assert whole[-1][2].endswith("0.056 + 0.574 + 0.174 = 0.804.")
    short = javascript("unrolled", told, 2)
    assert [kind for kind, *_ in short][-2:] == ["cut", "sum"]
    assert "0.574 + 0.174 = 0.748" in short[-1][2]
    assert "0.056 is missing" in short[-1][2]


def test_gradient_norms_are_the_package_s_products_of_jacobians(javascript):
    sizes = "{ size: 32, steps: 100, lags: 60, seed: x[0] }"
    for seed, radius, strength in [(1, 1.3, 0.5), (2, 0.5, 0.0), (3, 1.6, 1.0), (4, 1.0, 0.3)]:
        arguments = [seed, radius, strength]
        network = javascript("mathematics", f"randomNetwork({sizes})", arguments)
        norms = javascript(
            "mathematics",
            f"gradientNorms(randomNetwork({sizes}), {{ radius: x[1], strength: x[2] }})",
            arguments,
        )
        weights = radius * torch.tensor(network["unit"], dtype=torch.float64)
        same(np.abs(np.linalg.eigvals(weights)).max(), radius)
        inputs = strength * torch.tensor(network["inputs"], dtype=torch.float64)
        for name, activation in {"linear": "identity", "tanh": "tanh"}.items():
            rnn = RNN(32, 32, activation=activation, bias=False).double().requires_grad_(False)
            rnn.weight_hh_l0.copy_(weights)
            rnn.weight_ih_l0.copy_(torch.eye(32))
            hidden = rnn(inputs[None])[0][0, 40:]
            expected = jacobian_products(hidden, weights, activation=activation)
            np.testing.assert_allclose(norms[name], expected, rtol=TOLERANCE)


def test_the_sliders_show_what_the_text_promises(javascript):
    sizes = "{ size: 32, steps: 100, lags: 60, seed }"
    factors = javascript(
        "mathematics",
        "[1, 2, 3, 4, 5, 6].flatMap((seed) => { const network = randomNetwork(" + sizes + ");"
        " return [0.5, 1, 1.3, 1.6].map((radius) => {"
        " const { tanh } = gradientNorms(network, { radius, strength: 1 });"
        " return (tanh[60] / tanh[20]) ** (1 / 40); }); })",
    )
    assert max(factors) < 1  # large inputs: tanh wins at every radius
    weights = "attentionWeights(q, k, d, x).sort().slice(-2)"
    two_largest = javascript(
        "mathematics",
        "[1, 2, 3, 4, 5, 6].flatMap((seed) => { const [q, ...k] = normals(17, 1024, seed);"
        " return [64, 256, 1024].map((d) => [..." + weights + "]); })",
        False,
    )
    assert min(map(sum, two_largest)) > 0.75  # most of the weight is on one or two keys
    for width, low, high in ((4, 0.95, 1), (128, 0, 0.7)):
        product = np.array(
            javascript("positions mathematics", "products(sinusoids(64, x), 0)", width)
        )
        peaks = (product[1:-1] > product[:-2]) & (product[1:-1] > product[2:])
        assert low <= product[1:-1][peaks].max() / (width / 2) <= high


def test_attention_weights_and_entropy_are_torch_s(javascript):
    for seed in range(1, 9):
        samples = torch.tensor(javascript("mathematics", "normals(17, 1024, x)", seed)).double()
        for d in (1, 2, 8, 64, 1024):
            query, keys = samples[:1, :d], samples[1:, :d]
            for scaled in (True, False):
                weights, entropy = javascript(
                    "mathematics",
                    "(([q, ...k]) => { const p = attentionWeights(q, k, x[1], x[2]);"
                    " return [p, entropy(p)]; })(normals(17, 1024, x[0]))",
                    [seed, d, scaled],
                )
                expected = scaled_dot_product_attention(query, keys, keys, scaled=scaled).weights
                same(weights, expected[0])
                same(entropy, torch.special.entr(expected).sum())


@pytest.mark.parametrize("width", [4, 32, 100, 128])
def test_codes_of_positions_and_their_products_are_the_package_s(javascript, width):
    codes = sinusoids(64, width).double()
    same(javascript("mathematics", "sinusoids(64, x)", width), codes)
    for position in (0, 20, 63):
        products = javascript("positions", "products(x[0], x[1])", [codes.tolist(), position])
        same(products, codes @ codes[position])


CHAINED = ["queen", "a", "alice", "jabberwocky", "zzz", "o'clock", "'", "disappointm"]


def test_a_word_s_factors_multiply_to_its_probability_in_either_order(javascript):
    counts = Counter(words_of(alice_parts()[0]))
    parts = load("words-alice")[0]
    assert parts["counted"] == " ".join(f"{w} {n}" for w, n in sorted(counts.items()))
    assert parts["card"]["different words"] == len(counts)
    chains = javascript(
        "mathematics words-alice",
        "((m) => x.map((w) => [false, true].map((b) => chainOfWord(m, w, b))))"
        "(wordModel(counted, share))",
        CHAINED,
    )
    for word, both in zip(CHAINED, chains, strict=True):
        expected = np.log(word_probability(word, counts, parts["share"]))
        for chain, order in zip(both, (word, word[::-1]), strict=True):
            logarithms = np.log([factor["probability"] for factor in chain])
            same(logarithms.sum(), expected)
            same(logarithms.cumsum(), np.log([factor["joint"] for factor in chain]))
            assert "".join(factor["symbol"] for factor in chain) == order


def test_what_follows_a_part_of_a_word_is_a_distribution_and_gives_its_factors(javascript):
    # By the rule of sums the probability of a part is that of all its continuations.
    model = "((m) => x.map(([part, back]) => nextOfWord(m, part, back)))(wordModel(counted, share))"
    parts = [["", False], ["qu", False], ["ing", True], ["xq", False], ["queen", True]]
    for pairs in javascript("mathematics words-alice", model, parts):
        same(sum(p for _, p in pairs), 1)
        assert all(p > 0 for symbol, p in pairs if symbol)
    counts = Counter(words_of(alice_parts()[0]))
    begin = sum(n for word, n in counts.items() if word.startswith("q"))
    follow = sum(n for word, n in counts.items() if word.startswith("qu"))
    seen = javascript("mathematics words-alice", "nextOfWord(wordModel(counted, 0), 'q', false)")
    assert dict(seen)["u"] == pytest.approx(follow / begin)


def test_the_word_model_is_as_good_as_its_page_says():
    parts = [words_of(part) for part in alice_parts()]
    counts, stated = Counter(parts[0]), load("words-alice")[0]
    for name, words in zip(("validation", "test"), parts[1:], strict=True):
        costs = [
            n * np.log2(word_probability(w, counts, stated["share"]))
            for w, n in Counter(words).items()
        ]
        bits = -sum(costs) / len(words)
        assert bits == pytest.approx(stated["card"][f"bits per word, {name}"], abs=0.006)


def ids_of_texts(vocabulary, generator, length, *more):
    """Ids of ten unseen texts of this length, three of random letters, and some more."""
    unseen = alice_parts()[2]
    random = ["".join(generator.choice(vocabulary.symbols[:-1], size=length)) for _ in range(3)]
    texts = [unseen[k : k + length] for k in range(0, 10 * length, length)]
    return [vocabulary.encode(text).tolist() for text in [*texts, *random, *more]]


def test_the_reader_s_gates_and_predictions_are_torch_s(javascript, generator):
    vocabulary, model = written_reader()
    ids = ids_of_texts(vocabulary, generator, 76, "a", "'", "  ")
    actual = javascript(
        "networks weights-alice",
        "((w) => x.map((ids) => readCharacters(w, ids)))(unpack(weights))",
        ids,
    )
    for steps, letters in zip(actual, ids, strict=True):
        expected = read_letters(model, letters)
        for name in ("forget", "input", "output"):
            same([step[name] for step in steps], expected[name])
        same(np.tanh([step["cell"] for step in steps]), expected["cell"])
        logits = model(torch.tensor([letters]))[0][0].detach()
        same([step["logits"] for step in steps], logits)


def test_the_reader_is_as_good_as_its_page_says(javascript):
    vocabulary, model = written_reader()
    parts, stated = alice_parts(), load("weights-alice")[0]
    bits = bits_per_character(model, vocabulary.encode(parts[2]))
    assert bits == pytest.approx(stated["card"]["bits per character, test"], abs=0.002)
    assert bits < 2.3
    assert notable_units(model, vocabulary, parts) == stated["units"]


def test_an_untrained_reader_has_gates_that_follow_spaces_and_nothing_else_as_closely():
    vocabulary, _ = written_reader()
    stated = {(u["gate"], u["follows"]): abs(u["r"]) for u in load("weights-alice")[0]["units"]}
    for seed in range(3):
        model = character_model(len(vocabulary), seed).double()
        for unit in notable_units(model, vocabulary, alice_parts()):
            if unit["follows"] == "spaces":
                assert abs(unit["r"]) > 0.6
            else:
                assert abs(unit["r"]) < stated[unit["gate"], unit["follows"]] - 0.2


def test_the_heads_weights_and_predictions_are_torch_s_and_causal(javascript, generator):
    vocabulary, model = written_heads()
    ids = ids_of_texts(vocabulary, generator, 28, "a", " ", "''")
    actual = javascript(
        "networks weights-heads",
        "((w) => x.map((ids) => readWithHeads(w, ids, shape)))(unpack(weights))",
        ids,
    )
    for found, letters in zip(actual, ids, strict=True):
        with torch.no_grad():
            same(found["logits"], model(torch.tensor([letters]))[0])
        expected = head_weights(model, np.array([letters]))[0]
        for layer, heads in enumerate(found["looks"]):
            for head, rows in enumerate(heads):
                for t, row in enumerate(rows):
                    same(row, expected[layer, head, t, : t + 1])
                    same(expected[layer, head, t, t + 1 :], 0)


def test_the_heads_are_as_good_as_their_page_says_and_look_where_it_says():
    vocabulary, model = written_heads()
    parts, stated = alice_parts(), load("weights-heads")[0]
    bits = bits_with_past(model, torch.as_tensor(vocabulary.encode(parts[2])))
    assert bits == pytest.approx(stated["card"]["bits per character, test"], abs=0.002)
    assert notable_heads(model, vocabulary, parts) == stated["notable"]
    first = {each["on"]: each["share"] for each in stated["notable"] if each["layer"] == 0}
    assert first["the letter before"] > 0.5
    assert min(first["the letter two places before"], first["the last space"]) > 0.25


READ_ONE_BY_ONE = """((w) => x.map((ids) => {
  const cache = emptyCache(shape);
  return ids.map((id) => ({ ...readOneMore(w, id, cache, shape), numbers: numbersIn(cache) }));
}))(unpack(weights))"""


def test_letters_read_one_by_one_with_the_cache_are_as_in_the_whole_pass(javascript, generator):
    vocabulary, model = written_heads()
    ids = ids_of_texts(vocabulary, generator, 96, "a", " ")[-6:]  # beyond the trained length too
    whole = "((w) => x.map((ids) => readWithHeads(w, ids, shape)))(unpack(weights))"
    modules = "networks weights-heads"
    for steps, passed, letters in zip(
        javascript(modules, READ_ONE_BY_ONE, ids), javascript(modules, whole, ids), ids, strict=True
    ):
        logits = [step["logits"] for step in steps]
        np.testing.assert_allclose(logits, passed["logits"], rtol=1e-12, atol=1e-12)
        with torch.no_grad():
            same(logits, model(torch.tensor([letters]))[0])
        expected = head_weights(model, np.array([letters]))[0]
        for t, step in enumerate(steps):
            for layer, heads in enumerate(step["looks"]):
                for head, row in enumerate(heads):
                    assert row == pytest.approx(passed["looks"][layer][head][t], rel=1e-12)
                    same(row, expected[layer, head, t, : t + 1])
        # Keys and values of 2 layers of 4 heads of 16 features.
        counts = [2 * 2 * 4 * 16 * n for n in range(1, len(letters) + 1)]
        assert [step["numbers"] for step in steps] == counts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.1},
        {"temperature": 2.0},
        {"top_k": 1},
        {"top_k": 5, "temperature": 0.7},
        {"top_k": 1000},
        {"top_p": 0.05},
        {"top_p": 0.9},
        {"top_k": 5, "top_p": 0.8, "temperature": 1.3},
    ],
)
def test_the_distribution_to_draw_from_is_the_package_s(javascript, generator, options):
    logits = torch.from_numpy(generator.normal(scale=3, size=(20, 70)))
    logits[0, 3] = -torch.inf
    logits[1] = torch.arange(70) // 10  # equal ones: the first counts as more probable
    logits[2] = torch.tensor([0.4, 0.3, 0.2, 0.1] + 66 * [0.0]).log()
    expected = sampling_distribution(logits, **options)
    names = {"temperature": "temperature", "top_k": "topK", "top_p": "topP"}
    passed = json.dumps({names[name]: value for name, value in options.items()})
    rows = [[None if x == -np.inf else x for x in row] for row in logits.tolist()]
    found = javascript(
        "mathematics",
        f"x.map((z) => samplingDistribution(z.map((y) => y ?? -Infinity), {passed}))",
        rows,
    )
    assert (np.array(found) > 0).tolist() == (expected > 0).tolist()
    same(found, expected)


WRITTEN = """((w) => x.map(([ids, seed, options]) => {
  const text = begin(w, ids, seed);
  return Array.from({ length: 96 - ids.length }, () => {
    const { expected, probabilities, symbol } = drawNext(text, options);
    const { uniform } = text;
    append(text, symbol);
    return { expected, probabilities, symbol, uniform };
  });
}))(unpack(weights))"""


def test_a_text_is_written_as_the_package_would_write_it_with_the_same_numbers(javascript):
    vocabulary, model = written_heads()
    begun = [vocabulary.encode(text).tolist() for text in javascript("stack", "EXAMPLES")]
    options = [{"temperature": 0.5}, {"temperature": 1, "topP": 0.9}, {"temperature": 2, "topK": 5}]
    named = [{"temperature": 0.5}, {"top_p": 0.9}, {"temperature": 2.0, "top_k": 5}]
    runs = [[ids, seed, each] for seed, (ids, each) in enumerate(zip(begun, options, strict=True))]
    modules = "stack networks weights-heads"
    found = javascript(modules, WRITTEN, runs)
    assert javascript(modules, WRITTEN, runs) == found  # the same seed, the same text
    unknown = vocabulary.symbols.index("<unk>")
    for (ids, seed, _), steps, settings in zip(runs, found, named, strict=True):
        draws = javascript("mathematics", "Array.from({ length: 99 }, uniforms(x))", seed)
        text = [*ids, *(step["symbol"] for step in steps)]
        with torch.no_grad():
            logits = model(torch.tensor([text]))[0, len(ids) - 1 : -1]
        logits[:, unknown] = -torch.inf
        probabilities = sampling_distribution(logits, **settings)
        same([step["expected"] for step in steps], logits.softmax(-1))
        same([step["probabilities"] for step in steps], probabilities)
        assert [step["uniform"] for step in steps] == draws[: len(steps)]
        reached = probabilities.cumsum(-1) > torch.tensor(draws[: len(steps)])[:, None]
        assert reached.int().argmax(-1).tolist() == [step["symbol"] for step in steps]


@torch.no_grad()
def bits_after(model, ids, fewest, most):
    """Bits per character where so many letters are before."""
    chosen = ids.unfold(0, most + 1, 48)
    logits = model(chosen[:, :-1])[:, fewest - 1 :]
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), chosen[:, fewest:].flatten())
    return nats.item() / np.log(2)


def test_the_stack_s_page_says_what_it_costs_beyond_its_trained_length(javascript):
    trained, longest, beyond = javascript("stack", "[TRAINED, LONGEST, BEYOND]")
    assert trained == inspect.signature(train_heads).parameters["window"].default
    assert (trained, longest["text"]) == (64, 96)
    vocabulary, model = written_heads()
    ids = torch.as_tensor(vocabulary.encode(alice_parts()[2]))
    within = load("weights-heads")[0]["card"]["bits per character, test"]
    assert bits_after(model.float(), ids, 32, 63) == pytest.approx(within, abs=0.03)
    assert bits_after(model, ids, 65, 96) == pytest.approx(beyond, abs=0.05)
    assert beyond < np.log2(len(vocabulary) - 1)


HAND = "beamSearch(tabulated, { width: x, longest: 3 })"


def test_wider_beams_find_better_words_in_the_table_and_three_finds_the_best(javascript):
    names = "(({ best }) => [best.symbols.map((k) => 'ABC'[k]).join(''), best.total])"
    found = [javascript("beam mathematics", f"{names}({HAND})", width) for width in (1, 2, 3, 4)]
    assert [word for word, _ in found] == ["AAA", "BAB", "CCC", "CCC"]
    np.testing.assert_allclose([p for _, p in found], [0.1, 0.126, 0.1805, 0.1805])
    table = javascript("beam", "TABLE")
    rows = [table.get(prefix, table["other"]) for prefix in table]
    np.testing.assert_allclose([sum(row) for row in rows], 1)
    every = {
        word: np.prod([table.get(word[:k], table["other"])[int(word[k])] for k in range(3)])
        for word in (f"{a}{b}{c}" for a in range(3) for b in range(3) for c in range(3))
    }
    best = javascript("beam mathematics", "mostProbable(tabulated, 3).symbols.join('')")
    assert max(every, key=every.get) == best == "222"


def test_a_step_of_a_beam_keeps_the_most_probable_candidates(javascript):
    steps = javascript("beam mathematics", f"{HAND}.steps.map((s) => s.candidates)", 2)
    assert [len(candidates) for candidates in steps] == [3, 6, 6]
    for candidates in steps:
        kept = [each["total"] for each in candidates if each["kept"]]
        dropped = [each["total"] for each in candidates if not each["kept"]]
        assert len(kept) == 2
        assert min(kept) >= max(dropped)


def test_the_speller_s_beam_is_the_package_s(javascript):
    vocabularies, model = written_speller()
    sources = [tuple(w) for w in ("lifelong", "beauty", "ack", "antelope", "a", "zzz", "qqqqqqqq")]
    sources += [pair.source for pair in pronunciations.load().test[::1500]]
    ids = [vocabularies.source.encode(source).tolist() for source in sources]
    batch = vocabularies.encode_sources(sources)
    search = (
        "((w) => x[0].map((ids) => { const { best } = beamSearch(speller(w, ids),"
        " { width: x[1], longest: 14, end: 2 }); return best && [best.symbols, best.total]; }))"
        "(unpack(weights))"
    )
    modules = "mathematics networks weights-spelling"
    alone = javascript(modules, search, [ids, 1])
    for width in (1, 2, 4):
        expected = beam(model, *batch, width=width, max_length=14)
        for mine, first, theirs in zip(
            javascript(modules, search, [ids, width]), alone, expected, strict=True
        ):
            # The package's beam begins with the greedy result.
            found = [each for each in (mine, first) if each]
            assert bool(found) == theirs.complete
            if found:
                symbols, total = max(found, key=lambda each: each[1])
                assert symbols == [*theirs.ids, 2]
                same(np.log(total), theirs.log_probability)


def test_a_beam_of_two_mends_the_words_to_try(javascript):
    vocabularies, model = written_speller()
    held_out = {"".join(pair.source): pair.targets for pair in pronunciations.load().test}
    for word in filter(None, javascript("beam", "EXAMPLES")):
        batch = vocabularies.encode_sources([tuple(word)])
        (first,), (found,) = greedy(model, *batch), beam(model, *batch, width=2)
        assert vocabularies.decode_target(first.ids) not in held_out[word]
        assert vocabularies.decode_target(found.ids) in held_out[word]


def words() -> list[tuple[str, ...]]:
    """Held-out words, words at the limits of what can be typed, and nonsense."""
    held_out = [pair.source for pair in pronunciations.load().test[::200]]
    return held_out + [tuple(w) for w in ("a", "z", "'", "-.-", "q" * 16, "abcdefghijklmnop")]


def test_the_speller_writes_and_looks_as_torch_does(javascript):
    vocabularies, model = written_speller()
    sources = words()
    assert len(sources) > 60
    ids = [vocabularies.source.encode(source).tolist() for source in sources]
    actual = javascript(
        "networks weights-spelling",
        "((w) => x.map((ids) => pronounce(w, ids, 20)))(unpack(weights))",
        ids,
    )
    hypotheses = greedy(model, *vocabularies.encode_sources(sources), max_length=20)
    answers = [vocabularies.decode_target(hypothesis.ids) for hypothesis in hypotheses]
    examples = encode_pairs(
        [Pair(*pair) for pair in zip(sources, zip(answers), strict=True)], vocabularies
    )
    with torch.no_grad():
        logits, looks = model(examples), model.attention_weights(examples)
    for row, (steps, hypothesis) in enumerate(zip(actual, hypotheses, strict=True)):
        written = [step["symbol"] for step in steps]
        assert written == hypothesis.ids + [2] * hypothesis.complete, sources[row]
        same([step["logits"] for step in steps], logits[row, : len(steps)])
        letters = examples.source_lengths[row]
        same([step["looks"] for step in steps], looks[row, : len(steps), :letters])
        if hypothesis.complete:
            probability = np.prod([step["probability"] for step in steps])
            same(np.log(probability), hypothesis.log_probability)


def test_the_speller_is_as_good_as_its_page_says(javascript):
    vocabularies, model = written_speller()
    pairs, stated = pronunciations.load().test[::20], load("weights-spelling")[0]["card"]
    written = greedy(
        model.float(), *vocabularies.encode_sources([p.source for p in pairs]), max_length=30
    )
    score = error_rates([vocabularies.decode_target(h.ids) for h in written], pairs)
    # A fifth of the words that the statement counts: three standard errors are 0.06 and 0.02.
    assert score.word == pytest.approx(stated["words wrong, test"], abs=0.06)
    assert score.symbol == pytest.approx(stated["phonemes wrong, test"], abs=0.02)


def test_the_words_to_try_are_of_the_test_part_and_their_mistakes_as_the_caption_says(javascript):
    vocabularies, model = written_speller()
    held_out = {"".join(pair.source): pair.targets for pair in pronunciations.load().test}
    right = {}
    for word in javascript("spelling", "EXAMPLES"):
        (hypothesis,) = greedy(model, *vocabularies.encode_sources([tuple(word)]), max_length=20)
        right[word] = vocabularies.decode_target(hypothesis.ids) in held_out[word]
    assert right == {"knighthood": True, "psychology": True, "photographs": False, "enough": False}


def run_cells(chapter: str, *cells: str, **names) -> dict:
    """Run cells of a chapter with these names, and return what is defined then."""
    path = ROOT / "book" / f"{chapter}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    sources = {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}
    for cell in cells:
        exec(compile(sources[cell], f"{path.name}, {cell}", "exec"), names)
    return names


SCANNED = "x.map(([way, count]) => SCHEDULES[way](count))"


def rounds_of_the_package(count: int) -> list[list[list[int]]]:
    """Places [earlier, later] that each call of the package's scan combines."""
    rounds = []

    def combine(first, second):
        rounds.append(torch.stack([first[1][0], second[1][0]], 1).tolist())
        assert torch.equal(first[1] + 1, second[0])  # neighbours
        return [first[0], second[1]]

    places = torch.arange(count)[None]
    associative_scan(combine, [places, places])
    return rounds


def test_the_scan_in_pairs_composes_what_the_package_composes_in_each_round(javascript):
    counts = [1, 2, 3, 5, 8, 13, 64, 1000]
    found = javascript("mathematics", SCANNED, [("pairs", count) for count in counts])
    assert found == [rounds_of_the_package(count) for count in counts]
    for way in ("loop", "doubling"):
        for count, rounds in zip(
            counts, javascript("mathematics", SCANNED, [(way, n) for n in counts]), strict=True
        ):
            work, longest = sum(map(len, rounds)), math.ceil(math.log2(count))
            if way == "loop":
                assert (len(rounds), work) == (count - 1, count - 1)
            else:
                doubled = sum(count - 2**k for k in range(longest))
                assert (len(rounds), work) == (longest, doubled)
            # Nothing is composed twice, or read after it changed, in a round.
            assert all(len({later for _, later in pairs}) == len(pairs) for pairs in rounds)


def test_every_schedule_gives_the_loop_s_states(javascript, generator):
    for count in (1, 2, 3, 7, 8, 20):
        steps = generator.normal(size=(count, 2)).tolist()
        decay, shift = torch.tensor(steps, dtype=torch.float64).T[:, None]
        expected = associative_scan(compose_affine_maps, AffineMaps(decay, shift))
        same(javascript("mathematics", "recurrence(x)", steps), expected[1][0])
        for way in ("loop", "pairs", "doubling"):
            rows = javascript(
                "mathematics",
                "composeInRounds(x[0], SCHEDULES[x[1]](x[0].length)).at(-1)",
                [steps, way],
            )
            same([row["step"] for row in rows], torch.stack([*expected], -1)[0])
            assert {row["first"] for row in rows} == {0}


def test_the_scan_is_the_chapter_s_and_tells_its_arithmetic(javascript):
    cells = ("compose", "scan-by-hand", "solution-doubling")
    chapter = run_cells("linear_recurrence", *cells, claim_equal=lambda *_, **__: None)
    assert javascript("scan", "[DECAYS, ADDED]") == [chapter["decays"], chapter["added"]]
    steps = [list(step) for step in zip(chapter["decays"], chapter["added"], strict=True)]
    tell = (
        "((found) => [found.rounds.length, toldOfCell(found, x[2], x[3]),"
        " toldOfBoth(x[0], found, x[3])])(scanned(x[0], x[1]))"
    )
    rounds, cell, both = javascript("scan", tell, [steps, "pairs", 3, 2])
    assert rounds == 5
    assert "(0.5, 1) ∘ (0.25, 6) = (0.5 · 0.25, 0.5 · 6 + 1) = (0.125, 4)" in cell
    assert chapter["compose"]((0.25, 6), (0.5, 1)) == (0.125, 4)
    assert both.startswith("The loop computes h₃ = 1 · 6 + 0 = 6.")
    assert both.endswith("made 2 of 7 compositions, the scan 6 of 11.")
    doubled, rounds, work = chapter["doubling"](steps)
    states = ", ".join(f"{state:g}" for _, state in doubled)
    _, _, both = javascript("scan", tell, [steps, "doubling", 3, rounds])
    assert f"finished after {rounds} rounds and {work} compositions" in both
    assert f"The scan's states are the loop's: {states}." in both


def chapter_costs(before: bytes, text: bytes, orders: list[int], rate: float, bits_a_byte: int):
    """By the capstone's own cells: the costs of each byte of a text alone and mixed, and the
    weights after it, when other bytes were read before."""
    names = {"np": np, "exp": math.exp, "log2": math.log2, "book": b"", "BITS": bits_a_byte}
    chapter = run_cells("compression", "contexts-run", "log-odds", "mix-loop", **names)
    data = before + text
    said = np.array([chapter["predictions"](order, data)[0] for order in orders])
    bits = np.array([byte >> k & 1 for byte in data for k in reversed(range(bits_a_byte))])
    chapter["BITS"] = 1 / 100  # from here on: watch the weights after every bit
    mixed, weights = chapter["mix"](said, bits, rate=rate)
    alone = -np.log2(np.where(bits, said, 1 - said))

    def by_byte(costs):
        return costs.reshape(*costs.shape[:-1], -1, bits_a_byte).sum(-1)[..., len(before) :]

    return by_byte(alone).T, by_byte(mixed), weights[bits_a_byte - 1 :: bits_a_byte][len(before) :]


READ = (
    "((m) => [readBytes(m, x[1]), readBytes(readOn(m), x[2]), readBytes(readOn(readOn(m)), x[2])])"
    "(contextModel(x[0]))"
)


@pytest.mark.parametrize("case", ["the chapter's", "Korean", "nothing before", "few orders"])
def test_models_that_count_and_their_mixture_are_the_chapter_s(javascript, case):
    alice, korean = read_bytes("alice29.txt"), "앨리스는 잠이 들었다. 한국어 \0\0 텍스트".encode()
    options = {"orders": list(range(7)), "rate": 0.002, "bits": 8}
    before, text = {
        "the chapter's": (alice[:3000], alice[3000:3500]),
        "Korean": (alice[50_000:51_000] + korean, korean),
        "nothing before": (b"", alice[70_000:70_500]),
        "few orders": (alice[:500], b"a" * 200 + alice[500:600]),
    }[case]
    options |= {"bits": 7} if case == "the chapter's" else {}
    options |= {"orders": [2, 0], "rate": 0.03} if case == "few orders" else {}
    _, read, again = javascript("mathematics", READ, [options, [*before], [*text]])
    assert read == again  # the first reading has changed nothing that the second sees
    alone, mixed, weights = chapter_costs(
        before, text, options["orders"], options["rate"], options["bits"]
    )
    for name, expected in {"alone": alone, "mixed": mixed, "weights": weights}.items():
        np.testing.assert_allclose([step[name] for step in read], expected, rtol=1e-9, atol=1e-9)


def test_the_price_of_a_text_is_the_chapter_s(javascript):
    stretch = load("stretch-alice")[0]["stretch"]
    assert alice_parts()[0].startswith(stretch)
    assert stretch.endswith(". ")
    assert javascript("bits", "[ORDERS, RATE]") == [[*range(7)], 0.002]
    (path,) = ROOT.glob("*/compression.ipynb")
    assert '"chosen: 0.002' in path.read_text(encoding="utf-8")
    examples = javascript("bits", "Object.values(EXAMPLES)")
    read = javascript(
        "bits stretch-alice",
        "((p) => x.map((text) => costsOfLetters(p.model, [...text])))(primed(stretch.length))",
        examples,
    )
    for text, letters in zip(examples, read, strict=True):
        assert "".join(letter["letter"] for letter in letters) == text
        alone, mixed, weights = chapter_costs(
            stretch.encode(), text.encode(), [*range(7)], 0.002, 8
        )
        same(sum(letter["mixed"] for letter in letters), mixed.sum())
        same(np.sum([letter["alone"] for letter in letters], 0), alone.sum(0))
        same(letters[-1]["weights"], weights[-1])
        assert sum(letter["plain"] for letter in letters) == 8 * len(text.encode())
        ends = np.cumsum([len(letter.encode()) for letter in text])
        same([letter["mixed"] for letter in letters], np.diff(mixed.cumsum()[ends - 1], prepend=0))


# The figures in their pages


@cache
def built(name: str) -> str:
    """The HTML of a figure in its chapter."""
    chapter = (HTML / f"{FIGURES[name]}.html").read_text(encoding="utf-8")
    figure = BeautifulSoup(chapter, "html.parser", parse_only=SoupStrainer(id=f"live-{name}"))
    return str(figure)


@pytest.fixture
def touch(browser, site):
    """Put a figure as it was built into a small page, and give it; nothing may go wrong there.

    A chapter takes seconds to lay out. That the figures work in theirs is tested apart.
    """
    with ExitStack() as stack:
        visits = []

        def bring(name: str, **options):
            visit = stack.enter_context(visiting(browser, site, **options))
            visits.append(visit)
            page = visit.open("genindex.html")
            page.locator("article").evaluate("(a, built) => { a.innerHTML = built; }", built(name))
            page.add_script_tag(url=f"{site}_static/live/live.mjs", type="module")
            figure = page.locator(f"#live-{name}")
            figure.scroll_into_view_if_needed()
            expect(figure.locator(".live-says")).not_to_be_empty()
            return figure

        yield bring
        assert [visit.problems for visit in visits] == [[]] * len(visits)


def drawn(figure) -> str:
    return figure.locator(".live-picture").last.inner_html()


def said(figure) -> str:
    return figure.locator(".live-says").inner_text()


def redrawn(figure, before: str) -> str:
    """Wait until a figure is drawn again, and return what it says then."""
    figure.page.wait_for_function(
        "([id, before]) => [...document.querySelectorAll(`#${id} .live-picture`)].at(-1)"
        ".innerHTML !== before",
        arg=[figure.get_attribute("id"), before],
    )
    return said(figure)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_loads_when_it_comes_into_view_and_nothing_jumps(browser, site, name):
    with visiting(browser, site, width=NARROW) as visit:
        page = visit.open(f"{FIGURES[name]}.html")
        stage = page.locator(f"#live-{name} .live-stage")
        assert not [url for url in visit.requested if url.endswith(f"/{name}.mjs")]
        expect(stage.locator("img")).to_be_visible()
        reserved = stage.bounding_box()["height"]
        stage.scroll_into_view_if_needed()
        expect(stage.locator(".live-picture").last).to_be_visible()
        expect(stage.locator("img")).to_be_hidden()
        assert stage.bounding_box()["height"] == reserved
        assert [url for url in visit.requested if url.endswith(f"/{name}.mjs")]
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
        sizes = stage.evaluate(
            "s => [...s.querySelectorAll('text, label, button, output, p, option')]"
            ".map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 12
        page.emulate_media(media="print")  # there the still picture is, as before
        expect(stage.locator("img")).to_be_visible()
        assert stage.locator("img").evaluate("i => i.complete && i.naturalWidth > 200")
        expect(stage.locator(".live-room")).to_be_hidden()
        assert visit.problems == []


@pytest.mark.parametrize("name", FIGURES)
def test_every_control_changes_the_figure(touch, name):
    figure = touch(name)
    stage = figure.locator(".live-stage")
    reserved = stage.evaluate("stage => parseFloat(getComputedStyle(stage).minHeight)")
    assert stage.bounding_box()["height"] == reserved > 400
    sliders, buttons = figure.locator("input[type=range]"), figure.locator("button")
    for k in range(sliders.count()):
        before, value = drawn(figure), sliders.nth(k).input_value()
        words = said(figure)
        sliders.nth(k).focus()
        for _ in range(3):
            figure.page.keyboard.press("ArrowLeft")
        assert float(sliders.nth(k).input_value()) < float(value)
        assert redrawn(figure, before) != words or name == "positions"  # alike from everywhere
        assert sliders.nth(k).get_attribute("aria-valuetext")
    for k in reversed(range(buttons.count())):  # the first is what is shown at the start
        before, words = drawn(figure), said(figure)
        buttons.nth(k).click()
        assert redrawn(figure, before) != words
    # A screen reader waits while it is true.
    expect(figure.locator(".live-says")).to_have_attribute("aria-busy", "false")
    assert figure.page.evaluate("document.documentElement.scrollWidth") <= WIDE


def numbers_said(figure, key: str, slider: int) -> list[float]:
    """Press a key on a slider and return the numbers that the figure says then."""
    before = drawn(figure)
    figure.locator("input[type=range]").nth(slider).press(key)
    return [float(x) for x in re.findall(r"\d+(?:\.\d+)?", redrawn(figure, before))]


def test_texts_of_figures_state_the_settings_of_their_sliders(touch, javascript):
    width, itself, alike = numbers_said(touch("positions"), "ArrowRight", 1)[:3]
    codes = sinusoids(2, 36).double()
    assert (width, itself) == (36, 18)
    assert alike == pytest.approx(float(codes[0] @ codes[1]), abs=0.0501)

    width, *said_of_both = numbers_said(touch("scaling"), "ArrowRight", 0)
    query, *keys = torch.tensor(javascript("mathematics", "normals(17, 1024, 1)"))[:, :128].double()
    for factor, (nats, largest) in ((128**-0.5, said_of_both[:2]), (1, said_of_both[2:4])):
        weights = (torch.stack(keys) @ query * factor).softmax(-1)
        assert width == 128
        assert nats == pytest.approx(float(torch.special.entr(weights).sum()), abs=0.0051)
        assert largest == pytest.approx(float(weights.max()), abs=0.0051)

    assert numbers_said(touch("gradients"), "ArrowRight", 0)[0] == pytest.approx(1.31, abs=0.01)


def test_a_root_is_dragged_by_the_mouse_and_its_mirror_image_follows(touch):
    figure = touch("roots")
    handles = figure.locator(".live-handle")
    box = handles.nth(0).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    figure.page.mouse.move(x, y)
    figure.page.mouse.down()
    figure.page.mouse.move(x + 30, y - 30, steps=5)
    figure.page.mouse.up()
    settle(figure.page)
    moved = handles.nth(0).bounding_box()
    assert moved["x"] - box["x"] == pytest.approx(30, abs=2)
    assert moved["y"] - box["y"] == pytest.approx(-30, abs=2)
    assert handles.nth(1).bounding_box()["x"] == pytest.approx(moved["x"], abs=1)
    assert "above 1: it explodes" in said(figure)


def test_a_root_is_moved_by_arrow_keys_off_the_axis_too(touch):
    figure = touch("roots")
    figure.get_by_role("button", name="Both real").click()
    handle = figure.get_by_role("slider", name="Root 1")
    expect(handle).to_have_attribute("aria-valuetext", "0.90 + 0.00 i")
    handle.focus()
    figure.page.keyboard.press("ArrowUp")
    expect(handle).to_have_attribute("aria-valuetext", "0.90 + 0.02 i")
    figure.page.keyboard.press("Shift+ArrowLeft")
    expect(handle).to_have_attribute("aria-valuetext", "0.80 + 0.02 i")
    other = figure.get_by_role("slider", name="Root 2")
    expect(other).to_have_attribute("aria-valuetext", "0.80 − 0.02 i")
    expect(handle).to_be_focused()


STRANGE = {
    "한국어": "Left out",
    "naïve café": "Left out",
    "🙂🙃": "Left out",
    "<img src=x onerror=alert(1)>": "",
    "\0": "",
    "x" * 500: "",
    "": "Type a ",
    "   ": "",
    "한": "Type a ",
}


@pytest.mark.parametrize("name", ["chain", "gates", "heads", "spelling", "stack"])
def test_any_text_may_be_typed(touch, name):
    figure = touch(name, width=NARROW)
    for text, answer in STRANGE.items():
        figure.get_by_role("textbox").fill(text)
        expect(figure.locator(".live-says")).to_contain_text(answer)
        settle(figure.page, milliseconds=150)  # as long as a figure waits for the next letter
        assert drawn(figure).count("<text") <= 100
        assert figure.locator("img[src=x]").count() == 0
        assert figure.page.evaluate("document.documentElement.scrollWidth") <= NARROW


def test_any_text_has_a_price(touch):
    figure = touch("bits", width=NARROW)
    for text in STRANGE:
        figure.get_by_role("textbox").fill(text)
        settle(figure.page, milliseconds=150)
        answer = "costs the mixture" if text else "Type a few words"
        expect(figure.locator(".live-says")).to_contain_text(answer)
        assert figure.locator("img[src=x]").count() == 0
        assert figure.page.evaluate("document.documentElement.scrollWidth") <= NARROW


def test_a_text_is_cheaper_after_a_book_and_each_letter_shows_its_cost(touch):
    figure = touch("bits")
    readout, card = figure.locator(".live-says"), figure.locator(".live-card")

    def cost():
        return float(re.search(r"the mixture [\d.]+ bits, ([\d.]+) a letter", said(figure))[1])

    expect(readout).to_contain_text("Letter 47, “g”")
    expect(card).to_contain_text("for each of these characters")
    after_alice, words = cost(), said(figure)
    figure.get_by_role("combobox").select_option("0")
    expect(card).to_contain_text("all weights are 0.3")
    expect(readout).not_to_have_text(words)
    assert cost() > after_alice + 2
    figure.get_by_role("button", name="Korean").click()
    expect(readout).to_contain_text("plain bytes take 20.")
    box = figure.locator(".live-picture").bounding_box()
    figure.locator(".live-picture").click(position={"x": 56, "y": box["height"] / 4})
    expect(readout).to_contain_text("Letter 1, “앨”")


def test_a_scan_is_gone_through_beside_the_loop_and_its_steps_are_changed(touch):
    figure = touch("scan", width=NARROW)
    onwards = figure.get_by_role("button", name="Next step")
    readout = figure.locator(".live-says")
    expect(readout).to_contain_text("Round 1, steps 3–4")
    for _ in range(9):  # more than there are
        onwards.press("Enter")
    expect(onwards).to_have_attribute("aria-disabled", "true")
    expect(readout).to_contain_text("finished after 5 rounds and 11 compositions")
    expect(readout).to_contain_text("the loop took 7 rounds and 7 compositions")
    expect(readout).to_contain_text("8, 6, 6, 4, 6, 6, 6, 7.")
    figure.get_by_role("slider", name="Its input").press("ArrowRight")  # of step 4
    expect(readout).to_contain_text("8, 6, 6, 5, 6, 6, 6, 7.")
    figure.get_by_role("combobox").select_option("doubling")
    expect(readout).to_contain_text("finished after 3 rounds and 17 compositions")
    figure.get_by_role("slider", name="Number of steps").press("ArrowLeft")
    expect(readout).to_contain_text("8, 6, 6, 5, 6, 6, 6.")
    figure.get_by_role("button", name="A running sum").click()
    expect(readout).to_contain_text("1, 3, 6, 10, 15, 21, 28.")
    picture = figure.locator(".live-picture")
    picture.click(position={"x": picture.bounding_box()["width"] - 4, "y": 90})  # as it was given
    expect(readout).to_contain_text("Step 7 is (1, 7)")


def test_a_word_has_one_probability_from_either_end(touch):
    figure = touch("chain")
    figure.get_by_role("textbox").fill("NIGHT")
    readout = figure.locator(".live-says")
    expect(readout).to_contain_text("P(night)")
    forwards = re.findall(r"P\(night\) = (.*?); their bits add up to ([\d.]+)", said(figure))
    assert "P(i | n)" in said(figure)
    figure.get_by_role("combobox").select_option("backwards")
    expect(readout).to_contain_text("P(h | t)")
    assert forwards == re.findall(
        r"P\(night\) = (.*?); their bits add up to ([\d.]+)", said(figure)
    )
    figure.locator(".live-row").nth(5).click()
    expect(readout).to_contain_text("P(start | night)")
    expect(figure.get_by_role("slider")).to_have_attribute("aria-valuetext", "P(start | night)")


def test_steps_are_gone_through_by_the_keyboard_and_the_cut_is_seen(touch):
    figure = touch("unrolled")
    onwards, back = (figure.get_by_role("button", name=name) for name in ("Next step", "Back"))
    onwards.focus()
    for _ in range(12):  # more than there are: at the end nothing happens, and the focus stays
        figure.page.keyboard.press("Enter")
    readout = figure.locator(".live-says")
    expect(readout).to_contain_text("0.056 + 0.574 + 0.174 = 0.804")
    expect(onwards).to_be_focused()
    expect(onwards).to_have_attribute("aria-disabled", "true")
    assert figure.locator(".live-cut").count() == 0
    figure.get_by_role("combobox").select_option("1")
    expect(readout).to_contain_text("one term, 0.174")
    assert figure.locator(".live-cut").count() == 1
    back.click()
    expect(readout).to_contain_text("cut here")
    expect(onwards).to_have_attribute("aria-disabled", "false")


def test_a_beam_is_followed_to_its_answer_and_changed_there(touch):
    figure = touch("beam", width=NARROW)
    onwards = figure.get_by_role("button", name="Next step")
    readout = figure.locator(".live-says")
    for _ in range(8):
        onwards.press("Enter")
    expect(readout).to_contain_text("A beam of 2 writes BAB, with the probability 0.126.")
    expect(readout).to_contain_text("Greedy search writes AAA, which has only 0.100.")
    assert figure.locator(".live-dropped").count() == 1 + 4 + 4
    figure.get_by_role("slider").press("ArrowRight")
    expect(readout).to_contain_text("A beam of 3 writes CCC")
    expect(readout).to_contain_text("the most probable of all 27 words")
    figure.get_by_role("button", name="lifelong").click()
    expect(readout).to_contain_text("Step 1")
    for _ in range(30):
        onwards.press("Enter")
    expect(readout).to_contain_text("writes L AY F L AO NG")
    for text in STRANGE:  # whatever is typed, a tree or the table's is drawn
        figure.get_by_role("textbox").fill(text)
        settle(figure.page, milliseconds=150)
        onwards.press("Enter")
        assert figure.page.evaluate("document.documentElement.scrollWidth") <= NARROW


def test_a_head_s_weights_are_read_by_pointing_and_by_choosing(touch):
    figure = touch("heads")
    readout = figure.locator(".live-says")
    expect(readout).to_contain_text("letter 26, “g”, reads “n” 1 back")
    figure.locator(".live-cell").nth(10 * 11 // 2 + 3).hover()  # row 10, from 0
    expect(readout).to_contain_text("letter 11,")
    figure.locator(".live-cell").nth(2).click()
    expect(readout).to_contain_text("letter 2, “h”, reads")
    before = said(figure)
    figure.get_by_role("combobox").select_option(index=0)
    expect(readout).not_to_have_text(before)
    assert figure.locator(".live-masked").count() == 1
    assert figure.locator(".live-cell").count() == 26 * 27 // 2


def test_the_stack_writes_to_its_trained_length_then_beyond_and_can_do_it_again(touch):
    figure = touch("stack", width=NARROW)
    again, onwards, write = (
        figure.get_by_role("button", name=name) for name in ("Start again", "Next letter", "Write")
    )
    readout = figure.locator(".live-says")
    expect(readout).to_contain_text("Letter 9, a space: layer 1, head 1 reads")
    expect(readout).to_contain_text("2 · 2 layers · 4 heads · 16 features · 9 letters = 2,304")
    assert figure.locator(".live-cell").count() == 8 * 9
    onwards.press("Enter")
    expect(readout).to_contain_text("10 letters = 2,560 numbers")
    expect(again).to_have_attribute("aria-disabled", "false")
    write.press("Enter")  # with reduced motion all at once
    expect(readout).to_contain_text("64 letters = 16,384 numbers")
    expect(readout).to_contain_text("It never read a longer text in training")
    first = said(figure)
    onwards.press("Enter")
    expect(readout).to_contain_text("It never saw place 65 in training.")
    write.press("Enter")
    expect(readout).to_contain_text("96 letters = 24,576 numbers. The figure ends here.")
    for button in (write, onwards):
        expect(button).to_have_attribute("aria-disabled", "true")
        button.press("Enter")
    expect(readout).to_contain_text("The figure ends here.")
    again.press("Enter")
    write.press("Enter")
    expect(readout).to_have_text(first)
    assert figure.page.evaluate("document.documentElement.scrollWidth") <= NARROW


def test_what_is_cut_off_is_seen_and_a_head_is_chosen_by_its_row(touch):
    figure = touch("stack")
    readout = figure.locator(".live-says")
    figure.get_by_role("slider", name="Top-k").press("Home")
    expect(readout).to_contain_text("top-k 1 and top-p 0.90, 1 of 69 symbols can be drawn")
    expect(readout).to_contain_text(", with the probability 1.00.")
    assert figure.get_by_text("cut", exact=True).count() == 8
    figure.get_by_role("slider", name="Top-k").press("End")
    figure.get_by_role("slider", name="Top-p").press("End")
    expect(readout).to_contain_text("no top-k and no top-p, 69 of 69 symbols can be drawn")
    assert figure.get_by_text("cut", exact=True).count() == 0
    figure.locator(".live-row").nth(5).click()
    expect(readout).to_contain_text("layer 2, head 2 reads")
    expect(figure.get_by_role("combobox")).to_have_value("5")
    figure.get_by_role("combobox").select_option("3")
    expect(readout).to_contain_text("layer 1, head 4 reads")


def test_the_stack_writes_letter_by_letter_and_stops_when_told_or_out_of_view(touch):
    figure = touch("stack")
    figure.page.emulate_media(reduced_motion="no-preference")
    readout, write = figure.locator(".live-says"), figure.get_by_role("button", name="Write")
    stop = figure.get_by_role("button", name="Stop")

    def written() -> int:
        return int(re.search(r"(\d+) letters = ", said(figure)).group(1))

    write.click()
    expect(readout).to_contain_text(re.compile(r"(1[1-9]|[2-6]\d) letters = "))
    stop.click()
    stopped = written()
    settle(figure.page, milliseconds=500)
    assert written() == stopped < 64
    write.click()
    figure.evaluate("f => { f.style.marginBottom = '3000px'; }")
    figure.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(write).to_have_count(1)
    stopped = written()
    settle(figure.page, milliseconds=500)
    assert written() == stopped < 64


def test_the_speller_pronounces_what_is_typed(touch):
    figure = touch("spelling")
    figure.get_by_role("textbox").fill("PSYCHOLOGY")
    expect(figure.locator(".live-says")).to_contain_text("S AY K AA L AH JH IY, /saɪkɑlʌdʒi/")


def test_a_letter_is_chosen_by_clicking_on_it_and_a_unit_from_the_list(touch):
    figure = touch("gates")
    readout = figure.locator(".live-says")
    figure.locator(".live-letter").nth(2).click(force=True)
    expect(readout).to_contain_text("After “h” unit 53 has forget gate")
    figure.get_by_role("combobox").select_option(index=1)
    expect(readout).to_contain_text("After “h” unit 14 has forget gate")


@pytest.mark.parametrize("chapter", sorted(set(FIGURES.values())))
def test_without_javascript_the_still_pictures_are_there(browser, site, chapter):
    with visiting(browser, site, script=False) as visit:
        page = visit.open(f"{chapter}.html")
        for name in (name for name in FIGURES if FIGURES[name] == chapter):
            figure = page.locator(f"#live-{name}")
            expect(figure.locator("img")).to_be_visible()
            expect(figure.locator(".live-room")).to_have_count(0)
            picture = figure.locator("img").bounding_box()
            assert picture["width"] > 200
            # No room is reserved for what will not come.
            assert figure.locator(".live-stage").bounding_box()["height"] < picture["height"] + 60


@pytest.mark.parametrize("name", FIGURES)
def test_axe_finds_nothing_in_a_figure(touch, name):
    figure = touch(name)
    figure.page.evaluate(AXE)
    for scheme in ("light", "dark"):
        figure.page.emulate_media(color_scheme=scheme)
        expect(figure.page.locator("html")).to_have_attribute("data-theme", scheme)
        violations = figure.evaluate(
            "async (f) => (await axe.run(f, { preload: false })).violations"
        )
        nodes = [(v["id"], node["html"]) for v in violations for node in v["nodes"]]
        assert nodes == [], scheme


def in_dark_mode(colour: str) -> str:
    """What the house style's filter makes of a colour: invert(0.93) hue-rotate(180deg)."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    turn = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
    turned = np.clip(turn @ (0.93 - 0.86 * rgb), 0, 1)
    return "#{:02x}{:02x}{:02x}".format(*(turned * 255).round().astype(int))


def test_colours_are_those_of_the_book_in_light_and_in_dark():
    style = (LIVE / "live.css").read_text(encoding="utf-8")
    light, dark = re.findall(r"figure\.live \{\n((?:  --live-.*\n)+)\}", style)
    light, dark = (dict(re.findall(r"--live-(\S+): (#\w+);", block)) for block in (light, dark))
    for name, colour in COLOURS.items():
        assert light.get(name.replace(" ", "-"), colour) == colour
    assert len(set(light) - {name.replace(" ", "-") for name in COLOURS}) == 2  # of the codes
    assert dark == {name: in_dark_mode(colour) for name, colour in light.items()}
    assert "invert(0.93) hue-rotate(180deg)" in (ROOT / "book/_static/seqbook.css").read_text()


DIRECTIVE = """```{live-figure} roots
:name: live-roots
:alt: Two points in a circle.
:title: Roots
:heights: 600 700

The *caption*.
```
"""


def build(folder, source):
    """Build a page with a live figure; return its HTML, that of another page, and the warnings."""
    (folder / "_static" / "live").mkdir(parents=True)
    (folder / "_static" / "live" / "roots.mjs").touch()
    (folder / "_static" / "live" / "live.mjs").touch()
    (folder / "_static" / "live" / "roots.svg").write_text("<svg/>")
    (folder / "index.md").write_text(f"# T\n\n{source}", encoding="utf-8")
    (folder / "other.md").write_text("---\norphan: true\n---\n# O\n", encoding="utf-8")
    warnings = build_pages(
        folder, extensions=["myst_parser", "live_figures"], html_static_path=["_static"]
    )
    pages = [(folder / "html" / f"{name}.html").read_text() for name in ("index", "other")]
    return *pages, warnings


def test_the_directive_gives_a_figure_and_loads_modules_only_where_there_is_one(tmp_path):
    page, other, warnings = build(tmp_path, DIRECTIVE)
    assert "index.md" not in warnings
    figure = BeautifulSoup(page, "html.parser").find("figure", id="live-roots")
    assert figure.find("div")["data-live"] == "roots"
    assert figure.find("div")["data-title"] == "Roots"
    assert figure.find("img")["alt"] == "Two points in a circle."
    assert "600px" in figure.find("div")["style"]
    assert figure.find("figcaption").get_text(strip=True).startswith("Thecaption.")
    assert "live/live.mjs" in page
    assert "live.mjs" not in other


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":alt: Two points in a circle.\n", "", "options missing: alt"),
        ("{live-figure} roots", "{live-figure} gone", "there is no _static/live/gone.mjs"),
        ("600 700", "600", "live-figure"),
        ("The *caption*.", "One.\n\nTwo.", "expected a caption of one paragraph"),
    ],
)
def test_the_directive_says_what_is_wrong(tmp_path, old, new, message):
    _, _, warnings = build(tmp_path, DIRECTIVE.replace(old, new))
    assert message in warnings
    assert "index.md:3" in warnings
