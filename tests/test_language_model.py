from contextlib import nullcontext

import numpy as np
import pytest
import torch
from devices import other_device
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM
from seqbook.layers.rnn import RNN
from seqbook.models.language_model import (
    CharacterModel,
    batchify,
    bits_per_character,
    generate,
)
from seqbook.statistics.markov import WittenBellMarkov, bits_per_symbol
from seqbook.training.fit import fit_language_model

SIZE = 5
LAYERS = {
    "RNN": lambda generator: RNN(3, 4, generator=generator),
    "LSTM": lambda generator: LSTM(3, 4, num_layers=2, generator=generator),
    "GRU": lambda generator: GRU(3, 4, generator=generator),
}
any_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


def make(layer=LAYERS["RNN"], seed=0):
    generator = torch.Generator().manual_seed(seed)
    return CharacterModel(layer(generator), SIZE, generator=generator).double()


def a_text(length=60, seed=0):
    return np.random.default_rng(seed).integers(0, SIZE, length)


def test_stripes_read_every_symbol_once_and_each_is_followed_by_the_next():
    for length, batch in [(13, 3), (14, 3), (15, 3), (16, 3), (2, 1), (7, 6)]:
        read, following = batchify(np.arange(length), batch)
        count = (length - 1) // batch * batch
        assert read.shape == following.shape == (batch, count // batch)
        assert read.flatten().tolist() == list(range(count))
        assert torch.equal(following, read + 1)


@any_layer
def test_the_cost_is_the_sum_over_symbols_each_given_its_whole_past(layer):
    model, ids = make(layer), a_text(20)
    costs = []
    for t in range(1, 20):
        logits, _ = model(torch.as_tensor(ids[None, :t]))
        costs.append(-torch.log2(torch.softmax(logits[0, -1], -1)[ids[t]]).item())
    for skip in (1, 2, 7, 19):
        for window in (1, 2, 3, 19, 1000):
            bits = bits_per_character(model, ids, skip=skip, window=window)
            assert bits == pytest.approx(np.mean(costs[skip - 1 :]), rel=1e-12)


def test_a_model_that_knows_nothing_costs_the_logarithm_of_the_alphabet():
    model = make()
    nn.init.zeros_(model.readout.weight)
    nn.init.zeros_(model.readout.bias)
    assert bits_per_character(model, a_text()) == pytest.approx(np.log2(SIZE), rel=1e-12)


@any_layer
def test_one_stripe_is_trained_on_with_the_state_carried_and_the_gradient_cut(layer):
    """With a vanishing learning rate the windows' losses are those of one run over the text."""
    model, ids = make(layer), a_text(31)
    per_window = fit_language_model(model, ids, steps=6, batch=1, window=8, learning_rate=1e-300)
    with torch.no_grad():
        logits, _ = model(torch.as_tensor(ids[None, :-1]))
        costs = nn.functional.cross_entropy(
            logits[0], torch.as_tensor(ids[1:]), reduction="none"
        ) / np.log(2)
    expected = [costs[start : start + 8].mean().item() for start in (0, 8, 16, 24, 0, 8)]
    np.testing.assert_allclose(per_window, expected, rtol=1e-12)


@any_layer
def test_the_gradient_of_a_window_ends_at_its_start(layer):
    model, ids = make(layer), a_text(17)
    fit_language_model(model, ids, steps=2, batch=2, window=4, learning_rate=1e-300)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]

    read, following = batchify(ids, 2)
    with torch.no_grad():
        _, state = model(read[:, :4])
    model.zero_grad()
    logits, _ = model(read[:, 4:], state)
    nn.functional.cross_entropy(logits.flatten(0, 1), following[:, 4:].flatten()).backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        expected = parameter.grad / max(1, norm.item())  # train clips it to norm 1
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-9)


@any_layer
def test_training_learns_a_text_that_needs_a_memory(layer):
    model = make(layer).float()
    ids = np.tile([0, 0, 1, 0, 0, 0, 2, 3, 3, 4], 60)  # how many zeros were there?
    history = fit_language_model(model, ids, steps=200, batch=2, window=20, learning_rate=0.05)
    window_of_two = bits_per_symbol(WittenBellMarkov(2, SIZE).fit(ids), ids, skip=20)
    assert history.shape == (200,)
    assert bits_per_character(model, ids, skip=20) < window_of_two / 2


