"""Per-sample programs against the loop over samples: branches, joins, random draws, ragged sequences, agents."""

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.agents import PPO
from dynarl.batching import Draws, Ragged, batched, per_sample
from dynarl.batching.scopes.rewritten import rewritten
from dynarl.distributions import Categorical
from tests.learning import SHORT_CARTPOLE, learns, mean_return

N, D = 40, 8


class Ponder(nn.Module):
    """Think until halted; the observation decides how long at most."""

    def __init__(self, inputs=4, actions=2):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(inputs, 32), nn.Tanh())
        self.cell = nn.Sequential(nn.Linear(32, 32), nn.Tanh())
        self.halt = nn.Linear(32, 1)
        self.policy, self.value = nn.Linear(32, actions), nn.Linear(32, 1)

    def forward(self, obs):
        h, halted, n, out = self.encode(obs), 0.0, 0, 0.0
        patience = 6 if obs[2].abs() > 0.05 else 2
        while halted < 0.99 and n < patience:
            h = self.cell(h)
            p = self.halt(h)[0].sigmoid()
            out, halted, n = out + p * h, halted + p, n + 1
        return Categorical(logits=self.policy(out)), self.value(out)[0], n


class Reset(nn.Module):
    """A recurrence that forgets where the environment says so."""

    def __init__(self):
        super().__init__()
        self.enc, self.cell = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, xs, done):
        h = dynarl.zeros(D)
        for t in range(5):
            if done[t]:
                h = dynarl.zeros(D)
                fresh = h + 1
                h = fresh - 1
            h = (self.cell(h) + self.enc(xs[t])).tanh()
        return h


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(D, 3)
        self.experts = nn.ModuleList([nn.Linear(D, D) for _ in range(3)])

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        k = int(weights.argmax())
        return self.experts[k](x) * weights[k], k


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.cell = nn.Linear(3, D), nn.Linear(D, D)

    def forward(self, sequence):
        h = dynarl.zeros(D)
        for x in sequence:
            h = (self.cell(h) + self.enc(x)).tanh()
        return h + sequence[-1].sum(), len(sequence)


def inputs(name):
    rng = np.random.default_rng(0)
    x = dynarl.tensor(rng.normal(size=(N, D)).astype(np.float32))
    done = dynarl.tensor(rng.random((N, 5)) < 0.3)
    steps = dynarl.tensor(rng.normal(size=(N, 5, D)).astype(np.float32))
    ragged = Ragged([rng.normal(size=(rng.integers(1, 7), 3)).astype(np.float32) for _ in range(N)])
    return {"Ponder": (x[:, :4],), "Reset": (steps, done), "Experts": (x,), "Sequence": (ragged,)}[name]


def numbers(result):
    parts = result if isinstance(result, tuple) else (result,)
    return [(p.logits if isinstance(p, Categorical) else p) for p in parts]


@pytest.mark.parametrize("program", [Ponder, Reset, Experts, Sequence])
def test_values_and_gradients_are_the_loop_s(program):
    dynarl.manual_seed(1)
    module = program()
    with dynarl.no_grad():
        for p in module.parameters():
            p.mul_(2.0)  # so that samples disagree
    args = inputs(program.__name__)
    found = {}
    for mode in ("auto", "loop"):
        module.zero_grad()
        run = batched(module, mode=mode)
        out = numbers(run(*args))
        sum((o.float() ** 2).sum() for o in out).backward()
        found[mode] = out, {k: p.grad.numpy().copy() for k, p in module.named_parameters()}, run
    for a, b in zip(found["auto"][0], found["loop"][0]):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), atol=1e-5)
    for k, g in found["loop"][1].items():
        np.testing.assert_allclose(found["auto"][1][k], g, atol=1e-4, err_msg=k)
    run = found["auto"][2].run.last
    assert 1 < run.groups < N and "test_programs.py" in found["auto"][2].explain()


def test_if_statements_are_joined_without_a_decorator():
    module = Reset()
    run = batched(module)
    run(*inputs("Reset"))
    # one part per outcome and step, not one per path
    assert run.run.last.groups <= 1 + 2 * 5
    assert rewritten(Reset.forward) is not Reset.forward


def test_a_list_that_a_branch_could_change_keeps_its_samples_apart():
    def program(x):
        seen = []
        for i in range(2):
            if x[i] > 0:
                y = [*seen, i]
                seen = y
        return len(seen), x.sum()

    x = inputs("Experts")[0]
    count, _ = batched(program)(x)
    np.testing.assert_array_equal(count.numpy(), (x.numpy()[:, :2] > 0).sum(1))


