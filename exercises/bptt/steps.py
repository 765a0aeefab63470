"""The steps of the exercise on the gradient of a leaky network, with their reference answers and known mistakes."""

import math

import numpy as np
import torch

from stepgrader.steps import CaseSampler, Step, known_mistakes


def _rates(sampler: CaseSampler, hidden: int) -> torch.Tensor:
    """Rates with one decimal, all different while there are enough, and none of them 0.5."""
    choices = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
    return torch.from_numpy(sampler.random.choice(choices, size=hidden, replace=False))


def _squashed(sampler: CaseSampler, *shape: int) -> torch.Tensor:
    """Numbers as tanh gives them, with one decimal, none of which is 0, 1 or -1."""
    sizes = sampler.random.integers(1, 10, size=shape) / 10
    return torch.from_numpy(sizes * sampler.random.choice([-1, 1], size=shape))


# -- 1. leaky_jacobians


def _candidates(sampler: CaseSampler, time: int, hidden: int) -> dict:
    return {
        "candidates": _squashed(sampler, time, hidden),
        "weight_hh": sampler.normal(hidden, hidden),
        "rate": _rates(sampler, hidden),
    }


def _small_run(sampler: CaseSampler) -> dict:
    time, hidden = sampler.random.permutation([2, 3]).tolist()
    more = sampler.size // 2
    return _candidates(sampler, time + more, hidden + more)


def _small_run_without_leak(sampler: CaseSampler) -> dict:
    made = _small_run(sampler)
    return made | {"rate": torch.ones_like(made["rate"])}


def _jacobians_reference(candidates, weight_hh, rate):
    """By autograd, for a state at which the candidate has its value."""

    def one_step(hidden, total):
        sums = total + weight_hh @ hidden
        return (1 - rate) * hidden + rate * torch.tanh(sums)

    zero = torch.zeros_like(rate)
    return torch.stack(
        [
            torch.autograd.functional.jacobian(lambda h, total=total: one_step(h, total), zero)
            for total in torch.atanh(candidates)
        ]
    )


def _jacobians_of_diagonals(candidates, weight_hh, rate):
    slopes = torch.diag_embed(1 - candidates.square())
    return torch.diag(rate) @ slopes @ weight_hh + torch.diag(1 - rate)


def _jacobians_number_by_number(candidates, weight_hh, rate):
    n, w, alpha = candidates.numpy(), weight_hh.numpy(), rate.numpy()
    result = np.zeros((*n.shape, n.shape[1]))
    for t in range(n.shape[0]):
        print("step", t)
        for k in range(n.shape[1]):
            result[t, k] = alpha[k] * (1 - n[t, k] ** 2) * w[k]
            result[t, k, k] += 1 - alpha[k]
    return result


# -- 2. over_lag


def _some_jacobians(sampler: CaseSampler) -> dict:
    hidden, time = 2 + (sampler.size + 1) // 2, 3 + (sampler.size + 1) // 2
    return {
        "jacobians": sampler.normal(time, hidden, hidden),
        "lag": int(sampler.random.integers(2, time)),
    }


def _whole_lag(sampler: CaseSampler) -> dict:
    made = _some_jacobians(sampler)
    return made | {"lag": len(made["jacobians"])}


def _over_lag_reference(jacobians, lag):
    product = np.eye(jacobians.shape[1])
    for jacobian in jacobians.numpy()[len(jacobians) - lag :]:
        product = jacobian @ product
    return product


def _over_lag_multi_dot(jacobians, lag):
    identity = torch.eye(jacobians.shape[-1]).to(jacobians)
    factors = [identity, identity, *jacobians[len(jacobians) - lag :].flip(0)]
    return torch.linalg.multi_dot(factors)


def _over_lag_by_recursion(jacobians, lag):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)

    def product(last, count):
        if count == 0:
            return np.identity(jacobians.shape[1])
        return jacobians[last].numpy() @ product(last - 1, count - 1)

    return product(len(jacobians) - 1, lag).tolist()


# -- 3. recurrent_terms


