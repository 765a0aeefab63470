"""Temperature, top-k and top-p against their definitions in plain Python."""

import math

import numpy as np
import pytest
import torch
from seq2seq_models import make, make_examples

from seqbook.layers.gru import GRU
from seqbook.models.decoding import greedy, sample
from seqbook.models.language_model import CharacterModel, generate
from seqbook.models.sampling import sampling_distribution

FIVE = torch.tensor([0.15, 0.40, 0.05, 0.30, 0.10], dtype=torch.float64).log()
SOURCES = make_examples([(3, 0), (6, 0), (1, 0)])[:2]


def plain(logits, temperature=1.0, top_k=None, top_p=1.0):
    """The definitions, one symbol at a time."""
    powers = [math.exp(z / temperature) for z in logits]
    p = [power / sum(powers) for power in powers]
    ranked = sorted(range(len(p)), key=lambda j: (-p[j], j))[:top_k]
    total = sum(p[j] for j in ranked)
    kept, together = [], 0.0
    for j in ranked:
        if together >= top_p:
            break
        kept.append(j)
        together += p[j] / total
    total = sum(p[j] for j in kept)
    return [p[j] / total if j in kept else 0.0 for j in range(len(p))]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 3, 7, 50])
@pytest.mark.parametrize("top_p", [0.05, 0.6, 0.95, 1.0])
def test_the_distribution_is_the_definition(temperature, top_k, top_p):
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    logits = torch.randn(4, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    result = sampling_distribution(logits, **options)
    assert result.shape == logits.shape
    expected = [plain(row, **options) for row in logits.flatten(0, 1).tolist()]
    torch.testing.assert_close(result.flatten(0, 1), torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 1}, [1]),
        ({"top_p": 0.3}, [1]),
        ({"top_p": 0.69}, [1, 3]),
        ({"top_p": 0.8}, [0, 1, 3]),  # the first two have 0.7 together
        ({"top_p": 0.96}, [0, 1, 2, 3, 4]),
        ({"top_k": 3, "top_p": 0.8}, [1, 3]),  # of the three these have 0.7 / 0.85 = 0.82
    ],
)
def test_what_is_kept_by_hand(options, kept):
    result = sampling_distribution(FIVE, **options)
    assert result.nonzero()[:, 0].tolist() == kept
    torch.testing.assert_close(result[kept], FIVE.exp()[kept] / FIVE.exp()[kept].sum())


@pytest.mark.parametrize("options", [{}, {"top_k": None}, {"top_k": 5}, {"top_k": 6}, {"top_p": 1}])
def test_limits_that_drop_nothing_change_nothing(options):
    torch.testing.assert_close(sampling_distribution(FIVE, **options), FIVE.exp())


def test_top_p_of_one_keeps_what_rounding_hides():
    """Single precision adds up to 1 before the last symbols are counted."""
    logits = torch.tensor([0.0, -20.0, -20.0])
    assert (sampling_distribution(logits, top_p=1.0) > 0).all()


@pytest.mark.parametrize("options", [{"top_k": 2}, {"top_p": 0.5}])
@pytest.mark.parametrize("symbols", [4, 128])  # torch sorts short and long rows differently
def test_of_equally_probable_symbols_the_first_stay(options, symbols):
    result = sampling_distribution(torch.zeros(symbols).double(), **options)
    count = options.get("top_k", symbols // 2)  # powers of two, so that sums are exact
    assert result.tolist() == [1 / count] * count + [0] * (symbols - count)


def test_an_impossible_symbol_stays_impossible():
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.0])
    for options in ({}, {"top_k": 3}, {"top_p": 0.9}, {"temperature": 1e-30}):
        assert sampling_distribution(logits, **options).tolist() == [0, 0.5, 0, 0.5]


def language_model():
    generator = torch.Generator().manual_seed(0)
    return CharacterModel(GRU(4, 8, generator=generator), 6, generator=generator).double()


