"""The steps of the attention exercise, with their reference answers and known mistakes."""

import math

import numpy as np
import torch

from seqbook.layers.attention import scaled_dot_product_attention
from stepgrader.exercises import solutions
from stepgrader.steps import CaseSampler, Step, known_mistakes

distance_bias, biased_attention = solutions(__file__, "distance_bias", "biased_attention")


def _some(sampler: CaseSampler, *shape: int) -> torch.Tensor:
    """A mask whose rows each forbid a key and allow two, or one of two."""
    mask = np.zeros((math.prod(shape[:-1]), shape[-1]), dtype=bool)
    for row in mask:
        allowed = sampler.random.integers(min(2, shape[-1] - 1), shape[-1])
        row[sampler.random.permutation(shape[-1])[:allowed]] = True
    return torch.from_numpy(mask.reshape(shape))


def _with_an_empty_row(mask: torch.Tensor) -> torch.Tensor:
    mask = mask.clone()
    mask.reshape(-1, mask.shape[-1])[-1] = False
    return mask


# -- 1. window_mask


def _as_many(sampler: CaseSampler) -> dict:
    count = 3 + sampler.size
    return {"queries": count, "keys": count, "window": 2}


def _at_the_end(sampler: CaseSampler) -> dict:
    return {"queries": 2 + sampler.size, "keys": 6 + sampler.size, "window": 3}


def _own_alone(sampler: CaseSampler) -> dict:
    return {"queries": 3, "keys": 4 + sampler.size, "window": 1}


def _too_wide(sampler: CaseSampler) -> dict:
    return {"queries": 2 + sampler.size, "keys": 4 + sampler.size, "window": 100}


def _window_reference(queries, keys, window):
    mask = np.zeros((queries, keys), dtype=bool)
    for query in range(queries):
        own = keys - queries + query
        for key in range(max(0, own - window + 1), own + 1):
            mask[query, key] = True
    return mask


def _window_by_triangles(queries, keys, window):
    past = torch.ones(queries, keys).tril(keys - queries)
    return past.triu(keys - queries - window + 1).bool()


def _window_as_lists(queries, keys, window):
    rows = []
    for query in range(queries):
        own = query + keys - queries
        rows.append([own - window < key <= own for key in range(keys)])
        print("query", query, rows[-1])
    return rows


# -- 2. prompt_mask


def _prompts(sampler: CaseSampler) -> dict:
    time = 4 + sampler.size // 2
    lengths = [time, time - 2, 1] + [2] * (sampler.size > 1)
    order = sampler.random.permutation(len(lengths))
    return {"lengths": torch.tensor(lengths)[order], "time": time, "window": 2 + (sampler.size > 1)}


def _prompts_full(sampler: CaseSampler) -> dict:
    time = 3 + sampler.size
    return {"lengths": torch.tensor([time, time]), "time": time, "window": 2}


def _prompts_empty(sampler: CaseSampler) -> dict:
    time = 3 + sampler.size
    lengths = torch.tensor([0, 2, time] if sampler.size else [0, 2])
    return {"lengths": lengths, "time": time, "window": 3}


def _prompts_equal(sampler: CaseSampler) -> dict:
    return {"lengths": torch.tensor([3, 3]), "time": 4 + sampler.size, "window": 2}


def _prompt_reference(lengths, time, window):
    mask = np.zeros((len(lengths), time, time), dtype=bool)
    for number, length in enumerate(lengths.tolist()):
        for query in range(time):
            for key in range(time - length, time):
                mask[number, query, key] = query - window < key <= query
    return mask


def _prompt_one_by_one(lengths, time, window):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    masks = []
    for length in lengths.tolist():
        mask = torch.ones(time, time).tril().triu(1 - window)
        mask[:, : time - length] = 0
        masks.append(mask.bool())
    return torch.stack(masks)


def _prompt_by_positions(lengths, time, window):
    query, key = torch.meshgrid(torch.arange(time), torch.arange(time), indexing="ij")
    start = torch.maximum(query - window + 1, (time - lengths)[:, None, None])
    return (start <= key) & (key <= query)


def _prompt_einsum(lengths, time, window):
    real = (torch.arange(time).flip(0) < lengths[:, None]).double()
    seen = torch.ones(time, time).double().tril()
    seen = seen - torch.ones(time, time).double().tril(-window)
    return torch.einsum("bk,qk->bqk", real, seen) > 0.5


