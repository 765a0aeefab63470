"""The recorded trainings say how they were made, and agree with themselves."""

import json
import shlex

import pytest
from conftest import ROOT

from seqbook.models import pretrained

RESULTS = sorted((ROOT / "benchmarks/results").glob("*.json"))
RECORD = ROOT / "benchmarks/results/language_models.json"
NETWORKS = ["RNN", "LSTM", "GRU"]


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.fixture(params=["alice", "constitution_ko"])
def result(request, record):
    return record["texts"][request.param]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_record_says_how_it_was_made(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    words = shlex.split(record["command"])
    (script,) = [word for word in words if word.endswith(".py")]
    assert (ROOT / script).is_file()
    assert words[words.index(script) - 1] == "python"
    assert {"python", "torch"} <= record["versions"].keys()
    assert record["threads"] == 1
    if "repetitions" in record:  # of the same work, timed: nothing depends on a seed
        assert record["repetitions"] >= 15
    elif "reproducible" in record:  # the same bytes each time
        assert all(run["came_back"] for run in record["runs"])
    elif "deterministic" in record:  # lengths of a model that learns one text: nothing is random
        assert all(run["bytes"] > 0 and run.get("came_back", True) for run in record["runs"])
    elif "seconds_reckoned" in record:  # the same files, and the time of each part of the work
        assert record["files_compared"] > record["hand_ins"] >= 300
    elif "stored_models" in record:  # trained elsewhere, and only scored
        assert "--" not in record["command"]
    elif "shares" not in record.get("runs", [{}])[0]:  # nor on where the time of so many steps goes
        assert len(record.get("seeds") or {run["seed"] for run in record["runs"]}) >= 3


def rows_of(record, **wanted):
    return [row for row in record["rows"] if all(row.get(k) == v for k, v in wanted.items())]


def test_the_record_of_speed_is_whole():
    record = json.loads((ROOT / "benchmarks/results/speed.json").read_text(encoding="utf-8"))
    assert record["command"].endswith("python benchmarks/speed.py")
    layers = {"RNN", "LSTM", "GRU"}
    groups = layers | {f"{name}, ragged" for name in layers}
    groups |= {"LSTM, wide batch", "attention", "attention layer", "encoder layer"}
    assert {row["group"] for row in record["rows"]} == groups
    for name in layers:
        for phase in ("forward", "training"):
            for form in ("torch", "ours", "textbook"):
                assert len(rows_of(record, group=name, phase=phase, form=form)) == 4
    for group in ("attention", "attention layer"):
        for row in rows_of(record, group=group, phase="training"):
            (forward,) = rows_of(record, **row_key(row) | {"phase": "forward"})
            assert 0 < forward["peak_bytes"] <= row["peak_bytes"]
    for row in record["rows"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["ratio"] <= high
        assert row.get("share_of_product", 0.5) > 0
    for profile in record["profiles"]:
        assert sum(profile["shares"].values()) == pytest.approx(1, abs=0.001)


def row_key(row):
    measured = {"ratio", "quartiles", "seconds", "share_of_product", "peak_bytes", "phase"}
    return {key: value for key, value in row.items() if key not in measured}


def test_the_training_steps_were_profiled_in_full():
    path = ROOT / "benchmarks/results/training_step.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert "--" not in record["command"]
    assert [run["model"] for run in record["runs"]] == ["transformer", "lstm"]
    for run in record["runs"]:
        assert sum(run["shares"].values()) == pytest.approx(1, abs=0.001)


def test_the_language_models_ran_in_full(record):
    assert "--scale" not in record["command"]


def test_every_network_ran_from_every_seed(record, result):
    assert list(result["networks"]) == NETWORKS
    for network in result["networks"].values():
        assert [run["seed"] for run in network["runs"]] == record["seeds"]


def test_the_weights_agree_within_two_percent(result):
    weights = [network["weights"] for network in result["networks"].values()]
    assert max(weights) < 1.02 * min(weights)


def test_the_best_step_is_the_best(result):
    for network in result["networks"].values():
        for run in network["runs"]:
            scores = {int(step): bits for step, bits in run["validation_bits"].items()}
            assert scores[run["best_step"]] == min(scores.values())
            assert max(scores) == result["settings"]["steps"]
            assert 1 < run["test_bits"] < scores[0]


def test_the_learning_rate_is_the_best_of_those_tried(record, result):
    for network in result["networks"].values():
        short = network["bits_after_short_run"]
        assert [float(rate) for rate in short] == record["rates_tried"]
        assert short[str(network["learning_rate"])] == min(short.values())


def test_samples_say_their_temperature_and_seed(result):
    written = result["samples"]["written"]
    assert len({sample["temperature"] for sample in written}) >= 3
    for sample in written:
        assert sample["text"].startswith(result["settings"]["prompt"])
        assert isinstance(sample["seed"], int)


def test_the_errors_of_pronunciation_add_up():
    path = ROOT / "benchmarks/results/pronunciation_errors.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    errors = record["errors"]
    lead = record["only_lstm_right"] - record["only_transformer_right"]
    assert errors["Transformer"]["wrong"] - errors["LSTM"]["wrong"] == lead
    for name, stored in record["stored_models"].items():
        found = errors[name]
        assert sum(found["kinds"].values()) == found["wrong"]
        (greedy,) = [s for s in pretrained.load(stored).record["test"] if s["beam"] == 1]
        # The file keeps the weights in half precision, so a few words may differ.
        assert found["wrong"] / record["words"] == pytest.approx(greedy["word"], abs=0.002)
