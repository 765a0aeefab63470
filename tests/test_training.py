import math

import numpy as np
import pytest
import torch
from torch import nn

from seqbook.models.decoder_only import DecoderOnlyModel
from seqbook.training.fit import window_loss
from seqbook.training.loop import TrainingStep, adamw, train, training_steps, warmup_cosine


def quadratic(weights, target):
    return lambda _step: ((weights - target) ** 2).sum()


@pytest.mark.parametrize("clip_norm", [0.5, 1e9])
def test_training_is_adam_with_a_clipped_gradient(clip_norm):
    weights = nn.Parameter(torch.tensor([3.0, -4.0], dtype=torch.float64))
    target = torch.tensor([1.0, 0.5], dtype=torch.float64)
    history = train(
        [weights], quadratic(weights, target), steps=30, learning_rate=0.3, clip_norm=clip_norm
    )

    x, mean, square, losses = np.array([3.0, -4.0]), 0.0, 0.0, []
    for step in range(1, 31):  # Kingma and Ba (2015), algorithm 1
        losses.append(((x - target.numpy()) ** 2).sum())
        gradient = 2 * (x - target.numpy())
        gradient = gradient * min(1, clip_norm / np.linalg.norm(gradient))
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        x = x - 0.3 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)

    np.testing.assert_allclose(history, losses, rtol=1e-5)
    np.testing.assert_allclose(weights.detach(), x, rtol=1e-5)


def test_training_solves_a_small_problem_and_reports_the_loss_before_each_update():
    weights = nn.Parameter(torch.zeros(2))
    history = train(
        iter([weights]), quadratic(weights, torch.tensor([1.0, 2.0])), steps=300, learning_rate=0.1
    )
    assert history.shape == (300,)
    assert history.dtype == np.float64
    assert history[0] == 5.0
    assert history[-1] < 1e-4


def test_the_loss_receives_its_step_and_only_the_parameters_change():
    moving, fixed, steps = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1)), []

    def loss(step):
        steps.append(step)
        return (moving * fixed).sum()

    train([moving], loss, steps=4, learning_rate=0.1)
    assert steps == [0, 1, 2, 3]
    assert moving.item() < 0.7
    assert fixed.item() == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(bad):
    weights = nn.Parameter(torch.ones(1))

    def loss(step):
        return weights.sum() * (bad if step == 2 else 1.0)

    with pytest.raises(FloatingPointError, match=f"expected a finite number, got {bad} at step 2"):
        train([weights], loss, steps=5, learning_rate=0.1)
    assert weights.isfinite().all()


def test_no_steps_change_nothing():
    weights = nn.Parameter(torch.ones(2))
    assert train([weights], quadratic(weights, 0), steps=0, learning_rate=0.1).shape == (0,)
    assert weights.tolist() == [1, 1]


def test_each_step_is_reported_after_its_update_with_the_norm_before_clipping():
    weights = nn.Parameter(torch.tensor([3.0, 4.0]))
    seen = [weights.tolist()]
    steps = []
    for step in training_steps(
        [weights], lambda _: (weights**2).sum(), steps=3, learning_rate=0.1, clip_norm=1.0
    ):
        steps.append(step)
        seen.append(weights.tolist())
    assert steps[0] == TrainingStep(0, 25.0, 10.0)
    assert [step.number for step in steps] == [0, 1, 2]
    assert len({tuple(values) for values in seen}) == 4


def test_a_loop_that_is_left_takes_no_further_step():
    weights = nn.Parameter(torch.ones(2))
    calls = []

    def loss(step):
        calls.append(step)
        return weights.sum()

    for step in training_steps([weights], loss, steps=10, learning_rate=0.1):
        if step.number == 3:
            break
    assert calls == [0, 1, 2, 3]


