import math
from itertools import product

import numpy as np
import pytest
import torch
from devices import other_device
from seq2seq_models import KINDS, SYMBOLS, TRANSFORMERS, make, make_examples

from seqbook.data.batches import END, PADDING, START
from seqbook.models.decoding import Hypothesis, beam, greedy, sample

SOURCES = make_examples([(3, 0), (6, 0), (1, 0), (0, 0), (4, 0), (2, 0)])[:2]
MAX_LENGTH = 8
SOME = ["RNN, layers: 1", "LSTM with attention, layers: 2", "GRU with attention, layers: 1"]
SOME += [*TRANSFORMERS, "tree"]

some_kinds = pytest.mark.parametrize("kind", SOME)


def search(name, cached=True):
    """One of the ways to write, with all but model and sources chosen."""

    def run(model, source, lengths, max_length=MAX_LENGTH):
        options = {"max_length": max_length, "cached": cached}
        if name == "greedy":
            return greedy(model, source, lengths, **options)
        if name == "beam":
            return beam(model, source, lengths, width=3, **options)
        generator = torch.Generator().manual_seed(0)
        return sample(model, source, lengths, generator=generator, **options)

    return run


searches = pytest.mark.parametrize("name", ["greedy", "beam", "sample"])


def one_by_one(source, lengths):
    return [(source[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths)]


def log_probabilities(model, source, lengths, prefixes):
    """What may follow each symbol of each beginning, by teacher forcing, in numpy."""
    target = torch.tensor([[START, *ids] for ids in prefixes])
    memory = model.encode(source, lengths).index_select(torch.zeros(len(target), dtype=torch.int64))
    logits = model.decode(target, memory).detach().numpy().copy()
    logits[..., [PADDING, START]] = -np.inf
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def log_probability(model, source, lengths, ids, complete):
    rows = log_probabilities(model, source, lengths, [ids])[0]
    following = [*ids, END] if complete else ids
    return sum(rows[t, symbol] for t, symbol in enumerate(following))


def assert_equal(actual, expected, tolerance=1e-10):
    assert [h.ids for h in actual] == [h.ids for h in expected]
    assert [h.complete for h in actual] == [h.complete for h in expected]
    for a, b in zip(actual, expected, strict=True):
        assert a.log_probability == pytest.approx(b.log_probability, abs=tolerance)


def outcomes(model, source, lengths, max_length, temperature=1.0):
    """Everything that can be written in so many steps, with its exact log-probability."""
    hypotheses, prefixes = [], [([], 0.0)]
    for _ in range(max_length):
        log_p = log_probabilities(model, source, lengths, [ids for ids, _ in prefixes])[:, -1]
        log_p = log_p / temperature
        log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
        longer = []
        for (ids, score), row in zip(prefixes, log_p, strict=True):
            hypotheses.append(Hypothesis(ids, score + row[END], True))
            longer += [([*ids, symbol], score + row[symbol]) for symbol in range(3, len(row))]
        prefixes = longer
    return hypotheses + [Hypothesis(ids, score, False) for ids, score in prefixes]


@some_kinds
def test_greedy_is_the_plain_loop(kind):
    model = make(kind, scale=2)
    expected = []
    for source, lengths in one_by_one(*SOURCES):
        ids, total, complete = [], 0.0, False
        while len(ids) < MAX_LENGTH and not complete:
            row = log_probabilities(model, source, lengths, [ids])[0, -1]
            symbol = int(row.argmax())
            total += row[symbol]
            complete = symbol == END
            ids += [] if complete else [symbol]
        expected.append(Hypothesis(ids, total, complete))
    assert_equal(greedy(model, *SOURCES, max_length=MAX_LENGTH), expected)


@pytest.mark.parametrize("kind", [*KINDS, "tree"])
@searches
def test_cached_equals_uncached(kind, name):
    model = make(kind, scale=2)
    with_cache, without = (search(name, cached)(model, *SOURCES) for cached in (True, False))
    assert_equal(with_cache, without)


@some_kinds
@searches
def test_the_score_is_the_models_own(kind, name):
    model = make(kind, scale=2)
    written = search(name)(model, *SOURCES)
    for hypothesis, (source, lengths) in zip(written, one_by_one(*SOURCES), strict=True):
        expected = log_probability(model, source, lengths, hypothesis.ids, hypothesis.complete)
        assert hypothesis.log_probability == pytest.approx(expected, abs=1e-10)


@some_kinds
@pytest.mark.parametrize("name", ["greedy", "beam"])
def test_a_batch_gives_the_same_as_each_source_alone(kind, name):
    model = make(kind, scale=2)
    together = search(name)(model, *SOURCES)
    single = [search(name)(model, *source)[0] for source in one_by_one(*SOURCES)]
    assert_equal(together, single)


@some_kinds
@searches
def test_each_source_has_a_limit_of_its_own(kind, name):
    model = make(kind, scale=2)
    limits = [1, 8, 3, 2, 5, 4]
    together = search(name)(model, *SOURCES, max_length=torch.tensor(limits))
    for row, limit in enumerate(limits):
        # Samples depend on a source's place in the batch: the others stay, without their limits.
        same = search(name)(model, *SOURCES, max_length=limit)[row]
        assert_equal([together[row]], [same])
        assert len(together[row].ids) <= limit
    if name != "sample":
        for row, source in enumerate(one_by_one(*SOURCES)):
            alone = search(name)(model, *source, max_length=[limits[row]])
            assert_equal([together[row]], alone)


@pytest.mark.parametrize("kind", ["GRU with attention, layers: 1", "Transformer pre"])
@searches
def test_the_output_for_a_source_does_not_depend_on_later_sources(kind, name):
    model = make(kind, scale=2)
    source, lengths = SOURCES
    longer = torch.nn.functional.pad(source, (0, 3))
    longer[3:, :] = 5
    other = longer, torch.tensor([*lengths[:3], 9, 9, 9])
    limits = torch.tensor([4, 5, 6, 30, 30, 30])
    first = search(name)(model, source[:3], lengths[:3], max_length=limits[:3])
    assert_equal(search(name)(model, *other, max_length=limits)[:3], first)


@pytest.mark.parametrize("kind", ["GRU with attention, layers: 1", "Transformer pre"])
def test_single_precision_gives_the_same_in_every_batch(kind):
    model = make(kind, scale=2).float()
    together = greedy(model, *SOURCES, max_length=MAX_LENGTH)
    alone = [greedy(model, *source, max_length=MAX_LENGTH)[0] for source in one_by_one(*SOURCES)]
    # Products of other sizes round differently; a sum of eight logarithms keeps about 1e-6.
    assert_equal(together, alone, tolerance=1e-5)


@searches
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("kind", SOME[:-1])
def test_decoding_works_on_the_models_device(kind, cached, name):
    host = make(kind, scale=2)
    expected = search(name, cached)(host, *SOURCES)
    with other_device() as device:
        model = make(kind, scale=2, device=device, dtype=torch.float64)
        model.load_state_dict(host.state_dict())
        for source, lengths in (SOURCES, [x.to(device) for x in SOURCES]):
            assert_equal(search(name, cached)(model, source, lengths), expected)


@searches
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.uint16])
def test_sources_may_be_integers_of_any_type(dtype, name):
    model = make("Transformer pre", scale=2)
    other = [x.to(dtype) for x in SOURCES]
    assert_equal(search(name)(model, *other), search(name)(model, *SOURCES))