def _consistent_run(sampler: CaseSampler, time: int, hidden: int) -> dict:
    """States that follow from an initial one and the candidates."""
    made = _candidates(sampler, time, hidden)
    states = [sampler.normal(hidden)]
    for candidate in made["candidates"]:
        states.append((1 - made["rate"]) * states[-1] + made["rate"] * candidate)
    return {"hidden": torch.stack(states).round(decimals=6), **made}


def _several_terms(sampler: CaseSampler) -> dict:
    """The smallest has one unit, as the three steps by hand of the chapter."""
    if sampler.size == 0:
        return _consistent_run(sampler, 3, 1)
    time, hidden = sampler.random.permutation([3, 2]).tolist()
    more = sampler.size // 2
    return _consistent_run(sampler, time + 1 + more, hidden + more)


def _terms_reference(hidden, candidates, weight_hh, rate):
    """By autograd, with a copy of the weights for each step."""
    fixed = torch.atanh(candidates) - hidden[:-1] @ weight_hh.T  # all but the recurrent part

    def last_state(copies):
        state = hidden[0]
        for part, weights in zip(fixed, copies, strict=True):
            state = (1 - rate) * state + rate * torch.tanh(part + weights @ state)
        return state

    copies = weight_hh.expand(len(candidates), *weight_hh.shape).clone()
    return torch.autograd.functional.jacobian(last_state, copies).transpose(0, 1)


def _terms_forwards(hidden, candidates, weight_hh, rate):
    """Each term is made at its step and then carried forwards by every later Jacobian."""
    terms = []
    for n, before in zip(candidates, hidden, strict=False):
        slope = rate * (1 - n**2)
        jacobian = torch.diag(1 - rate) + slope[:, None] * weight_hh
        terms = [torch.einsum("kl,lab->kab", jacobian, term) for term in terms]
        terms.append(torch.diag(slope)[:, :, None] * before)
    return terms


def _terms_in_float32(hidden, candidates, weight_hh, rate):
    h, n, w, alpha = (
        part.numpy().astype("float32") for part in (hidden, candidates, weight_hh, rate)
    )
    time, size = n.shape
    slopes = alpha * (1 - n * n)
    result = np.zeros((time, size, size, size), dtype="float32")
    for i in range(time):
        product = np.eye(size, dtype="float32")
        for j in range(i + 1, time):
            product = (np.diag(1 - alpha) + slopes[j][:, None] * w) @ product
        for k in range(size):
            for a in range(size):
                result[i, k, a] = product[k, a] * slopes[i, a] * h[i]
    return result


# -- 4. carry_back


def _carried(sampler: CaseSampler, batch: int, time: int, hidden: int) -> dict:
    return {
        "arriving": sampler.normal(batch, time, hidden),
        "candidates": _squashed(sampler, batch, time, hidden),
        "weight_hh": sampler.normal(hidden, hidden),
        "rate": _rates(sampler, hidden),
    }


def _small_batch(sampler: CaseSampler) -> dict:
    batch, hidden = sampler.random.permutation([2, 3]).tolist() if sampler.size else (2, 2)
    more = sampler.size // 2
    return _carried(sampler, batch + more, 3 + more, hidden + more)


def _at_the_end_only(sampler: CaseSampler) -> dict:
    made = _small_batch(sampler)
    made["arriving"][:, :-1] = 0
    return made


def _carried_one_step(sampler: CaseSampler) -> dict:
    made = _small_batch(sampler)
    return made | {name: made[name][:, :1] for name in ("arriving", "candidates")}


def _carry_reference(arriving, candidates, weight_hh, rate):
    """By autograd, of the states' product with what arrives, by small changes of everything."""
    sums = torch.atanh(candidates)
    change = torch.zeros_like(arriving).requires_grad_()
    initial = torch.zeros_like(arriving[:, 0]).requires_grad_()
    state, before, loss = initial, torch.zeros_like(initial), 0.0
    for t in range(arriving.shape[1]):
        new = torch.tanh(sums[:, t] + change[:, t] + (state - before) @ weight_hh.T)
        state = (1 - rate) * state + rate * new
        before = state.detach()
        loss = loss + (state * arriving[:, t]).sum()
    return torch.autograd.grad(loss, [change, initial])


