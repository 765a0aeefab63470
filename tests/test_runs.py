import json
import math
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import pytest
import torch

from seqbook.data.pairs import Pair, Split, split
from seqbook.models.storage import DamagedModelError
from seqbook.models.transcriber import Transcriber
from seqbook.training.checkpoints import load_checkpoint, save_checkpoint
from seqbook.training.recipes import RECIPES, Recipe
from seqbook.training.runs import Run, RunMismatchError
from seqbook.training.scoring import score_steps

WORDS = ["".join(word) for n in (1, 2, 3, 4) for word in product("abc", repeat=n)]
DATA = split([Pair(tuple(word), (tuple(word.upper()),)) for word in WORDS])
GRU = Recipe(
    "gru",
    {"embedding_size": 6, "hidden_size": 6, "dropout": 0.3},
    epochs=3,
    batch=16,
    learning_rate=0.05,
    warmup=5,
)
TRANSFORMER = replace(
    GRU,
    model="transformer",
    options={
        "d_model": 8,
        "heads": 2,
        "d_ff": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "dropout": 0.3,
    },
)
IN_EPOCH, STEPS = 7, 21
SCORES = [4, 6, 9, 14, 20, 21]


def begin(folder, recipe=GRU, data=DATA, **options):
    return Run(folder, recipe, data, **{"task": "words", "score_after": SCORES, **options})


def train(run, *, until=None, losses=None):
    """Train, and stop and save after a step if told to; note the loss of each step."""
    losses = {} if losses is None else losses
    for progress in run:
        losses[progress.step] = progress.loss
        if progress.step == until:
            run.save()
            break
    return run.finished


class Lost(BaseException):
    """The process is gone."""


def lose(run, *, at):
    """Train on and lose the process after a step."""
    with pytest.raises(Lost):  # noqa: PT012
        for progress in run:
            if progress.step == at:
                raise Lost


def state(run):
    """All that training changes, on its own."""
    return {
        **{f"model.{k}": v.clone() for k, v in run.transcriber.model.state_dict().items()},
        **{f"mean.{k}": v.clone() for k, v in run._ema.state_dict().items()},
        **{f"result.{k}": v for k, v in run.result().model.state_dict().items()},
    }


def history(run):
    return [{k: v for k, v in entry.items() if k != "minutes"} for entry in run.progress.history]


