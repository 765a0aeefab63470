"""The steps of the exercise on attention in PyTorch, with their reference answers and known mistakes."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from seqbook.layers.attention import (
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from stepgrader.exercises import solutions
from stepgrader.steps import CaseSampler, ModuleCase, Step, known_mistakes

attention_with_entropy, split_heads, merge_heads = solutions(
    __file__, "attention_with_entropy", "split_heads", "merge_heads"
)


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


# -- The plain forms: 1. sdpa and 2. MultiHeadAttention


def _sdpa_case(sampler: CaseSampler, *leading: int, mask=None, causal=False, sizes=None) -> dict:
    d_k, width = sampler.lengths(2)
    queries, keys = sizes or ((3, 3) if causal else (2, 3 + sampler.size // 2))
    return {
        "query": sampler.normal(*leading, queries, d_k),
        "key": sampler.normal(*leading, keys, d_k),
        "value": sampler.normal(*leading, keys, width),
        "mask": mask(keys) if mask else None,
        "causal": causal,
    }


def _sdpa_masked(sampler: CaseSampler) -> dict:
    heads = 2 + sampler.size // 2
    return _sdpa_case(sampler, *(2, heads), mask=lambda keys: _some(sampler, 2, 1, 2, keys))


def _sdpa_causal_and_padded(sampler: CaseSampler) -> dict:
    lengths = torch.tensor([2, 3] + [1] * (sampler.size > 1))
    return _sdpa_case(
        sampler,
        *(len(lengths), 2),
        mask=lambda keys: (torch.arange(keys) < lengths[:, None])[:, None, None],
        causal=True,
    )


def _sdpa_causal_of_more_keys(sampler: CaseSampler) -> dict:
    return _sdpa_case(sampler, 2, causal=True, sizes=(2, 4 + sampler.size // 2))


def _sdpa_causal_of_more_queries(sampler: CaseSampler) -> dict:
    return _sdpa_case(sampler, 2, causal=True, sizes=(4 + sampler.size // 2, 2))


def _sdpa_far_below(sampler: CaseSampler) -> dict:
    """The two lowest scores of each row are allowed, far below the others and far apart."""
    while True:
        inputs = _sdpa_case(sampler)
        inputs["query"] = 1e5 * inputs["query"]
        scores = inputs["query"] @ inputs["key"].T / inputs["key"].shape[1]
        lowest = scores.topk(3, largest=False)
        first, second, third = lowest.values.unbind(-1)
        gap = torch.minimum(second - first, third - second).min()
        if gap > 5000 and second.max() < -20_000:
            mask = torch.zeros(scores.shape, dtype=torch.bool)
            mask.scatter_(1, lowest.indices[:, :2], True)
            return inputs | {"mask": mask}


def _sdpa_reference(query, key, value, mask, causal):
    """The function of torch; with an identity matrix as values, it returns the weights."""
    allowed = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool)
    if causal:
        allowed = torch.arange(key.shape[-2]) <= torch.arange(query.shape[-2])[:, None]
    if mask is not None:
        allowed = allowed.logical_and(mask)
    unit = torch.eye(key.shape[-2], dtype=key.dtype)
    unit = unit.expand(*key.shape[:-2], *unit.shape)
    return tuple(
        nn.functional.scaled_dot_product_attention(query, key, values, attn_mask=allowed)
        for values in (value, unit)
    )


def _sdpa_low_fill(query, key, value, mask=None, causal=False):
    scores = torch.einsum("...qd,...kd->...qk", query, key)
    scores = scores * query.shape[-1] ** -0.5
    if mask is not None:
        scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    if causal:
        positions = torch.arange(scores.shape[-1])
        future = positions > torch.arange(scores.shape[-2])[:, None]
        scores = scores + torch.zeros(future.shape).masked_fill(future, -1e30)
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    weights = powers / powers.sum(-1, keepdim=True)
    return [torch.einsum("...qk,...kw->...qw", weights, value), weights]


def _sdpa_row_by_row(query, key, value, mask, causal):
    scores = (query[..., None, :] * key[..., None, :, :]).sum(-1)
    scores = scores / math.sqrt(key.shape[-1])
    if mask is None:
        mask = torch.ones(1, 1, dtype=torch.bool)
    mask = mask.expand(scores.shape)
    rows = []
    for i in range(scores.shape[-2]):
        seen = mask[..., i, :].clone()
        if causal:
            seen[..., i + 1 :] = False
        row = scores[..., i, :].masked_fill(~seen, -1e9)
        rows.append(nn.functional.softmax(row, dim=-1))
    weights = torch.stack(rows, dim=-2)
    return torch.matmul(weights, value), weights


def _multi_case(sampler: CaseSampler, heads: int, batch: int, mask) -> ModuleCase:
    size = 2
    width, queries, keys = heads * size, 2, 3 + sampler.size // 2
    return ModuleCase(
        inputs={
            "query": sampler.normal(batch, queries, width),
            "key": sampler.normal(batch, keys, width),
            "value": sampler.normal(batch, keys, width),
            "mask": mask(batch, queries, keys),
        },
        options={"width": width, "heads": heads},
        state={
            "in_proj_weight": sampler.normal(3 * width, width),
            "in_proj_bias": sampler.normal(3 * width),
        }
        | _linear(sampler, "out_proj", width, width),
    )


def _multi_masked(sampler: CaseSampler) -> ModuleCase:
    return _multi_case(sampler, 2, 1, lambda *shape: _some(sampler, *shape))


def _multi_padded(sampler: CaseSampler) -> ModuleCase:
    """Of the memories, the first is shorter than the second."""

    def mask(batch, queries, keys):
        lengths = torch.tensor([keys - 1, keys, 1][:batch])
        return padding_mask(lengths, keys).expand(batch, queries, keys)

    return _multi_case(sampler, 3, 2 + sampler.size // 2, mask)


def _multi_causal(sampler: CaseSampler) -> ModuleCase:
    case = _multi_case(sampler, 2, 2, lambda *_: None)
    x = case.inputs["key"]
    mask = causal_mask(x.shape[1]).expand(len(x), -1, -1)
    inputs = {"query": x, "key": x.clone(), "value": x.clone(), "mask": mask}
    return replace(case, inputs=inputs)


class _MultiReference(nn.MultiheadAttention):
    """The layer of torch, in whose mask True means: may not attend."""

    def __init__(self, width, heads):
        super().__init__(width, heads, batch_first=True)

    def forward(self, query, key, value, mask):
        return super().forward(
            query,
            key,
            value,
            attn_mask=(~mask).repeat_interleave(self.num_heads, dim=0),
            average_attn_weights=False,
        )


class _MultiAtOnce(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.rand(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.rand(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, query, key, value, mask):
        query, key, value = (
            nn.functional.linear(x, w, b).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, w, b in zip(
                (query, key, value),
                self.in_proj_weight.chunk(3),
                self.in_proj_bias.chunk(3),
                strict=True,
            )
        )
        scores = query @ key.mT * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~mask[:, None], -1e9).softmax(-1)
        found = (weights @ value).transpose(1, 2).flatten(2)
        return [self.out_proj(found), weights]


class _MultiByEinsum(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.in_proj_weight = nn.Parameter(torch.rand(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.rand(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, query, key, value, mask):
        shape = 3, self.heads, self.size
        weight = self.in_proj_weight.reshape(*shape, -1)
        bias = self.in_proj_bias.reshape(*shape)[:, :, None]
        q, k, v = (
            torch.einsum("btw,hsw->bhts", x, weight[i]) + bias[i]
            for i, x in enumerate((query, key, value))
        )
        scores = torch.einsum("bhqs,bhks->bhqk", q, k) / self.size**0.5
        weights = torch.where(mask.unsqueeze(1), scores, -torch.inf).softmax(3)
        found = torch.einsum("bhqk,bhks->bqhs", weights, v)
        return self.out_proj(found.reshape(query.shape)), weights


# -- 3. torch_masks


def _padded(sampler: CaseSampler) -> dict:
    time = 3 + sampler.size // 2
    lengths = torch.tensor([time - 1, time] + [1] * (sampler.size > 1))
    return {"lengths": lengths, "time": time}


def _nothing_real(sampler: CaseSampler) -> dict:
    return {"lengths": torch.tensor([2, 0]), "time": 3 + sampler.size // 2}


def _equal_lengths(sampler: CaseSampler) -> dict:
    return {"lengths": torch.tensor([2, 2]), "time": 3 + sampler.size // 2}


def _masks_reference(lengths, time):
    allowed = padding_mask(lengths, time)
    causal = causal_mask(time)
    padding = np.logical_not(allowed[:, 0].numpy())
    future = np.logical_not(causal.numpy())
    return padding, future, (allowed & causal)[:, None].numpy()


def _masks_in_a_loop(lengths, time):
    padding, both = [], []
    for length in lengths.tolist():
        print("length", length)
        padding.append([key >= length for key in range(time)])
        both.append(
            [[[key <= query and key < length for key in range(time)] for query in range(time)]]
        )
    future = [[key > query for key in range(time)] for query in range(time)]
    return padding, future, both


def _masks_by_triu(lengths, time):
    positions = torch.arange(time).repeat(len(lengths), 1)
    padding = positions >= lengths.unsqueeze(1)
    future = torch.full((time, time), -math.inf).triu(1) < 0
    either = padding.reshape(-1, 1, 1, time) | future
    return [padding, future, either.logical_not()]


# -- 4. attention_with_entropy


def _triple(sampler: CaseSampler, *leading: int) -> dict:
    d_k, width = sampler.lengths(2)
    keys = 3 + sampler.size // 2
    return {
        "query": sampler.normal(*leading, 2, d_k),
        "key": sampler.normal(*leading, keys, d_k),
        "value": sampler.normal(*leading, keys, width),
    }


def _unmasked(sampler: CaseSampler) -> dict:
    inputs = _triple(sampler)
    allowed = torch.ones(2, inputs["key"].shape[-2], dtype=torch.bool)
    return inputs | {"mask": allowed}


def _masked_heads(sampler: CaseSampler) -> dict:
    inputs = _triple(sampler, 3 if sampler.size > 1 else 2)
    return inputs | {"mask": _some(sampler, 1, 2, inputs["key"].shape[-2])}


def _with_a_lost_query(sampler: CaseSampler) -> dict:
    inputs = _triple(sampler)
    mask = _with_an_empty_row(_some(sampler, 2, inputs["key"].shape[-2]))
    return inputs | {"mask": mask}


def _thousands(sampler: CaseSampler) -> dict:
    """Scores so far apart that all weights but one of a row are zero."""
    while True:
        inputs = _unmasked(sampler)
        inputs["query"] = 1000 * inputs["query"]
        scores = inputs["query"] @ inputs["key"].T
        first, second = scores.topk(2, dim=-1).values.unbind(-1)
        if (first - second).min() > 1500:
            return inputs


def _forbidden_in_the_thousands(sampler: CaseSampler) -> dict:
    """One key has scores so high that next to it the weights of all others are zero."""
    inputs = _triple(sampler)
    keys = inputs["key"].shape[-2]
    forbidden = int(sampler.random.integers(keys))
    inputs["query"][:, 0] = inputs["query"][:, 0].abs() + 0.5
    inputs["key"][forbidden, 0] = 10_000.0
    return inputs | {"mask": (torch.arange(keys) != forbidden).expand(2, keys).clone()}


def _allowed_far_below_zero(sampler: CaseSampler) -> dict:
    """All scores are below -10,000, the highest is forbidden, and those allowed lie far apart."""
    inputs = _triple(sampler)
    keys = inputs["key"].shape[-2]
    order = torch.from_numpy(sampler.random.permutation(keys))
    inputs["query"][:, 0] = 1.0
    inputs["key"][:, 0] = -10_000.0 * (3 + order)
    return inputs | {"mask": (order > 0).expand(2, keys).clone()}


def _entropy_reference(query, key, value, mask):
    """Row by row, over the allowed keys alone."""
    found = scaled_dot_product_attention(query, key, value, mask=mask)
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    keys = scores.shape[-1]
    entropies = []
    for row, allowed in zip(
        scores.reshape(-1, keys), mask.expand(scores.shape).reshape(-1, keys), strict=True
    ):
        part = row[allowed]
        if len(part) == 0:
            entropies.append(0 * row.sum())
            continue
        logs = part - part.logsumexp(0)
        entropies.append((logs.exp() * logs).sum().neg())
    return *found, torch.stack(entropies).reshape(scores.shape[:-1])


def _entropy_in_float32(query, key, value, mask):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    query, key, value = query.float(), key.float(), value.float()
    scores = torch.einsum("...qd,...kd->...qk", query, key)
    scores = (scores / key.shape[-1] ** 0.5).masked_fill(~mask, -1e30)
    weights = torch.where(mask, scores.softmax(-1), 0.0)
    logs = torch.where(weights > 0, weights, 1.0).log()
    entropy = torch.einsum("...k,...k->...", weights, logs).neg()
    return [weights @ value, weights, entropy]


def _entropy_by_logsumexp(query, key, value, mask):
    scores = query * key.shape[-1] ** -0.5 @ key.mT
    kept = scores.masked_fill(~mask, -1e15)
    total = kept.logsumexp(-1, keepdim=True)
    weights = (kept - total).exp() * mask
    mean = (weights * scores).sum(-1)
    entropy = (total[..., 0] - mean) * mask.any(-1)
    return weights @ value, weights, entropy


# -- 5. attention_backward


def _numpy(sampler: CaseSampler, mask) -> dict:
    d_k, width = sampler.lengths(2)
    keys = 3 + sampler.size // 2
    queries = 2 + sampler.size // 2
    return {
        "query": sampler.array(queries, d_k),
        "key": sampler.array(keys, d_k),
        "value": sampler.array(keys, width),
        "mask": mask(queries, keys),
        "gradient": sampler.array(queries, width),
    }


def _backward_all(sampler: CaseSampler) -> dict:
    return _numpy(sampler, lambda *shape: np.ones(shape, dtype=bool))


def _backward_some(sampler: CaseSampler) -> dict:
    return _numpy(sampler, lambda *shape: _some(sampler, *shape).numpy())


def _backward_none(sampler: CaseSampler) -> dict:
    return _numpy(sampler, lambda *shape: _with_an_empty_row(_some(sampler, *shape)).numpy())


def _backward_thousands(sampler: CaseSampler) -> dict:
    """Scores in the thousands, and so different between queries that one scale is not enough."""
    while True:
        inputs = _backward_some(sampler)
        inputs["query"] = 1000 * inputs["query"]
        highest = np.where(inputs["mask"], inputs["query"] @ inputs["key"].T, -np.inf).max(1)
        if np.ptp(highest) > 2000 and highest.max() > 2000:
            return inputs


def _backward_reference(query, key, value, mask, gradient):
    tensors = [torch.from_numpy(x).requires_grad_() for x in (query, key, value)]
    found = scaled_dot_product_attention(*tensors, mask=torch.from_numpy(mask))
    return tuple(
        part.numpy()
        for part in torch.autograd.grad(found.output, tensors, torch.from_numpy(gradient))
    )


def _backward_by_jacobians(query, key, value, mask, gradient):
    """Row by row, with the whole Jacobian of the softmax."""
    scale = query.shape[1] ** -0.5
    d_query = np.zeros_like(query)
    d_key, d_value = np.zeros_like(key), np.zeros_like(value)
    for i in range(len(query)):
        seen = np.flatnonzero(mask[i])
        if len(seen) == 0:
            continue
        scores = key[seen] @ query[i] * scale
        p = np.exp(scores - scores.max())
        p = p / p.sum()
        jacobian = np.diag(p) - np.outer(p, p)
        d_scores = jacobian @ (value[seen] @ gradient[i])
        d_query[i] = scale * d_scores @ key[seen]
        d_key[seen] += scale * np.outer(d_scores, query[i])
        d_value[seen] += np.outer(p, gradient[i])
    return d_query, d_key, d_value


def _backward_by_output(query, key, value, mask, gradient):
    """The mean of dA under A is the product of gradient and output."""
    query, key, value, gradient = (torch.from_numpy(x) for x in (query, key, value, gradient))
    mask = torch.from_numpy(mask)
    scale = 1 / math.sqrt(query.shape[1])
    scores = torch.einsum("qd,kd->qk", query, key) * scale
    weights = scores.masked_fill(~mask, -1e9).softmax(1) * mask
    output = weights @ value
    d_scores = torch.einsum("qw,kw->qk", gradient, value)
    d_scores = (d_scores - (gradient * output).sum(1)[:, None]) * weights
    return [
        scale * (d_scores @ key),
        scale * torch.einsum("qk,qd->kd", d_scores, query),
        torch.einsum("qk,qw->kw", weights, gradient),
    ]


# -- 6. split_heads and 7. merge_heads


def _to_split(sampler: CaseSampler) -> dict:
    time, heads, size = sampler.lengths(3)
    return {"x": sampler.normal(1, time, heads * size), "heads": heads}


def _to_split_batch(sampler: CaseSampler) -> dict:
    heads, size = sampler.lengths(2)
    return {"x": sampler.normal(2, 2, heads * size), "heads": heads}


def _to_split_one(sampler: CaseSampler) -> dict:
    return {"x": sampler.normal(2, 1, 3 + sampler.size), "heads": 1}


def _split_reference(x, heads):
    size = x.shape[2] // heads
    parts = [x[:, :, h * size : (h + 1) * size] for h in range(heads)]
    return torch.stack(parts, dim=1)


def _split_by_chunks(x, heads):
    return torch.stack(x.chunk(heads, dim=-1), dim=1)


def _split_one_by_one(x, heads):
    batch, time, width = x.shape
    size = width // heads
    cut = torch.zeros(batch, heads, time, size, dtype=x.dtype)
    for feature in range(width):
        cut[:, feature // size, :, feature % size] = x[:, :, feature]
    return cut


def _to_merge(sampler: CaseSampler) -> dict:
    heads, time, size = sampler.lengths(3)
    return {"x": sampler.normal(1, heads, time, size)}


def _to_merge_batch(sampler: CaseSampler) -> dict:
    heads, size = sampler.lengths(2)
    return {"x": sampler.normal(2, heads, 2, size)}


def _merge_reference(x):
    return torch.cat(x.unbind(1), dim=2)


def _merge_einsum(x):
    _, heads, _, size = x.shape
    places = torch.eye(heads * size, dtype=x.dtype)
    places = places.reshape(heads, size, heads * size)
    return torch.einsum("bhts,hsw->btw", x, places)


def _merge_one_by_one(x):
    _, heads, _, size = x.shape
    columns = [x[:, h, :, i] for h in range(heads) for i in range(size)]
    return torch.stack(columns, dim=-1)


# -- 8. GroupedAttention


def _linear(sampler: CaseSampler, name: str, rows: int, columns: int) -> dict:
    return {f"{name}.weight": sampler.normal(rows, columns), f"{name}.bias": sampler.normal(rows)}


def _grouped(
    sampler: CaseSampler, heads: int, groups: int, *, queries=2, empty=False, size=2
) -> ModuleCase:
    width, keys = heads * size, 3 + sampler.size // 2
    batch = 1 if sampler.size == 0 else 2
    mask = _some(sampler, batch, queries, keys)
    return ModuleCase(
        inputs={
            "x": sampler.normal(batch, queries, width),
            "memory": sampler.normal(batch, keys, width),
            "mask": _with_an_empty_row(mask) if empty else mask,
        },
        options={"width": width, "heads": heads, "groups": groups},
        state=_linear(sampler, "query_proj", width, width)
        | _linear(sampler, "memory_proj", 2 * groups * size, width)
        | _linear(sampler, "out_proj", width, width),
    )


def _two_groups(sampler: CaseSampler) -> ModuleCase:
    return _grouped(sampler, 4, 2, size=1 if sampler.size < 2 else 2)


def _multi_query(sampler: CaseSampler) -> ModuleCase:
    return _grouped(sampler, 2, 1, empty=True, size=2)


class _GroupedReference(nn.Module):
    """One head after the other, each with its own rows of the weights."""

    def __init__(self, width, heads, groups):
        super().__init__()
        self.width, self.heads, self.groups = width, heads, groups
        size = width // heads
        self.query_proj = nn.Linear(width, width)
        self.memory_proj = nn.Linear(width, 2 * groups * size)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, memory, mask):
        size = self.width // self.heads
        queries = self.query_proj(x)
        output, weights = self.out_proj.bias, []
        for head in range(self.heads):
            group = head * self.groups // self.heads
            own = slice(head * size, (head + 1) * size)
            rows = torch.arange(group * size, (group + 1) * size)
            key, value = (
                torch.einsum("bkd,sd->bks", memory, self.memory_proj.weight[r])
                + self.memory_proj.bias[r]
                for r in (rows, rows + self.groups * size)
            )
            found = scaled_dot_product_attention(queries[..., own], key, value, mask=mask)
            columns = self.out_proj.weight[:, own]
            output = output + found.output @ columns.T
            weights.append(found.weights)
        return output, torch.stack(weights, dim=1)


class _GroupedByAxis(nn.Module):
    """With an axis for the groups and one for the heads of each."""

    def __init__(self, width, heads, groups):
        super().__init__()
        self.heads, self.groups = heads, groups
        self.query_proj = nn.Linear(width, width)
        self.memory_proj = nn.Linear(width, 2 * groups * width // heads)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, memory, mask):
        batch, queries, width = x.shape
        size = width // self.heads
        query = self.query_proj(x).reshape(batch, queries, self.groups, -1, size)
        both = self.memory_proj(memory)
        both = both.reshape(batch, -1, 2, self.groups, size)
        scores = torch.einsum("bqghs,bkgs->bghqk", query, both[:, :, 0])
        scores = scores / size**0.5
        allowed = mask[:, None, None]
        scores = scores.masked_fill(~allowed, -1e30)
        weights = torch.where(allowed, scores.softmax(-1), 0.0)
        found = torch.einsum("bghqk,bkgs->bqghs", weights, both[:, :, 1])
        found = found.reshape(batch, queries, width)
        return [self.out_proj(found), weights.flatten(1, 2)]


class _GroupedInALoop(nn.Module):
    def __init__(self, width, heads, groups):
        super().__init__()
        self.heads, self.groups = heads, groups
        self.query_proj = nn.Linear(width, width)
        self.memory_proj = nn.Linear(width, 2 * groups * (width // heads))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, memory, mask):
        queries = self.query_proj(x).chunk(self.heads, dim=-1)
        parts = self.memory_proj(memory).chunk(2 * self.groups, dim=-1)
        found, weights = [], []
        for head, query in enumerate(queries):
            group = head // (self.heads // self.groups)
            key, value = parts[group], parts[self.groups + group]
            output, row, _ = attention_with_entropy(query, key, value, mask)
            found.append(output)
            weights.append(row)
        print("heads", len(found))
        return self.out_proj(torch.cat(found, -1)), torch.stack(weights, 1)


# -- 9. CachedAttention


def _cached(sampler: CaseSampler, new: int, past: int, heads: int, size: int) -> ModuleCase:
    width = heads * size
    batch = 1 if sampler.size == 0 else 2
    return ModuleCase(
        inputs={
            "x": sampler.normal(batch, new, width),
            "keys": sampler.normal(batch, heads, past, size),
            "values": sampler.normal(batch, heads, past, size),
        },
        options={"width": width, "heads": heads},
        state=_linear(sampler, "in_proj", 3 * width, width)
        | _linear(sampler, "out_proj", width, width),
    )


def _one_new(sampler: CaseSampler) -> ModuleCase:
    return _cached(sampler, 1, 2 + sampler.size, 2, 1 if sampler.size < 2 else 3)


def _several_new(sampler: CaseSampler) -> ModuleCase:
    return _cached(sampler, 2 + sampler.size // 2, 2, 2, 2)


def _nothing_past(sampler: CaseSampler) -> ModuleCase:
    return _cached(sampler, 3, 0, 2, 1 if sampler.size < 2 else 3)


class _CachedReference(nn.Module):
    """The package's layer, over everything with the cache put in its place."""

    def __init__(self, width, heads):
        super().__init__()
        self.width, self.heads = width, heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, keys, values):
        layer = MultiHeadAttention(self.width, self.heads).double()
        del layer.in_proj_weight, layer.in_proj_bias, layer.out_proj
        layer.in_proj_weight = self.in_proj.weight
        layer.in_proj_bias = self.in_proj.bias
        layer.out_proj = self.out_proj
        query, (new_keys, new_values) = layer.project(x)
        keys = torch.cat([keys, new_keys], 2)
        values = torch.cat([values, new_values], 2)
        mask = causal_mask(x.shape[1], keys.shape[2])
        found = scaled_dot_product_attention(query, keys, values, mask=mask)
        found = found.output.transpose(1, 2).flatten(2)
        return self.out_proj(found), keys, values