@searches
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_generates_finite_scores(dtype, name):
    model = make("Transformer pre", scale=2).to(dtype)
    for hypothesis in search(name)(model, *SOURCES):
        assert math.isfinite(hypothesis.log_probability)


@searches
def test_no_sources_give_no_hypotheses(name):
    model = make("Transformer pre")
    assert search(name)(model, SOURCES[0][:0], SOURCES[1][:0]) == []


@pytest.mark.parametrize(
    ("max_length", "kind", "message"),
    [
        ([3, 4], ValueError, "max_length: expected one, or one for each of 6 sources, got 2"),
        ([3, 4, 0, 1, 1, 1], ValueError, "max_length: expected at least 1, got 0"),
        ([3.5] * 6, TypeError, "max_length: expected integers, got float64"),
    ],
)
@searches
def test_limits_that_do_not_fit_are_named(name, max_length, kind, message):
    with pytest.raises(kind, match=message):
        search(name)(make("RNN, layers: 1"), *SOURCES, max_length=max_length)


@searches
@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_single_precision_writes_the_same(kind, name):
    written = search(name)(make(kind, scale=2).float(), *SOURCES)
    assert_equal(written, search(name)(make(kind, scale=2), *SOURCES), tolerance=1e-4)


@some_kinds
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_beam_of_one_is_greedy(kind, scale):
    model = make(kind, scale=scale)
    assert_equal(
        beam(model, *SOURCES, width=1, max_length=MAX_LENGTH),
        greedy(model, *SOURCES, max_length=MAX_LENGTH),
    )


