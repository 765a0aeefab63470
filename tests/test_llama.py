"""A decoder-only model with the defaults equals Llama of the transformers library.

The reference has random weights; nothing is downloaded. It computes norms, angles and the softmax
in float32 whatever its type, so the comparison is in float32.
"""

import numpy as np
import pytest
import torch
from parity import TOLERANCE, assert_equal

from seqbook.models.decoder_only import DecoderOnlyModel

SIZES = {
    "one head of keys": {"heads": 4, "kv_heads": 1},
    "two": {"heads": 4, "kv_heads": 2},
    "as many as of queries": {"heads": 4, "kv_heads": 4},
}


@pytest.fixture(params=SIZES, scope="module")
def pair(request, tied, bias):
    """A random Llama of theirs, and our model with the same weights."""
    # It takes seconds to import, so other test files do without it.
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = SIZES[request.param]
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=24,
        intermediate_size=20,
        num_hidden_layers=3,
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["kv_heads"],
        max_position_embeddings=32,
        rms_norm_eps=1e-5,
        rope_theta=500.0,
        tie_word_embeddings=tied,
        attention_bias=bias,
        mlp_bias=bias,
        attn_implementation="eager",
    )
    theirs = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.3 * noise + (parameter.dim() == 1))
    ours = DecoderOnlyModel(
        11,
        24,
        layers=3,
        d_ff=20,
        max_length=32,
        rotary_base=500.0,
        tied=tied,
        bias=bias,
        **sizes,
    )
    ours.load_state_dict(as_ours(theirs.state_dict(), tied))
    return ours, theirs


@pytest.fixture(params=[False, True], ids=["untied", "tied"], scope="module")
def tied(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["no bias", "bias"], scope="module")
def bias(request):
    return request.param


def as_ours(tensors, tied):
    """The same tensors under our names; of tied weights we keep one."""
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    if tied:
        del tensors["lm_head.weight"]
    return tensors


def some_ids(time=13):
    return torch.as_tensor(np.random.default_rng(0).integers(0, 11, (2, time)))


def test_logits_loss_and_gradients_are_theirs(pair):
    ours, theirs = pair
    ids = some_ids()
    expected = theirs(input_ids=ids, labels=ids)
    expected.loss.backward()
    loss = ours.loss(ids)
    loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    named = {name.removeprefix("model."): grad for name, grad in gradients.items()}
    assert_equal(
        {"logits": ours(ids), "loss": loss, **{n: p.grad for n, p in ours.named_parameters()}},
        {"logits": expected.logits, "loss": expected.loss, **named},
        tolerance=TOLERANCE,
    )
    assert all(grad.abs().max() > 1e-3 for grad in named.values())  # none is compared as zero


def test_steps_with_a_cache_give_their_logits(pair):
    ours, theirs = pair
    ids = some_ids()
    with torch.no_grad():
        expected = theirs(input_ids=ids).logits
        caches, parts = ours.start(2), []
        for some in ids.split([5, 1, 7], 1):
            logits, caches = ours.step(some, caches)
            parts.append(logits)
    assert_equal({"": torch.cat(parts, 1)}, {"": expected})


def test_the_most_probable_symbols_are_theirs(pair):
    ours, theirs = pair
    prompt = some_ids(4)[:1]
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert ours.generate(prompt[0], 20).tolist() == expected[0, 4:].tolist()


def test_weights_move_both_ways(pair):
    ours, theirs = pair
    tensors = {f"model.{name}": x for name, x in ours.state_dict().items() if "lm_head" not in name}
    head = ours.embed_tokens if ours.lm_head is None else ours.lm_head
    theirs.load_state_dict({**tensors, "lm_head.weight": head.weight})


def test_the_references_pairs_of_features_are_those_of_this_book(pair):
    """With neighbours as pairs, as in the paper, the logits differ."""
    ours, theirs = pair
    ids, features = some_ids(), 6
    order = torch.tensor([*range(0, features, 2), *range(1, features, 2)])
    rows = torch.cat([head * features + order for head in range(4)])
    state = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    other = DecoderOnlyModel(
        11,
        24,
        layers=3,
        heads=ours.layers[0].self_attn.heads,
        kv_heads=ours.layers[0].self_attn.kv_heads,
        d_ff=20,
        max_length=32,
        rotary_base=500.0,
        tied=ours.lm_head is None,
        bias=ours.layers[0].self_attn.q_proj.bias is not None,
    )
    for name in [n for n in state if "q_proj" in n or "k_proj" in n]:
        state[name] = state[name][rows[: len(state[name])]]
    other.load_state_dict(state)
    with torch.no_grad():
        assert (other(ids) - theirs(input_ids=ids).logits).abs().max() > 0.01