# -- 3. masked_softmax


def _rows(sampler: CaseSampler) -> tuple[int, int]:
    return 2, 3 + sampler.size


def _ordinary(sampler: CaseSampler) -> dict:
    queries, keys = _rows(sampler)
    return {"scores": sampler.normal(queries, keys), "mask": _some(sampler, queries, keys)}


def _broadcast(sampler: CaseSampler) -> dict:
    queries, keys = _rows(sampler)
    return {"scores": sampler.normal(2, queries, keys), "mask": _some(sampler, 2, 1, keys)}


def _empty_row(sampler: CaseSampler) -> dict:
    queries, keys = _rows(sampler)
    return {
        "scores": sampler.normal(queries, keys),
        "mask": _with_an_empty_row(_some(sampler, queries, keys)),
    }


def _million(sampler: CaseSampler) -> dict:
    queries, keys = _rows(sampler)
    steps = torch.from_numpy(sampler.integers(4, queries, keys)).double()
    return {"scores": 1e6 + steps, "mask": _some(sampler, queries, keys)}


def _minus_a_million(sampler: CaseSampler) -> dict:
    inputs = _million(sampler)
    return inputs | {"scores": inputs["scores"] - 2e6}


def _forbidden_million(sampler: CaseSampler) -> dict:
    queries, keys = _rows(sampler)
    mask = _some(sampler, queries, keys)
    scores = sampler.normal(queries, keys).masked_fill(~mask, 1e6)
    return {"scores": scores, "mask": mask}


def _softmax_reference(scores, mask):
    """Row by row, over the allowed keys alone."""
    shape, keys = scores.shape, scores.shape[-1]
    rows = []
    for row, allowed in zip(
        scores.reshape(-1, keys), mask.expand(shape).reshape(-1, keys), strict=True
    ):
        weights = row * 0
        if allowed.any():
            part = torch.exp(row[allowed] - row[allowed].max().detach())
            weights = weights.masked_scatter(allowed, part / part.sum())
        rows.append(weights)
    return torch.stack(rows).reshape(shape)


def _softmax_by_logsumexp(scores, mask):
    kept = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    weights = torch.exp(kept - kept.logsumexp(-1, keepdim=True))
    return torch.where(mask, weights, 0.0)


def _softmax_infinity_replaced(scores, mask):
    return scores.masked_fill(~mask, -math.inf).softmax(-1).nan_to_num(0.0)


def _softmax_in_float32(scores, mask):
    scores = scores.float()
    lowest = scores.masked_fill(~mask, -1e30).amax(-1, keepdim=True).detach()
    exponentials = (scores - lowest).masked_fill(~mask, -1e30).exp() * mask
    total = exponentials.sum(-1, keepdim=True)
    return exponentials / torch.where(total > 0, total, 1.0)


# -- 4. distance_bias


def _slopes(sampler: CaseSampler, heads: int) -> torch.Tensor:
    return torch.from_numpy((1 + sampler.random.permutation(9)[:heads]) / 10)


def _bias_square(sampler: CaseSampler) -> dict:
    heads, time = sampler.lengths(2) if sampler.size else (3, 2)
    return {"queries": time, "keys": time, "slopes": _slopes(sampler, heads)}


def _bias_at_the_end(sampler: CaseSampler) -> dict:
    queries, keys, heads = sorted(sampler.lengths(3))
    return {"queries": queries, "keys": keys, "slopes": _slopes(sampler, heads)}


def _bias_one_head(sampler: CaseSampler) -> dict:
    return {"queries": 1, "keys": 3, "slopes": _slopes(sampler, 1)}


def _bias_reference(queries, keys, slopes):
    distances = [
        [abs(keys - queries + query - key) for key in range(keys)] for query in range(queries)
    ]
    distances = torch.tensor(distances, dtype=slopes.dtype)
    return torch.stack([slope * distances * -1 for slope in slopes])


def _bias_einsum(queries, keys, slopes):
    position = torch.arange(keys).double()
    distance = torch.cdist(position[-queries:, None], position[:, None], p=1)
    return torch.einsum("h,qk->hqk", slopes, -distance)


def _bias_in_a_loop(queries, keys, slopes):
    bias = torch.zeros(len(slopes), queries, keys, dtype=slopes.dtype)
    for head in range(len(slopes)):
        for query in range(queries):
            for key in range(keys):
                distance = abs(keys - queries + query - key)
                bias[head, query, key] = -slopes[head] * distance
    return bias


