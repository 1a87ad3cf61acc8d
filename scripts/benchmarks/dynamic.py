"""Policies that branch: written for one sample and batched by dynarl, against code batched by hand.

The hand-batched versions are written for either library: "torch", and "expert" on dynarl's own engine. Where two ways
make sense (masking and leaving out finished rows), the faster one counts, for each library by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import natural
from benchmarks.timing import Contestants, Goal, Report

N, WIDTH, ACTIONS = 256, 64, 4
MAX_PONDER, EXPERTS, LONGEST, STEPS, BRANCHES, TREES = 12, 4, 32, 16, 10, 64
Weights = dict[str, tuple[Any, Any]]


def weights_of(rng: np.random.Generator, **sizes: tuple[Any, ...]) -> Weights:
    """Return {name: (weight [out, in], bias [out])}; sizes are (in, out[, scale[, bias]])."""
    made = {}
    for name, (n, m, *rest) in sizes.items():
        scale, bias = (*rest, 1.0, 0.0)[:2] if len(rest) < 2 else rest
        weight = rng.standard_normal((m, n)) * scale / np.sqrt(n)
        made[name] = weight.astype(np.float32), np.full(m, bias, np.float32)
    return made


def layers_of(lib: Any, weights: Weights) -> dict[str, Any]:
    """Return nn.Linear layers with the given weights, in one flat buffer where the library has it."""
    layers = {}
    for name, (weight, bias) in weights.items():
        layers[name] = layer = lib.nn.Linear(weight.shape[1], weight.shape[0])
        with lib.no_grad():
            layer.weight.copy_(lib.as_tensor(weight))
            layer.bias.copy_(lib.as_tensor(bias))
    parameters = [p for layer in layers.values() for p in layer.parameters()]
    layers["optimizer"] = lib.optim.Adam(parameters)
    return layers


def tanh_layer(lib: Any, layer: Any) -> Any:
    return lib.nn.Sequential(layer, lib.nn.Tanh())


def gru_step(net: Any) -> Callable[..., Any]:
    """Return a GRU's step made of two Linear layers, for a sample or a batch."""
    wx, wh = net["wx"], net["wh"]

    def step(x: Any, h: Any) -> Any:
        rx, zx, nx = wx(x).chunk(3, -1)
        rh, zh, nh = wh(h).chunk(3, -1)
        r, z = (rx + rh).sigmoid(), (zx + zh).sigmoid()
        n = (nx + r * nh).tanh()
        return n + z * (h - n)

    return step


def gru_cell(lib: Any, net: Any) -> Any:
    """Return the step as a Module."""
    step = gru_step(net)

    class Cell(lib.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any, h: Any) -> Any:
            return step(x, h)

    return Cell()


# -- adaptive computation time (arXiv:1603.08983) ----------------------------------------------------------------------


def act_weights(rng: Any) -> Weights:
    return weights_of(rng, enc=(8, WIDTH), cell=(WIDTH, WIDTH), halt=(WIDTH, 1, 9.0, -2.0), head=(WIDTH, ACTIONS))


def act_program(lib: Any, net: Any) -> Callable[..., Any]:
    enc, cell, halt, head = tanh_layer(lib, net["enc"]), tanh_layer(lib, net["cell"]), net["halt"], net["head"]

    def policy(obs: Any) -> Any:
        h, total, y, n = enc(obs), 0.0, 0.0, 0
        while True:
            h, n = cell(h), n + 1
            p = halt(h)[0].sigmoid()
            if n == MAX_PONDER or total + p > 0.99:
                return head(y + h * (1 - total))
            y, total = y + h * p, total + p

    return policy


def act_masked(lib: Any, net: Any) -> Callable[..., Any]:
    enc, cell, halt, head = tanh_layer(lib, net["enc"]), tanh_layer(lib, net["cell"]), net["halt"], net["head"]

    def policy(obs: Any) -> Any:
        h, total, y, running = enc(obs), 0.0, 0.0, None
        for n in range(MAX_PONDER):
            h = cell(h)
            p = halt(h).sigmoid()
            stop = total + p > 0.99 if n < MAX_PONDER - 1 else p == p
            w = lib.where(stop, 1 - total, p)
            w = w if running is None else w * running
            y, total = y + h * w, total + w
            go_on = (~stop).to(p.dtype)
            running = go_on if running is None else running * go_on
            if not bool(running.any()):
                break
        return head(y)

    return policy


