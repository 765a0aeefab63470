from functools import partial

import pytest
import torch

from seqbook.layers.attention import (
    MultiHeadAttention,
    chunked_attention,
    scaled_dot_product_attention,
)
from seqbook.layers.gru import GRU
from seqbook.training.profiling import bytes_for_backward, count_macs, critical_path, peak_bytes


def test_products_are_counted():
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    assert count_macs(lambda: a @ b) == 3 * 4 * 5
    assert count_macs(lambda: a + a) == 0


@pytest.mark.parametrize("implementation", ["fused", "loop", "chunked"])
def test_attention_takes_the_products_of_its_formula(implementation):
    layer = MultiHeadAttention(8, 2, implementation=implementation)
    inputs = torch.ones(3, 10, 8)
    assert count_macs(lambda: layer(inputs)) == 3 * (4 * 10 * 8 * 8 + 2 * 10 * 10 * 8)


def test_the_peak_counts_tensors_that_exist_at_the_same_time():
    a = torch.ones(1000)  # existed before
    assert peak_bytes(lambda: a[::2].view(-1, 5)) == 0
    assert peak_bytes(lambda: a.mul_(1)) == 0
    assert peak_bytes(lambda: a + 1) == 4000
    assert peak_bytes(lambda: (a + 1) + 1) == 8000
    assert peak_bytes(lambda: ((a + 1) + 1) + 1) == 8000
    alive = []
    assert peak_bytes(lambda: alive.extend([a + 1, a + 2, a + 3])) == 12000


def test_the_peak_counts_the_backward_pass():
    a = torch.ones(1000, requires_grad=True)
    assert peak_bytes(lambda: a.exp().sum().backward()) > peak_bytes(lambda: a.exp().sum()) >= 4000


def test_only_textbook_attention_holds_all_scores():
    small, large = [[torch.ones(1, n, 16) for _ in range(3)] for n in (512, 1024)]
    in_chunks = partial(chunked_attention, chunk=64)
    for attention, growth in ((scaled_dot_product_attention, 4), (in_chunks, 2)):
        ratio = peak_bytes(lambda f=attention: f(*large)) / peak_bytes(
            lambda f=attention: f(*small)
        )
        assert growth - 1 < ratio <= growth


def test_a_buffer_saved_twice_is_counted_once():
    a = torch.ones(1000, requires_grad=True)
    assert bytes_for_backward(lambda: a * a) == 4000
    assert bytes_for_backward(lambda: a + 1) == 0
    assert bytes_for_backward(lambda: a.exp()) == 4000  # its own result
    assert bytes_for_backward(lambda: a.exp() * a.sin()) == 4 * 4000 - 4000


def test_a_chain_is_as_long_as_its_longest_path():
    a = torch.ones(3, requires_grad=True)
    assert critical_path(a + 1) == 2  # the leaf, and the sum
    assert critical_path((a + 1) + (a + 1).exp().exp()) == 5
    with pytest.raises(ValueError, match="output: expected a tensor that requires a gradient"):
        critical_path(torch.ones(3) + 1)


def test_the_chain_of_a_recurrent_network_grows_with_the_sequence():
    def chain(layer, time):
        result = layer(torch.ones(1, time, 4))
        return critical_path(result[0] if isinstance(result, tuple) else result)

    attention, recurrent = MultiHeadAttention(4, 2), GRU(4, 4, backward="autograd")
    assert chain(attention, 10) == chain(attention, 300)
    steps = [chain(recurrent, time) for time in (10, 20, 2000)]
    assert steps[1] - steps[0] == (steps[2] - steps[1]) / 198
