from contextlib import nullcontext

import numpy as np
import pytest
import torch
from devices import other_device
from torch._subclasses.fake_tensor import FakeTensorMode

from seqbook.data import digits, vowels
from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM
from seqbook.layers.rnn import RNN
from seqbook.models.classification import (
    LabelledSequences,
    LastStateReadout,
    SequenceClassifier,
    accuracy,
    pad,
)
from seqbook.training.fit import fit_classifier

LAYERS = [RNN, LSTM, GRU]
TORCHS = {RNN: torch.nn.RNN, LSTM: torch.nn.LSTM, GRU: torch.nn.GRU}


@pytest.fixture
def torch_generator():
    return torch.Generator().manual_seed(0)


def sequences_of(*lengths, features=3, seed=0):
    source = np.random.default_rng(seed)
    return [source.normal(size=(length, features)) for length in lengths]


def test_padding_keeps_every_sequence_and_adds_zeros():
    sequences = sequences_of(4, 1, 6)
    inputs, lengths, labels = pad(sequences, [2, 0, 1])
    assert inputs.shape == (3, 6, 3)
    assert (lengths.tolist(), labels.tolist()) == ([4, 1, 6], [2, 0, 1])
    for row, sequence in zip(inputs, sequences, strict=True):
        torch.testing.assert_close(row[: len(sequence)], torch.tensor(sequence).float())
        assert not row[len(sequence) :].any()


def test_chosen_rows_are_cut_to_the_longest_of_them():
    data = pad(sequences_of(4, 1, 6), [2, 0, 1])
    inputs, lengths, labels = data.rows(torch.tensor([1, 0]))
    assert torch.equal(inputs, data.inputs[[1, 0], :4])
    assert (lengths.tolist(), labels.tolist()) == ([1, 4], [0, 2])