def act_compact(lib: Any, net: Any) -> Callable[..., Any]:
    enc, cell, halt, head = tanh_layer(lib, net["enc"]), tanh_layer(lib, net["cell"]), net["halt"], net["head"]

    def policy(obs: Any) -> Any:
        h, outs, at = enc(obs), [], []
        index = lib.arange(len(obs))
        y, total = lib.zeros(h.shape), lib.zeros((len(obs), 1))
        for n in range(MAX_PONDER):
            h = cell(h)
            p = halt(h).sigmoid()
            stop = (total + p > 0.99)[:, 0] if n < MAX_PONDER - 1 else (p == p)[:, 0]
            if bool(stop.any()):
                outs.append(y[stop] + h[stop] * (1 - total[stop]))
                at.append(index[stop])
                stay = ~stop
                if not bool(stay.any()):
                    break
                h, p, y, total, index = h[stay], p[stay], y[stay], total[stay], index[stay]
            y, total = y + h * p, total + p
        order = lib.cat(at)
        inverse = lib.argsort(order)
        return head(lib.cat(outs))[inverse]

    return policy


# -- mixture of experts by hard gate -----------------------------------------------------------------------------------


def moe_weights(rng: Any, layers: int) -> Weights:
    sizes: dict[str, Any] = {"enc": (8, WIDTH), "head": (WIDTH, ACTIONS)}
    for i in range(layers):
        sizes[f"gate{i}"] = (WIDTH, EXPERTS, 2.0)
        for k in range(EXPERTS):
            sizes[f"a{i}{k}"] = sizes[f"b{i}{k}"] = (WIDTH, WIDTH)
    return weights_of(rng, **sizes)


def experts_of(lib: Any, net: Any, i: int) -> list[Any]:
    nn = lib.nn
    return [nn.Sequential(net[f"a{i}{k}"], nn.Tanh(), net[f"b{i}{k}"], nn.Tanh()) for k in range(EXPERTS)]


def moe_program(lib: Any, net: Any, *, layers: int, join: bool) -> Callable[..., Any]:
    class Layer(lib.nn.Module):  # type: ignore[misc]
        def __init__(self, i: int) -> None:
            super().__init__()
            self.gate, self.experts = net[f"gate{i}"], lib.nn.ModuleList(experts_of(lib, net, i))

        def forward(self, h: Any) -> Any:
            g = self.gate(h).softmax(-1)
            k = int(g.argmax())
            return h + self.experts[k](h) * g[k]

    blocks = [Layer(i) if join else Layer(i).forward for i in range(layers)]
    enc, head = tanh_layer(lib, net["enc"]), net["head"]

    def policy(obs: Any) -> Any:
        h = enc(obs)
        for block in blocks:
            h = block(h)
        return head(h)

    return policy


def moe_hand(lib: Any, net: Any, *, layers: int, way: str) -> Callable[..., Any]:
    enc, head = tanh_layer(lib, net["enc"]), net["head"]
    blocks = [(net[f"gate{i}"], experts_of(lib, net, i)) for i in range(layers)]

    def added(h: Any, k: Any, experts: Any) -> Any:
        out = lib.zeros(h.shape)
        for e, expert in enumerate(experts):
            rows = (k == e).nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, expert(h[rows]))
        return out

    def regrouped(h: Any, k: Any, experts: Any) -> Any:
        masks = [k == e for e in range(EXPERTS)]
        outs = [expert(h[mask]) for mask, expert in zip(masks, experts) if bool(mask.any())]
        order = lib.argsort(k, stable=True)
        return lib.cat(outs)[lib.argsort(order)]

    join = added if way == "add" else regrouped

    def policy(obs: Any) -> Any:
        h = enc(obs)
        for gate, experts in blocks:
            g = gate(h).softmax(-1)
            k = g.argmax(-1)
            h = h + join(h, k, experts) * g.gather(1, k.unsqueeze(1))
        return head(h)

    return policy


# -- recurrent: sequences of different lengths, and resets -------------------------------------------------------------


