"""Per-sample programs as their authors would write them: lists, dicts, Python numbers, early returns, sets.

Each comes with the same written by hand for a batch. Section "dynamic" measures them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["PROGRAMS"]

WIDTH, TURNS, CHOICES, ITEMS = 64, 12, 4, 4
Sizes = dict[str, tuple[Any, ...]]
Program = Callable[[Any, Any], Callable[..., Any]]
_FLOAT = np.float32


def _host(x: Any) -> Any:
    return x.detach().numpy()


def _regrouped(lib: Any, functions: list[Any], which: Any, h: Any) -> Any:
    """Return functions[which[i]](h[i]) for every row i, each function called once."""
    rows = [np.flatnonzero(which == k) for k in range(len(functions))]
    parts = [function(h[index]) for function, index in zip(functions, rows) if len(index)]
    return lib.cat(parts, 0)[np.argsort(np.concatenate(rows))]


# -- one turn in many dialects: a gate and one of two layers ----------------------------------------------------------

GATED: Sizes = {
    "cell": (WIDTH, WIDTH), "yes": (WIDTH, WIDTH), "no": (WIDTH, WIDTH), "gate": (WIDTH, 1), "head": (WIDTH, 4)
}  # fmt: skip


def _names(lib: Any, net: Any) -> Callable[..., Any]:
    cell, yes, no, gate, head = (net[name] for name in GATED)

    def policy(h: Any) -> Any:
        for _ in range(TURNS):
            h = cell(h).tanh()
            if gate(h)[0] > 0:
                h = yes(h).tanh()
            else:
                h = no(h).tanh()
        return head(h)

    return policy


def _append_in_branch(lib: Any, net: Any) -> Callable[..., Any]:
    cell, yes, no, gate, head = (net[name] for name in GATED)

    def policy(h: Any) -> Any:
        seen = []
        for _ in range(TURNS):
            h = cell(h).tanh()
            if gate(h)[0] > 0:
                h = yes(h).tanh()
                seen.append(h)
            else:
                h = no(h).tanh()
                seen.append(h)
        return head(seen[-1])

    return policy


def _ternary(lib: Any, net: Any) -> Callable[..., Any]:
    cell, yes, no, gate, head = (net[name] for name in GATED)

    def policy(h: Any) -> Any:
        for _ in range(TURNS):
            h = cell(h).tanh()
            h = yes(h).tanh() if gate(h)[0] > 0 else no(h).tanh()
        return head(h)

    return policy


def _early_return(lib: Any, net: Any) -> Callable[..., Any]:
    cell, yes, no, gate, head = (net[name] for name in GATED)

    def turn(h: Any) -> Any:
        if gate(h)[0] > 0:
            return yes(h).tanh()
        return no(h).tanh()

    def policy(h: Any) -> Any:
        for _ in range(TURNS):
            h = turn(cell(h).tanh())
        return head(h)

    return policy


def _with_block(lib: Any, net: Any) -> Callable[..., Any]:
    cell, yes, no, gate, head = (net[name] for name in GATED)

    def policy(h: Any) -> Any:
        for _ in range(TURNS):
            h = cell(h).tanh()
            if gate(h)[0] > 0:
                with lib.enable_grad():
                    h = yes(h).tanh()
            else:
                h = no(h).tanh()
        return head(h)

    return policy


def _walrus_and_comprehension(lib: Any, net: Any) -> Callable[..., Any]:
    cell, yes, no, gate, head = (net[name] for name in GATED)

    def policy(h: Any) -> Any:
        for _ in range(TURNS):
            h = cell(h).tanh()
            if (score := gate(h)[0]) > 0:
                h = sum([layer(h).tanh() for layer in (yes,)])
            else:
                h = no(h).tanh() + 0 * score.detach()
        return head(h)

    return policy


def _dict_state(lib: Any, net: Any) -> Callable[..., Any]:
    cell, yes, no, gate, head = (net[name] for name in GATED)

    def policy(h: Any) -> Any:
        state = {"h": h}
        for _ in range(TURNS):
            state["h"] = cell(state["h"]).tanh()
            if gate(state["h"])[0] > 0:
                state["h"] = yes(state["h"]).tanh()
            else:
                state["h"] = no(state["h"]).tanh()
        return head(state["h"])

    return policy


def _counter(lib: Any, net: Any) -> Callable[..., Any]:
    cell, yes, no, gate, head = (net[name] for name in GATED)

    def policy(h: Any) -> Any:
        count = 0
        for _ in range(TURNS):
            h = cell(h).tanh()
            if gate(h)[0] > 0:
                h = yes(h).tanh()
                count += 1
            else:
                h = no(h).tanh()
        return head(h) + 0 * count

    return policy


def _gated_hand(lib: Any, net: Any) -> Callable[..., Any]:
    cell, yes, no, gate, head = (net[name] for name in GATED)

    def policy(h: Any) -> Any:
        for _ in range(TURNS):
            h = cell(h).tanh()
            h = _regrouped(lib, [yes, no], (_host(gate(h))[:, 0] <= 0).astype(int), h).tanh()
        return head(h)

    return policy


# -- programs of the literature ---------------------------------------------------------------------------------------

CHOOSING: Sizes = {
    **{f"expert{k}": (WIDTH, WIDTH) for k in range(CHOICES)}, "choose": (WIDTH, CHOICES), "stop": (WIDTH, 1),
    "head": (WIDTH, 4),
}  # fmt: skip


def _options(lib: Any, net: Any) -> Callable[..., Any]:
    """Options with an end of their own (Sutton, Precup and Singh, 1999), the current one as a Python int."""
    experts, choose, stop, head = [net[f"expert{k}"] for k in range(CHOICES)], net["choose"], net["stop"], net["head"]

    def policy(h: Any) -> Any:
        outputs = []
        option = int(choose(h).argmax())
        for _ in range(TURNS):
            h = experts[option](h).tanh()
            outputs.append(head(h))
            if stop(h)[0] > 0:
                option = int(choose(h).argmax())
        return sum(outputs)

    return policy


def _options_hand(lib: Any, net: Any) -> Callable[..., Any]:
    experts, choose, stop, head = [net[f"expert{k}"] for k in range(CHOICES)], net["choose"], net["stop"], net["head"]

    def policy(h: Any) -> Any:
        total, option = 0.0, _host(choose(h)).argmax(-1)
        for _ in range(TURNS):
            h = _regrouped(lib, experts, option, h).tanh()
            total = total + head(h)
            option = np.where(_host(stop(h))[:, 0] > 0, _host(choose(h)).argmax(-1), option)
        return total

    return policy


def _top_two(lib: Any, net: Any) -> Callable[..., Any]:
    """Routing to the two best experts (arXiv:1701.06538), in two layers."""
    experts, choose, head = [net[f"expert{k}"] for k in range(CHOICES)], net["choose"], net["head"]

    def policy(h: Any) -> Any:
        for _ in range(2):
            weights, chosen = choose(h).softmax(-1).topk(2)
            h = h + sum(weights[j] * experts[int(chosen[j])](h).tanh() for j in range(2))
        return head(h)

    return policy


def _top_two_hand(lib: Any, net: Any) -> Callable[..., Any]:
    experts, choose, head = [net[f"expert{k}"] for k in range(CHOICES)], net["choose"], net["head"]

    def policy(h: Any) -> Any:
        for _ in range(2):
            weights, chosen = choose(h).softmax(-1).topk(2)
            routed = [_regrouped(lib, experts, _host(chosen)[:, j], h).tanh() for j in range(2)]
            h = h + weights[:, :1] * routed[0] + weights[:, 1:] * routed[1]
        return head(h)

    return policy


WORDS: Sizes = {"cell": (WIDTH, WIDTH), "vocabulary": (WIDTH, 8), "embed": (8, WIDTH)}


def _greedy(lib: Any, net: Any) -> Callable[..., Any]:
    """Greedy decoding until an end symbol, the token as a Python int."""
    cell, vocabulary, embed = net["cell"], net["vocabulary"], net["embed"]

    def policy(h: Any) -> Any:
        token, found = 0, []
        for _ in range(TURNS):
            h = cell(h + embed.weight[:, token]).tanh()
            logits = vocabulary(h)
            found.append(logits)
            token = int(logits.argmax())
            if token == 7:
                break
        return sum(found)

    return policy


def _greedy_hand(lib: Any, net: Any) -> Callable[..., Any]:
    cell, vocabulary, embed = net["cell"], net["vocabulary"], net["embed"]

    def policy(h: Any) -> Any:
        token, running, total = np.zeros(len(h), np.int64), np.ones(len(h), _FLOAT), 0.0
        for _ in range(TURNS):
            h = cell(h + embed.weight[:, token].T).tanh()
            logits = vocabulary(h)
            total = total + logits * lib.as_tensor(running[:, None])
            token = _host(logits).argmax(-1)
            running = running * (token != 7).astype(_FLOAT)
        return total

    return policy


def _pointer(lib: Any, net: Any) -> Callable[..., Any]:
    """A pointer network's tour (arXiv:1506.03134): the items that are left as a set."""
    cell, score = net["cell"], net["vocabulary"]

    def policy(h: Any) -> Any:
        items = [h * (0.1 * i + 0.5) for i in range(ITEMS)]
        left, tour = set(range(ITEMS)), []
        while left:
            scores = score(h)
            best = max(left, key=lambda i: float(scores[i]))
            left.discard(best)
            tour.append(scores[best])
            h = cell(h + items[best]).tanh()
        return sum(tour)

    return policy