def _carry_in_vectors(arriving, candidates, weight_hh, rate):
    all_deltas, all_first = [], []
    for g, n in zip(arriving, candidates, strict=True):
        total, deltas = torch.zeros_like(rate), []
        delta = torch.zeros_like(rate)
        for t in range(len(g) - 1, -1, -1):
            total = g[t] + (1 - rate) * total + weight_hh.T @ delta
            delta = rate * total * (1 - n[t] * n[t])
            deltas.insert(0, delta)
        all_deltas.append(torch.stack(deltas))
        all_first.append(total - rate * total + weight_hh.T @ delta)
    return [torch.stack(all_deltas), torch.stack(all_first)]


def _carry_by_jacobians(arriving, candidates, weight_hh, rate):
    """The gradient at each state as an explicit sum over all later steps."""
    g, n, w, alpha = (part.float() for part in (arriving, candidates, weight_hh, rate))
    slopes = alpha * (1 - n**2)
    jacobians = torch.diag(1 - alpha) + slopes[..., None] * w
    time = g.shape[1]
    totals = []
    for first in range(-1, time):
        total = g[:, first] if first >= 0 else torch.zeros_like(g[:, 0])
        product = torch.eye(len(alpha)).expand(len(g), -1, -1)
        for t in range(first + 1, time):
            product = jacobians[:, t] @ product
            total = total + torch.einsum("bk,bkl->bl", g[:, t], product)
        totals.append(total)
    return slopes * torch.stack(totals[1:], 1), totals[0]


# -- 5. weight_gradients


def _for_weights(sampler: CaseSampler, batch: int, time: int, features: int, hidden: int) -> dict:
    return {
        "deltas": sampler.normal(batch, time, hidden),
        "inputs": sampler.normal(batch, time, features),
        "hidden": _squashed(sampler, batch, time + 1, hidden),
    }


def _weights_batch(sampler: CaseSampler) -> dict:
    return _for_weights(sampler, *(sampler.lengths(4) if sampler.size else (2, 2, 3, 2)))


def _weights_one(sampler: CaseSampler) -> dict:
    return _for_weights(sampler, 1, 1, *sampler.lengths(2))


def _weights_reference(deltas, inputs, hidden):
    """By autograd: of the product of the deltas with the pre-activations."""
    size = deltas.shape[2]
    parameters = [
        torch.zeros(shape, dtype=deltas.dtype, requires_grad=True)
        for shape in ((size, inputs.shape[2]), (size, size), (size,))
    ]
    weight_ih, weight_hh, bias = parameters
    total = sum(
        (deltas[:, t] * (inputs[:, t] @ weight_ih.T + hidden[:, t] @ weight_hh.T + bias)).sum()
        for t in range(deltas.shape[1])
    )
    return torch.autograd.grad(total, parameters)


def _weights_products(deltas, inputs, hidden):
    rows = deltas.reshape(-1, deltas.shape[2])
    before = hidden[:, :-1].reshape(len(rows), -1)
    return [rows.T @ inputs.reshape(len(rows), -1), rows.T @ before, rows.sum(0)]


def _weights_outer(deltas, inputs, hidden):
    size = deltas.shape[2]
    grad_ih, grad_hh = (torch.zeros(size, inputs.shape[2]), torch.zeros(size, size))
    grad_b = torch.zeros(size)
    for row in range(deltas.shape[0]):
        for t in range(deltas.shape[1]):
            delta = deltas[row, t].float()
            grad_ih += torch.outer(delta, inputs[row, t].float())
            grad_hh += torch.outer(delta, hidden[row, t].float())
            grad_b += delta
    return grad_ih, grad_hh, grad_b


# -- 6. truncated_gradient


def _to_truncate(sampler: CaseSampler, time: int, window: int) -> dict:
    batch, features, hidden = sampler.random.permutation([2, 3, 4]).tolist()
    if sampler.size == 0:
        batch, features, hidden = 1, 1, 2
    return {
        "inputs": sampler.normal(batch, time, features),
        "targets": sampler.normal(batch, time, hidden),
        "initial": sampler.normal(batch, hidden),
        "weight_ih": sampler.normal(hidden, features),
        "weight_hh": sampler.normal(hidden, hidden),
        "bias": sampler.normal(hidden),
        "rate": _rates(sampler, hidden),
        "window": window,
    }