def recurrent_weights(rng: Any) -> Weights:
    sizes = {"init": (16, WIDTH), "wx": (16, 3 * WIDTH), "wh": (WIDTH, 3 * WIDTH), "head": (WIDTH, ACTIONS)}
    return weights_of(rng, **sizes)


def gru_program(lib: Any, net: Any) -> Callable[..., Any]:
    init, cell, head = tanh_layer(lib, net["init"]), gru_cell(lib, net), net["head"]

    def policy(sequence: Any) -> Any:
        h = init(sequence[0])
        for x in sequence:
            h = cell(x, h)
        return head(h)

    return policy


def gru_hand(lib: Any, net: Any, *, way: str) -> Callable[..., Any]:
    """Sorted by length: the finished rows are left out, or padded and masked."""
    init, cell, head = tanh_layer(lib, net["init"]), gru_cell(lib, net), net["head"]

    def policy(sequences: list[Any]) -> Any:
        lengths = np.array([len(s) for s in sequences])
        order = np.argsort(-lengths, kind="stable")
        ordered = lengths[order]
        padded = np.zeros((ordered[0], len(lengths), 16), np.float32)
        for j, i in enumerate(order):
            padded[: lengths[i], j] = sequences[i]
        steps, finished = lib.as_tensor(padded), []
        h, n = init(steps[0]), len(lengths)
        alive = lib.as_tensor(np.arange(ordered[0])[:, None, None] < ordered[None, :, None])
        for t in range(ordered[0]):
            if way == "mask":
                h = lib.where(alive[t], cell(steps[t], h), h)
                continue
            m = int((ordered > t).sum())
            if m < n:
                finished.append(h[m:])
                h, n = h[:m], m
            h = cell(steps[t, :n], h)
        out = head(h if way == "mask" else lib.cat([h, *finished[::-1]]))
        return out[lib.as_tensor(np.argsort(order))]

    return policy


def reset_program(lib: Any, net: Any) -> Callable[..., Any]:
    init, cell, head = tanh_layer(lib, net["init"]), gru_cell(lib, net), net["head"]

    class Step(lib.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any, h: Any) -> Any:
            if x[0] > 0:
                h = init(x)
            return cell(x, h)

    step = Step()

    def policy(sequence: Any) -> Any:
        h = init(sequence[0])
        for x in sequence:
            h = step(x, h)
        return head(h)

    return policy


def reset_unmarked(lib: Any, net: Any) -> Callable[..., Any]:
    init, cell, head = tanh_layer(lib, net["init"]), gru_step(net), net["head"]

    def policy(sequence: Any) -> Any:
        h = init(sequence[0])
        for x in sequence:
            if x[0] > 0:
                h = init(x)
            h = cell(x, h)
        return head(h)

    return policy


def reset_hand(lib: Any, net: Any) -> Callable[..., Any]:
    init, cell, head = tanh_layer(lib, net["init"]), gru_cell(lib, net), net["head"]

    def policy(sequences: Any) -> Any:
        h = init(sequences[:, 0])
        for t in range(STEPS):
            x = sequences[:, t]
            h = lib.where(x[:, :1] > 0, init(x), h)
            h = cell(x, h)
        return head(h)

    return policy


# -- ten binary branches -----------------------------------------------------------------------------------------------


def branches_weights(rng: Any) -> Weights:
    return weights_of(rng, enc=(8, WIDTH), a=(WIDTH, WIDTH, 1.5), b=(WIDTH, WIDTH, 1.5), head=(WIDTH, ACTIONS))


def branch_layers(lib: Any, net: Any) -> tuple[Any, Any, Any, Any]:
    b = lib.nn.Sequential(net["b"], lib.nn.ReLU())
    return tanh_layer(lib, net["enc"]), tanh_layer(lib, net["a"]), b, net["head"]


def branches_program(lib: Any, net: Any) -> Callable[..., Any]:
    enc, a, b, head = branch_layers(lib, net)

    class Branch(lib.nn.Module):  # type: ignore[misc]
        def forward(self, h: Any, i: int) -> Any:
            if h[i] > 0.1:
                return a(h) + h * 0.1
            return b(h) * 0.5

    branch = Branch()

    def policy(obs: Any) -> Any:
        h = enc(obs)
        for i in range(BRANCHES):
            h = branch(h, i)
        return head(h)

    return policy