def test_a_language_model_draws_only_what_is_kept():
    model, prompt = language_model(), [2, 0, 1]
    with torch.no_grad():
        logits = model(torch.tensor([prompt]))[0][0, -1]
    for options in ({"top_k": 2}, {"top_p": 0.5}, {"temperature": 2.0, "top_k": 4, "top_p": 0.7}):
        expected = np.array(plain(logits.tolist(), **options))
        generator = torch.Generator().manual_seed(0)
        drawn = [
            generate(model, 1, prompt=prompt, generator=generator, **options)[0] for _ in range(600)
        ]
        observed = np.bincount(drawn, minlength=6) / len(drawn)
        assert set(drawn) == set(np.flatnonzero(expected))
        assert np.abs(observed - expected).max() < 0.1  # 4.9 standard errors


def test_one_symbol_is_the_most_probable_one():
    model = language_model()
    cold, first, none = (
        generate(model, 15, prompt=[0], generator=torch.Generator().manual_seed(seed), **options)
        for seed, options in enumerate([{"temperature": 1e-9}, {"top_k": 1}, {"top_p": 1e-9}])
    )
    assert cold.tolist() == first.tolist() == none.tolist()

    seq2seq = make("GRU with attention, layers: 1", scale=2)
    expected = [h.ids for h in greedy(seq2seq, *SOURCES, max_length=6)]
    for options in ({"top_k": 1}, {"top_p": 1e-9}):
        generator = torch.Generator().manual_seed(0)
        drawn = sample(seq2seq, *SOURCES, max_length=6, generator=generator, **options)
        assert [h.ids for h in drawn] == expected


def test_an_encoder_decoder_draws_only_what_is_kept():
    """The first symbols of many samples, against the model's first distribution."""
    model, draws = make("GRU with attention, layers: 1", target_symbols=7), 3000
    source, lengths = SOURCES[0][:1, :4], SOURCES[1][:1]
    with torch.no_grad():
        logits = model.decode(torch.tensor([[1]]), model.encode(source, lengths))[0, -1].clone()
    logits[:2] = -math.inf  # padding and start
    for options in ({"top_k": 2}, {"top_p": 0.6}):
        expected = np.array(plain(logits.tolist(), **options))
        drawn = sample(
            model,
            source.expand(draws, -1),
            lengths.expand(draws),
            generator=torch.Generator().manual_seed(0),
            max_length=1,
            **options,
        )
        firsts = [h.ids[0] if h.ids else 2 for h in drawn]  # 2 is the end
        observed = np.bincount(firsts, minlength=7) / draws
        assert set(firsts) == set(np.flatnonzero(expected))
        assert np.abs(observed - expected).max() < 0.045  # 4.9 standard errors
        own = torch.tensor(logits.tolist()).log_softmax(-1)
        for first, h in zip(firsts, drawn, strict=True):  # scored before it is truncated
            assert h.log_probability == pytest.approx(own[first].item(), abs=1e-5)


def test_a_generator_decides_what_is_drawn():
    model, options = language_model(), {"top_k": 4, "top_p": 0.9}

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return generate(model, 30, prompt=[0], generator=generator, **options).tolist()

    first = draw(1)
    torch.manual_seed(5)
    assert draw(1) == first != draw(2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k: expected an integer of at least 1, got 0"),
        ({"top_k": 2.0}, TypeError, "top_k: expected an integer of at least 1, got 2.0"),
        ({"top_p": 0}, ValueError, "top_p: expected a number above 0 and at most 1, got 0"),
        ({"top_p": 1.1}, ValueError, "top_p: expected a number above 0 and at most 1, got 1.1"),
        ({"top_p": math.nan}, ValueError, "top_p: expected a number .* got nan"),
        ({"temperature": 0}, ValueError, "temperature: expected a finite number above 0, got 0"),
    ],
)
def test_limits_out_of_range_are_refused(options, error, message):
    generator, nothing = torch.Generator(), torch.empty(0, 1, dtype=torch.int64)
    seq2seq = make("GRU, layers: 1")
    with pytest.raises(error, match=message):
        sampling_distribution(FIVE, **options)
    with pytest.raises(error, match=message):
        generate(language_model(), 0, prompt=[0], generator=generator, **options)
    with pytest.raises(error, match=message):
        sample(seq2seq, nothing, nothing[:, 0], generator=generator, **options)