class _CachedByTorch(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, keys, values):
        query, key, value = split_heads(self.in_proj(x), 3 * self.heads).chunk(3, dim=1)
        keys = torch.cat([keys, key], dim=2)
        values = torch.cat([values, value], dim=2)
        positions = torch.arange(keys.shape[2])
        mask = positions <= positions[-x.shape[1] :, None]
        found = nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return [self.out_proj(merge_heads(found)), keys, values]


class _CachedOneByOne(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.in_proj = nn.Linear(width, width * 3)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, keys, values):
        batch, heads, _, size = keys.shape
        outputs = []
        for position in x.unbind(1):
            query, key, value = (
                part.reshape(batch, heads, 1, size)
                for part in self.in_proj(position).chunk(3, dim=-1)
            )
            keys = torch.cat((keys, key), 2)
            values = torch.cat((values, value), 2)
            scores = torch.einsum("bhqs,bhks->bhqk", query, keys) / size**0.5
            found = torch.einsum("bhqk,bhks->bqhs", scores.softmax(3), values)
            outputs.append(self.out_proj(found.flatten(2)))
        return torch.cat(outputs, 1), keys, values


# -- 10. as_multihead


def _weights_of_groups(sampler: CaseSampler, heads: int, groups: int, size: int = 2) -> dict:
    width = heads * size
    return {
        "query_weight": sampler.normal(width, width),
        "query_bias": sampler.normal(width),
        "memory_weight": sampler.normal(2 * groups * size, width),
        "memory_bias": sampler.normal(2 * groups * size),
        "heads": heads,
        "groups": groups,
    }