def assert_same(run, reference):
    ours, theirs = state(run), state(reference)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert history(run) == history(reference)
    assert run.progress.loss == reference.progress.loss


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that were never interrupted, by model, with the loss of each step."""
    whole = {}
    for recipe in (GRU, TRANSFORMER):
        run, losses = begin(tmp_path_factory.mktemp("whole"), recipe), {}
        assert train(run, losses=losses)
        whole[recipe.model] = run, losses
    return whole


def test_a_run_goes_to_its_last_step_and_scores_on_the_way(whole):
    for run, losses in whole.values():
        assert run.finished
        assert list(losses) == list(range(1, STEPS + 1))
        assert [entry["step"] for entry in run.progress.history] == SCORES
        minutes = [entry["minutes"] for entry in run.progress.history]
        assert minutes == sorted(minutes)
        assert 0 < run.progress.minutes < 1
        expected = run.result().score(DATA.validation)
        assert run.progress.history[-1]["word"] == round(expected.word, 5)
        assert run.progress.history[-1]["symbol"] == round(expected.symbol, 5)
        assert len({entry["symbol"] for entry in run.progress.history}) > 1


@pytest.mark.parametrize(
    ("recipe", "stops"),
    [
        pytest.param(GRU, [1], id="first step"),
        pytest.param(GRU, [IN_EPOCH], id="between epochs"),
        pytest.param(GRU, [9], id="after a score"),
        pytest.param(GRU, [STEPS - 1], id="last but one"),
        pytest.param(GRU, [2, 3, 10, IN_EPOCH * 2, 17], id="five times"),
        pytest.param(TRANSFORMER, [2, 9, IN_EPOCH * 2], id="transformer"),
    ],
)
def test_an_interrupted_run_resumes_with_the_same_result(tmp_path, whole, recipe, stops):
    losses = {}
    for stop in stops:
        run = begin(tmp_path, recipe)
        assert not train(run, until=stop, losses=losses)
        assert run.progress.step == stop
        assert not run.finished
    run = begin(tmp_path, recipe)
    assert run.progress.step == stops[-1]
    assert train(run, losses=losses)
    assert_same(run, whole[recipe.model][0])
    assert losses == whole[recipe.model][1]


def test_a_run_may_be_iterated_over_again(tmp_path, whole):
    run = begin(tmp_path)
    for stop in (1, 9, 17):
        assert not train(run, until=stop)
    assert train(run)
    assert_same(run, whole["gru"][0])


@pytest.mark.parametrize(("saved", "lost"), [(0, 3), (9, 15), (17, STEPS - 1)])
def test_a_lost_process_costs_only_the_steps_since_the_last_save(tmp_path, whole, saved, lost):
    if saved:
        train(begin(tmp_path), until=saved)
    lose(begin(tmp_path), at=lost)
    run = begin(tmp_path)
    assert run.progress.step == saved
    assert [entry["step"] for entry in run.progress.history] == [s for s in SCORES if s <= saved]
    assert train(run)
    assert_same(run, whole["gru"][0])


def test_a_run_is_saved_once_in_a_while(tmp_path, whole):
    lose(begin(tmp_path, save_seconds=-1), at=11)
    run = begin(tmp_path)
    assert run.progress.step == 11
    assert train(run)
    assert_same(run, whole["gru"][0])


def test_a_run_is_saved_after_its_last_step(tmp_path):
    lose(begin(tmp_path), at=STEPS)
    assert begin(tmp_path).finished


def test_nothing_is_written_before_the_first_step(tmp_path):
    run = begin(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    next(iter(run))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_run_without_validation_pairs_is_not_scored(tmp_path):
    run = begin(tmp_path, data=DATA._replace(validation=[]))
    run.train()
    assert run.finished
    assert run.progress.history == []


def test_a_finished_run_stays_as_it_is(tmp_path, whole):
    train(begin(tmp_path))
    for _ in range(2):
        run, losses = begin(tmp_path), {}
        assert run.finished
        assert train(run, losses=losses)
        assert losses == {}
        assert_same(run, whole["gru"][0])


def test_the_same_seed_gives_the_same_and_another_another(tmp_path, whole):
    again, other = begin(tmp_path / "again"), begin(tmp_path / "other", replace(GRU, seed=1))
    train(again)
    train(other)
    assert_same(again, whole["gru"][0])
    ours, theirs = state(other), state(whole["gru"][0])
    assert not any(torch.equal(ours[name], theirs[name]) for name in ours if "n_av" not in name)


@pytest.mark.parametrize("kind", ["first weights", "batches", "dropout"])
def test_all_random_numbers_follow_from_the_seed(tmp_path, kind):
    zero, again, one = (
        begin(tmp_path / name, replace(GRU, seed=int(name))) for name in ("0", "00", "1")
    )
    draws = [
        {
            "first weights": run.transcriber.model.readout.weight.tolist(),
            "batches": next(run._batches()).source.tolist(),
            "dropout": run._generators.states["cpu"].tolist(),
        }[kind]
        for run in (zero, again, one)
    ]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_a_run_is_independent_of_other_random_numbers_in_the_process(tmp_path, whole):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run, other = begin(tmp_path / "run"), begin(tmp_path / "other", replace(TRANSFORMER, seed=9))
    for stop in (3, 11):  # two runs in turn
        train(run, until=stop)
        train(other, until=stop)
    run.result()
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(7)
    for _ in run:
        torch.rand(2)
    assert_same(run, whole["gru"][0])


def test_sequences_may_be_long(tmp_path):
    pairs = [Pair(tuple("ab" * n), (tuple("x" * n),)) for n in range(20, 60)]
    run = begin(tmp_path, replace(TRANSFORMER, epochs=1), split(pairs))
    assert train(run)


def test_progress_says_where_the_run_is(tmp_path):
    run, seen = begin(tmp_path), []
    assert run.progress.step == 0
    assert math.isnan(run.progress.loss)
    for progress in run:
        seen.append(progress)
        if len(seen) == 5:
            break
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5]
    assert {progress.steps for progress in seen} == {STEPS}
    assert [len(progress.history) for progress in seen] == [0, 0, 0, 1, 1]
    assert [progress.minutes for progress in seen] == sorted(p.minutes for p in seen)


@pytest.mark.parametrize(
    ("epochs", "steps"), [(1, 7), (2.5, 18), (0.3, 2), (0.01, 1)], ids=lambda value: str(value)
)
def test_epochs_may_be_parts(tmp_path, epochs, steps):
    run = begin(tmp_path, replace(GRU, epochs=epochs))
    assert run.steps == steps
    assert train(run)
    assert run.progress.step == steps


def test_the_result_is_what_its_file_holds(tmp_path, whole):
    run, _ = whole["gru"]
    result = run.result()
    result.save(tmp_path / "model.safetensors")
    loaded = Transcriber.load(tmp_path / "model.safetensors")
    ours, theirs = result.model.state_dict(), loaded.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    sources = [pair.source for pair in DATA.test]
    assert result.generate(sources) == loaded.generate(sources)
    assert loaded.record == result.record
    assert not result.model.training


def test_the_record_says_what_was_done(whole):
    run, _ = whole["gru"]
    record = json.loads(json.dumps(run.result().record))
    assert record["recipe"] == asdict(GRU)
    assert record["task"] == "words"
    assert (record["source_level"], record["target_level"]) == ("characters", "characters")
    assert record["steps"] == STEPS
    assert record["history"] == run.progress.history
    assert record["weights"] == run.transcriber.weights
    assert record["versions"]["torch"] == str(torch.__version__)


# How it trains.


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1 / 5), (1, 2 / 5), (3, 4 / 5), (4, 1 - 4 / 50), (25, 0.5), (49, 0.02)]
)
def test_the_step_size_warms_up_and_falls_to_zero(step, share):
    recipe = replace(GRU, warmup=5, learning_rate=0.3)
    assert recipe.rate(step, 50) == pytest.approx(0.3 * share)


def test_the_optimizer_uses_that_step_size(tmp_path):
    run, used = begin(tmp_path), []
    for _ in run:
        used.append(run._optimizer.param_groups[0]["lr"])
    assert used == [GRU.rate(step, STEPS) for step in range(STEPS)]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_moving_average_of_the_weights_follows_its_formula(tmp_path, decay):
    run, seen = begin(tmp_path, replace(GRU, ema_decay=decay)), []
    for _ in run:
        weights = run.transcriber.model.state_dict().items()
        seen.append({name: value.double() for name, value in weights})
    mean = seen[0]
    for n, weights in enumerate(seen[1:], start=1):
        past = min(decay, (1 + n) / (10 + n))
        mean = {name: past * mean[name] + (1 - past) * weights[name] for name in mean}
    for name, value in run._ema.module.state_dict().items():
        torch.testing.assert_close(value.double(), mean[name], rtol=0, atol=1e-6)
        torch.testing.assert_close(
            run.result().model.state_dict()[name], value.half().float(), rtol=0, atol=0
        )
    assert decay == 0 or not torch.allclose(mean["readout.weight"], seen[-1]["readout.weight"])


def test_the_gradient_is_clipped(tmp_path):
    run, norms = begin(tmp_path, replace(GRU, clip_norm=0.01)), []
    for _ in run:
        gradients = [parameter.grad.flatten() for parameter in run.transcriber.model.parameters()]
        norms.append(torch.cat(gradients).norm().item())
    assert norms == pytest.approx([0.01] * STEPS, rel=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.4])
def test_the_loss_uses_the_label_smoothing_of_the_recipe(tmp_path, smoothing):
    """Without dropout the loss of the first batch can be computed apart."""
    recipe = replace(GRU, options={**GRU.options, "dropout": 0}, label_smoothing=smoothing)
    run, losses = begin(tmp_path, recipe), {}
    batch = next(run._batches())
    with torch.no_grad():
        expected = run.transcriber.model.loss(batch, label_smoothing=smoothing).item()
    train(run, until=1, losses=losses)
    assert losses[1] == expected


def test_each_epoch_reads_all_examples_in_an_order_of_its_own(tmp_path):
    run = begin(tmp_path)
    batches = [[tuple(row) for row in batch.source.tolist()] for batch in run._batches()]
    assert len(batches) == STEPS
    epochs = [batches[i : i + IN_EPOCH] for i in range(0, STEPS, IN_EPOCH)]
    words = [sorted(tuple(i for i in row if i) for batch in e for row in batch) for e in epochs]
    assert all(epoch == words[0] for epoch in words)
    assert len(words[0]) == len(DATA.training)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [1]),
        (99, [99]),
        (100, [100]),
        (150, [100, 150]),
        (151, [100, 150, 151]),
        (1000, [100, 150, 225, 338, 506, 759, 1000]),
    ],
)
def test_scores_come_at_steps_that_grow_by_a_ratio(steps, expected):
    assert score_steps(steps) == expected


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"ratio": 1.0}, "ratio: .* above 1, got 1.0"),
        ({"ratio": math.nan}, "ratio"),
        ({"first": 0}, "first"),
    ],
)
def test_scores_that_would_never_end_are_refused(wrong, problem):
    with pytest.raises(ValueError, match=problem):
        score_steps(500, **wrong)


def test_a_real_run_is_scored_some_16_times():
    assert 14 <= len(score_steps(33_000)) <= 18


@pytest.mark.parametrize("kind", ["loss", "gradient norm"])
def test_what_is_not_finite_ends_the_run_and_keeps_the_checkpoint(tmp_path, whole, kind):
    train(begin(tmp_path), until=9)
    before = contents(tmp_path)
    run = begin(tmp_path)
    loss = run.transcriber.model.loss

    def broken(examples, **options):
        value = loss(examples, **options)
        if run.progress.step < 12:
            return value
        if kind == "loss":
            return value * math.nan
        weight = run.transcriber.model.readout.weight
        return (
            value + (weight - weight.detach()).abs().sqrt().sum()
        )  # 0, with an infinite derivative

    run.transcriber.model.loss = broken
    weights = {}
    with pytest.raises(FloatingPointError, match=f"{kind}: expected a finite .* at step 12; try"):  # noqa: PT012
        for progress in run:
            weights[progress.step] = state(run)
    assert contents(tmp_path) == before
    after = state(run)
    assert all(torch.equal(after[name], value) for name, value in weights[12].items())

    run = begin(tmp_path)
    assert run.progress.step == 9
    assert train(run)
    assert_same(run, whole["gru"][0])


def test_weights_too_large_for_the_file_are_named(tmp_path):
    run = begin(tmp_path)
    train(run, until=3)
    with torch.no_grad():
        run._ema.module.readout.weight[0, 0] = 1e5  # half precision ends at 65,504
    with pytest.raises(FloatingPointError, match=r"readout\.weight: expected a finite .* smaller"):
        run.result()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(
            (name, value, f"{name}: expected a positive finite number, got {value}")
            for name in ("epochs", "batch", "learning_rate", "warmup", "clip_norm")
            for value in (0, -1, math.nan, math.inf)
        ),
        *(
            (name, value, f"{name}: expected 0 to below 1, got {value}")
            for name in ("label_smoothing", "ema_decay")
            for value in (-0.1, 1, math.nan)
        ),
        ("seed", -1, r"seed: expected 0 to 2\^32 - 1, got -1"),
        ("seed", 2**32, "seed: expected 0 to"),
    ],
)
def test_numbers_out_of_range_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        replace(GRU, **{name: value})


def test_the_largest_seed_is_one(tmp_path):
    assert train(begin(tmp_path, replace(GRU, seed=2**32 - 1, epochs=0.1)))


@pytest.mark.parametrize("name", RECIPES)
def test_the_books_recipes_can_be_built(tmp_path, name):
    assert RECIPES[name].model == name
    assert begin(tmp_path, RECIPES[name]).transcriber.weights > 100_000


# What a folder may hold.


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


OTHER = split([Pair(tuple(word), (tuple(word.upper()),)) for word in WORDS[:-1]])
MIXED = Split(DATA.training, DATA.test, DATA.validation)
MOVED = Split([*DATA.training, DATA.validation[0]], DATA.validation[1:], DATA.test)


@pytest.mark.parametrize(
    ("recipe", "options", "difference"),
    [
        (replace(GRU, epochs=6), {}, "recipe.epochs is 3 there, 6 now"),
        (replace(GRU, seed=1, batch=8), {}, "recipe.batch is 16 there, 8 now; recipe.seed is 0"),
        (replace(GRU, ema_decay=0.9), {}, "recipe.ema_decay is 0.999 there, 0.9 now"),
        (replace(GRU, model="lstm"), {}, "recipe.model is 'gru' there, 'lstm' now"),
        (
            replace(GRU, options={**GRU.options, "embedding_size": 8}),
            {},
            "recipe.options.embedding_size is 6 there, 8 now",
        ),
        (
            replace(GRU, options={**GRU.options, "layers": 2}),
            {},
            "recipe.options.layers is None there, 2 now",
        ),
        (
            replace(GRU, options={"embedding_size": 6, "hidden_size": 6}),
            {},
            "recipe.options.dropout is 0.3 there, None now",
        ),
        (GRU, {"data": OTHER}, "data is '.{12}…' there, '.{12}…' now"),
        (GRU, {"data": MOVED}, "data is '.{12}…' there, '.{12}…' now"),
        (GRU, {"parts": {"test": "own.tsv"}}, "parts.test is None there, 'own.tsv' now"),
        (GRU, {"data": MIXED}, "data is '.{12}…' there, '.{12}…' now"),
        (GRU, {"task": "names"}, "task is 'words' there, 'names' now"),
        (GRU, {"source_level": "jamo"}, "source_level is 'characters' there, 'jamo' now"),
        (GRU, {"target_level": "words"}, "target_level is 'characters' there, 'words' now"),
    ],
)
def test_a_folder_with_another_run_is_refused_and_unchanged(tmp_path, recipe, options, difference):
    train(begin(tmp_path), until=3)
    before = contents(tmp_path)
    message = f"{tmp_path}: holds a run with other settings: {difference}"
    with pytest.raises(RunMismatchError, match=message) as caught:
        begin(tmp_path, recipe, **options)
    assert str(caught.value).endswith(". Use its settings to resume it, or choose another folder")
    assert contents(tmp_path) == before
    assert begin(tmp_path).progress.step == 3


def test_options_may_be_given_in_any_order_and_as_tuples(tmp_path):
    train(begin(tmp_path), until=3)
    recipe = replace(GRU, options=dict(reversed(GRU.options.items())))
    assert begin(tmp_path, recipe).progress.step == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON, got invalid JSON: Expecting value"),
        (b'{"task": "wor', "expected JSON, got invalid JSON"),
        (b"\xff\xfe", "expected JSON, got invalid JSON"),
        (b"[1, 2]", r"expected a JSON object, got \[1, 2\]"),
        (b"null", "expected a JSON object, got None"),
    ],
)
def test_a_damaged_description_is_named_and_unchanged(tmp_path, content, message):
    train(begin(tmp_path), until=3)
    (tmp_path / "run.json").write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(DamagedModelError, match=f"{tmp_path / 'run.json'}: {message}"):
        begin(tmp_path)
    assert contents(tmp_path) == before


def test_a_checkpoint_without_description_is_refused(tmp_path):
    train(begin(tmp_path), until=3)
    (tmp_path / "run.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(RunMismatchError, match=r"expected run.json beside checkpoint.pt"):
        begin(tmp_path)
    assert contents(tmp_path) == before


def other_run(path):
    recipe = replace(GRU, options={"embedding_size": 4, "hidden_size": 8})
    train(begin(path.parent / "other", recipe), until=1)
    (path.parent / "other" / "checkpoint.pt").rename(path)


def without(name):
    def damage(path):
        content = torch.load(path)
        del content[name]
        save_checkpoint(content, path)

    return damage


def with_other(name, value):
    return lambda path: save_checkpoint({**torch.load(path), name: value}, path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"what is no checkpoint"),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:500]),
        lambda path: begin(path.parent / "other").result().save(path),
        lambda path: save_checkpoint([1, 2], path),
        lambda path: save_checkpoint(torch.zeros(2), path),
        other_run,
        *(
            without(name)
            for name in ("model", "ema", "optimizer", "generators", "step", "loss", "history")
        ),
        with_other("generators", {"cpu": torch.zeros(3)}),
        with_other("generators", "numbers"),
        with_other("model", {}),
        with_other("optimizer", {}),
    ],
)
def test_a_damaged_checkpoint_is_named_and_unchanged(tmp_path, damage):
    folder = tmp_path / "run"
    train(begin(folder), until=3)
    damage(folder / "checkpoint.pt")
    before = (folder / "checkpoint.pt").read_bytes()
    with pytest.raises(DamagedModelError) as caught:
        begin(folder)
    assert str(caught.value).startswith(f"{folder / 'checkpoint.pt'}: expected ")
    assert "\n" not in str(caught.value)
    assert (folder / "checkpoint.pt").read_bytes() == before


def test_a_save_that_fails_keeps_the_checkpoint_before(tmp_path, whole, monkeypatch):
    train(begin(tmp_path), until=9)
    before = contents(tmp_path)

    def full(_content, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            train(begin(tmp_path), until=17)
    assert contents(tmp_path) == before
    run = begin(tmp_path)
    assert run.progress.step == 9
    assert train(run)
    assert_same(run, whole["gru"][0])


def test_nothing_to_train_on_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="data: expected pairs for training, got none"):
        begin(tmp_path / "run", data=DATA._replace(training=[]))
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_does_not_fit_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"options of gru: .* got 'wdith'"):
        begin(tmp_path / "run", replace(GRU, options={"wdith": 3}))
    assert not (tmp_path / "run").exists()


def test_a_run_cannot_be_on_a_device_that_is_not_here(tmp_path):
    with pytest.raises(ValueError, match=r"device: expected one of this machine \(cpu.*'cuda:99'"):
        begin(tmp_path / "run", device="cuda:99")
    assert not (tmp_path / "run").exists()


# Checkpoints.


@pytest.fixture(scope="module")
def checkpoint():
    return {"weights": torch.randn(40, generator=torch.Generator().manual_seed(0)), "step": 3}


@pytest.fixture
def archive(tmp_path, checkpoint):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(checkpoint, path)
    return path


def test_a_changed_byte_of_a_checkpoint_is_refused_or_changes_nothing(archive, checkpoint):
    whole = archive.read_bytes()
    refused = 0
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0x15
        archive.write_bytes(changed)
        try:
            loaded = load_checkpoint(archive)
        except DamagedModelError:
            refused += 1
        else:
            assert loaded["step"] == 3, place
            assert torch.equal(loaded["weights"], checkpoint["weights"]), place
    assert refused > len(whole) / 3  # the rest stands between the parts of an archive


def test_no_entry_of_a_checkpoint_may_be_marked_as_a_folder(archive, checkpoint):
    """Torch would leave its memory uninitialised."""
    whole = archive.read_bytes()
    start = whole.index(b"PK\x01\x02")
    while (start := whole.find(b"PK\x01\x02", start)) >= 0:
        changed = bytearray(whole)
        changed[start + 38] |= 0x10  # the attributes: a folder
        archive.write_bytes(changed)
        assert torch.equal(load_checkpoint(archive)["weights"], checkpoint["weights"])
        start += 4


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_nothing_in_a_checkpoint_runs(archive, tmp_path):
    marker = tmp_path / "ran"
    torch.save({"step": Trap(marker)}, archive)
    torch.load(archive, weights_only=False)
    assert marker.exists()  # the trap works
    marker.unlink()
    with pytest.raises(DamagedModelError, match="tensors and plain values only, got something"):
        load_checkpoint(archive)
    assert not marker.exists()