def test_the_learning_rate_falls_to_zero():
    model, ids = make(), a_text()
    before = model.readout.bias.detach().clone()
    fit_language_model(model, ids, steps=1, batch=2, window=5, learning_rate=0.1)
    moved = (model.readout.bias - before).abs()
    assert moved.max().item() == pytest.approx(0.1, rel=1e-4)  # Adam's first step is the rate

    rates = []
    register = torch.optim.Adam.step

    def spy(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return register(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", spy)
        fit_language_model(model, ids, steps=4, batch=2, window=5, learning_rate=0.1)
    np.testing.assert_allclose(rates, [0.1, 0.075, 0.05, 0.025])


@any_layer
def test_symbols_are_drawn_from_the_distribution_after_the_prompt(layer):
    model, prompt = make(layer), np.array([2, 0, 1])
    for temperature in (0.5, 3.0):
        generator = torch.Generator().manual_seed(0)
        samples = [
            generate(model, 1, prompt=prompt, generator=generator, temperature=temperature)[0]
            for _ in range(500)
        ]
        with torch.no_grad():
            logits = model(torch.as_tensor(prompt[None]))[0][0, -1]
        expected = torch.softmax(logits / temperature, -1).numpy()
        observed = np.bincount(samples, minlength=SIZE) / len(samples)
        assert np.abs(observed - expected).max() < 0.1  # 4.5 standard errors


@any_layer
def test_generation_continues_its_own_output(layer):
    """Near temperature zero, each symbol is the most probable one after all those before it."""
    model, prompt = make(layer), np.array([2, 0, 1])
    written = generate(
        model, 12, prompt=prompt, generator=torch.Generator().manual_seed(0), temperature=1e-6
    )
    assert written.dtype == np.int64
    text = prompt.tolist()
    for symbol in written:
        with torch.no_grad():
            assert model(torch.tensor([text]))[0][0, -1].argmax() == symbol
        text.append(symbol)


def test_a_seed_decides_the_model_and_the_text():
    first, second = make(seed=3).state_dict(), make(seed=3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    texts = [
        generate(make(), 30, prompt=[0], generator=torch.Generator().manual_seed(seed)).tolist()
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_wrong_use_is_refused():
    model, generator = make(), torch.Generator()
    with pytest.raises(ValueError, match="layer: expected one that reads forwards only"):
        CharacterModel(RNN(3, 4, bidirectional=True), SIZE)
    with pytest.raises(ValueError, match="size: expected at least one symbol, got 0"):
        CharacterModel(RNN(3, 4), 0)
    with pytest.raises(ValueError, match="batch: expected 1 to 3 for a text of 4 symbols, got 4"):
        batchify([0, 1, 2, 3], 4)
    with pytest.raises(ValueError, match="batch: expected 1 to 3 for a text of 4 symbols, got 0"):
        batchify([0, 1, 2, 3], 0)
    with pytest.raises(ValueError, match="window: expected at least 1 symbol, got 0"):
        fit_language_model(model, a_text(), steps=1, batch=1, window=0, learning_rate=0.1)
    for skip in (0, 4):
        with pytest.raises(ValueError, match=f"skip: expected 1 to 3 for 4 symbols, got {skip}"):
            bits_per_character(model, [0, 1, 2, 3], skip=skip)
    for ids, wrong_id in (([0, 5], 5), ([-1, 0], -1)):
        with pytest.raises(ValueError, match=f"ids: expected 0 to 4, got {wrong_id}"):
            bits_per_character(model, ids)
    with pytest.raises(ValueError, match=r"ids: expected shape \(time,\), got \(1, 2\)"):
        bits_per_character(model, [[0, 1]])
    for temperature in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature: expected a finite number above 0"):
            generate(model, 1, prompt=[0], generator=generator, temperature=temperature)
    with pytest.raises(ValueError, match="prompt: expected at least one symbol, got none"):
        generate(model, 1, prompt=[], generator=generator)


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("form", ["array", "tensor", "file"])
@pytest.mark.parametrize("kind", INTEGERS)
def test_ids_may_be_integers_of_any_type(tmp_path, kind, form):
    """Everything that takes ids gives what it gives for int64."""

    def all_of_it(ids):
        model = make()
        return (
            [part.tolist() for part in batchify(ids, 3)],
            bits_per_character(model, ids),
            generate(model, 5, prompt=ids, generator=torch.Generator().manual_seed(0)).tolist(),
            fit_language_model(model, ids, steps=3, batch=2, window=5, learning_rate=0.01).tolist(),
        )

    ids = a_text().astype(kind)
    if form == "tensor":
        ids = torch.from_numpy(ids)
        logits, _ = make()(ids[None])
        torch.testing.assert_close(logits, make()(torch.as_tensor(a_text())[None])[0])
    elif form == "file":
        ids.tofile(tmp_path / "ids.bin")
        ids = np.memmap(tmp_path / "ids.bin", dtype=kind, mode="r")
    assert all_of_it(ids) == all_of_it(a_text())


@pytest.mark.parametrize("ids", [np.ones(9), torch.ones(9), [0.5] * 9, ["a"] * 9, [True] * 9])
def test_ids_that_are_not_integers_are_refused(ids):
    model = make()
    for use in (
        lambda: batchify(ids, 2),
        lambda: bits_per_character(model, ids),
        lambda: generate(model, 1, prompt=ids, generator=torch.Generator()),
        lambda: fit_language_model(model, ids, steps=1, batch=2, window=2, learning_rate=0.1),
    ):
        with pytest.raises(TypeError, match=r"(ids|prompt): expected integers, got "):
            use()


def test_a_tiny_temperature_gives_the_most_probable_symbol():
    model, prompt = make().float(), np.array([2, 0, 1])
    with torch.no_grad():
        model.readout.weight.mul_(1000)  # logits far apart, so that a quotient overflows
        best = model(torch.as_tensor(prompt[None]))[0][0, -1].argmax()
    generator = torch.Generator().manual_seed(0)
    for temperature in (1e-6, 1e-30, 1e-38, 1e-40, 1e-320):
        generated = generate(model, 1, prompt=prompt, generator=generator, temperature=temperature)
        assert generated == [best]


def test_lengths_and_windows_out_of_range_are_refused():
    with pytest.raises(ValueError, match="length: expected at least 0, got -1"):
        generate(make(), -1, prompt=[0], generator=torch.Generator())
    with pytest.raises(ValueError, match="window: expected at least 1 symbol, got 0"):
        bits_per_character(make(), a_text(), window=0)


@any_layer
def test_a_model_is_of_the_type_of_its_layer(layer):
    model = CharacterModel(layer(None).double(), SIZE)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert model(torch.as_tensor(a_text())[None])[0].dtype == torch.float64


@any_layer
def test_everything_is_computed_on_the_device_of_the_model(layer):
    """Training, scoring and generation give there what they give on the CPU."""

    def results(model, ids):
        bits = fit_language_model(model, ids, steps=3, batch=2, window=5, learning_rate=0.01)
        score = bits_per_character(model, ids)
        symbols = generate(model, 6, prompt=ids[:3], generator=torch.Generator().manual_seed(0))
        return [*bits, score, *symbols]

    expected = results(make(layer), a_text())
    with other_device() as device:
        model = make(layer).to(device)
        assert results(model, a_text()) == pytest.approx(expected, rel=1e-9)
        assert {parameter.device for parameter in model.parameters()} == {device}


@any_layer
@pytest.mark.parametrize("fake", [False, True])
def test_shapes_are_known_without_values(layer, fake):
    with FakeTensorMode() if fake else nullcontext():
        device = "cpu" if fake else "meta"
        model = CharacterModel(layer(None) if fake else layer(None).to(device), SIZE)
        logits, _ = model(torch.zeros(2, 7, dtype=torch.int16, device=device))
        assert logits.shape == (2, 7, SIZE)
        assert logits.device.type == device
