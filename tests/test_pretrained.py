"""The trained models that come with the package do what their records say."""

import pytest
from conftest import ROOT

from seqbook.data import pronunciations
from seqbook.models import pretrained

FOLDER = ROOT / "src/seqbook/data/files"
# Words whose two best next symbols are nearly tied may be written otherwise by other kernels.
TOLERANCE = 0.001


@pytest.fixture(scope="module")
def test_words():
    return pronunciations.load().test


@pytest.fixture(params=pretrained.NAMES)
def model(request):
    return pretrained.load(request.param)


def test_the_files_are_small():
    assert (
        sum((FOLDER / f"{name}.safetensors").stat().st_size for name in pretrained.NAMES)
        < 5_000_000
    )


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name: expected 'pronunciations-transformer'"):
        pretrained.load("pronunciations")


def test_a_record_says_how_the_model_was_made(model):
    record = model.record
    assert record["command"].startswith("seqbook train --task pronunciations --model ")
    assert {"python", "torch"} <= record["versions"].keys()
    assert record["recipe"]["seed"] == 0
    assert record["threads"] == 1
    assert record["weights"] == model.weights
    assert record["history"][-1]["step"] == record["steps"]
    assert record["history"][-1]["minutes"] == pytest.approx(record["minutes"], abs=0.01)


def test_it_reproduces_its_score(model, test_words):
    for recorded in model.record["test"]:
        if recorded["beam"] > 1:
            continue
        assert recorded["pairs"] == len(test_words)
        rates = model.score(test_words, beam_width=recorded["beam"])
        assert rates.word == pytest.approx(recorded["word"], abs=TOLERANCE)
        assert rates.symbol == pytest.approx(recorded["symbol"], abs=TOLERANCE)


def test_it_beats_the_published_transformer(model, test_words):
    (score,) = [score for score in model.record["test"] if score["beam"] == 5]
    assert score["word"] < 0.302
