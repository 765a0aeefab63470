"""Train the two networks that run in the pages, and write their weights as JavaScript modules.

    OMP_NUM_THREADS=1 .venv/bin/python tools/train_live_models.py [alice] [spelling]

Each takes a few minutes of one core, from a fixed seed. Weights are kept as whole numbers from
-127 to 127 with one factor for each row, which is a quarter of their size. What is scored is what
is written: the rounded weights, on the test part. ``load`` reads a module back, for the tests.
"""

import base64
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import torch

from seqbook.data import pronunciations, text
from seqbook.data.batches import Vocabularies, encode_pairs
from seqbook.data.pairs import Pair, Split
from seqbook.data.vocabulary import Vocabulary
from seqbook.layers.lstm import LSTM
from seqbook.models.decoding import greedy
from seqbook.models.language_model import CharacterModel, bits_per_character
from seqbook.models.metrics import error_rates
from seqbook.models.seq2seq import RecurrentSeq2Seq
from seqbook.training.fit import fit_language_model
from seqbook.training.loop import train

LIVE = Path(__file__).parents[1] / "book" / "_static" / "live"
ALICE = {"width": 24, "hidden": 96}
SPELLING = {"embedding_size": 40, "hidden_size": 88}


def alice_parts() -> list[str]:
    """The three parts of Alice, each in one line: readers type no line ends."""
    return [" ".join(part.split()) for part in text.load("alice")]


def character_model(symbols: int, seed: int = 0) -> CharacterModel:
    """The reader of chapter 5."""
    generator = torch.Generator().manual_seed(seed)
    layer = LSTM(ALICE["width"], ALICE["hidden"], forget_bias=2.0, generator=generator)
    return CharacterModel(layer, symbols, generator=generator)


def speller(vocabularies: Vocabularies, seed: int = 0, *, dropout: float = 0.0) -> RecurrentSeq2Seq:
    """The network of chapter 7 that pronounces words."""
    generator = torch.Generator().manual_seed(seed)
    return RecurrentSeq2Seq(
        len(vocabularies.source),
        len(vocabularies.target),
        embedding_size=SPELLING["embedding_size"],
        hidden_size=SPELLING["hidden_size"],
        network="GRU",
        dropout=dropout,
        generator=generator,
    )


def train_alice(*, steps: int = 3500, seed: int = 0) -> None:
    """Learn to predict the next letter of Alice."""
    parts = alice_parts()
    vocabulary = Vocabulary.from_sequence(parts[0], unknown="<unk>")
    ids = [vocabulary.encode(part) for part in parts]
    model = character_model(len(vocabulary), seed)
    fit_language_model(model, ids[0], steps=steps, batch=16, window=100, learning_rate=0.006)
    exact = bits_per_character(model, ids[2])
    model.load_state_dict(rounded(model.state_dict()))
    card = {
        "model": f"LSTM with {ALICE['hidden']} units",
        "training": f"Alice's Adventures in Wonderland, the first {len(parts[0]):,} characters",
        "bits per character, validation": round(bits_per_character(model, ids[1]), 3),
        "bits per character, test": round(bits_per_character(model, ids[2]), 3),
        "the same before rounding the weights": round(exact, 3),
    }
    units = notable_units(model.double(), vocabulary, parts)
    write("weights-alice", card, {"symbols": vocabulary.symbols, "units": units}, model)


