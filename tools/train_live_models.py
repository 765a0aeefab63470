"""Train the networks that run in the pages, and write their weights as JavaScript modules.

    OMP_NUM_THREADS=1 .venv/bin/python tools/train_live_models.py [alice] [spelling] [heads] ...

Each takes a few minutes of one core, from a fixed seed. ``words`` and ``stretch`` train nothing:
they write what models of the page count. Weights are kept as whole numbers from
-127 to 127 with one factor for each row, which is a quarter of their size. What is scored is what
is written: the rounded weights, on the test part. ``load`` reads a module back, for the tests.
"""

import base64
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqbook.data import pronunciations, text
from seqbook.data.batches import Vocabularies, encode_pairs
from seqbook.data.pairs import Pair, Split
from seqbook.data.vocabulary import Vocabulary
from seqbook.layers.attention import causal_mask, recorded_weights
from seqbook.layers.lstm import LSTM
from seqbook.layers.transformer import Encoder, SinusoidalPositions
from seqbook.models.decoding import greedy
from seqbook.models.language_model import CharacterModel, bits_per_character
from seqbook.models.metrics import error_rates
from seqbook.models.seq2seq import RecurrentSeq2Seq
from seqbook.training.fit import fit_language_model
from seqbook.training.loop import train

LIVE = Path(__file__).parents[1] / "book" / "_static" / "live"
ALICE = {"width": 24, "hidden": 96}
SPELLING = {"embedding_size": 40, "hidden_size": 88}
HEADS = {"layers": 2, "d_model": 64, "heads": 4, "d_ff": 128}


def alice_parts() -> list[str]:
    """The three parts of Alice, each in one line: readers type no line ends."""
    return [" ".join(part.split()) for part in text.load("alice")]


def words_of(letters: str) -> list[str]:
    """The words of a text in small letters, with the apostrophes within them."""
    return re.findall("[a-z]+(?:'[a-z]+)*", letters.lower())


def word_probability(word: str, counts: Counter[str], share: float) -> float:
    """Probability of a word: as often as it was counted, but for a ``share`` of single letters.

    With that probability the letters are drawn one by one, each as often as in all words, and the
    word ends after each with the probability that gives words the same mean length.
    """
    letters = Counter("".join(counts.elements()))
    stop = counts.total() / letters.total()
    by_letters = math.prod(letters[x] / letters.total() for x in word)
    by_letters *= stop * (1 - stop) ** (len(word) - 1)
    return (1 - share) * counts[word] / counts.total() + share * by_letters


def count_words() -> None:
    """Count the words of Alice, and choose in the validation part the share of single letters."""
    parts = [words_of(part) for part in alice_parts()]
    counts = Counter(parts[0])

    def bits(words: list[str], share: float) -> float:
        once = Counter(words)
        costs = [n * np.log2(word_probability(w, counts, share)) for w, n in once.items()]
        return -sum(costs) / len(words)

    share = min((0.01, 0.02, 0.05, 0.1, 0.2, 0.5), key=lambda share: bits(parts[1], share))
    card = {
        "training": f"the first {len(parts[0]):,} words of Alice's Adventures in Wonderland",
        "different words": len(counts),
        "bits per word, validation": round(bits(parts[1], share), 2),
        "bits per word, test": round(bits(parts[2], share), 2),
        "test words that were never counted": round(
            sum(word not in counts for word in parts[2]) / len(parts[2]), 3
        ),
    }
    listed = " ".join(f"{word} {count}" for word, count in sorted(counts.items()))
    lines = ["// Written by tools/train_live_models.py."]
    found = {"card": card, "share": share, "counted": listed}
    lines += [f"export const {k} = {json.dumps(v)};" for k, v in found.items()]
    (LIVE / "words-alice.mjs").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(json.dumps(card, indent=1))


def write_stretch(longest: int = 10_000) -> None:
    """Write the first sentences of Alice, which models that count in a page read before a text."""
    letters = alice_parts()[0]
    stretch = letters[: letters.rindex(". ", 0, longest) + 2]
    lines = ["// Written by tools/train_live_models.py."]
    lines.append(f"export const stretch = {json.dumps(stretch)};")
    (LIVE / "stretch-alice.mjs").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(stretch):,} characters")


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