def branches_unmarked(lib: Any, net: Any) -> Callable[..., Any]:
    enc, a, b, head = branch_layers(lib, net)

    def policy(obs: Any) -> Any:
        h = enc(obs)
        for i in range(BRANCHES):
            if h[i] > 0.1:
                h = a(h) + h * 0.1
            else:
                h = b(h) * 0.5
        return head(h)

    return policy


def branches_hand(lib: Any, net: Any) -> Callable[..., Any]:
    enc, a, b, head = branch_layers(lib, net)

    def policy(obs: Any) -> Any:
        h = enc(obs)
        for i in range(BRANCHES):
            h = lib.where(h[:, i : i + 1] > 0.1, a(h) + h * 0.1, b(h) * 0.5)
        return head(h)

    return policy


# -- trees of different shapes, and samples on paths of their own ------------------------------------------------------


def tree_weights(rng: Any) -> Weights:
    return weights_of(rng, leaf=(16, 2 * WIDTH), cell=(2 * WIDTH, 5 * WIDTH), head=(WIDTH, ACTIONS))


def random_trees(rng: Any) -> list[Any]:
    """Return binary trees of 5 to 20 leaves [16], no two equal."""

    def tree(leaves: int) -> Any:
        if leaves == 1:
            return rng.standard_normal(16).astype(np.float32)
        left = int(rng.integers(1, leaves))
        return tree(left), tree(leaves - left)

    return [tree(int(rng.integers(5, 21))) for _ in range(TREES)]