def _pointer_hand(lib: Any, net: Any) -> Callable[..., Any]:
    cell, score = net["cell"], net["vocabulary"]

    def policy(h: Any) -> Any:
        items, every, total = lib.stack([h * (0.1 * i + 0.5) for i in range(ITEMS)], 1), np.arange(len(h)), 0.0
        closed = np.zeros((len(h), 8), _FLOAT)
        closed[:, ITEMS:] = -np.inf
        for _ in range(ITEMS):
            scores = score(h)
            best = (_host(scores) + closed).argmax(-1)
            closed[every, best] = -np.inf
            total = total + scores[every, best]
            h = cell(h + items[every, best]).tanh()
        return total

    return policy


FEUDAL: Sizes = {"goal": (WIDTH, WIDTH), "work": (2 * WIDTH, WIDTH), "renew": (WIDTH, 1)}


def _feudal(lib: Any, net: Any) -> Callable[..., Any]:
    """A manager that sets goals (arXiv:1703.01161): the goal is None at first, its age a Python int."""
    set_goal, work, renew = net["goal"], net["work"], net["renew"]

    def policy(h: Any) -> Any:
        goal, age, seen = None, 0, []
        for _ in range(TURNS):
            if goal is None or age >= 4 or renew(h)[0] > 0.5:
                goal, age = set_goal(h).tanh(), 0
            h = work(lib.cat([h, goal], -1)).tanh()
            age += 1
            seen.append(h)
        return sum(seen)

    return policy