def round_and_score(
    model: Any, bits: Callable[[Any, Any], float], ids: Sequence[Sized]
) -> dict[str, Any]:
    """Round a model's weights as a page reads them, and return its card: what ``bits`` it needs."""
    exact = bits(model, ids[2])
    model.load_state_dict(rounded(model.state_dict()))
    return {
        "training": f"Alice's Adventures in Wonderland, the first {len(ids[0]):,} characters",
        "bits per character, validation": round(bits(model, ids[1]), 3),
        "bits per character, test": round(bits(model, ids[2]), 3),
        "the same before rounding the weights": round(exact, 3),
    }


def train_alice(*, steps: int = 3500, seed: int = 0) -> None:
    """Learn to predict the next letter of Alice."""
    parts = alice_parts()
    vocabulary = Vocabulary.from_sequence(parts[0], unknown="<unk>")
    ids = [vocabulary.encode(part) for part in parts]
    model = character_model(len(vocabulary), seed)
    fit_language_model(model, ids[0], steps=steps, batch=16, window=100, learning_rate=0.006)
    card = {"model": f"LSTM with {ALICE['hidden']} units"}
    card |= round_and_score(model, bits_per_character, ids)
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


class CausalTransformer(torch.nn.Module):
    """Predict each next letter by self-attention to the letters so far."""

    def __init__(self, symbols: int, seed: int = 0, *, dropout: float = 0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        width = HEADS["d_model"]
        self.embedding = torch.nn.Embedding(symbols, width)
        self.positions = SinusoidalPositions(width)
        layers, heads, d_ff = HEADS["layers"], HEADS["heads"], HEADS["d_ff"]
        self.encoder = Encoder(layers, width, heads, d_ff, dropout=dropout, generator=generator)
        self.readout = torch.nn.Linear(width, symbols)
        torch.nn.init.normal_(self.embedding.weight, generator=generator)
        bound = width**-0.5
        torch.nn.init.uniform_(self.readout.weight, -bound, bound, generator=generator)
        torch.nn.init.zeros_(self.readout.bias)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits of the letter after each, ``(batch, time, symbols)``."""
        x = self.positions(self.embedding(ids))
        return self.readout(self.encoder(x, mask=causal_mask(ids.shape[1])))


def train_heads(*, steps: int = 5000, seed: int = 0, batch: int = 32, window: int = 64) -> None:
    """Learn to predict the next letter of Alice by self-attention."""
    parts = alice_parts()
    vocabulary = Vocabulary.from_sequence(parts[0], unknown="<unk>")
    ids = [torch.as_tensor(vocabulary.encode(part)) for part in parts]
    torch.manual_seed(seed)  # of the dropout
    model = CausalTransformer(len(vocabulary), seed, dropout=0.1)
    generator = torch.Generator().manual_seed(100 + seed)

    def loss(_step: int) -> torch.Tensor:
        first = torch.randint(len(ids[0]) - window, (batch, 1), generator=generator)
        chosen = ids[0][first + torch.arange(window + 1)]
        logits = model(chosen[:, :-1])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), chosen[:, 1:].flatten())

    train(
        model.parameters(),
        loss,
        steps=steps,
        learning_rate=lambda step: 0.004 * min(1, (step + 1) / 200) * (1 - step / steps),
    )
    model.eval()
    card = {"model": f"Transformer with {HEADS['layers']} layers of {HEADS['heads']} heads"}
    card |= round_and_score(model, bits_with_past, ids)
    notable = notable_heads(model.double(), vocabulary, parts)
    write(
        "weights-heads",
        card,
        {"symbols": vocabulary.symbols, "shape": HEADS, "notable": notable},
        model,
    )


@torch.no_grad()
def bits_with_past(model: CausalTransformer, ids: torch.Tensor, window: int = 64) -> float:
    """Bits per character of a text, of which each is predicted from 32 to 63 before it."""
    half = window // 2
    nats = []
    for chosen in ids.unfold(0, window + 1, half).split(64):
        logits = model(chosen[:, :-1])[:, half - 1 : -1]
        targets = chosen[:, half:-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="none"
        )
        nats.append(loss)
    return torch.cat(nats).mean().item() / np.log(2)


def head_places(letters: str) -> dict[str, np.ndarray]:
    """Where a head may look: for each letter (row) marks on the letters so far (columns)."""
    time = len(letters)
    own, other = np.indices((time, time))
    starts = [max(0, letters.rfind(" ", 0, t + 1) + 1) for t in range(time)]
    same = np.array([[a == b for b in letters] for a in letters])
    follows = np.zeros((time, time), bool)
    follows[:, 1:] = same[:, :-1]
    past = other <= own
    return {
        "its own letter": own == other,
        "the letter before": own - other == 1,
        "the letter two places before": own - other == 2,
        "the last space": (other == np.array(starts)[:, None] - 1) & past,
        "earlier places of the same letter": same & (other < own),
        "what followed the same letter before": follows & past,
    }


@torch.no_grad()
def head_weights(model: CausalTransformer, ids: np.ndarray | torch.Tensor) -> np.ndarray:
    """Weights of all heads on texts ``(batch, time)``: ``(batch, layers, heads, time, time)``."""
    with recorded_weights(model) as weights:
        model(torch.as_tensor(ids))
    return torch.stack(list(weights.values()), 1).numpy()


def notable_heads(
    model: CausalTransformer, vocabulary: Vocabulary, parts: list[str], window: int = 40
) -> list[dict]:
    """For each head that of ``head_places`` at which it exceeds the mean of all heads the most.

    Only places count that get clearly more than from equal weights. This is chosen in the
    validation part. The shares stated, of the head and of equal weights, are those in the test
    part, which had no say in the choice.
    """

    def shares(text: str) -> dict[str, np.ndarray]:
        """The mean weight of each head on each kind of place, last that of equal weights."""
        texts = [text[k : k + window] for k in range(0, 8000, window)]
        found = head_weights(model, np.stack([vocabulary.encode(part) for part in texts]))
        found = found.reshape(len(texts), -1, window, window)
        alike = np.tri(window) / np.arange(1, window + 1)[:, None]
        found = np.concatenate([found, np.broadcast_to(alike, found[:, :1].shape)], 1)
        marks = [head_places(letters) for letters in texts]
        result = {}
        for name in marks[0]:
            places = np.stack([mark[name] for mark in marks])[:, None]
            result[name] = (found * places).sum((0, 2, 3)) / places.any(-1).sum()
        return result

    validation, test = (shares(part) for part in parts[1:])
    more = {name: share[:-1] - share[:-1].mean() for name, share in validation.items()}
    notable = []
    for number in range(HEADS["layers"] * HEADS["heads"]):
        clear = [name for name, share in validation.items() if share[number] > 1.3 * share[-1]]
        _, name = max((more[each][number], each) for each in clear)
        seen = {"share": test[name][number], "alike": test[name][-1]}
        shown = {key: round(float(value), 2) for key, value in seen.items()}
        layer, head = divmod(number, HEADS["heads"])
        notable.append({"layer": layer, "head": head, "on": name} | shown)
    return notable


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
    packed = json.loads(re.sub(r",\s*\}$", "}", exports.pop("weights", "{}")))
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


def written_heads() -> tuple[Vocabulary, CausalTransformer]:
    """The network of ``weights-heads.mjs``, in float64."""
    parts, weights = load("weights-heads")
    model = CausalTransformer(len(parts["symbols"])).double()
    model.load_state_dict(weights)
    return Vocabulary(parts["symbols"], unknown="<unk>"), model.eval()


def written_speller() -> tuple[Vocabularies, RecurrentSeq2Seq]:
    """The network of ``weights-spelling.mjs``, in float64."""
    parts, weights = load("weights-spelling")
    source = Vocabulary(parts["letters"], unknown="<unk>")
    vocabularies = Vocabularies(source, Vocabulary(parts["phonemes"]))
    model = speller(vocabularies).double()
    model.load_state_dict(weights)
    return vocabularies, model


TRAININGS = {
    "alice": train_alice,
    "spelling": train_spelling,
    "heads": train_heads,
    "words": count_words,
    "stretch": write_stretch,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or TRAININGS:
        started = time.process_time()
        TRAININGS[name]()
        print(f"{name}: {time.process_time() - started:.0f} s of one core", file=sys.stderr)