@pytest.mark.parametrize(
    ("sequences", "labels", "message"),
    [
        ([], [], "at least one sequence, got 0 labels for 0 sequences"),
        (sequences_of(2, 3), [1], "got 1 labels for 2 sequences"),
        (sequences_of(2, 0), [1, 1], r"got \(0, 3\) for number 1"),
        (sequences_of(2) + sequences_of(2, features=4), [1, 1], r"got \(2, 4\) for number 1"),
    ],
)
def test_sequences_that_do_not_go_together_are_refused(sequences, labels, message):
    with pytest.raises(ValueError, match=message):
        pad(sequences, labels)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("height", [1, 2])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_padded_batch_is_read_as_torch_reads_each_sequence_alone(layer, height, bidirectional):
    torch.manual_seed(0)
    options = {"num_layers": height, "bidirectional": bidirectional}
    model = LastStateReadout(layer(3, 5, **options), 4).double()
    torchs = TORCHS[layer](3, 5, batch_first=True, **options).double()
    torchs.load_state_dict(model.layer.state_dict())
    sequences = sequences_of(4, 1, 6)
    data = pad(sequences, [0, 0, 0])
    inputs = torch.full(data.inputs.shape, float("nan"), dtype=torch.float64)  # padding unseen
    for row, sequence in zip(inputs, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    with torch.no_grad():
        logits = model(inputs, lengths=data.lengths)
        for i, sequence in enumerate(sequences):
            _, final = torchs(torch.tensor(sequence)[None])
            final = final[0] if layer is LSTM else final
            last = torch.cat([final[-2, 0], final[-1, 0]]) if bidirectional else final[-1, 0]
            torch.testing.assert_close(logits[i], model.readout(last))


def test_the_readout_comes_from_the_generator():
    models = [
        LastStateReadout(RNN(2, 16), 3, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    one, same, other = (model.readout.weight for model in models)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert 0.9 * 16**-0.5 < one.abs().max() <= 16**-0.5


def test_a_readout_without_outputs_is_refused():
    with pytest.raises(ValueError, match="outputs: expected at least 1, got 0"):
        LastStateReadout(RNN(2, 3), 0)


def first_inputs(count, seed):
    """Sequences whose class is the sign of their first number; the rest is noise."""
    source = np.random.default_rng(seed)
    sequences = [source.normal(size=(source.integers(1, 7), 1)) for _ in range(count)]
    return pad(sequences, [int(sequence[0, 0] > 0) for sequence in sequences])


@pytest.mark.parametrize("layer", LAYERS)
def test_a_classifier_learns_what_came_first(layer, torch_generator):
    model = SequenceClassifier(
        layer(1, 12, generator=torch_generator), 2, generator=torch_generator
    )
    training, test = first_inputs(500, seed=1), first_inputs(300, seed=2)
    before = accuracy(model, test)
    history = fit_classifier(
        model, training, steps=250, learning_rate=0.02, batch=25, generator=torch_generator
    )
    assert history.shape == (250,)
    assert history[0] == pytest.approx(np.log(2), abs=0.3)
    assert accuracy(model, test) > max(0.9, before + 0.1)


class _Counter(SequenceClassifier):
    """Notes which sequences each batch holds."""

    def loss(self, sequences: LabelledSequences):
        self.seen.append(sequences.labels.tolist())
        return super().loss(sequences)


def test_each_epoch_shows_every_sequence_once_in_a_new_order(torch_generator):
    model = _Counter(RNN(3, 2, generator=torch_generator), 6, generator=torch_generator)
    model.seen = []
    data = pad(sequences_of(*[2] * 6), np.arange(6))
    fit_classifier(model, data, steps=6, learning_rate=0.01, batch=2, generator=torch_generator)
    first, second = (np.concatenate(model.seen[i : i + 3]).tolist() for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


@pytest.mark.parametrize("batch", [0, 7])
def test_a_batch_that_the_data_cannot_fill_is_refused(batch, torch_generator):
    model = SequenceClassifier(RNN(3, 2), 2)
    data = pad(sequences_of(*[2] * 6), [0, 1] * 3)
    with pytest.raises(ValueError, match=f"expected 1 to 6 for 6 sequences, got {batch}"):
        fit_classifier(
            model, data, steps=1, learning_rate=0.1, batch=batch, generator=torch_generator
        )


def test_the_vowels_are_the_published_parts():
    training, test = vowels.load()
    assert np.bincount(training.speakers).tolist() == [30] * 9
    assert np.bincount(test.speakers).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = [len(c) for part in (training, test) for c in part.coefficients]
    assert (min(lengths), max(lengths), sum(lengths)) == (7, 29, 9961)
    assert {c.shape[1] for c in training.coefficients + test.coefficients} == {12}
    assert training.coefficients[0][0, :3].tolist() == [1.861, -0.207, 0.262]


def test_the_digits_are_the_published_test_part_cut_in_its_order():
    training, test = digits.load()
    assert training.images.shape == (1200, 8, 8)
    assert test.images.shape == (597, 8, 8)
    counts = np.bincount(training.labels) + np.bincount(test.labels)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert training.labels[:10].tolist() == list(range(10))
    assert training.images[0, 0].tolist() == [0, 0, 5 / 16, 13 / 16, 9 / 16, 1 / 16, 0, 0]
    for part in (training, test):
        assert (part.images.min(), part.images.max()) == (0, 1)
        assert np.array_equal(part.images * 16, np.round(part.images * 16))


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "uint8", "uint16"])
def test_labels_may_be_integers_of_any_type(kind):
    model = SequenceClassifier(RNN(3, 2), 2)
    data = pad(sequences_of(2, 3), np.array([0, 1]))
    labels = np.array([0, 1], dtype=kind)
    assert torch.equal(pad(sequences_of(2, 3), labels).labels, data.labels)
    other = data._replace(labels=torch.from_numpy(labels))
    assert model.loss(other) == model.loss(data)
    with pytest.raises(TypeError, match="labels: expected integers, got float64"):
        pad(sequences_of(2, 3), [0.0, 1.0])


def test_a_readout_is_of_the_type_of_its_layer():
    model = LastStateReadout(RNN(3, 2).double(), 2)
    assert model(torch.ones(1, 4, 3, dtype=torch.float64)).dtype == torch.float64


def test_everything_is_computed_on_the_device_of_the_model():
    def results(model, data):
        losses = fit_classifier(
            model,
            data,
            steps=4,
            learning_rate=0.01,
            batch=2,
            generator=torch.Generator().manual_seed(0),
        )
        return [*losses, accuracy(model, data), *model.predict(data).tolist()]

    def make():
        generator = torch.Generator().manual_seed(1)
        return SequenceClassifier(LSTM(3, 4, generator=generator), 2, generator=generator)

    data = pad(sequences_of(4, 1, 6, 5), [0, 1, 1, 0])
    expected = results(make(), data)
    with other_device() as device:
        model = make().to(device)
        assert results(model, data.to(device)) == pytest.approx(expected, rel=1e-5)
        assert {parameter.device for parameter in model.parameters()} == {device}


@pytest.mark.parametrize("fake", [False, True])
def test_shapes_are_known_without_values(fake):
    with FakeTensorMode() if fake else nullcontext():
        device = "cpu" if fake else "meta"
        model = LastStateReadout(GRU(3, 4, bidirectional=True, device=device), 2)
        outputs = model(torch.ones(5, 7, 3, device=device))
        assert outputs.shape == (5, 2)
        assert outputs.device.type == device