@torch.no_grad()
def read_letters(model: CharacterModel, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Gates and cell of every unit after each letter, ``(letters, units)``."""
    weights = model.layer.state_dict()
    inputs = model.embedding(torch.as_tensor(ids))
    hidden = model.layer(inputs[None])[0][0].roll(1, 0)
    hidden[0] = 0
    gates = inputs @ weights["weight_ih_l0"].T + hidden @ weights["weight_hh_l0"].T
    i, f, g, o = (gates + weights["bias_ih_l0"] + weights["bias_hh_l0"]).chunk(4, dim=-1)
    named = {"forget": f.sigmoid(), "input": i.sigmoid(), "output": o.sigmoid()}
    cell, cells = torch.zeros_like(i[0]), []
    for forget_gate, written in zip(named["forget"], named["input"] * g.tanh(), strict=True):
        cell = forget_gate * cell + written
        cells.append(cell)
    named["cell"] = torch.stack(cells).tanh()
    return {name: values.numpy() for name, values in named.items()}


def place_in_word(letters: str) -> list[int]:
    """1 for a word's first letter, 2 for its second, and so on; 0 outside words."""
    places = [0]
    for letter in letters:
        places.append(places[-1] + 1 if letter.isalpha() else 0)
    return places[1:]


PROPERTIES = {
    "spaces": lambda letters: [letter == " " for letter in letters],
    "capital letters": lambda letters: [letter.isupper() for letter in letters],
    "commas and stops": lambda letters: [letter in ",.;:!?" for letter in letters],
    "the place in a word": place_in_word,
}
FOLLOWED = [
    ("forget", "spaces"),
    ("input", "spaces"),
    ("forget", "capital letters"),
    ("forget", "commas and stops"),
    ("cell", "the place in a word"),
]


def notable_units(model: CharacterModel, vocabulary: Vocabulary, parts: list[str]) -> list[dict]:
    """For each of ``FOLLOWED`` the unit that follows it most closely in the validation part.

    The correlation stated is that in the test part, which had no say in the choice.
    """
    texts = [part[:10_000] for part in parts[1:]]
    validation, test = (read_letters(model, vocabulary.encode(letters)) for letters in texts)
    notable = []
    for gate, name in FOLLOWED:
        seen, unseen = (np.asarray(PROPERTIES[name](letters), float) for letters in texts)
        every = [np.corrcoef(seen, values)[0, 1] for values in validation[gate].T]
        unit = int(np.abs(every).argmax())
        correlation = np.corrcoef(unseen, test[gate][:, unit])[0, 1]
        notable.append({"unit": unit, "gate": gate, "follows": name, "r": round(correlation, 2)})
    return notable


def train_spelling(*, steps: int = 10_000, seed: int = 0) -> None:
    """Learn to pronounce the words of a dictionary."""
    words = pronunciations.load()
    vocabularies = Vocabularies.from_pairs(words.training)
    model = speller(vocabularies, seed)
    examples = encode_pairs([w for w in words.training if len(w.source) <= 14], vocabularies)
    generator = torch.Generator().manual_seed(100 + seed)

    def endless():
        while True:
            yield from examples.batches(64, generator=generator)

    batches = endless()
    train(
        model.parameters(),
        lambda _step: model.loss(next(batches)),
        steps=steps,
        learning_rate=lambda step: 0.006 * min(1, (step + 1) / 100) * (1 - step / steps),
    )
    exact = spelling_errors(model, vocabularies, words)
    model.load_state_dict(rounded(model.state_dict()))
    score = spelling_errors(model, vocabularies, words)
    card = {
        "model": f"GRU encoder-decoder with attention, {SPELLING['hidden_size']} units",
        "training": f"{len(words.training):,} words of the CMU Pronouncing Dictionary",
        "words wrong, test": round(score.word, 3),
        "phonemes wrong, test": round(score.symbol, 3),
        "words wrong before rounding the weights": round(exact.word, 3),
    }
    symbols = {"letters": vocabularies.source.symbols, "phonemes": vocabularies.target.symbols}
    write("weights-spelling", card, symbols, model)


def spelling_errors(model: RecurrentSeq2Seq, vocabularies: Vocabularies, words: Split):
    """Error rates on every fourth word of the test part."""
    pairs = words.test[::4]
    written = []
    for start in range(0, len(pairs), 256):
        batch = vocabularies.encode_sources([pair.source for pair in pairs[start : start + 256]])
        written += [vocabularies.decode_target(h.ids) for h in greedy(model, *batch, max_length=30)]
    return error_rates(written, pairs)


def rounded(state: dict) -> dict:
    """Weights as a page reads them: rounded by ``pack``."""
    return {name: unpack(pack(tensor)) for name, tensor in state.items()}


def pack(tensor: torch.Tensor) -> dict:
    """Round each row to 127 steps either way of its largest entry."""
    rows = tensor.detach().reshape(len(tensor), -1).float()
    scales = rows.abs().amax(1).clamp(min=1e-8) / 127
    values = (rows / scales[:, None]).round().to(torch.int8)
    return {
        "shape": list(tensor.shape),
        "scales": _base64(scales.numpy().astype("<f4")),
        "values": _base64(values.numpy()),
    }


def unpack(packed: dict) -> torch.Tensor:
    """Undo ``pack``, in float64, as the page does."""
    scales = np.frombuffer(base64.b64decode(packed["scales"]), "<f4").astype(np.float64)
    values = np.frombuffer(base64.b64decode(packed["values"]), np.int8).reshape(len(scales), -1)
    return torch.from_numpy((values * scales[:, None]).reshape(packed["shape"]))


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def write(name: str, card: dict, symbols: dict, model: torch.nn.Module) -> None:
    """Write a module that exports ``card``, the symbols and the ``weights``."""
    state = model.state_dict()
    card["weights"] = sum(tensor.numel() for tensor in state.values())
    lines = ["// Written by tools/train_live_models.py."]
    parts = {"card": card} | symbols
    lines += [f"export const {k} = {json.dumps(v, ensure_ascii=False)};" for k, v in parts.items()]
    packed = {key: pack(tensor) for key, tensor in state.items()}
    lines.append("export const weights = {")
    lines += [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in packed.items()]
    lines.append("};")
    LIVE.mkdir(parents=True, exist_ok=True)
    (LIVE / f"{name}.mjs").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(json.dumps(card, indent=1))


def load(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """Read what a module exports: everything but the weights, and the weights."""
    content = (LIVE / f"{name}.mjs").read_text(encoding="utf-8")
    exports = dict(re.findall(r"^export const (\w+) = (\{$.*?^\}|.*?);$", content, re.M | re.S))
    packed = json.loads(re.sub(r",\s*\}$", "}", exports.pop("weights")))
    parts = {key: json.loads(value) for key, value in exports.items()}
    return parts, {key: unpack(value) for key, value in packed.items()}


@torch.no_grad()
def spell(word: str) -> tuple[str, tuple[str, ...], np.ndarray]:
    """A word, its phonemes as the written speller gives them, and where it looked."""
    vocabularies, model = written_speller()
    pair = Pair(tuple(word), ((),))
    (hypothesis,) = greedy(model, *vocabularies.encode_sources([pair.source]), max_length=20)
    phonemes = vocabularies.decode_target(hypothesis.ids)
    looks = model.attention_weights(
        encode_pairs([pair._replace(targets=(phonemes,))], vocabularies)
    )
    return word, phonemes, looks[0].numpy()


def written_reader() -> tuple[Vocabulary, CharacterModel]:
    """The network of ``weights-alice.mjs``, in float64."""
    parts, weights = load("weights-alice")
    model = character_model(len(parts["symbols"])).double()
    model.load_state_dict(weights)
    return Vocabulary(parts["symbols"], unknown="<unk>"), model


def written_speller() -> tuple[Vocabularies, RecurrentSeq2Seq]:
    """The network of ``weights-spelling.mjs``, in float64."""
    parts, weights = load("weights-spelling")
    source = Vocabulary(parts["letters"], unknown="<unk>")
    vocabularies = Vocabularies(source, Vocabulary(parts["phonemes"]))
    model = speller(vocabularies).double()
    model.load_state_dict(weights)
    return vocabularies, model


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or ("alice", "spelling"):
        started = time.process_time()
        {"alice": train_alice, "spelling": train_spelling}[name]()
        print(f"{name}: {time.process_time() - started:.0f} s of one core", file=sys.stderr)