# -- 5. biased_attention


def _triple(sampler: CaseSampler, *leading: int, queries: int) -> dict:
    d_k, width = sampler.lengths(2)
    keys = 3 + sampler.size // 2
    return {
        "query": sampler.normal(*leading, queries, d_k),
        "key": sampler.normal(*leading, keys, d_k),
        "value": sampler.normal(*leading, keys, width),
    }


def _attention_batch(sampler: CaseSampler) -> dict:
    inputs = _triple(sampler, 2, queries=2)
    queries, keys = 2, inputs["key"].shape[-2]
    return inputs | {
        "mask": _some(sampler, 2, queries, keys),
        "bias": sampler.normal(queries, keys),
    }


def _attention_heads(sampler: CaseSampler) -> dict:
    heads = 3 if sampler.size > 1 else 2
    inputs = _triple(sampler, 1, heads, queries=2)
    keys = inputs["key"].shape[-2]
    return inputs | {"mask": _some(sampler, 1, 1, 2, keys), "bias": sampler.normal(heads, 2, keys)}


def _attention_empty(sampler: CaseSampler) -> dict:
    inputs = _triple(sampler, queries=2)
    keys = inputs["key"].shape[-2]
    return inputs | {
        "mask": _with_an_empty_row(_some(sampler, 2, keys)),
        "bias": sampler.normal(2, keys),
    }


def _attention_reference(query, key, value, mask, bias):
    """The bias as one more component of queries and keys."""
    keys, d_k = key.shape[-2:]
    leading = query.shape[:-2]
    bias = bias.expand(*leading, *bias.shape[-2:])
    ones = torch.eye(keys, dtype=key.dtype).expand(*leading, keys, keys)
    wider = torch.cat([query * d_k**-0.5, bias], -1)
    found = scaled_dot_product_attention(
        wider, torch.cat([key, ones], -1), value, mask=mask, scaled=False
    )
    return found.output, found.weights


def _attention_einsum(query, key, value, mask, bias):
    scores = torch.einsum("...qd,...kd->...qk", query, key)
    scores = scores * query.shape[-1] ** -0.5 + bias
    scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    weights = torch.where(mask, scores.softmax(-1), 0.0)
    return [torch.einsum("...qk,...kw->...qw", weights, value), weights]


def _attention_in_float32(query, key, value, mask, bias):
    query, key, value, bias = (x.float() for x in (query, key, value, bias))
    scores = (query / math.sqrt(key.shape[-1])) @ key.mT + bias
    weights = scores.masked_fill(~mask, -math.inf).softmax(-1).nan_to_num(0.0)
    print(weights)
    return weights @ value, weights


# -- 6. one_head


def _head(sampler: CaseSampler, batch: int, queries: int, keys: int) -> dict:
    d, d_k, width = sampler.lengths(3)
    return {
        "x": sampler.normal(batch, queries, d),
        "memory": sampler.normal(batch, keys, d),
        "w_q": sampler.normal(d, d_k),
        "w_k": sampler.normal(d, d_k),
        "w_v": sampler.normal(d, width),
        "mask": _some(sampler, batch, queries, keys),
        "bias": sampler.normal(queries, keys),
    }


def _head_reference(x, memory, w_q, w_k, w_v, mask, bias):
    return _attention_reference(
        torch.einsum("bqd,de->bqe", x, w_q),
        torch.einsum("bkd,de->bke", memory, w_k),
        torch.einsum("bkd,de->bke", memory, w_v),
        mask,
        bias,
    )


def _head_one_query_at_a_time(x, memory, w_q, w_k, w_v, mask, bias):
    key, value = memory @ w_k, memory @ w_v
    rows = [
        biased_attention(x[:, [i]] @ w_q, key, value, mask[:, [i]], bias[[i]])
        for i in range(x.shape[1])
    ]
    return [torch.cat(part, dim=1) for part in zip(*rows, strict=True)]


def _head_with_one_matrix(x, memory, w_q, w_k, w_v, mask, bias):
    both = w_q @ w_k.T / math.sqrt(w_q.shape[1])
    scores = torch.einsum("bqd,de,bke->bqk", x, both, memory) + bias
    weights = scores.masked_fill(~mask, -math.inf).softmax(-1).nan_to_num(0.0)
    return [(weights @ memory) @ w_v, weights]


