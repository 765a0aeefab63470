from math import log

import numpy as np
import pytest
import torch

from seqbook.data.synthetic import (
    adding,
    adding_error,
    associative_recall,
    copying,
    copying_loss,
    recall,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("length", [2, 3, 10, 31])
def test_adding_marks_one_step_in_each_half_and_adds_its_numbers(length, generator):
    inputs, targets = adding(500, length=length, generator=generator)
    assert (inputs.shape, targets.shape) == ((500, length, 2), (500,))
    numbers, marks = inputs.unbind(-1)
    half = length // 2
    for part in (marks[:, :half], marks[:, half:]):
        assert torch.equal(part.sum(1), torch.ones(500))
        assert set(part.unique().tolist()) <= {0.0, 1.0}
        assert part.any(0).all()  # each step is marked now and then
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() <= 1
    by_hand = [row[mark == 1].sum() for row, mark in zip(numbers, marks, strict=True)]
    torch.testing.assert_close(targets, torch.stack(by_hand))


@pytest.mark.parametrize(("length", "window"), [(2, 0), (7, 2), (10, 4), (10, 5), (10, 8), (9, 9)])
def test_the_adding_baseline_is_the_error_of_guessing_numbers_before_the_window(
    length, window, generator
):
    inputs, targets = adding(60_000, length=length, generator=generator)
    numbers, marks = inputs[:, length - window :].unbind(-1)
    unseen = 2 - marks.sum(1)
    error = ((numbers * marks).sum(1) + unseen / 2 - targets).square().mean().item()
    assert adding_error(length, window=window) == pytest.approx(error, abs=2e-3)  # 2.5 sigma


def test_the_adding_baseline_at_its_landmarks():
    assert adding_error(100) == pytest.approx(1 / 6)
    assert adding_error(100, window=50) == pytest.approx(1 / 12)
    assert adding_error(100, window=100) == 0


def test_recall_shows_the_answer_first_and_then_only_blanks(generator):
    inputs, targets = recall(200, delay=6, symbols=5, generator=generator)
    assert inputs.shape == (200, 7, 6)
    assert torch.equal(inputs.sum(-1), torch.ones(200, 7))
    assert torch.equal(inputs[:, 0].argmax(-1), targets)
    assert torch.equal(inputs[:, 1:].argmax(-1), torch.full((200, 6), 5))
    assert set(targets.tolist()) == set(range(5))


def test_associative_recall_asks_once_for_each_key_that_it_showed(generator):
    inputs, targets = associative_recall(400, pairs=5, keys=7, values=3, generator=generator)
    assert (inputs.shape, targets.shape) == ((400, 15, 10), (400, 5))
    assert torch.equal(inputs.sum(-1), torch.ones(400, 15))
    ids = inputs.argmax(-1)
    assert set(ids[:, 0].tolist()) == set(range(7))
    in_order = 0
    for row, answers in zip(ids.tolist(), targets.tolist(), strict=True):
        shown = dict(zip(row[0:10:2], row[1:10:2], strict=True))
        asked = row[10:]
        assert len(shown) == 5
        assert set(asked) == set(shown)
        assert [shown[key] - 7 for key in asked] == answers
        in_order += asked == list(shown)
    assert in_order < 20  # 1 of 120 orders: 3.3 expected of 400


def test_copying_asks_for_the_presented_symbols(generator):
    inputs, targets = copying(300, delay=4, count=3, symbols=5, generator=generator)
    assert (inputs.shape, targets.shape) == ((300, 10, 7), (300, 10))
    ids = inputs.argmax(-1)
    assert torch.equal(inputs.sum(-1), torch.ones(300, 10))
    assert torch.equal(targets[:, -3:], ids[:, :3])
    assert set(ids[:, :3].unique().tolist()) == set(range(5))
    assert ids[0, 3:].tolist() == [5, 5, 5, 6, 5, 5, 5]  # blanks, the request, blanks
    assert (targets[:, :-3] == 5).all()


def test_the_copying_baseline_is_the_loss_of_blanks_then_guesses(generator):
    _, targets = copying(20, delay=6, count=3, symbols=5, generator=generator)
    probabilities = torch.zeros(12, 7)
    probabilities[:-3, 5] = 1
    probabilities[-3:, :5] = 1 / 5
    loss = -probabilities.log()[torch.arange(12), targets].mean().item()
    assert copying_loss(delay=6, count=3, symbols=5) == pytest.approx(loss)
    assert copying_loss(delay=100) == pytest.approx(10 * log(8) / 120)


@pytest.mark.parametrize(
    "draw",
    [
        lambda g: adding(5, length=20, generator=g),
        lambda g: recall(5, delay=9, generator=g),
        lambda g: copying(5, delay=9, generator=g),
        lambda g: associative_recall(5, pairs=4, generator=g),
    ],
)
def test_batches_come_from_the_generator_alone(draw):
    one, same, other = (draw(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.inputs, same.inputs)
    assert torch.equal(one.targets, same.targets)
    assert not torch.equal(one.inputs, other.inputs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda g: adding(0, length=5, generator=g),
            "batch: expected an integer of at least 1, got 0",
        ),
        (
            lambda g: adding(3, length=1, generator=g),
            "length: expected an integer of at least 2, got 1",
        ),
        (
            lambda g: recall(3, delay=-1, generator=g),
            "delay: expected an integer of at least 0, got -1",
        ),
        (
            lambda g: recall(3, delay=1, symbols=1, generator=g),
            "symbols: expected an integer of at least 2",
        ),
        (
            lambda g: copying(3, delay=0, generator=g),
            "delay: expected an integer of at least 1, got 0",
        ),
        (
            lambda g: copying(3, delay=1, count=0, generator=g),
            "count: expected an integer of at least 1, got 0",
        ),
        (
            lambda g: associative_recall(3, pairs=4, keys=3, generator=g),
            "keys: expected an integer of at least 4, got 3",
        ),
        (lambda _: adding_error(10, window=11), "window: expected an integer from 0 to 10, got 11"),
        (lambda _: adding_error(10, window=-1), "window: expected an integer from 0 to 10, got -1"),
        (lambda _: copying_loss(delay=0), "delay: expected an integer of at least 1, got 0"),
    ],
)
def test_sizes_that_make_no_task_are_named(call, message, generator):
    with pytest.raises(ValueError, match=message):
        call(generator)