def test_a_loop_that_resumes_with_its_optimizer_equals_one_that_never_stopped():
    def rate(step):
        return 0.1 * (1 - step / 20)

    def run(*parts):
        weights = nn.Parameter(torch.tensor([3.0, -4.0]))
        optimizer, losses = torch.optim.Adam([weights], betas=(0.9, 0.98)), []
        for first, last in parts:
            for step in training_steps(
                [weights],
                quadratic(weights, 1.0),
                steps=20,
                learning_rate=rate,
                optimizer=optimizer,
                first_step=first,
            ):
                losses.append(step.loss)
                if step.number == last:
                    break
        return weights.tolist(), losses

    assert run((0, 7), (8, 19)) == run((0, 19))


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights():
    weights = nn.Parameter(torch.zeros(1))
    with pytest.raises(FloatingPointError, match=r"gradient norm: expected a finite .* at step 0"):
        train([weights], lambda _: weights.abs().sqrt().sum(), steps=5, learning_rate=0.1)
    assert weights.item() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "steps: expected at least 0, got -1"),
        ({"first_step": -2}, "first_step: expected at least 0, got -2"),
        ({"parameters": []}, "parameters: expected at least one, got none"),
    ],
)
def test_arguments_are_checked_before_the_first_step(arguments, message):
    weights = nn.Parameter(torch.ones(1))
    options = {"parameters": [weights], "steps": 1, "learning_rate": 0.1, **arguments}
    with pytest.raises(ValueError, match=message):
        training_steps(loss=lambda _: weights.sum(), **options)


@pytest.mark.parametrize("final", [0.0, 0.02])
def test_a_rate_warms_up_and_falls_along_a_cosine(final):
    rates = [warmup_cosine(0.1, 50, warmup=10, final=final)(step) for step in range(51)]
    np.testing.assert_allclose(rates[:10], 0.01 * np.arange(1, 11))
    assert rates[10] == 0.1
    assert rates[30] == pytest.approx((0.1 + final) / 2)  # halfway
    assert rates[50] == pytest.approx(final, abs=1e-15)
    falls = -np.diff(rates[10:])
    assert (falls > 0).all()
    np.testing.assert_allclose(falls, falls[::-1])  # as slow at the end as at the start
    assert warmup_cosine(0.1, 50, warmup=0)(0) == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup": 5}, "warmup: expected 0 to 4 for 5 steps, got 5"),
        ({"warmup": -1}, "warmup: expected 0 to 4 for 5 steps, got -1"),
        ({"warmup": 0, "final": -1.0}, "final: expected a finite number of at least 0, got -1.0"),
    ],
)
def test_a_rate_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        warmup_cosine(0.1, 5, **arguments)


def test_weight_decay_shrinks_matrices_alone():
    layer = nn.Linear(3, 2)
    before = [p.detach().clone() for p in layer.parameters()]
    optimizer = adamw(layer, weight_decay=0.5, betas=(0.8, 0.9))
    for group in optimizer.param_groups:
        group["lr"] = 0.1
        assert group["betas"] == (0.8, 0.9)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight, 0.95 * before[0])
    assert torch.equal(layer.bias, before[1])


def test_windows_are_drawn_from_the_whole_text_by_the_seed():
    model = DecoderOnlyModel(10, 8, layers=1, heads=2, max_length=4)
    read = []
    model.loss = lambda ids: read.append(ids) or torch.zeros(())
    ids = torch.arange(10)
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        loss = window_loss(model, ids, batch=5, generator=generator)
        for step in range(40):
            loss(step)
    assert all(torch.equal(rows, rows[:, :1] + torch.arange(5)) for rows in read)
    first, again, other = (torch.cat(read[i : i + 40])[:, 0] for i in (0, 40, 80))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    counts = first.bincount().tolist()
    assert len(counts) == 6  # starts 0 to 5
    assert min(counts) > 200 / 6 - 4 * math.sqrt(200 / 6)
    with pytest.raises(
        ValueError, match="ids: expected more than the 4 symbols of a window, got 4"
    ):
        window_loss(model, ids[:4], batch=5, generator=torch.Generator())
    with pytest.raises(ValueError, match="batch: expected an integer of at least 1, got 0"):
        window_loss(model, ids, batch=0, generator=torch.Generator())
    assert window_loss(model, ids[:4], batch=5, generator=torch.Generator(), window=3)


def test_a_decoder_only_model_is_trained_by_its_window_loss():
    generator = torch.Generator().manual_seed(0)
    model = DecoderOnlyModel(5, 16, layers=1, heads=2, max_length=12, generator=generator)
    ids = torch.tensor([0, 0, 1, 0, 0, 0, 2, 3, 3, 4]).repeat(30)  # how many zeros were there?
    history = train(
        model.parameters(),
        window_loss(model, ids, batch=8, generator=generator),
        steps=150,
        learning_rate=0.01,
    )
    assert history[0] == pytest.approx(math.log(5), rel=0.05)
    assert history[-1] < 0.4