# -- 7. multi_head


def _heads(sampler: CaseSampler, batch: int, heads: int, size: int) -> dict:
    queries, keys = 2, 3 + sampler.size // 2
    width = heads * size
    return {
        "x": sampler.normal(batch, queries, width),
        "memory": sampler.normal(batch, keys, width),
        "in_weight": sampler.normal(3 * width, width),
        "in_bias": sampler.normal(3 * width),
        "out_weight": sampler.normal(width, width),
        "out_bias": sampler.normal(width),
        "slopes": _slopes(sampler, heads),
        "mask": _some(sampler, batch, queries, keys),
    }


def _some_heads(sampler: CaseSampler) -> dict:
    heads, size = ((2, 2), (2, 3), (3, 2), (3, 4))[sampler.size]
    return _heads(sampler, 1 if sampler.size < 2 else 2, heads, size)


def _some_heads_in_a_batch(sampler: CaseSampler) -> dict:
    inputs = _heads(sampler, 2, 2, 2 if sampler.size < 2 else 3)
    return inputs | {"mask": _with_an_empty_row(inputs["mask"])}


def _multi_reference(x, memory, in_weight, in_bias, out_weight, out_bias, slopes, mask):
    """The equation, one head after the other."""
    width, heads = x.shape[2], len(slopes)
    size = width // heads
    biases = _bias_reference(x.shape[1], memory.shape[1], slopes)
    output, weights = out_bias, []
    for head in range(heads):
        query, key, value = (
            torch.nn.functional.linear(inputs, in_weight[own], in_bias[own])
            for inputs, own in (
                (inputs, slice(start, start + size))
                for inputs, start in (
                    (x, head * size),
                    (memory, width + head * size),
                    (memory, 2 * width + head * size),
                )
            )
        )
        found, own_weights = _attention_reference(query, key, value, mask, biases[head])
        columns = out_weight[:, head * size : (head + 1) * size]
        output = output + found @ columns.T
        weights.append(own_weights)
    return output, torch.stack(weights, 1)


def _multi_as_a_loop(x, memory, in_weight, in_bias, out_weight, out_bias, slopes, mask):
    biases = distance_bias(x.shape[1], memory.shape[1], slopes)
    projected = [
        torch.nn.functional.linear(inputs, w, b).chunk(len(slopes), dim=-1)
        for inputs, w, b in zip(
            (x, memory, memory), in_weight.chunk(3), in_bias.chunk(3), strict=True
        )
    ]
    found, weights = [], []
    for query, key, value, bias in zip(*projected, biases, strict=True):
        output, row = biased_attention(query, key, value, mask, bias)
        found.append(output)
        weights.append(row)
    output = torch.cat(found, -1) @ out_weight.T + out_bias
    return output, torch.stack(weights, dim=1)


def _multi_einsum(x, memory, in_weight, in_bias, out_weight, out_bias, slopes, mask):
    heads, width = len(slopes), x.shape[-1]
    w = in_weight.reshape(3, heads, -1, width)
    b = in_bias.reshape(3, heads, 1, -1)
    query = torch.einsum("bqd,hsd->bhqs", x, w[0]) + b[0]
    key = torch.einsum("bkd,hsd->bhks", memory, w[1]) + b[1]
    value = torch.einsum("bkd,hsd->bhks", memory, w[2]) + b[2]
    queries, keys = x.shape[1], memory.shape[1]
    back = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)
    scores = torch.einsum("bhqs,bhks->bhqk", query, key)
    scores = scores / math.sqrt(w.shape[2])
    scores = scores - torch.einsum("h,qk->hqk", slopes, back.abs().double())
    allowed = mask.unsqueeze(1)
    scores = torch.where(allowed, scores, torch.finfo(scores.dtype).min)
    weights = torch.where(allowed, scores.softmax(-1), 0.0)
    out = out_weight.reshape(width, heads, -1)
    output = torch.einsum("bhqk,bhks,ohs->bqo", weights, value, out)
    return [output + out_bias, weights]