def test_a_beam_is_never_worse_than_greedy_and_often_better():
    better = together = 0
    for kind, scale, seed in product(SOME[2:], (1.0, 4.0), range(2)):
        model = make(kind, scale=scale, seed=seed)
        lazy = greedy(model, *SOURCES, max_length=MAX_LENGTH)
        for width in (2, 5):
            for a, b in zip(
                beam(model, *SOURCES, width=width, max_length=MAX_LENGTH), lazy, strict=True
            ):
                assert a.log_probability >= b.log_probability
                better += a.log_probability > b.log_probability + 0.01
                together += 1
    assert better > together / 10


def plain_beam(model, source, lengths, width, max_length):
    """One sentence, lists instead of tensors, nothing kept between steps, no early stop."""
    (best,) = greedy(model, source, lengths, max_length=max_length)
    alive = [([], 0.0)]
    for _ in range(max_length):
        log_p = log_probabilities(model, source, lengths, [ids for ids, _ in alive])[:, -1]
        longer = [
            ([*ids, symbol], score + p)
            for (ids, score), row in zip(alive, log_p, strict=True)
            for symbol, p in enumerate(row)
        ]
        longer = sorted(longer, key=lambda pair: -pair[1])[: 2 * width]
        for ids, score in longer:
            if ids[-1] == END and score > best.log_probability:
                best = Hypothesis(ids[:-1], score, True)
        alive = [(ids, score) for ids, score in longer if ids[-1] != END][:width]
    return best


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("kind", ["LSTM with attention, layers: 2", "Transformer pre", "tree"])
def test_a_beam_is_the_plain_search(kind, width):
    cases = product((4, MAX_LENGTH), range(8)) if kind == "tree" else [(4, 0)]
    for max_length, seed in cases:
        model = make(kind, seed=seed)
        expected = [
            plain_beam(model, *source, width, max_length) for source in one_by_one(*SOURCES)
        ]
        assert_equal(beam(model, *SOURCES, width=width, max_length=max_length), expected)


@some_kinds
def test_a_beam_of_everything_finds_the_best_of_everything(kind):
    max_length, differ = 5, 0  # of two symbols besides padding, start and end
    for seed in range(2):
        model = make(kind, target_symbols=5, seed=seed)
        searched = beam(model, *SOURCES, width=2**max_length, max_length=max_length)
        lazy = greedy(model, *SOURCES, max_length=max_length)
        for i, (source, lengths) in enumerate(one_by_one(*SOURCES)):
            complete = [h for h in outcomes(model, source, lengths, max_length) if h.complete]
            best = max([*complete, lazy[i]], key=lambda h: h.log_probability)
            assert_equal([searched[i]], [best])
            differ += best.ids != lazy[i].ids
    assert differ > 0


def test_a_narrow_beam_may_miss_the_best():
    missed = 0
    for seed in range(8):
        model = make("tree", scale=2, seed=seed)
        narrow, wide = (beam(model, *SOURCES, width=w, max_length=MAX_LENGTH) for w in (2, 40))
        for a, b in zip(narrow, wide, strict=True):
            missed += a.log_probability < b.log_probability - 0.01
    assert missed > 0


@pytest.mark.parametrize(
    ("kind", "temperature"),
    [
        ("GRU with attention, layers: 1", 0.5),
        ("GRU with attention, layers: 1", 1.0),
        ("Transformer pre", 1.0),
        ("Transformer pre", 2.0),
    ],
)
def test_samples_are_as_frequent_as_they_are_probable(kind, temperature):
    draws, max_length = 10_000, 3
    model = make(kind, target_symbols=5, scale=0.5)
    source, lengths = SOURCES[0][:1, :4], SOURCES[1][:1]
    exact = outcomes(model, source, lengths, max_length, temperature)
    assert sum(math.exp(h.log_probability) for h in exact) == pytest.approx(1)
    own = {tuple(h.ids): h.log_probability for h in outcomes(model, source, lengths, max_length)}

    written = sample(
        model,
        source.expand(draws, -1),
        lengths.expand(draws),
        generator=torch.Generator().manual_seed(0),
        temperature=temperature,
        max_length=max_length,
    )
    counts = dict.fromkeys(((tuple(h.ids), h.complete) for h in exact), 0)
    for hypothesis in written:
        counts[tuple(hypothesis.ids), hypothesis.complete] += 1
        assert abs(hypothesis.log_probability - own[tuple(hypothesis.ids)]) < 1e-10

    square = 0.0
    for h in exact:
        p, count = math.exp(h.log_probability), counts[tuple(h.ids), h.complete]
        assert draws * p > 50
        assert abs(count - draws * p) < 4.5 * math.sqrt(draws * p * (1 - p))
        square += (count - draws * p) ** 2 / (draws * p)
    # Chi-square with 14 degrees of freedom has mean 14 and deviation sqrt(28).
    assert len(exact) == 15
    assert square < 14 + 4 * math.sqrt(28)