TASKS = {
    "adding": lambda g, **options: adding(5, length=20, generator=g, **options),
    "recall": lambda g, **options: recall(5, delay=9, generator=g, **options),
    "copying": lambda g, **options: copying(5, delay=9, generator=g, **options),
    "associative": lambda g, **options: associative_recall(5, pairs=4, generator=g, **options),
}
SIZES = {
    adding: {"batch": 2, "length": 5},
    recall: {"batch": 2, "delay": 3, "symbols": 4},
    copying: {"batch": 2, "delay": 3, "count": 2, "symbols": 4},
    associative_recall: {"batch": 2, "pairs": 3, "values": 4},
    adding_error: {"length": 5, "window": 2},
    copying_loss: {"delay": 3, "count": 2, "symbols": 4},
}


@pytest.mark.parametrize("draw", TASKS.values(), ids=TASKS)
def test_a_batch_on_another_device_is_the_same_batch(draw, generator):
    batch = draw(generator, device="meta")
    assert {part.device.type for part in batch} == {"meta"}
    assert [part.shape for part in batch] == [part.shape for part in draw(generator)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("draw", TASKS.values(), ids=TASKS)
def test_every_type_holds_the_same_numbers(draw, dtype):
    plain, typed = (
        draw(torch.Generator().manual_seed(3), dtype=kind) for kind in (torch.float32, dtype)
    )
    assert typed.inputs.dtype == dtype
    assert torch.equal(typed.inputs, plain.inputs.to(dtype))
    if plain.targets.dtype == torch.int64:
        assert torch.equal(typed.targets, plain.targets)
    else:
        torch.testing.assert_close(typed.targets.float(), plain.targets, atol=2e-2, rtol=0)


@pytest.mark.parametrize("draw", TASKS.values(), ids=TASKS)
def test_the_default_type_is_torchs(draw, generator):
    torch.set_default_dtype(torch.float64)
    try:
        assert draw(generator).inputs.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("wrong", [None, 2.0, "2", True])
@pytest.mark.parametrize(
    ("function", "name"), [(f, name) for f, sizes in SIZES.items() for name in sizes]
)
def test_an_invalid_size_is_an_error_that_names_it(function, name, wrong, generator):
    arguments = SIZES[function] | {name: wrong}
    if function in (adding, recall, copying, associative_recall):
        arguments["generator"] = generator
    with pytest.raises(TypeError, match=f"^{name}: expected an integer .*, got {wrong!r}"):
        function(**arguments)


@pytest.mark.parametrize("draw", TASKS.values(), ids=TASKS)
def test_an_invalid_generator_or_type_is_an_error(draw, generator):
    for wrong in (None, 0, np.random.default_rng(0)):
        with pytest.raises(TypeError, match="generator: expected a Generator, as from torch"):
            draw(wrong)
    for wrong in (torch.int64, float, "float32"):
        with pytest.raises(TypeError, match="dtype: expected a"):
            draw(generator, dtype=wrong)