def _equal_windows(sampler: CaseSampler) -> dict:
    window = 2 + sampler.size // 2
    return _to_truncate(sampler, 3 * window, window)


def _shorter_last(sampler: CaseSampler) -> dict:
    return _to_truncate(sampler, 5 + 3 * (sampler.size // 2), 3)


def _longer_window(sampler: CaseSampler) -> dict:
    return _to_truncate(sampler, 3 + sampler.size // 2, 7)


def _truncated_reference(inputs, targets, initial, weight_ih, weight_hh, bias, rate, window):
    """By the formulas: states first, then each window backwards."""
    states = [initial]
    candidates = []
    for x in inputs.unbind(1):
        candidates.append(torch.tanh(x @ weight_ih.T + states[-1] @ weight_hh.T + bias))
        states.append(torch.lerp(states[-1], candidates[-1], rate.expand_as(initial)))
    time = inputs.shape[1]
    loss = sum((states[t + 1] - targets[:, t]).square().sum() for t in range(time))
    gradient = torch.zeros_like(weight_hh)
    for start in range(0, time, window):
        back = torch.zeros_like(initial)
        for t in reversed(range(start, min(start + window, time))):
            total = back + 2 * (states[t + 1] - targets[:, t])
            delta = total * rate * (1 - candidates[t].square())
            gradient += delta.T @ states[t]
            back = (1 - rate) * total + delta @ weight_hh
    return loss, gradient


def _truncated_by_windows(inputs, targets, initial, weight_ih, weight_hh, bias, rate, window):
    """Window after window, each backpropagated at once into .grad, in float32."""
    weights = [part.float() for part in (weight_ih, weight_hh, bias, rate)]
    w_x, w_h, b, alpha = weights
    w_h = w_h.clone().requires_grad_()
    hidden, total = initial.float(), 0.0
    for xs, ys in zip(inputs.split(window, 1), targets.split(window, 1), strict=True):
        hidden = hidden.detach()
        loss = torch.zeros(())
        for x, y in zip(xs.unbind(1), ys.unbind(1), strict=True):
            new = torch.tanh(x.float() @ w_x.T + hidden @ w_h.T + b)
            hidden = hidden + alpha * (new - hidden)
            loss = loss + ((hidden - y) ** 2).sum()
        loss.backward()
        total += loss.item()
    return total, w_h.grad


def _truncated_by_formulas(inputs, targets, initial, weight_ih, weight_hh, bias, rate, window):
    """Backwards through the whole sequence, with what is carried set to zero at each cut."""
    time = inputs.shape[1]
    states, candidates = [initial], []
    for t in range(time):
        candidates.append(torch.tanh(inputs[:, t] @ weight_ih.T + states[t] @ weight_hh.T + bias))
        states.append((1 - rate) * states[t] + rate * candidates[t])
    errors = torch.stack(states[1:], 1) - targets
    deltas, back = [], torch.zeros_like(initial)
    for t in range(time - 1, -1, -1):
        if (t + 1) % window == 0:
            back = torch.zeros_like(initial)
        total = 2 * errors[:, t] + back
        deltas.append(rate * (1 - candidates[t] ** 2) * total)
        back = (1 - rate) * total + torch.einsum("bh,hk->bk", deltas[-1], weight_hh)
    before = torch.stack(states[:-1])
    gradient = torch.einsum("tbh,tbk->hk", torch.stack(deltas[::-1]), before)
    return errors.pow(2).sum().item(), gradient


# -- 7. clip_together


def _gradients(sampler: CaseSampler) -> list:
    more = sampler.size // 2
    return [
        sampler.normal(2 + more, 3),
        sampler.normal(3),
        torch.tensor(sampler.random.normal(), dtype=torch.float64).round(decimals=1),
    ]


def _long_gradients(sampler: CaseSampler) -> dict:
    gradients = _gradients(sampler)
    gradients[1][0] = 3.0
    return {"gradients": gradients, "threshold": 0.7}


def _short_gradients(sampler: CaseSampler) -> dict:
    return {"gradients": [gradient / 10 for gradient in _gradients(sampler)], "threshold": 20.0}


def _zero_gradients(sampler: CaseSampler) -> dict:
    return {"gradients": [torch.zeros_like(g) for g in _gradients(sampler)], "threshold": 1.0}


def _infinite_gradient(sampler: CaseSampler) -> dict:
    made = _long_gradients(sampler)
    made["gradients"][0][0, 1] = -math.inf
    return made


def _not_a_number(sampler: CaseSampler) -> dict:
    made = _long_gradients(sampler)
    made["gradients"][2].fill_(math.nan)
    return made


def _clip_reference(gradients, threshold):
    numbers = [number for g in gradients for number in g.flatten().tolist()]
    norm = math.sqrt(math.fsum(number * number for number in numbers))
    if not math.isfinite(norm):
        factor = None
    else:
        factor = threshold / norm if norm > threshold else 1.0
    shapes = [tuple(g.shape) for g in gradients]
    results = []
    for shape in shapes:
        count = math.prod(shape)
        part, numbers = numbers[:count], numbers[count:]
        scaled = np.zeros(count) if factor is None else np.array(part) * factor
        results.append(scaled.reshape(shape))
    return results, norm


def _clip_by_loop(gradients, threshold):
    total = 0.0
    for g in gradients:
        for number in g.flatten().tolist():
            total += number**2
    norm = total**0.5
    if norm - norm != 0:
        return tuple(g.clone().fill_(0) for g in gradients), norm
    if norm <= threshold:
        return tuple(g.clone() for g in gradients), norm
    return tuple(g / norm * threshold for g in gradients), norm


def _clip_as_one_vector(gradients, threshold):
    whole = np.concatenate([g.numpy().ravel() for g in gradients]).astype("float32")
    norm = np.linalg.norm(whole)
    if np.isfinite(norm):
        whole = whole * (threshold / (norm + 1e-12) if norm > threshold else 1)
    else:
        whole = np.zeros_like(whole)
    ends = np.cumsum([g.numel() for g in gradients])[:-1]
    pieces = np.split(whole, ends)
    return [p.reshape(g.shape) for p, g in zip(pieces, gradients, strict=True)], float(norm)


STEPS = [
    Step(
        "leaky_jacobians",
        reference=_jacobians_reference,
        cases={
            "several steps": _small_run,
            "one step": lambda sampler: _candidates(sampler, 1, 2 + sampler.size),
            "rates of one": _small_run_without_leak,
        },
        mistakes=known_mistakes(
            "The direct path is missing: the fraction 1 - rate of the old state is kept, whatever "
            "the weights are.",
            ("torch.diag(1 - rate) + ", ""),
            "Your slopes scale the columns of weight_hh. They belong to the units of the new "
            "state, which are its rows.",
            ("[:, :, None]", "[:, None, :]"),
            "Your Jacobians are transposed: rows are for the new state, columns for the old one.",
            ("[:, :, None] * weight_hh", "[:, None, :] * weight_hh.T"),
            "Your diagonal part is the identity, but only 1 - rate of the old state is kept.",
            ("torch.diag(1 - rate)", "torch.eye(len(rate))"),
            "The path through the weights must be multiplied by the rate too.",
            ("rate * (1 - candidates**2)", "1 - candidates**2"),
            "You apply tanh to the candidates again. They are values of tanh already, so the "
            "slope is one minus their square.",
            ("candidates**2", "torch.tanh(candidates) ** 2"),
            "The slope of tanh is missing from the path through the weights.",
            ("(1 - candidates**2)", "torch.ones_like(candidates)"),
            "You add 1 - rate to every number of the matrix. Each unit keeps its own state only, "
            "so it belongs on the diagonal.",
            ("torch.diag(1 - rate)", "(1 - rate)[:, None]"),
            "The slope of tanh is one minus the square of its output.",
            ("**2", ""),
            "The rate is on the wrong path: it multiplies the candidate, and 1 - rate the old "
            "state.",
            ("rate * (1 -", "(1 - rate) * (1 -"),
            ("diag(1 - rate)", "diag(rate)"),
        ),
        alternatives=[_jacobians_of_diagonals, _jacobians_number_by_number],
    ),
    Step(
        "over_lag",
        reference=_over_lag_reference,
        cases={
            "a part of the run": _some_jacobians,
            "lag 0": lambda sampler: _some_jacobians(sampler) | {"lag": 0},
            "the whole run": _whole_lag,
        },
        mistakes=known_mistakes(
            "Your factors are in the opposite order: the Jacobian of the last step is on the left.",
            ("product @ jacobians[-1 - step]", "jacobians[-1 - step] @ product"),
            "You multiply the first Jacobians of the run; the lag counts back from the last.",
            ("product @ jacobians[-1 - step]", "jacobians[step] @ product"),
            "Right except at lag 0: jacobians[-0:] is the whole run. The empty product is the "
            "identity.",
            ("step in range(lag)", "jacobian in jacobians[-lag:]"),
            ("product @ jacobians[-1 - step]", "jacobian @ product"),
            "One factor is missing: over a lag of k steps there are k Jacobians.",
            ("range(lag)", "range(lag - 1)"),
            "There is one factor too many: over a lag of k steps there are k Jacobians.",
            ("range(lag)", "range(min(lag + 1, len(jacobians)))"),
            "You multiply elementwise; the chain rule needs the matrix product.",
            (
                "torch.eye(jacobians.shape[1], dtype=jacobians.dtype)",
                "torch.ones_like(jacobians[0])",
            ),
            ("product @", "product *"),
            "Your product is transposed.",
            ("return product", "return product.T"),
            "You take a power of the last Jacobian, but every step has its own Jacobian.",
            ("return product", "return torch.linalg.matrix_power(jacobians[-1], lag)"),
        ),
        alternatives=[_over_lag_multi_dot, _over_lag_by_recursion],
    ),
    Step(
        "recurrent_terms",
        reference=_terms_reference,
        cases={
            "several steps": _several_terms,
            "one step": lambda sampler: _consistent_run(sampler, 1, 2 + sampler.size // 2),
        },
        mistakes=known_mistakes(
            "Term i needs the state before step i. Because the initial state comes first, its "
            "index is one less than the one you use.",
            ("hidden[i])", "hidden[i + 1])"),
            "Your products have one Jacobian too many: that of term i starts after step i, so the "
            "last term has none.",
            ("- 1 - i", "- i"),
            "Your Jacobians are multiplied in the wrong order: going back in time, each new "
            "factor is multiplied on the right.",
            ("over_lag(jacobians,", "over_lag(jacobians.mT,"),
            ("- 1 - i)", "- 1 - i).T"),
            "Your Jacobians include only the path through the weights; add the direct path.",
            (
                "leaky_jacobians(candidates, weight_hh, rate)",
                "leaky_jacobians(candidates, weight_hh, rate) - torch.diag(1 - rate)",
            ),
            "The explicit partial derivative lacks the rate, by which the candidate enters the "
            "state.",
            ("outer(slopes[i]", "outer(1 - candidates[i] ** 2"),
            "Your terms are right but start with the last step. Put them in the order of time.",
            ("stack(terms)", "stack(terms[::-1])"),
            "The last two axes are swapped: first the row a of W_h, then its column b.",
            ("stack(terms)", "stack(terms).mT"),
            "You return the explicit partial derivatives alone. An early effect of the weights "
            "must still pass through all later steps.",
            ("len(candidates) - 1 - i", "0"),
            "You return the whole sum; return its terms separately.",
            ("stack(terms)", "stack(terms).sum(0)"),
        ),
        alternatives=[_terms_forwards, _terms_in_float32],
        depends_on=["leaky_jacobians", "over_lag"],
    ),
    Step(
        "carry_back",
        reference=_carry_reference,
        cases={
            "a small batch": _small_batch,
            "a loss of the last state": _at_the_end_only,
            "one step": _carried_one_step,
        },
        mistakes=known_mistakes(
            "The direct path is missing: the gradient of a state, times 1 - rate, also goes to "
            "the state before it.",
            ("(1 - rate) * total + ", ""),
            "On the direct path you send back only what arrives from the loss at that step. Send "
            "back the total gradient of the state.",
            ("(1 - rate) * total", "(1 - rate) * arriving[:, t]"),
            "On the direct path you send back the whole gradient; multiply it by 1 - rate.",
            ("(1 - rate) * ", ""),
            "The direct path bypasses the tanh too: send back the gradient of the state, not that "
            "of the pre-activation.",
            ("(1 - rate) * total", "(1 - rate) * deltas[:, t]"),
            "On the way back the matrix must be transposed: W_h^T times a column is a row times "
            "W_h.",
            ("weight_hh", "weight_hh.T"),
            "The gradient of the pre-activation lacks the rate, by which the candidate enters the "
            "state.",
            ("rate * (1 - candidates**2)", "1 - candidates**2"),
            "The slope of tanh is missing between the state and the pre-activation.",
            ("slopes[:, t] * total", "rate * total"),
            "You carry the gradient from the first step to the last. Carry it from the last to "
            "the first.",
            ("reversed(range(arriving.shape[1]))", "range(arriving.shape[1])"),
            "Each of your steps uses only the gradient that arrives there directly. Add what "
            "comes back from the later steps.",
            ("arriving[:, t] + back", "arriving[:, t]"),
            "You return the gradients of the states; multiply by the slopes for those of the "
            "pre-activations.",
            ("slopes[:, t] * total", "total"),
            ("deltas[:, t] @", "(slopes[:, t] * total) @"),
            "Your second result is the gradient of the state after the first step. Carry it back "
            "one more step, to the initial state.",
            ("deltas, back", "deltas, total"),
        ),
        alternatives=[_carry_in_vectors, _carry_by_jacobians],
    ),
    Step(
        "weight_gradients",
        reference=_weights_reference,
        cases={"a small batch": _weights_batch, "one step of one sequence": _weights_one},
        mistakes=known_mistakes(
            "Your recurrent gradient uses the states after the steps. The weights were multiplied "
            "by those before them.",
            (":-1", "1:"),
            "Your matrices are transposed: rows belong to the pre-activations, columns to the "
            "inputs or states.",
            ("->hf", "->fh"),
            ("->hk", "->kh"),
            "The gradient of weight_hh is transposed, which its square shape hides.",
            ("->hk", "->kh"),
            "You average over the batch. The gradient of a sum is a sum.",
            ("return (", "deltas = deltas / len(deltas)\n    return ("),
            "You average over steps and batch. The gradient of a sum is a sum.",
            ("return (", "deltas = deltas / deltas[..., 0].numel()\n    return ("),
            "You keep a gradient for each sequence. The weights are shared: sum over the batch too.",
            ("->hf", "->bhf"),
            ("->hk", "->bhk"),
            ("dim=(0, 1)", "dim=1"),
            "Your first two results are swapped: weight_ih comes first.",
            ('"bth,btf->hf", deltas, inputs', '"bth,btk->hk", deltas, hidden[:, :-1]'),
            ('"bth,btk->hk", deltas, hidden[:, :-1]', '"bth,btf->hf", deltas, inputs'),
        ),
        alternatives=[_weights_products, _weights_outer],
    ),
    Step(
        "truncated_gradient",
        reference=_truncated_reference,
        cases={
            "windows of equal length": _equal_windows,
            "a shorter last window": _shorter_last,
            "windows of one step": lambda sampler: _to_truncate(sampler, 3 + sampler.size // 2, 1),
            "a window longer than the sequence": _longer_window,
        },
        mistakes=known_mistakes(
            "Your windows start from zero. Each must start from the value of the state at the end "
            "of the window before.",
            ("if t %", "if t and t %"),
            ("hidden.detach()", "torch.zeros_like(initial)"),
            "All your windows start from the initial state. Pass the state on from window to "
            "window.",
            ("hidden.detach()", "initial"),
            "You start from zeros; the first window starts from the given initial state.",
            ("= initial,", "= torch.zeros_like(initial),"),
            "This is the full gradient: you never cut it between windows.",
            ("        if t % window == 0:\n            hidden = hidden.detach()\n", ""),
            "You cut the path through the weights, but the gradient still flows along the direct "
            "path. Detach the state once, for both.",
            (
                "if t % window == 0:\n            hidden = hidden.detach()",
                "seen = hidden.detach() if t % window == 0 else hidden",
            ),
            ("hidden @ recurrent", "seen @ recurrent"),
            "Your gradient is that of the last window only. Add those of all windows.",
            (
                "hidden = hidden.detach()",
                "hidden = hidden.detach()\n"
                "            recurrent = recurrent.detach().clone().requires_grad_()",
            ),
            ("loss.detach()", "loss.item()"),
            "You leave out the steps after the last whole window; run the shorter window too.",
            ("range(inputs.shape[1])", "range(inputs.shape[1] // window * window)"),
            ("0.0", "(recurrent * 0).sum()"),
            "You cut one step too early, before the last step of each window. Cut before the "
            "first.",
            ("t % window", "(t + 1) % window"),
            "Your loss is a mean; the task asks for the sum over batch, steps and units.",
            ("(gradient,) =", "loss = loss / targets.numel()\n    (gradient,) ="),
            "Your loss is right, but the gradient is half as large as it should be: the "
            "derivative of a square has a factor of 2.",
            (", gradient", ", gradient / 2"),
            "You set the state to zero at the start of each window. Keep its value; cut only the "
            "gradient.",
            ("hidden.detach()", "torch.zeros_like(hidden)"),
        ),
        alternatives=[_truncated_by_windows, _truncated_by_formulas],
        depends_on=["carry_back", "weight_gradients"],
    ),
    Step(
        "clip_together",
        reference=_clip_reference,
        cases={
            "long gradients": _long_gradients,
            "short gradients": _short_gradients,
            "gradients of zero": _zero_gradients,
            "an infinite gradient": _infinite_gradient,
            "a gradient that is not a number": _not_a_number,
        },
        mistakes=known_mistakes(
            "You clip each gradient by its own norm, which changes the direction of the whole "
            "gradient. Use one factor for all.",
            ("g * scale", "g * (threshold / g.norm()).clamp(max=1.0)"),
            "You clip each number on its own, which changes the direction. Scale all of them by "
            "one factor.",
            ("g * scale", "g.clamp(-threshold, threshold)"),
            "You always scale to the threshold, and divide by zero if all gradients are zero. "
            "Leave short gradients as they are.",
            ("min(1.0, threshold / max(norm.item(), threshold))", "threshold / norm"),
            "You add up the norms of the gradients. Add up the squares, and take one square root "
            "at the end.",
            ("g.square().sum()", "g.norm()"),
            (".sqrt()", ""),
            "Your norm is squared: the square root is missing.",
            (".sqrt()", ""),
            "Your gradients are right, but you return the norm after clipping, which hides an "
            "explosion. Return the one before.",
            ("scale for g in gradients], norm", "scale for g in gradients], norm * scale"),
            "Right for finite gradients. But infinity times zero is nan: if the norm is not "
            "finite, return zeros.",
            (
                (
                    "    if not math.isfinite(norm):\n"
                    "        return [torch.zeros_like(g) for g in gradients], norm\n"
                ),
                "",
            ),
            (
                "min(1.0, threshold / max(norm.item(), threshold))",
                "(threshold / norm).clamp(max=1.0)",
            ),
            "If the norm is not finite, the whole update must be skipped; you set only the "
            "numbers that are not finite to zero.",
            ("torch.zeros_like(g)", "torch.where(torch.isfinite(g), g, 0.0)"),
            "Your numbers are right, but you overwrite the given gradients. Return new tensors.",
            ("torch.zeros_like(g)", "g.zero_()"),
            ("g * scale", "g.mul_(scale)"),
            "Your numbers are right, but for short gradients you return the given tensors "
            "themselves, so changing one changes the other. Return new tensors.",
            ("g * scale for g in gradients", "g * scale if scale < 1 else g for g in gradients"),
        ),
        alternatives=[_clip_by_loop, _clip_as_one_vector],
        new_results=True,
    ),
]