def test_exceptions_and_recursion():
    def program(x):
        def halve(v, depth):
            return depth if v.abs() < 0.1 else halve(v / 2, depth + 1)

        try:
            if x[0] > 1:
                raise ValueError("large")
            kind = 0
        except ValueError:
            kind = 1
        return halve(x[1], 0), kind

    x = inputs("Experts")[0]
    a, b = batched(program)(x), batched(program, mode="loop")(x)
    np.testing.assert_array_equal(a[0].numpy(), b[0].numpy())
    np.testing.assert_array_equal(a[1].numpy(), (x.numpy()[:, 0] > 1).astype(int))


def random_walk(x):
    u, k = dynarl.rand(3), 0
    while dynarl.rand(()) < 0.7:
        k += 1
        u = u + dynarl.randn(3) * x
    c = dynarl.categorical(logits=x)
    return (u * 2 if c == 1 else u), k, c


def test_draws_do_not_depend_on_grouping():
    x = inputs("Experts")[0][:, :3]
    draws = lambda ids=None: Draws(3, np.arange(N) if ids is None else ids, 7)  # noqa: E731
    whole = [p.numpy() for p in batched(random_walk)(x, draws=draws())]
    one_by_one = [p.numpy() for p in batched(random_walk, mode="loop")(x, draws=draws())]
    some = np.array([30, 2, 17])
    part = [p.numpy() for p in batched(random_walk)(x[dynarl.tensor(some)], draws=draws(some))]
    for a, b, c in zip(whole, one_by_one, part):
        np.testing.assert_allclose(a, b, atol=1e-6)
        np.testing.assert_allclose(a[some], c, atol=1e-6)
    assert len(set(whole[1].tolist())) > 3 and set(whole[2].tolist()) == {0, 1, 2}
    other = batched(random_walk)(x, draws=Draws(3, np.arange(N), 8))[1].numpy()
    assert (other != whole[1]).any()


def test_draws_follow_manual_seed():
    x = inputs("Experts")[0][:, :3]
    results = []
    for seed in (1, 1, 2):
        dynarl.manual_seed(seed)
        results.append(batched(random_walk)(x)[0].numpy())
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_uniform_and_normal_draws_have_their_moments():
    def program(x):
        return dynarl.rand(50), dynarl.randn(50)

    uniform, normal = (p.numpy() for p in batched(program)(dynarl.zeros(400, 1)))
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.01
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert abs(np.corrcoef(uniform[:-1].ravel(), uniform[1:].ravel())[0, 1]) < 0.02


def test_per_sample_functions_join():
    @per_sample
    def step(h):
        return h * 2 if h[0] > 0 else h - 1

    def program(x):
        for _ in range(6):
            x = step(x)
        return x

    x = inputs("Experts")[0]
    run = batched(program)
    np.testing.assert_allclose(run(x).numpy(), batched(program, mode="loop")(x).numpy(), rtol=1e-5)
    assert run.last.groups <= 1 + 2 * 6
    assert step(x[0]).shape == (D,)  # outside a batched call it is an ordinary function


class Halting(Ponder):
    """`Ponder` as a policy."""

    def forward(self, obs):
        return super().forward(obs)[:2]


def halting(seed):
    dynarl.manual_seed(seed)
    return PPO("CartPole-v1", policy=batched(Halting()), seed=seed, **SHORT_CARTPOLE)


CARTPOLE = learns("batching-cartpole", halting, steps=15_000, scores=mean_return(75, static=22.0, episodes=10))


@pytest.mark.learns
def test_ppo_trains_a_policy_written_for_one_observation():
    policy = CARTPOLE.check().policy
    assert policy.run.last.groups >= 1 and all(p.grad is not None for p in policy.parameters())


def test_a_module_of_shared_tensors_and_then_of_a_sample_s():
    layer = nn.Linear(2, 2)

    def program(x):
        bias = layer(layer.bias)
        y = layer(x)
        if x[0] > 0:
            return y + bias
        return y - bias

    x = np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -0.2]], np.float32)
    expected = batched(program, mode="loop")(x).detach().array
    np.testing.assert_allclose(batched(program)(x).detach().array, expected, rtol=1e-6)


def test_nothing_is_kept_from_a_part_that_computed_without_gradients():
    def program(x):
        h = x * 2
        if x[0] > 0:
            with dynarl.no_grad():
                scale = h.sum()
            return (h * scale).sum()
        return h.sum()

    x = dynarl.tensor(np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, 0.2]], np.float32), requires_grad=True)
    batched(program)(x).sum().backward()
    np.testing.assert_allclose(x.grad.array, [[12, 12], [2, 2], [2, 2]], rtol=1e-6)


