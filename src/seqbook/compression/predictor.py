r"""The model of a file: many predictions of the next bit, mixed into one.

Encoder and decoder each have a ``Predictor`` and call ``predict`` and ``update`` in turn. As both
start equal and learn from the same bits, they give the same probabilities.

A probability must have the same digits on both sides, on any machine. The counters, hashes and the
coder compute with integers. The mixer and the probability maps compute with float64, one operation
of Python at a time: each is rounded as IEEE 754 says, in an order that the code fixes. Logarithms
and exponentials come from the tables of ``logistic``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from seqbook.compression.arithmetic_coding import PROBABILITY_BITS
from seqbook.compression.contexts import ContextModel, History, hashed
from seqbook.compression.logistic import stretch
from seqbook.compression.matching import MatchModel
from seqbook.compression.mixing import Mixer
from seqbook.compression.online_gru import GRUSettings, OnlineGRU, check_arithmetic
from seqbook.compression.probability_maps import ProbabilityMaps
from seqbook.validation import check_choice, check_integer

__all__ = ["SELECTORS", "SETTINGS", "Predictor", "Settings"]

_HIGHEST_ORDER = 6
_LARGEST = (1 << PROBABILITY_BITS) - 1
_SMALLEST_TABLE, _LARGEST_TABLE = 16, 25  # bits
_MATCH_BITS = 20
_MAP_BITS = 16
_BIAS = 0.3


@dataclass(frozen=True)
class Settings:
    """What a model is made of.

    Attributes:
        contexts: Names in ``seqbook.compression.contexts.CONTEXTS``, first the orders from 0 on, at
            most 6.
        selectors: Names in ``SELECTORS``: what chooses the weights, one set of weights for each.
        initial_weight: All weights of the mixer to begin with.
        match_minimum: Length in bytes from which a match predicts.
        network: A network that learns while it reads, or none.

    Example:
        >>> len(SETTINGS["standard"].contexts)
        10
    """

    contexts: tuple[str, ...]
    selectors: tuple[str, ...]
    initial_weight: float
    match_minimum: int = 5
    network: GRUSettings | None = None


_ORDERS = tuple(f"order {count}" for count in range(_HIGHEST_ORDER + 1))

SETTINGS = {
    "standard": Settings(
        contexts=(*_ORDERS, "word", "word and word before", "column"),
        selectors=("prefix", "longest order and match", "last byte"),
        initial_weight=0.3,
    ),
    "full": Settings(
        contexts=(
            *_ORDERS,
            "word",
            "word alone",
            "word and word before",
            "word and second word before",
            "word and mark",
            "word before",
            "plain order 4",
            "plain order 5",
            "plain order 7",
            "second and third byte",
            "first and third byte",
            "followers of the pair",
            "column",
            "word and column",
            "byte above",
            "shape",
        ),
        selectors=(
            "prefix",
            "longest order and match",
            "last byte",
            "second byte",
            "word length",
            "expected bit",
            "kinds of three bytes",
        ),
        initial_weight=0.15,
    ),
}
"""The settings that an archive may name: ``"standard"``, ``"full"`` and ``"network"``."""

SETTINGS["network"] = replace(SETTINGS["full"], network=GRUSettings())


class Predictor:
    r"""The probability of each next bit of a file, learned from the bits before.

    .. math:: p = \frac{1}{4} \Big( \sigma(y) + \sum_{m=1}^3 a_m(y) \Big), \qquad
        y = \sum_s v_s y_s

    where :math:`y_s` is what weight set s of the mixer gives, v are the weights of a second mixer,
    chosen by the known bits of the byte, and :math:`a_m` are three adaptive probability maps.

    Args:
        settings: What the model is made of.
        length: Number of bytes of the file, which fixes the size of the tables.
        symbol_bits: 7 if all bytes are below 128, else 8.

    Attributes:
        history: What has been read.
        matches: The match model.
        mixer: The mixer of the models, with its sets of weights.
        maps: The adaptive probability maps.
        prefix: The bits of the present byte that are known, after a leading 1.
        symbol_bits: 7 or 8.
        model_names: Names of the models whose predictions are mixed.
        log_odds: What each of them gave in the last call of ``predict``, as log odds.

    Example:
        >>> predictor = Predictor(SETTINGS["standard"], length=1000, symbol_bits=8)
        >>> for bit in [0, 1, 1, 0, 0, 0, 0, 1] * 20:
        ...     probability = predictor.predict()
        ...     predictor.update(bit)
        >>> probability / 65536 > 0.95
        True
    """

    def __init__(self, settings: Settings, *, length: int, symbol_bits: int) -> None:
        check_integer("length", length, minimum=0)
        check_integer("symbol_bits", symbol_bits, minimum=7, maximum=8)
        for name in settings.selectors:
            check_choice("selectors", name, SELECTORS)
        counters = 4 * len(settings.contexts) * symbol_bits * length
        bits = min(max(counters.bit_length(), _SMALLEST_TABLE), _LARGEST_TABLE)
        self.history = History()
        self.matches = MatchModel(
            settings.match_minimum,
            symbol_bits=symbol_bits,
            table_bits=min(max(length.bit_length() + 2, 8), _MATCH_BITS),
        )
        self._contexts = ContextModel(settings.contexts, table_bits=bits)
        self._selectors = [SELECTORS[name][1] for name in settings.selectors]
        self.mixer = Mixer(
            len(settings.contexts) + 2 + (settings.network is not None),
            [SELECTORS[name][0] for name in settings.selectors],
            weight=settings.initial_weight,
        )
        self._final_mixer = Mixer(len(self._selectors), [256], weight=1 / len(self._selectors))
        self.maps = ProbabilityMaps(3, rate=0.02)
        self._network = None
        if settings.network is not None:
            check_arithmetic()
            self._network = OnlineGRU(1 << symbol_bits, settings.network)
        self._highest_order = sum(name in _ORDERS for name in settings.contexts) - 1
        self._end = 1 << symbol_bits
        self._bits = 0
        self.prefix = 1
        self.symbol_bits = symbol_bits
        self.model_names = [*settings.contexts, "match", "network"][: None if self._network else -1]
        self.log_odds: list[float] = []
        self._begin_byte()

    def predict(self) -> int:
        r"""Return the probability that the next bit is 1, in units of :math:`2^{-16}`."""
        prefix = self.prefix
        inputs = self._contexts.predict(prefix)
        inputs.append(self.matches.predict(prefix))
        if self._network is not None:
            inputs.append(self._by_network(self._network.cumulative))
        self.log_odds = inputs
        outputs = self.mixer.mix([*inputs, _BIAS], [select(self) for select in self._selectors])
        (log_odds,) = self._final_mixer.mix(outputs, [prefix])
        probability = self.maps.refine(log_odds, [base + prefix for base in self._map_bases])
        return min(max(int(probability * (_LARGEST + 1)), 1), _LARGEST)

    def update(self, bit: int) -> None:
        """Learn from the bit that came."""
        self._bits += 1
        self._final_mixer.update(bit, 0.002)
        self.mixer.update(bit, 0.002 + 0.018 / (1.0 + self._bits / 30000.0))
        self.maps.update(bit)
        self._contexts.update(bit)
        self.matches.update(bit)
        self.prefix = self.prefix << 1 | bit
        if self.prefix >= self._end:
            byte = self.prefix - self._end
            self.history.append(byte)
            self.matches.append(byte)
            if self._network is not None:
                self._network.append(byte)
            self._begin_byte()

    def _begin_byte(self) -> None:
        self.prefix = 1
        history = self.history
        self._contexts.begin_byte(history)
        self._map_bases = [
            (history.recent & 0xFF) << 8,
            hashed(history.recent & 0xFFFF, _MAP_BITS) << 8,
            hashed(history.word + 1, _MAP_BITS) << 8,
        ]

    def _by_network(self, cumulative: list[int]) -> float:
        """The log odds of a 1 among the bytes that begin with the known bits."""
        half = self._end >> self.prefix.bit_length()
        start = 2 * half * self.prefix - self._end
        before, middle, after = (cumulative[start + half * part] for part in range(3))
        return stretch(after - middle, after - before)

    @property
    def longest_order(self) -> int:
        """The longest order whose context has been seen with these bits."""
        states = self._contexts.states
        for order in range(self._highest_order, 0, -1):
            if states[order]:
                return order
        return 0


SELECTORS: dict[str, tuple[int, Callable[[Predictor], int]]] = {
    "always the same": (1, lambda model: 0),
    "prefix": (256, lambda model: model.prefix),
    "longest order and match": (
        4 * (_HIGHEST_ORDER + 1),
        lambda model: model.longest_order * 4 + model.matches.trust,
    ),
    "last byte": (256, lambda model: model.history.recent & 0xFF),
    "second byte": (256, lambda model: model.history.recent >> 8 & 0xFF),
    "word length": (
        128,
        lambda model: min(model.history.word_length, 15) * 8 + model.prefix.bit_length() - 1,
    ),
    "expected bit": (3, lambda model: model.matches.expected + 1),
    "kinds of three bytes": (
        512,
        lambda model: (
            (model.history.recent >> 5 & 7) << 6
            | (model.history.recent >> 13 & 7) << 3
            | model.history.recent >> 21 & 7
        ),
    ),
}
"""What may choose the weights of a set: the number of its values, and the present one."""
