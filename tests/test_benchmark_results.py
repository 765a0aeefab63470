"""The recorded trainings say how they were made, and agree with themselves."""

import json
import shlex

import pytest
from conftest import ROOT

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
    made = json.loads(path.read_text(encoding="utf-8"))
    words = shlex.split(made["command"])
    (script,) = [word for word in words if word.endswith(".py")]
    assert (ROOT / script).is_file()
    assert words[words.index(script) - 1] == "python"
    assert {"python", "torch"} <= made["versions"].keys()
    assert made["threads"] == 1
    if "repetitions" in made:  # of the same work, timed: nothing depends on a seed
        assert made["repetitions"] >= 15
    else:
        assert len(made.get("seeds") or {run["seed"] for run in made["runs"]}) >= 3


def test_every_layer_was_timed_at_every_length():
    made = json.loads((ROOT / "benchmarks/results/attention_cost.json").read_text(encoding="utf-8"))
    assert "--" not in made["command"]  # in full
    timed = {}
    for run in made["runs"]:
        timed.setdefault(run["layer"], []).append(run["length"])
        for phase in ("forward", "training"):
            low, high = run[f"{phase}_quartiles"]
            assert 0 < low <= run[f"{phase}_seconds"] <= high
        assert 0 < run["forward_peak_bytes"] <= run["training_peak_bytes"]
    assert list(timed) == ["textbook", "chunked", "torch", "GRU"]
    assert all(lengths == timed["GRU"] for lengths in timed.values())


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