@pytest.mark.usefixtures("unguarded")
def test_samples_are_together_again_after_a_loop():
    """What follows a loop runs once, wherever in it the samples stopped; so does every iteration."""
    head = nn.Linear(3, 2)
    calls = []

    def halting(x):
        h, total, n = x, 0.0, 0
        while True:
            h, n = h.tanh(), n + 1
            p = h[0].sigmoid() * 0.3
            if n == 9 or total + p > 0.8:
                return head(h * (1 - total))
            total = total + p

    def counting(sequence):
        h = sequence[0] * 0.5
        for x in sequence:
            h = (h + x).tanh()
            if h.sum() > 1.5:
                break
        calls.append(h.tensor.shape[0] if hasattr(h, "tensor") else 1)
        return head(h)

    scales = [2.0, -1.0, 0.5, 3.0]

    def dispatching(x):
        for scale in scales:
            x = (x * scale, x + 1, x.sin())[int(x.argmax())]
        return head(x)

    rng = np.random.default_rng(0)
    data = rng.standard_normal((40, 3)).astype(np.float32)
    sequences = [rng.standard_normal((n, 3)).astype(np.float32) for n in rng.integers(1, 9, 40)]
    for program, given, most in ((halting, data, 60), (dispatching, data, 40), (counting, Ragged(sequences), 80)):
        call, alone = batched(program), batched(program, mode="loop")
        np.testing.assert_allclose(call(given).detach().numpy(), alone(given).detach().numpy(), rtol=1e-5, atol=1e-6)
        assert call.last.operations < most, call.explain()
    assert calls[0] == 40


def test_loops_that_change_what_others_see_run_as_they_stand():
    def collecting(x):
        found, more = [x], iter([1.0, 2.0, 3.0])
        while x[0] < 2:
            x = x + next(more, 4.0)
            found += [x]
        return sum(found[1:], found[0])

    def deferred(x):
        twice = lambda: h * 2  # noqa: E731  (reads what the loop sets)
        h = x
        while h.sum() < 3:
            h = twice() * 0.5 + 1
        return h

    data = np.random.default_rng(0).standard_normal((30, 2)).astype(np.float32)
    for program in (collecting, deferred):
        results = [batched(program, mode=mode)(data).numpy() for mode in ("eager", "loop")]
        np.testing.assert_allclose(*results, rtol=1e-5)


def test_what_a_distribution_remembers_stays_on_its_path():
    """It comes out of a scope, is asked on both sides of a split, and keeps what it computed: each side its own."""

    class Actor(nn.Module):
        def forward(self, x):
            return Categorical(logits=x)

    actor = Actor()

    def program(x):
        distribution = actor(x)
        if x[0] > 0:
            return distribution.logits * 2
        return distribution.logits + distribution.probs

    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    np.testing.assert_allclose(batched(program)(x).numpy(), batched(program, mode="loop")(x).numpy(), rtol=1e-5)


def test_a_loop_in_a_loop_reads_what_it_left_behind():
    def program(x):
        s = x[0]
        for i in range(int(x[1].abs() * 3)):
            turns = 0
            while s < 1 and turns < 2:
                turns += 1
                s = s * 2 + x[2].abs() * i
        return s

    x = inputs("Experts")[0]
    np.testing.assert_allclose(batched(program)(x).numpy(), batched(program, mode="loop")(x).numpy())


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell])
def test_recurrent_cells_run_on_all_samples(kind):
    """From a state of each sample's own, and from one that all share."""
    cell = kind(3, 4)
    first = dynarl.tensor(np.full(4, 0.3, np.float32))

    def program(x, own):
        h = own * first if x[0] > 0 else first
        for _ in range(2):
            h = cell(x, (h, first)) if kind is nn.LSTMCell else cell(x, h)
            h = h[0] if kind is nn.LSTMCell else h
        return h

    rng = np.random.default_rng(0)
    given = rng.normal(size=(16, 3)).astype(np.float32), rng.normal(size=(16, 4)).astype(np.float32)
    run, found = batched(program), []
    for call in (run, batched(program, mode="loop")):
        cell.zero_grad()
        out = call(*given)
        out.sum().backward()
        found.append([out.detach().numpy()] + [p.grad.numpy().copy() for p in cell.parameters()])
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert run.last.operations < 24