def tree_cell(lib: Any, net: Any) -> Any:
    """Return the node of a binary TreeLSTM (arXiv:1503.00075): states [..., 2 * WIDTH] are h and c side by side."""

    class Cell(lib.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.gates = net["cell"]

        def forward(self, left: Any, right: Any) -> Any:
            z = self.gates(lib.cat([left[..., :WIDTH], right[..., :WIDTH]], -1))
            i, f, g, o = z[..., : 4 * WIDTH].sigmoid().chunk(4, -1)
            c = i * z[..., 4 * WIDTH :].tanh() + f * left[..., WIDTH:] + g * right[..., WIDTH:]
            return lib.cat([o * c.tanh(), c], -1)

    return Cell()


def tree_program(lib: Any, net: Any) -> Callable[..., Any]:
    leaf, cell, head = net["leaf"], tree_cell(lib, net), net["head"]

    def node(tree: Any) -> Any:
        return cell(node(tree[0]), node(tree[1])) if isinstance(tree, tuple) else leaf(tree)

    def policy(tree: Any) -> Any:
        return head(node(tree)[:WIDTH])

    return policy


def tree_hand(lib: Any, net: Any) -> Callable[..., Any]:
    """All leaves at once, then all nodes of a height at once."""
    leaf, cell, head = net["leaf"], tree_cell(lib, net), net["head"]

    def policy(trees: Any) -> Any:
        leaves: list[Any] = []
        levels: list[tuple[list[Any], list[Any]]] = []

        def visit(tree: Any) -> tuple[int, int]:
            if not isinstance(tree, tuple):
                leaves.append(tree)
                return 0, len(leaves) - 1
            left, right = visit(tree[0]), visit(tree[1])
            height = max(left[0], right[0])
            if len(levels) == height:
                levels.append(([], []))
            level = levels[height]
            level[0].append(left)
            level[1].append(right)
            return height + 1, len(level[0]) - 1

        roots = [visit(tree) for tree in trees]
        first = np.cumsum([0, len(leaves), *(len(level[0]) for level in levels)])
        states = leaf(lib.as_tensor(np.stack(leaves)))
        for left, right in levels:
            rows = [lib.as_tensor(np.array([first[h] + i for h, i in side])) for side in (left, right)]
            states = lib.cat([states, cell(states[rows[0]], states[rows[1]])])
        return head(states[lib.as_tensor(np.array([first[h] + i for h, i in roots]))][:, :WIDTH])

    return policy


def act_alone(lib: Any, net: Any) -> Callable[..., Any]:
    """Adaptive computation with halting in Python numbers: every sample goes its own way from the first step."""
    enc, cell, halt, head = tanh_layer(lib, net["enc"]), tanh_layer(lib, net["cell"]), net["halt"], net["head"]

    def policy(obs: Any) -> Any:
        h, total, y, n = enc(obs), 0.0, 0.0, 0
        while True:
            h, n = cell(h), n + 1
            p = halt(h)[0].sigmoid()
            value = float(p)
            if n == MAX_PONDER or total + value > 0.99:
                return head(y + h * (1 - total))
            y, total = y + h * p, total + value

    return policy


# -- measuring ---------------------------------------------------------------------------------------------------------


def learning(lib: Any, policy: Callable[..., Any], data: Any, net: Any) -> Callable[[], Any]:
    def call() -> Any:
        net["optimizer"].zero_grad()
        loss = (policy(data) ** 2).mean()
        loss.backward()
        return loss

    return call


def acting(lib: Any, policy: Callable[..., Any], data: Any, net: Any) -> Callable[[], Any]:
    def call() -> Any:
        with lib.no_grad():
            return policy(data)

    return call


def faster(calls: list[Callable[[], Any]]) -> Callable[[], Any]:
    """Return the fastest of some ways to the same thing."""

    def seconds(call: Callable[[], Any]) -> float:
        call()
        best = np.inf
        for _ in range(5):
            begin = perf_counter()
            call()
            best = min(best, perf_counter() - begin)
        return float(best)

    return min(calls, key=seconds)


def _add(
    report: Report, libs: dict[str, Any], name: str, weights: Weights, program: Any, hands: list[Any], data: Any,
    goals: list[Goal], *, measured: Any = learning, given: Any = None,
) -> None:  # fmt: skip
    """Measure one policy; `given` makes what the batched program takes of the data."""
    dynarl = libs["dynarl"]
    net = layers_of(dynarl, weights)
    policy = program(dynarl, net)
    ours = policy if given is list else dynarl.batched(policy)
    inputs = dynarl.as_tensor(data) if given is None else given(data)
    contestants: Contestants = {"dynarl": measured(dynarl, ours, inputs, net)}
    outputs = {"dynarl": ours(inputs)}
    for key, lib in (("expert", dynarl), ("torch", libs.get("torch"))):
        if lib is None:
            continue
        ways = []
        for hand in hands:
            net = layers_of(lib, weights)
            policy = hand(lib, net)
            hand_inputs = lib.as_tensor(data) if given is None else data
            outputs[key] = policy(hand_inputs)
            ways.append(measured(lib, policy, hand_inputs, net))
            values = [np.asarray(outputs[k].detach().numpy()) for k in ("dynarl", key)]
            np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-4)
        contestants[key] = faster(ways)
    report.add("dynamic", name, contestants, goals, "splits and joins in Python")


def _add_one(report: Report, libs: dict[str, Any], name: str, weights: Weights, program: Any, data: Any) -> None:
    """Measure a batch of one sample, against the program called on the sample (in the column "expert")."""
    dynarl = libs["dynarl"]
    net = layers_of(dynarl, weights)
    policy, obs = program(dynarl, net), dynarl.as_tensor(data)
    contestants: Contestants = {
        "dynarl": acting(dynarl, dynarl.batched(policy), obs, net),
        "expert": acting(dynarl, policy, obs[0], net),
    }
    report.add("dynamic", name, contestants, [Goal(1.5, "expert")], "checks of a call; the other is the plain program")


def _add_alone(report: Report, libs: dict[str, Any], weights: Weights, obs: Any) -> None:
    """Measure samples that share no path, against the engine's own loop over samples (in the column "expert")."""
    dynarl = libs["dynarl"]
    contestants: Contestants = {}
    for key, mode in (("dynarl", "auto"), ("expert", "loop")):
        net = layers_of(dynarl, weights)
        policy = dynarl.batched(act_alone(dynarl, net), mode=mode)
        policy(dynarl.as_tensor(obs))
        contestants[key] = learning(dynarl, policy, dynarl.as_tensor(obs), net)
    name = f"ACT, each its own path, fwd+bwd, batch {N}"
    report.add("dynamic", name, contestants, [Goal(0.4, "expert")], "the other is a loop over samples")