def _multi_by_torch(x, memory, in_weight, in_bias, out_weight, out_bias, slopes, mask):
    """With torch's layer: bias and mask together are its float mask."""
    _, queries, width = x.shape
    keys, heads = memory.shape[1], len(slopes)
    ends = torch.arange(keys)
    bias = -slopes[:, None, None] * (ends[-queries:, None] - ends).abs()
    own = torch.finfo(x.dtype).min
    full = torch.where(mask[:, None], bias, own).flatten(0, 1)
    empty = ~mask.any(-1)
    rows = torch.where(empty[:, None, :, None], 0.0, 1.0)
    output, weights = torch.nn.functional.multi_head_attention_forward(
        x.transpose(0, 1),
        memory.transpose(0, 1),
        memory.transpose(0, 1),
        width,
        heads,
        in_weight,
        in_bias,
        None,
        None,
        False,
        0.0,
        out_weight,
        out_bias,
        attn_mask=full,
        average_attn_weights=False,
    )
    output = torch.where(empty[..., None], out_bias, output.transpose(0, 1))
    return output, weights * rows


MULTI = ["x", "memory", "in_weight", "in_bias", "out_weight", "out_bias", "slopes"]

STEPS = [
    Step(
        "window_mask",
        reference=_window_reference,
        cases={
            "as many queries as keys": _as_many,
            "queries at the end of more keys": _at_the_end,
            "a window of one": _own_alone,
            "a window wider than all positions": _too_wide,
        },
        mistakes=known_mistakes(
            "You put the first query at the first key. With fewer queries than keys, the last "
            "query must be at the last key.",
            ("keys - queries, keys", "queries"),
            "Your mask is inverted: True means that a query may attend.",
            ("(back >= 0) & (back < window)", "(back < 0) | (back >= window)"),
            "Your window is one position too wide: the query's own position is one of its "
            "positions.",
            ("< window", "<= window"),
            "A query may attend to its own position too; your mask leaves it out.",
            (">= 0", ">= 1"),
            "Your queries see all of the past; the window is missing.",
            (" & (back < window)", ""),
            "Your window reaches into the future: only positions up to the query's own are allowed.",
            ("(back >= 0) & (back < window)", "back.abs() < window"),
            "Your window looks ahead: subtract the key's position from the query's, not the "
            "query's from the key's.",
            ("position - torch.arange(keys)", "torch.arange(keys) - position"),
        ),
        alternatives=[_window_by_triangles, _window_as_lists],
    ),
    Step(
        "prompt_mask",
        reference=_prompt_reference,
        cases={
            "sequences of different lengths": _prompts,
            "no padding": _prompts_full,
            "a sequence that is all padding": _prompts_empty,
            "sequences of one length, all padded": _prompts_equal,
        },
        mistakes=known_mistakes(
            "You assume that the padding is at the end; here it is at the front, and the last "
            "`length` positions are real.",
            (">= time - lengths", "< lengths"),
            "Your queries see the padding instead of the real positions: that part of the mask is "
            "inverted.",
            (">=", "<"),
            "You allow a key if either mask allows it; a key must be in the window and real.",
            ("&", "|"),
            "You mask the queries that are padding instead of the keys: the new axis is in the "
            "wrong place.",
            ("real[:, None]", "real[:, :, None]"),
            "You lose the first real position of each sequence: its number is time - length.",
            (">=", ">"),
            "Padding is masked, but the window of step 1 is missing.",
            (" & window_mask(time, time, window)", ".expand(-1, time, -1)"),
            "You let padding attend to itself. A query in the padding may attend to no key at all.",
            (
                "window_mask(time, time, window)",
                "window_mask(time, time, window) | torch.eye(time, dtype=torch.bool)",
            ),
        ),
        alternatives=[_prompt_one_by_one, _prompt_by_positions, _prompt_einsum],
        depends_on=["window_mask"],
    ),
    Step(
        "masked_softmax",
        reference=_softmax_reference,
        cases={
            "ordinary scores": _ordinary,
            "a mask that is broadcast": _broadcast,
            "a row without any allowed key": _empty_row,
            "scores of a million": _million,
            "scores of minus a million": _minus_a_million,
            "forbidden scores of a million": _forbidden_million,
        },
        mistakes=known_mistakes(
            "Your weights go to the forbidden keys: True means that a query may attend.",
            ("~mask, lowest", "mask, lowest"),
            ("~mask, 0.0", "mask, 0.0"),
            "You remove the forbidden weights after the softmax, so the others no longer sum to "
            "one.",
            (".masked_fill(~mask, lowest)", ""),
            "You set forbidden scores to zero, but a score of zero gets a weight like any other. "
            "A forbidden score must be lower than all others.",
            ("scores.masked_fill(~mask, lowest)", "(scores * mask)"),
            (".masked_fill(~mask, 0.0)", ""),
            "Your columns sum to one. The weights of each query must sum to one over the keys, "
            "the last axis.",
            ("softmax(-1)", "softmax(-2)"),
            "In a row without any allowed key, you give weight to forbidden keys; the row must be "
            "zero.",
            ("torch.finfo(scores.dtype).min", "-1e9"),
            (".masked_fill(~mask, 0.0)", ""),
            "Minus ten thousand is not below every score: where allowed scores are minus a "
            "million, your weights go to forbidden keys.",
            ("torch.finfo(scores.dtype).min", "-1e4"),
            "A row of minus infinity gives NaN. A row without any allowed key must be zero.",
            ("torch.finfo(scores.dtype).min", "-math.inf"),
            (".masked_fill(~mask, 0.0)", ""),
            "The exponential of a million overflows, and in a row of zeros you divide by zero. "
            "Subtract the largest allowed score first, and treat rows without any separately.",
            ("scores.masked_fill(~mask, lowest).softmax(-1)", "scores.exp() * mask"),
            ("weights.masked_fill(~mask, 0.0)", "weights / weights.sum(-1, keepdim=True)"),
            "You subtract the largest score of all. A forbidden score may be far above the "
            "allowed ones, and then their exponentials are all zero.",
            (
                "scores.masked_fill(~mask, lowest).softmax(-1)",
                "(scores - scores.amax(-1, keepdim=True)).exp() * mask",
            ),
            (
                "weights.masked_fill(~mask, 0.0)",
                "weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)",
            ),
            "The weights are right, but a row without any allowed key has a gradient of NaN: "
            "replacing the NaN after the softmax does not keep it out of the backward pass.",
            ("scores.masked_fill(~mask, lowest)", "(scores + mask.double().log())"),
            ("masked_fill(~mask, 0.0)", "nan_to_num(0.0)"),
            "You overwrite the scores that you were given: a method whose name ends in _ works in "
            "place.",
            ("scores.masked_fill", "scores.masked_fill_"),
        ),
        alternatives=[
            _softmax_by_logsumexp,
            _softmax_infinity_replaced,
            _softmax_in_float32,
        ],
        gradients=["scores"],
    ),
    Step(
        "distance_bias",
        reference=_bias_reference,
        cases={
            "as many queries as keys": _bias_square,
            "queries at the end of more keys": _bias_at_the_end,
            "one query and one head": _bias_one_head,
        },
        mistakes=known_mistakes(
            "Your bias grows with the distance; it must fall: the minus sign is missing.",
            ("-slopes", "slopes"),
            "Keys after the query get a positive bias: take the absolute value of the distance.",
            (".abs()", ""),
            "Keys after the query have a distance too; yours is zero. Forbidding them is the job "
            "of the mask.",
            ("abs()", "clamp(min=0)"),
            "You put the first query at the first key; the last query must be at the last key.",
            ("keys - queries, keys", "queries"),
            "Your heads are the last axis; they come first: (heads, queries, keys).",
            ("slopes[:, None, None] * distance", "slopes * distance[..., None]"),
            "The distance of a position to itself is zero; yours is one.",
            ("* distance", "* (distance + 1)"),
        ),
        alternatives=[_bias_einsum, _bias_in_a_loop],
        gradients=["slopes"],
    ),
    Step(
        "biased_attention",
        reference=_attention_reference,
        cases={
            "a small batch": _attention_batch,
            "an axis of heads": _attention_heads,
            "a query that may attend to nothing": _attention_empty,
        },
        mistakes=known_mistakes(
            "The products of queries and keys are not divided by the square root of their width.",
            (" / math.sqrt(query.shape[-1])", ""),
            "You divide by the width of the keys; divide by its square root.",
            ("math.sqrt(query.shape[-1])", "query.shape[-1]"),
            "You take the root of the values' width; take that of the width of queries and keys, "
            "whose products it scales.",
            ("query.shape", "value.shape"),
            "You divide the bias by the root too; add it after the division.",
            ("query @ key.transpose(-2, -1)", "(query @ key.transpose(-2, -1) + bias)"),
            ("scores + bias", "scores"),
            "The bias is missing.",
            (" + bias", ""),
            "Your columns of weights sum to one; the weights of each query must sum to one over "
            "the keys.",
            (
                "masked_softmax(scores + bias, mask)",
                "masked_softmax((scores + bias).mT, mask.mT).mT",
            ),
            "Your mask is inverted: True means that a query may attend to a key.",
            ("masked_softmax(scores + bias, mask)", "masked_softmax(scores + bias, ~mask)"),
            "You mask after the softmax, so the weights that are left do not sum to one. Mask the "
            "scores.",
            ("masked_softmax(scores + bias, mask)", "(scores + bias).softmax(-1) * mask"),
            "A query that may attend to nothing gets NaN: a softmax of nothing but -inf divides "
            "zero by zero. Its weights must be zero.",
            (
                "masked_softmax(scores + bias, mask)",
                "(scores + bias).masked_fill(~mask, -math.inf).softmax(-1)",
            ),
        ),
        alternatives=[_attention_einsum, _attention_in_float32],
        gradients=["query", "key", "value", "bias"],
        depends_on=["masked_softmax"],
    ),
    Step(
        "one_head",
        reference=_head_reference,
        cases={
            "fewer queries than keys": lambda sampler: _head(sampler, 2, 2, 3 + sampler.size),
            "as many queries as keys": lambda sampler: _head(sampler, 1, 3, 3),
        },
        mistakes=known_mistakes(
            "You take the root of d, the width before the projection; take that of the width of "
            "the projected queries and keys.",
            ("x @ w_q", "x @ w_q * math.sqrt(w_q.shape[1] / x.shape[-1])"),
            "Your values are the memory itself; multiply it by w_v.",
            ("memory @ w_v", "memory"),
            "You compute the keys with w_q; they have a matrix of their own, w_k.",
            ("w_k", "w_q"),
            "Your keys and values come from x; they must come from the memory.",
            ("memory @ w_k", "x @ w_k"),
            ("memory @ w_v", "x @ w_v"),
            "Your values come from x; like the keys, they must come from the memory.",
            ("memory @ w_v", "x @ w_v"),
            "Your mask is inverted: True means that a query may attend to a key.",
            ("mask, bias)", "~mask, bias)"),
        ),
        alternatives=[_head_one_query_at_a_time, _head_with_one_matrix],
        gradients=["x", "memory", "w_q", "w_k", "w_v", "bias"],
        depends_on=["masked_softmax", "biased_attention"],
    ),
    Step(
        "multi_head",
        reference=_multi_reference,
        cases={
            "several heads": _some_heads,
            "a batch with a query that may attend to nothing": _some_heads_in_a_batch,
        },
        mistakes=known_mistakes(
            "Your heads take interleaved rows; the rows of a head are next to each other, one "
            "head after the other.",
            ("(heads, -1)).transpose(1, 2)", "(-1, heads)).permute(0, 3, 1, 2)"),
            ("found.transpose(1, 2)", "found.permute(0, 2, 3, 1)"),
            "You divide by the root of the whole width; the queries and keys of a head are only "
            "width / heads wide.",
            ("attention(query,", "attention(query / math.sqrt(heads),"),
            "You reshape the outputs of the heads without first moving the axis of heads next to "
            "the features, so positions and heads are mixed up.",
            ("found.transpose(1, 2).flatten(2)", "found.reshape(x.shape)"),
            "You split into heads with a reshape alone, which mixes up positions and heads: split "
            "the features, then move the axis of heads.",
            (
                "unflatten(-1, (heads, -1)).transpose(1, 2)",
                "reshape(len(x), heads, -1, x.shape[-1] // heads)",
            ),
            "Your weights are the mean over the heads; return those of every head.",
            ("out_bias, weights", "out_bias, weights.mean(1)"),
            "The bias of the projections, in_bias, is missing.",
            (" + b)", ")"),
            "You return the heads side by side; out_weight and out_bias must still mix them.",
            ("found @ out_weight.T + out_bias", "found"),
            "You multiply by out_weight instead of its transpose.",
            ("out_weight.T", "out_weight"),
            "Your mask is inverted: True means that a query may attend to a key.",
            ("mask[:, None]", "~mask[:, None]"),
        ),
        alternatives=[_multi_as_a_loop, _multi_einsum, _multi_by_torch],
        gradients=MULTI,
        depends_on=["distance_bias", "masked_softmax", "biased_attention"],
    ),
]