def _feudal_hand(lib: Any, net: Any) -> Callable[..., Any]:
    set_goal, work, renew = net["goal"], net["work"], net["renew"]

    def policy(h: Any) -> Any:
        goal, age, total = set_goal(h).tanh(), np.zeros(len(h), np.int64), 0.0
        for turn in range(TURNS):
            if turn:
                new = (age >= 4) | (_host(renew(h))[:, 0] > 0.5)
                (yes,), (no,) = new.nonzero(), (~new).nonzero()
                if len(yes):
                    order = np.argsort(np.concatenate([yes, no]))
                    goal = lib.cat([set_goal(h[yes]).tanh(), goal[no]], 0)[order]
                age[new] = 0
            h = work(lib.cat([h, goal], -1)).tanh()
            age += 1
            total = total + h
        return total

    return policy


def _newton(lib: Any, net: Any) -> Callable[..., Any]:
    """Descent with a line search (Nocedal and Wright, algorithm 3.1), the step length as a Python float."""
    start = net["vocabulary"]

    def policy(h: Any) -> Any:
        z = start(h)
        for _ in range(4):
            value, slope = ((z * z - 0.3) ** 2).sum(), 4 * z * (z * z - 0.3)
            t, square = 1.0, (slope * slope).sum()
            while ((((z - t * slope) ** 2 - 0.3) ** 2).sum() > value - 1e-4 * t * square) and t > 1e-3:
                t = t * 0.5
            z = z - t * slope
        return z

    return policy


def _newton_hand(lib: Any, net: Any) -> Callable[..., Any]:
    start = net["vocabulary"]

    def policy(h: Any) -> Any:
        z = start(h)
        for _ in range(4):
            value, slope = ((z * z - 0.3) ** 2).sum(-1), 4 * z * (z * z - 0.3)
            t, square = np.ones(len(h), _FLOAT), (slope * slope).sum(-1)
            while True:
                moved = z - lib.as_tensor(t[:, None]) * slope
                high = _host((((moved**2) - 0.3) ** 2).sum(-1)) > _host(value - 1e-4 * lib.as_tensor(t) * square)
                high &= t > 1e-3
                if not high.any():
                    break
                t = np.where(high, t * _FLOAT(0.5), t)
            z = z - lib.as_tensor(t[:, None]) * slope
        return z

    return policy


PROGRAMS: list[tuple[str, Sizes, Program, Program, float]] = [
    ("names in branches", GATED, _names, _gated_hand, 2.0),
    ("append in a branch", GATED, _append_in_branch, _gated_hand, 2.0),
    ("conditional expression", GATED, _ternary, _gated_hand, 2.0),
    ("early return in a helper", GATED, _early_return, _gated_hand, 2.0),
    ("with in a branch", GATED, _with_block, _gated_hand, 2.0),
    ("walrus and comprehension", GATED, _walrus_and_comprehension, _gated_hand, 2.0),
    ("state in a dict", GATED, _dict_state, _gated_hand, 2.0),
    ("counter in a branch", GATED, _counter, _gated_hand, 2.0),
    ("options, int and list", CHOOSING, _options, _options_hand, 3.0),
    ("top-2 routing by int", CHOOSING, _top_two, _top_two_hand, 2.0),
    ("greedy decoding", WORDS, _greedy, _greedy_hand, 2.0),
    ("pointer network, set", WORDS, _pointer, _pointer_hand, 3.0),
    ("feudal, None and int", FEUDAL, _feudal, _feudal_hand, 2.0),
    ("line search, float", WORDS, _newton, _newton_hand, 2.0),
]
"""(name, layers, program for one sample, the same by hand for a batch, limit of dynarl's time to the hand's)."""