def section(report: Report, libs: dict[str, Any]) -> None:
    """Forward and backward of 256 samples, and acting with 8 environments."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((N, 8)).astype(np.float32)
    add = partial(_add, report, libs)
    fwd_bwd = f"fwd+bwd, batch {N}"

    def goals(limit: float) -> list[Goal]:
        return [Goal(limit, "torch"), Goal(1.25, "expert")]

    act, act_hands = act_weights(rng), [act_masked, act_compact]
    add(f"ACT, {fwd_bwd}", act, act_program, act_hands, obs, goals(0.8))
    for layers, limit in ((1, 0.6), (3, 0.65)):
        weights = moe_weights(rng, layers)
        program = partial(moe_program, layers=layers, join=layers > 1)
        hands = [partial(moe_hand, layers=layers, way=way) for way in ("add", "regroup")]
        add(f"MoE x{layers}, {fwd_bwd}", weights, program, hands, obs, goals(limit))
    recurrent = recurrent_weights(rng)
    sequences = [rng.standard_normal((n, 16)).astype(np.float32) for n in rng.integers(1, LONGEST + 1, N)]
    hands = [partial(gru_hand, way=way) for way in ("mask", "shrink")]
    ragged = libs["dynarl"].Ragged
    add(f"GRU, lengths 1-{LONGEST}, {fwd_bwd}", recurrent, gru_program, hands, sequences, goals(1.0), given=ragged)
    steps = rng.standard_normal((N, STEPS, 16)).astype(np.float32)
    steps[:, :, 0] = np.where(rng.random((N, STEPS)) < 0.1, 1, -1)
    add(f"recurrent reset, {fwd_bwd}", recurrent, reset_program, [reset_hand], steps, goals(1.2))
    add(f"ten branches, {fwd_bwd}", branches_weights(rng), branches_program, [branches_hand], obs, goals(0.8))
    unmarked = f"no scope marked, {fwd_bwd}"  # no Module around what branches: the rewrite has to find it
    weights, program = moe_weights(rng, 3), partial(moe_program, layers=3, join=False)
    hands = [partial(moe_hand, layers=3, way=way) for way in ("add", "regroup")]
    add(f"MoE x3, {unmarked}", weights, program, hands, obs, [Goal(1.3 * 0.65, "torch")])
    add(f"recurrent reset, {unmarked}", recurrent, reset_unmarked, [reset_hand], steps, [Goal(1.3 * 1.2, "torch")])
    weights = branches_weights(rng)
    add(f"ten branches, {unmarked}", weights, branches_unmarked, [branches_hand], obs, [Goal(1.3 * 0.8, "torch")])
    few = [Goal(1.3, "torch"), Goal(1.5, "expert")]
    add("ACT, acting with 8", act, act_program, act_hands, obs[:8], few, measured=acting)
    weights, hands = moe_weights(rng, 1), [partial(moe_hand, layers=1, way=way) for way in ("add", "regroup")]
    program = partial(moe_program, layers=1, join=False)
    add("MoE, acting with 8", weights, program, hands, obs[:8], few, measured=acting)
    _add_one(report, libs, "ACT, acting with 1", act, act_program, obs[:1])
    _add_one(report, libs, "MoE, acting with 1", weights, program, obs[:1])
    trees = random_trees(rng)
    each = partial(_of_each, libs["dynarl"])
    add(f"TreeLSTM, {TREES} trees, fwd+bwd", tree_weights(rng), each, [tree_hand], trees, goals(0.9), given=list)
    _add_alone(report, libs, act, obs)
    wide = rng.standard_normal((N, natural.WIDTH)).astype(np.float32)
    for name, sizes, program, hand, limit in natural.PROGRAMS:
        weights = weights_of(rng, **sizes)
        add(f"{name}, {fwd_bwd}", weights, program, [hand], wide, [Goal(limit, "expert")])


def _of_each(dynarl: Any, lib: Any, net: Any) -> Callable[..., Any]:
    """Return the tree policy on a list of trees."""
    policy = dynarl.batched(tree_program(lib, net))
    return lambda trees: policy(dynarl.ObjectBatch(trees))