def _multihead_groups(sampler: CaseSampler) -> dict:
    return _weights_of_groups(sampler, 4, 2, 1 + sampler.size)


def _multihead_all(sampler: CaseSampler) -> dict:
    heads = 2 + min(sampler.size, 1)
    return _weights_of_groups(sampler, heads, heads, 1 if sampler.size < 2 else 2)


def _multihead_reference(query_weight, query_bias, memory_weight, memory_bias, heads, groups):
    """Row by row: where each comes from."""
    width = len(query_bias)
    size = width // heads
    rows = []
    for kind in range(2):
        for head in range(heads):
            group = kind * groups + head * groups // heads
            rows += range(group * size, (group + 1) * size)
    return (
        torch.cat([query_weight, memory_weight[rows]]),
        torch.cat([query_bias, memory_bias[rows]]),
    )


def _multihead_by_expand(query_weight, query_bias, memory_weight, memory_bias, heads, groups):
    width = query_weight.shape[1]
    shape = (2, groups, heads // groups, width // heads)
    blocks = memory_weight.reshape(2, groups, 1, -1, width)
    biases = memory_bias.reshape(2, groups, 1, -1)
    rows = blocks.expand(*shape, width).reshape(-1, width)
    return [
        torch.cat([query_weight, rows]),
        torch.cat([query_bias, biases.expand(shape).reshape(-1)]),
    ]


def _multihead_by_einsum(query_weight, query_bias, memory_weight, memory_bias, heads, groups):
    """A matrix of zeros and ones says which head is in which group."""
    member = torch.zeros(heads, groups, dtype=memory_weight.dtype)
    for head in range(heads):
        member[head, head // (heads // groups)] = 1
    width = query_weight.shape[1]
    joined = torch.cat([memory_weight, memory_bias[:, None]], dim=1)
    blocks = joined.reshape(2, groups, -1, width + 1)
    rows = torch.einsum("hg,kgsd->khsd", member, blocks).flatten(0, 2)
    return (torch.cat([query_weight, rows[:, :-1]]), torch.cat([query_bias, rows[:, -1]]))


STEPS = [
    Step(
        "sdpa",
        reference=_sdpa_reference,
        cases={
            "no mask": _sdpa_case,
            "a batch of heads under a mask": _sdpa_masked,
            "causal attention": lambda sampler: _sdpa_case(sampler, 2, causal=True),
            "causal attention, fewer queries than keys": _sdpa_causal_of_more_keys,
            "causal attention, more queries than keys": _sdpa_causal_of_more_queries,
            "causal attention of padded sequences": _sdpa_causal_and_padded,
            "scores in the thousands": lambda sampler: _thousands(sampler) | {"causal": False},
            "allowed scores far below the forbidden ones": _sdpa_far_below,
        },
        mistakes=known_mistakes(
            "The scores are not divided by the square root of d_k.",
            (" / math.sqrt(query.shape[-1])", ""),
            "You divide the scores by d_k itself; it should be the square root of d_k.",
            ("math.sqrt(query.shape[-1])", "query.shape[-1]"),
            "You divide by the square root of the width of the values; d_k is the width of "
            "queries and keys.",
            ("math.sqrt(query.shape[-1])", "math.sqrt(value.shape[-1])"),
            "Your softmax runs over the queries. The weights of each query must sum to one, so it "
            "runs over the keys, the last axis.",
            ("softmax(-1)", "softmax(-2)"),
            "Your mask is inverted: here True means that a query may attend to a key.",
            ("allowed & mask", "allowed & ~mask"),
            "You mask after the softmax, so forbidden keys have already taken part in the sum and "
            "the weights that are left do not sum to one. Mask the scores.",
            (
                "scores.masked_fill(~allowed, -math.inf).softmax(-1)",
                "scores.softmax(-1).masked_fill(~allowed, 0.0)",
            ),
            "You mask after the softmax and divide by the sum of what is left. If a forbidden "
            "score is far above the allowed ones, nothing is left, and this is 0 / 0. Mask the "
            "scores.",
            (
                "scores.masked_fill(~allowed, -math.inf).softmax(-1)",
                "scores.softmax(-1) * allowed\n"
                "    weights = weights / weights.sum(-1, keepdim=True)",
            ),
            "You set forbidden scores to zero. The exponential of zero is one, so the key still "
            "gets a weight; the score must be minus infinity.",
            ("masked_fill(~allowed, -math.inf)", "masked_fill(~allowed, 0.0)"),
            "The number that you put in place of forbidden scores is not low enough: allowed "
            "scores can be lower still. Use minus infinity.",
            ("masked_fill(~allowed, -math.inf)", "masked_fill(~allowed, -1e4)"),
            "The exponentials of large scores overflow or vanish. torch.softmax subtracts the "
            "largest score of each row first.",
            (
                "scores.masked_fill(~allowed, -math.inf).softmax(-1)",
                "scores.exp() * allowed\n    weights = weights / weights.sum(-1, keepdim=True)",
            ),
            "Your causal mask allows the future and forbids the past.",
            (".tril()", ".triu()"),
            "You put the last query at the last key. Here both are counted from 0, so query i may "
            "attend to the keys 0 to i, however many keys there are.",
            ("allowed.tril()", "allowed.tril(allowed.shape[1] - allowed.shape[0])"),
            "In causal attention a position may attend to itself; yours may not.",
            (".tril()", ".tril(-1)"),
            "You ignore causal: if it is True, a query may not attend to later keys.",
            ("    if causal:\n        allowed = allowed.tril()\n", ""),
            "You ignore the mask.",
            ("    if mask is not None:\n        allowed = allowed & mask\n", ""),
            "With causal=True you ignore the mask; a key must be allowed by both.",
            ("    if mask is not None", "    elif mask is not None"),
            "You set the scores of the allowed keys to -inf; set those of the forbidden keys.",
            ("~allowed", "allowed"),
        ),
        alternatives=[_sdpa_low_fill, _sdpa_row_by_row],
        gradients=["query", "key", "value"],
    ),
    Step(
        "MultiHeadAttention",
        reference=_MultiReference,
        cases={
            "two heads under a mask": _multi_masked,
            "three heads, padded memories": _multi_padded,
            "causal self-attention": _multi_causal,
        },
        mistakes=known_mistakes(
            "You join the heads with a reshape alone, which mixes up heads and positions. "
            "Concatenate the outputs of the heads along the last axis.",
            ("torch.cat(found, dim=-1)", "torch.stack(found, 1).reshape(query.shape)"),
            "You divide by the square root of the whole width; the queries and keys of one head "
            "are only width / heads wide.",
            ("own in zip", "q, k, v in zip"),
            ("*own", "q / math.sqrt(self.num_heads), k, v"),
            "The scores are not divided by the square root of the width of a head's keys.",
            ("own in zip", "q, k, v in zip"),
            ("*own", "q * math.sqrt(q.shape[-1]), k, v"),
            "Your mask is inverted: here True means that a query may attend to a key.",
            ("*own, mask", "*own, ~mask"),
            "Your softmax runs over the queries. The weights of each query must sum to one, so it "
            "runs over the keys, the last axis.",
            ("own in zip", "q, k, v in zip"),
            (
                "output, row = sdpa(*own, mask, causal=False)",
                "scores = q @ k.mT / math.sqrt(q.shape[-1])\n"
                "            row = scores.masked_fill(~mask, -math.inf).softmax(-2)\n"
                "            output = row @ v",
            ),
            "You mask after the softmax, so the weights that are left do not sum to one. Mask the "
            "scores.",
            ("own in zip", "q, k, v in zip"),
            (
                "output, row = sdpa(*own, mask, causal=False)",
                "row = sdpa(q, k, v, None, causal=False)[1] * mask\n            output = row @ v",
            ),
            "Your heads take interleaved features; the features of a head are next to each other, "
            "those of the first head first.",
            ("x.chunk(self.num_heads, dim=-1)", "x.unflatten(-1, (-1, self.num_heads)).unbind(-1)"),
            "out_proj is missing: it mixes the outputs of the heads.",
            ("self.out_proj(torch.cat(found, dim=-1))", "torch.cat(found, dim=-1)"),
            "You compute the keys from value; compute them from key.",
            ("key = key @", "key = value @"),
            "You compute the values from key; compute them from value.",
            (
                "        key = key @",
                "        value = key @ weights[2].T + biases[2]\n        key = key @",
            ),
            ("        value = value @ weights[2].T + biases[2]\n", ""),
            "You take the rows of in_proj_weight in the wrong order: those of the queries come "
            "first, then those of the keys, then those of the values.",
            ("self.in_proj_weight.chunk(3)", "self.in_proj_weight.chunk(3)[::-1]"),
            ("self.in_proj_bias.chunk(3)", "self.in_proj_bias.chunk(3)[::-1]"),
            "The bias of the queries is missing.",
            (" + biases[0]", ""),
            "Your weights are the mean over the heads, which is what torch's layer returns by "
            "default; return those of every head.",
            ("torch.stack(rows, 1)", "torch.stack(rows, 1).mean(1)"),
        ),
        alternatives=[_MultiAtOnce, _MultiByEinsum],
        gradients=["query", "key", "value"],
        depends_on=["sdpa"],
    ),
    Step(
        "torch_masks",
        reference=_masks_reference,
        cases={
            "sequences of different lengths": _padded,
            "a sequence that is all padding": _nothing_real,
            "sequences of one length, all padded": _equal_lengths,
        },
        mistakes=known_mistakes(
            "Your first mask is True at real keys. For key_padding_mask, nn.MultiheadAttention "
            "has the opposite convention: True = padding, may not be attended to.",
            ("~real", "real"),
            "Your second mask is True in the past. For attn_mask, nn.MultiheadAttention has the "
            "opposite convention: True = may not attend.",
            ("~past", "past"),
            "In all three of your masks True means may attend. In the first two, which are for "
            "nn.MultiheadAttention, True must mean may not.",
            ("~real, ~past", "real, past"),
            "In all three of your masks True means may not. In the third, which is for "
            "scaled_dot_product_attention, True must mean may attend.",
            ("real[:, None, None] & past", "~(real[:, None, None] & past)"),
            "A position may attend to itself; in your masks it may not.",
            ("tril()", "tril(-1)"),
            "Your third mask is only causal; it must forbid padding as well.",
            ("real[:, None, None] & past", "past.expand(len(lengths), 1, time, time)"),
            "Your third mask also clears the rows of queries in the padding; the task forbids "
            "keys only.",
            ("real[:, None, None] & past", "real[:, None, :, None] & real[:, None, None] & past"),
        ),
        alternatives=[_masks_in_a_loop, _masks_by_triu],
    ),
    Step(
        "attention_with_entropy",
        reference=_entropy_reference,
        cases={
            "heads under a mask": _masked_heads,
            "a query that may attend to nothing": _with_a_lost_query,
            "scores in the thousands": _thousands,
            "a forbidden key with a score in the thousands": _forbidden_in_the_thousands,
            "scores in the thousands below zero, under a mask": _allowed_far_below_zero,
        },
        mistakes=known_mistakes(
            "Your entropy is in bits; the task asks for nats, the natural logarithm.",
            ("sum(-1)", "sum(-1) / math.log(2)"),
            "Your entropy is negative: the minus in front of the sum is missing.",
            ("-(weights", "(weights"),
            "A query that may attend to nothing has entropy zero; yours has the entropy of equal "
            "weights on all keys.",
            ("torch.finfo(scores.dtype).min", "-1e9"),
            ("    logs = logs.masked_fill(~mask, 0.0)\n", ""),
            ("weights * logs", "logs.exp() * logs"),
            "A query that may attend to nothing gives weight to forbidden keys; its weights, "
            "output and entropy must be zero.",
            ("torch.finfo(scores.dtype).min", "-1e9"),
            ("exp().masked_fill(~mask, 0.0)\n    logs = logs.masked_fill(~mask, 0.0)\n", "exp()\n"),
            "In floating point, zero times the logarithm of zero is NaN; here 0 ln 0 = 0.",
            ("weights * logs", "weights * weights.log()"),
            "The values are right, but the gradient is NaN where an allowed weight is zero, "
            "because the derivative of w ln w is infinite there. Compute the logarithms of the "
            "weights from the scores instead.",
            ("-(weights * logs)", "torch.special.entr(weights)"),
            "The values are right, but the gradients are NaN: zero times minus infinity is NaN, "
            "and replacing it afterwards does not repair the gradient. Avoid the infinity.",
            ("torch.finfo(scores.dtype).min", "-math.inf"),
            (
                "masked_fill(~mask, 0.0)\n    logs = logs.masked_fill(~mask, 0.0)\n",
                "nan_to_num(0.0)\n",
            ),
            ("(weights * logs)", "(weights * logs).nan_to_num(0.0)"),
            "The scores are not divided by the square root of the width of the keys.",
            (" / math.sqrt(query.shape[-1])", ""),
            "A forbidden key with a high score makes the weights of the allowed keys zero. Mask "
            "before the softmax, and if you subtract a maximum, take it over the allowed keys.",
            (
                "logs = scores.masked_fill(~mask, lowest).log_softmax(-1)",
                "weights = scores.softmax(-1).masked_fill(~mask, 0.0)",
            ),
            (
                "weights = logs.exp().masked_fill(~mask, 0.0)\n    logs = logs.masked_fill(~mask, 0.0)",
                "weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)\n"
                "    logs = weights.clamp(min=1e-300).log()",
            ),
            "You replace forbidden scores by a number that allowed ones can be below. Use the "
            "lowest number of the type.",
            ("torch.finfo(scores.dtype).min", "-1e4"),
        ),
        alternatives=[_entropy_in_float32, _entropy_by_logsumexp],
        gradients=["query", "key", "value"],
    ),
    Step(
        "attention_backward",
        reference=_backward_reference,
        cases={
            "every key allowed": _backward_all,
            "some keys forbidden": _backward_some,
            "a query that may attend to nothing": _backward_none,
            "scores in the thousands": _backward_thousands,
        },
        mistakes=known_mistakes(
            "The sum in the softmax's derivative is missing: a score changes all weights of its row.",
            ("(d_weights - mean)", "d_weights"),
            "You differentiate each weight as if it were a logistic function, A (1 - A). A score "
            "changes the other weights of its row too.",
            ("(d_weights - mean)", "(1 - weights) * d_weights"),
            "You multiply only the first term by the weight; A multiplies the whole bracket.",
            ("weights * (d_weights - mean)", "(weights * d_weights - mean)"),
            "You divide by the root in the forward pass, but not in the backward pass: the "
            "gradients of queries and keys need it once.",
            ("mean) * scale", "mean)"),
            "You divide the gradient of the keys by the root twice: multiply by the queries as "
            "they were given.",
            ("d_scores.T @ query", "d_scores.T @ query * scale"),
            "A query that may attend to nothing has weights of zero; yours gives weight to "
            "forbidden keys, and gradients come from it.",
            ("-1e300", "-1e9"),
            (" * mask", ""),
            "For a query that may attend to nothing you compute 0 / 0; its weights and gradients "
            "must be zero.",
            ("np.where(total > 0, total, 1)", "total"),
            "The exponential of a score in the thousands is infinite: subtract the largest score "
            "of each row first.",
            (" - scores.max(axis=1, keepdims=True)", ""),
            "You subtract the largest of all scores, so that rows far below it lose their "
            "weights. Subtract the largest of each row.",
            ("max(axis=1, keepdims=True)", "max()"),
        ),
        alternatives=[_backward_by_jacobians, _backward_by_output],
    ),
    Step(
        "split_heads",
        reference=_split_reference,
        cases={
            "one sequence": _to_split,
            "a batch": _to_split_batch,
            "one head and one position": _to_split_one,
        },
        mistakes=known_mistakes(
            "A reshape alone mixes up positions and heads: split the features, then move the axis "
            "of heads.",
            (
                "x.unflatten(-1, (heads, -1)).transpose(1, 2)",
                "x.reshape(len(x), heads, x.shape[1], -1)",
            ),
            "Your heads take interleaved features; the features of a head are next to each other.",
            ("(heads, -1)).transpose(1, 2)", "(-1, heads)).permute(0, 3, 1, 2)"),
            "The axis of heads still comes after that of time.",
            (".transpose(1, 2)", ""),
            "You moved the axis of heads to the front; it comes second, after the batch.",
            ("transpose(1, 2)", "permute(2, 0, 1, 3)"),
        ),
        alternatives=[_split_by_chunks, _split_one_by_one],
        gradients=["x"],
    ),
    Step(
        "merge_heads",
        reference=_merge_reference,
        cases={
            "one sequence": _to_merge,
            "a batch": _to_merge_batch,
            "one head": lambda sampler: {"x": sampler.normal(2, 1, 2, 3 + sampler.size)},
        },
        mistakes=known_mistakes(
            "A reshape alone mixes up positions and heads: move the axis of heads next to the "
            "features first.",
            ("x.transpose(1, 2).flatten(2)", "x.reshape(len(x), x.shape[2], -1)"),
            "Your features alternate between the heads; all features of the first head come first.",
            ("transpose(1, 2)", "permute(0, 2, 3, 1)"),
            "You take the mean of the heads; put them side by side.",
            ("transpose(1, 2).flatten(2)", "mean(1)"),
            "Your result is (batch, heads * size, time); positions come before features.",
            ("transpose(1, 2).flatten(2)", "transpose(2, 3).flatten(1, 2)"),
        ),
        alternatives=[_merge_einsum, _merge_one_by_one],
        gradients=["x"],
    ),
    Step(
        "GroupedAttention",
        reference=_GroupedReference,
        cases={
            "four heads in two groups": _two_groups,
            "one group, and a query that may attend to nothing": _multi_query,
            "as many groups as heads": lambda sampler: _grouped(sampler, 2, 2, queries=1, size=2),
        },
        mistakes=known_mistakes(
            "Your heads alternate between the groups, 0 1 0 1; the heads of a group are next to "
            "each other, 0 0 1 1.",
            (
                (
                    "repeat_interleave(\n"
                    "                self.heads // self.groups, dim=1\n"
                    "            )"
                ),
                "repeat(1, self.heads // self.groups, 1, 1)",
            ),
            "You divide by the root of the whole width; the queries and keys of a head are only "
            "width / heads wide.",
            ("query, key, value, mask", "query / math.sqrt(self.heads), key, value, mask"),
            "Keys and values are swapped: memory_proj makes the keys first.",
            ("key, value = (", "value, key = ("),
            "Your weights are the mean over the heads; return those of every head.",
            (")), weights", ")), weights.mean(1)"),
            "You return the outputs of the heads; apply out_proj to them.",
            ("self.out_proj(merge_heads(found))", "merge_heads(found)"),
            "Your mask is inverted: True means that a query may attend to a key.",
            ("mask[:, None]", "~mask[:, None]"),
            "In a batch, the first axis of your mask is taken for that of the heads. Insert an "
            "axis for the heads after that of the batch.",
            ("mask[:, None]", "mask"),
            "All sequences of your batch share the mask of the first.",
            ("mask[:, None]", "mask[0]"),
        ),
        alternatives=[_GroupedByAxis, _GroupedInALoop],
        gradients=["x", "memory"],
        depends_on=["attention_with_entropy", "split_heads", "merge_heads"],
    ),
    Step(
        "CachedAttention",
        reference=_CachedReference,
        cases={
            "one new position": _one_new,
            "several new positions": _several_new,
            "an empty cache": _nothing_past,
        },
        mistakes=known_mistakes(
            "Your new positions attend to later ones; each may attend only to the new positions "
            "up to itself.",
            (".tril(past)", ""),
            "Your mask treats the first new position as the first of all; it comes after the "
            "whole past.",
            ("tril(past)", "tril()"),
            "A new position may attend to itself; yours attends only to those before it.",
            ("tril(past)", "tril(past - 1)"),
            "Your queries attend to the new positions only; they must attend to the cache too.",
            ("found, _, _ =", "mask[:, :past] = False\n        found, _, _ ="),
            "You put the new keys and values before the old ones; append them at the end.",
            ("[keys, key]", "[key, keys]"),
            ("[values, value]", "[value, values]"),
            "You divide by the root of the whole width; the queries and keys of a head are only "
            "width / heads wide.",
            ("query, keys, values, mask", "query / math.sqrt(self.heads), keys, values, mask"),
            "Your mask is inverted: True means that a query may attend to a key.",
            ("keys, values, mask)", "keys, values, ~mask)"),
        ),
        alternatives=[_CachedByTorch, _CachedOneByOne],
        gradients=["x", "keys", "values"],
        depends_on=["attention_with_entropy", "split_heads", "merge_heads"],
    ),
    Step(
        "as_multihead",
        reference=_multihead_reference,
        cases={
            "four heads in two groups": _multihead_groups,
            "one group": lambda sampler: _weights_of_groups(sampler, 2 + sampler.size // 2, 1),
            "as many groups as heads": _multihead_all,
        },
        mistakes=known_mistakes(
            "Your heads alternate between the groups, 0 1 0 1; the heads of a group are next to "
            "each other, 0 0 1 1.",
            ("2 * groups", "2"),
            "You repeat each row on its own, so a head gets the same row several times. Repeat "
            "the rows of a group as one block.",
            ("(2 * groups, -1)", "(-1, 1)"),
            "You repeat keys and values together; the keys of all heads come first, then the values of all heads.",
            ("2 * groups", "1"),
            "Your values come before your keys; the keys come first.",
            ("(2 * groups, -1))", "(2 * groups, -1)).roll(groups, 0)"),
            "The weight is right, but the biases of keys and values must be repeated like its rows.",
            ("of_every_head(memory_bias)", "memory_bias"),
        ),
        alternatives=[_multihead_by_expand, _multihead_by_einsum],
        gradients=["memory_weight", "memory_bias"],
    ),
]
