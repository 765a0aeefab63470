"""The network of the compressor: its gradients, and the same digits on every machine."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import PATIENCE

from seqbook.compression import online_gru
from seqbook.compression.archive import compress, decompress
from seqbook.compression.online_gru import (
    GRUSettings,
    OnlineGRU,
    check_arithmetic,
    gradients,
    rounded,
)
from seqbook.compression.predictor import SETTINGS, Predictor
from seqbook.data import read_bytes

ALICE = read_bytes("alice29.txt")
SYMBOLS, HIDDEN, BATCH, TIME = 5, 7, 3, 6


@pytest.fixture(scope="module")
def weights():
    generator = np.random.default_rng(0)
    shapes = {
        "embedding": (SYMBOLS, 3 * HIDDEN),
        "recurrent": (HIDDEN, 3 * HIDDEN),
        "output": (HIDDEN, SYMBOLS),
        "bias": (SYMBOLS,),
    }
    return {
        name: rounded(generator.normal(0, 0.7, shape), 14, 8.0) for name, shape in shapes.items()
    }


def test_gradients_are_those_of_torch(weights):
    """Up to the rounding of states to 2^-12 and of the logistic function's argument to 1/256."""
    windows = np.random.default_rng(1).integers(0, SYMBOLS, (BATCH, TIME + 1))
    mask = np.random.default_rng(2).integers(0, 2, (TIME, BATCH, HIDDEN)) / 0.5
    parameters = {name: torch.tensor(value).requires_grad_() for name, value in weights.items()}
    state = torch.zeros(BATCH, HIDDEN, dtype=torch.float64)
    loss = 0.0
    for time in range(TIME):
        inward = parameters["embedding"][windows[:, time]].chunk(3, 1)
        products = (state @ parameters["recurrent"]).chunk(3, 1)
        reset, update = (torch.sigmoid(inward[i] + products[i]) for i in range(2))
        new = torch.tanh(inward[2] + reset * products[2])
        state = (1 - update) * new + update * state
        logits = (state * torch.tensor(mask[time])) @ parameters["output"] + parameters["bias"]
        target = torch.tensor(windows[:, time + 1])
        loss = loss + torch.nn.functional.cross_entropy(logits, target, reduction="sum")
    loss.backward()
    for name, found in gradients(weights, windows, mask).items():
        expected = parameters[name].grad.numpy()
        assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max(), name


def test_products_are_exact():
    """With the largest numbers that rounding lets through, as in 64-bit integers."""
    generator = np.random.default_rng(3)
    cases = [
        ((12, 4.0), (14, 8.0), 512),
        ((18, 64.0), (14, 8.0), 1536),
        ((12, 4.0), (18, 64.0), 2048),
    ]
    for (first, largest), (second, limit), size in cases:
        one = rounded(generator.choice([-largest, largest], (3, size)), first, largest)
        other = rounded(generator.uniform(-limit, limit, (size, 4)), second, limit)
        one[:, ::2] = rounded(generator.uniform(-largest, largest, (3, size // 2)), first, largest)
        exact = [
            [
                sum(
                    int(a * 2**first) * int(b * 2**second) for a, b in zip(row, column, strict=True)
                )
                for column in other.T
            ]
            for row in one
        ]
        assert [
            [int(value * 2 ** (first + second)) for value in row] for row in one @ other
        ] == exact


def test_it_learns_what_it_reads():
    text = ALICE[3000:3100] * 6
    settings = GRUSettings(hidden=32, every=8, windows=4, length=32, dropout=0.1, rate=0.01)
    network = OnlineGRU(128, settings)
    costs = []
    for byte in text:
        sums = network.cumulative
        costs.append(-np.log2((sums[byte + 1] - sums[byte]) / sums[-1]))
        network.append(byte)
    assert costs[0] == pytest.approx(7, abs=1)
    assert np.mean(costs[-100:]) < 0.6 * np.mean(costs[:100])


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("cores", ["Nehalem", "Haswell"])
def test_every_instruction_set_gives_the_same_digits(threads, cores):
    program = "from seqbook.compression.online_gru import check_arithmetic; check_arithmetic()"
    environment = {**os.environ, "OPENBLAS_CORETYPE": cores, "OPENBLAS_NUM_THREADS": threads}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=PATIENCE)


def test_another_arithmetic_is_refused(monkeypatch):
    monkeypatch.setattr(online_gru, "_RECORDED", 1)
    check_arithmetic.cache_clear()
    with pytest.raises(ArithmeticError, match="network: this machine's arithmetic differs"):
        Predictor(SETTINGS["network"], length=10, symbol_bits=7)
    check_arithmetic.cache_clear()


def test_a_file_comes_back_with_a_network():
    text = ALICE[:100]
    assert decompress(compress(text, settings="network")) == text