@some_kinds
@pytest.mark.parametrize("temperature", [1e-6, 1e-40, 1e-320])
def test_samples_at_low_temperature_are_greedy(kind, temperature):
    model = make(kind, scale=2)
    options = {"temperature": temperature, "generator": torch.Generator().manual_seed(0)}
    cold = sample(model, *SOURCES, max_length=MAX_LENGTH, **options)
    assert_equal(cold, greedy(model, *SOURCES, max_length=MAX_LENGTH))


def test_samples_follow_from_the_generator():
    model = make("GRU, layers: 1")

    def draw(generator):
        return [h.ids for h in sample(model, *SOURCES, generator=generator, max_length=MAX_LENGTH)]

    generator = torch.Generator().manual_seed(0)
    first, second = draw(generator), draw(generator)
    torch.manual_seed(5)
    assert draw(torch.Generator().manual_seed(0)) == first
    assert first != second


def never_ending(symbol=None):
    """A model that would rather write ``symbol`` than end, whatever it read."""
    model = make("GRU with attention, layers: 1")
    with torch.no_grad():
        model.readout.bias[END] = -40
        if symbol is not None:
            model.readout.bias[symbol] = 40
    return model


@searches
@pytest.mark.parametrize("max_length", [1, 5])
def test_the_longest_is_respected(name, max_length):
    for hypothesis in search(name)(never_ending(), *SOURCES, max_length=max_length):
        assert len(hypothesis.ids) == max_length
        assert not hypothesis.complete


@searches
def test_the_end_counts_as_a_symbol(name):
    model = make("GRU, layers: 1")
    with torch.no_grad():
        model.readout.bias[END] = 40
    for max_length in (1, 3):
        for hypothesis in search(name)(model, *SOURCES, max_length=max_length):
            assert hypothesis.ids == []
            assert hypothesis.complete
            assert hypothesis.log_probability == pytest.approx(0, abs=1e-6)


@searches
@pytest.mark.parametrize("kind", SOME)
def test_complete_ones_end_within_the_limit(kind, name):
    for scale, max_length in product((1, 3), (1, 2, 6)):
        for h in search(name)(make(kind, scale=scale), *SOURCES, max_length=max_length):
            assert len(h.ids) == max_length if not h.complete else len(h.ids) < max_length


@searches
@pytest.mark.parametrize("symbol", [PADDING, START])
def test_padding_and_start_are_never_written(name, symbol):
    model = never_ending(symbol)
    for hypothesis in search(name)(model, *SOURCES):
        assert set(hypothesis.ids) <= set(range(3, SYMBOLS["target_symbols"]))
        assert math.isfinite(hypothesis.log_probability)


@searches
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("kind", ["GRU, layers: 1", "Transformer pre"])
def test_a_model_that_drops_units_is_refused(kind, name, cached):
    model = make(kind, dropout=0.5)
    with pytest.raises(ValueError, match=r"got one with dropout .*; call model\.eval\(\) first"):
        search(name, cached)(model, *SOURCES)
    expected = search(name, cached)(make(kind).train(), *SOURCES)  # without dropout all is well
    assert_equal(search(name, cached)(model.eval(), *SOURCES), expected)


@searches
def test_decoding_leaves_the_model_as_it_was(name):
    model = make("Transformer pre")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    search(name)(model, *SOURCES)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@searches
def test_no_longest_is_refused(name):
    with pytest.raises(ValueError, match="max_length: expected at least 1, got 0"):
        search(name)(make("RNN, layers: 1"), *SOURCES, max_length=0)


@pytest.mark.parametrize("width", [0, -2])
def test_a_beam_without_width_is_refused(width):
    with pytest.raises(ValueError, match=f"width: expected at least 1, got {width}"):
        beam(make("RNN, layers: 1"), *SOURCES, width=width)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match=f"expected a finite number above 0, got {temperature}"):
        sample(
            make("RNN, layers: 1"),
            *SOURCES,
            generator=torch.Generator(),
            temperature=temperature,
        )
