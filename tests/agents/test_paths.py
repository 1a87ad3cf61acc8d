"""Decisions of acting, taken again in learning: ratios, gradients, random branches."""

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.agents import PPO
from dynarl.batching import DecisionRecorder, Draws, Paths, PerSampleError
from dynarl.distributions import Bernoulli, Branched, Categorical
from tests.helpers.user_policies import QUICK, Rule, ratios
from tests.learning import Score, learns


class Wild(nn.Module):
    """Every kind of decision: floats, integers, booleans, draws of numbers and of vectors, nested in loops."""

    def __init__(self, inputs=3, actions=3):
        super().__init__()
        self.w, self.gate, self.head = nn.Linear(inputs, 4), nn.Linear(4, 3), nn.Linear(4, actions)

    def walk(self, x):
        h, n = self.w(x).tanh(), 0
        while h.norm() > 0.3 and n < 5:
            h = h * (0.5 if dynarl.batching.bernoulli(h[0].sigmoid()) > 0.5 else 0.9)
            n += 1
        k = dynarl.categorical(logits=self.gate(h))
        h = h + int(k)
        several = dynarl.batching.bernoulli(h.sigmoid())
        if several.sum() > 2:
            h = h * several
        if dynarl.rand(()) < 0.3:
            h = h + float(h[1] * 2) * 0.1
        return h, n

    def forward(self, obs):
        h, _ = self.walk(obs)
        return Categorical(logits=self.head(h)), h[:1]


@pytest.mark.parametrize("mode", ["auto", "eager", "lockstep", "loop"])
def test_paths_are_those_of_the_loop_and_are_taken_again(mode):
    dynarl.manual_seed(0)
    one, other = Wild(), Wild()
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    draws = lambda: Draws(3, np.arange(50), 5)  # noqa: E731
    found = []
    for kind in (mode, "loop"):
        recorder = DecisionRecorder(50)
        h, n = dynarl.batched(one.walk, mode=kind)(x, draws=draws(), recorder=recorder)
        found.append((recorder.paths(), h, n))
    (paths, h, n), (same, *_) = found
    np.testing.assert_array_equal(paths.values, same.values)
    np.testing.assert_array_equal(paths.count, same.count)
    assert (recorder.steps < paths.count).all() and len(set(paths.count)) > 3

    again = dynarl.batched(one.walk, mode=mode)(x, draws=draws(), paths=paths)
    np.testing.assert_allclose(again[0].detach().numpy(), h.detach().numpy(), rtol=1e-5)
    free = dynarl.batched(other.walk, mode=mode)(x, draws=draws())[1].numpy()
    rerun, recorder = dynarl.batched(other.walk, mode=mode), DecisionRecorder(50)
    order = np.random.default_rng(1).permutation(50)  # minibatches shuffle rows
    forced = rerun(x[order], draws=Draws(3, order, 5), paths=paths[order], recorder=recorder)[1].numpy()
    assert (free != n.numpy()).any()
    np.testing.assert_array_equal(forced, n.numpy()[order])
    assert rerun.last.reads == 0
    for i, row in enumerate(order):
        one_path = recorder.paths()[i]
        expected = paths.values[paths.first[row] :][: paths.count[row]]
        np.testing.assert_array_equal(recorder.paths().values[one_path.first :][: one_path.count], expected)


def lazy(x):
    """Whether the second `if` is a decision depends on the way of the first."""
    if x[0] > 0:
        halted = x[1] * 2
    else:
        halted = 0.0
    if halted > 0.5:
        y = x * 2
    else:
        y = x * 3
    n = 0
    while halted < 1.0 and n < 3:
        halted, n = halted + 0.4, n + 1
        if x[2] > 0:
            halted = x[2] + halted
    return y + halted


@pytest.mark.parametrize("recorded", ["auto", "eager", "lockstep", "loop"])
@pytest.mark.parametrize("imposed", ["auto", "eager", "lockstep", "loop"])
def test_a_number_is_no_decision_however_samples_are_grouped(recorded, imposed):
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    outputs, paths = [], []
    for rows in np.split(np.argsort(x[:, 0] > 0, kind="stable"), 8):  # some groups go one way, so nothing is joined
        recorder = DecisionRecorder(len(rows))
        outputs.append(dynarl.batched(lazy, mode=recorded)(x[rows], recorder=recorder).numpy())
        paths.append((rows, recorder.paths()))
    order = np.concatenate([rows for rows, _ in paths])
    again = dynarl.batched(lazy, mode=imposed)(x[order], paths=Paths.concatenate([p for _, p in paths], axis=0))
    np.testing.assert_allclose(again.numpy(), np.concatenate(outputs), rtol=1e-6)


def test_a_program_of_another_path_is_refused():
    program = nn.Linear(2, 2)
    program.deep = True

    def run(x):
        if x[0] > 0:
            return x
        if program.deep and x[1] > 0:
            return -x
        return x * 2

    x = np.array([[1.0, 1.0], [-1.0, 1.0]], np.float32)
    recorder = DecisionRecorder(2)
    dynarl.batched(run)(x, recorder=recorder)
    assert recorder.paths().count.tolist() == [1, 2]
    program.deep = False
    with pytest.raises(PerSampleError, match=r"decides less for samples 1 than it did when its paths were recorded"):
        dynarl.batched(run)(x, paths=recorder.paths())
    shallow = DecisionRecorder(2)
    dynarl.batched(run)(x, recorder=shallow)
    program.deep = True
    with pytest.raises(PerSampleError, match=r"decides more at .*test_paths.py:\d+ in run than it did"):
        dynarl.batched(run)(x, paths=shallow.paths())


def test_what_is_computed_twice_is_recorded_once():
    """A scope that changes a list it was given runs again as part of its caller, with the same draws."""

    @dynarl.per_sample
    def push(items, x):
        items.append(x * dynarl.batching.bernoulli(x.sigmoid()))
        return x if x > 0 else -x

    def program(x):
        items = [x]
        y = push(items, x)
        return items[-1] + y + dynarl.rand(())

    x = np.linspace(-1, 1, 20, dtype=np.float32)
    found = []
    for mode in ("auto", "lockstep", "loop"):
        recorder = DecisionRecorder(20)
        y = dynarl.batched(program, mode=mode)(x, draws=Draws(0, np.arange(20), 0), recorder=recorder)
        found.append((y.numpy(), recorder.paths().values, recorder.steps))
        again = dynarl.batched(program, mode=mode)(x, draws=Draws(0, np.arange(20), 0), paths=recorder.paths())
        np.testing.assert_array_equal(again.numpy(), y.numpy())
    for parts in zip(*found):
        for part in parts[:-1]:
            np.testing.assert_array_equal(part, parts[-1])


@pytest.mark.parametrize("record_paths", [True, False])
def test_first_epoch_ratio_is_one_with_draws(record_paths):
    agent = PPO("CartPole-v1", policy=lambda: Wild(4, 2), seed=1, record_paths=record_paths, **QUICK).learn(128)
    for _ in range(2):
        np.testing.assert_allclose(ratios(agent), 1.0, atol=1e-5)


class Flip(nn.Module):
    """The branch is the sign of a parameter that starts next to 0; the state counts how often it was positive."""

    def __init__(self):
        super().__init__()
        self.sign = nn.Parameter(dynarl.tensor(0.01))
        self.heads = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])

    def initial_state(self):
        return dynarl.tensor(0)

    def forward(self, obs, state, feedback):
        up = self.sign + 0 * obs[0] > 0
        head = self.heads[0 if up else 1](obs) * (1 + self.sign)
        return Categorical(logits=head), obs[0] * 0 - self.sign, state + (1 if up else 0)


@pytest.mark.parametrize(("record_paths", "branch"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("sequence_length", [None, 4])
def test_the_gradient_follows_the_path_that_was_taken(record_paths, branch, sequence_length):
    """All of acting took branch 0; after the sign flips, learning still teaches that one."""
    options = {**QUICK, "record_paths": record_paths, "sequence_length": sequence_length}
    agent = PPO(Rule, policy=Flip, seed=0, **options)
    fragment = agent.collector.collect()
    for name in ("advantages", "returns"):
        fragment[name] = np.random.default_rng(0).normal(size=fragment.value.shape).astype(np.float32)
    batch = agent.learner.rows.batch(fragment)
    agent.policy.program.sign.data.array[...] = -0.01
    for minibatch in agent.learner.rows.minibatches(batch, np.random.default_rng(0), agent.config.batch_size):
        agent.policy.zero_grad()
        losses, log_prob, _ = agent.learner.loss_terms(minibatch)
        losses["policy_loss"].backward()
        gradients = [head.weight.grad for head in agent.policy.program.heads]
        assert gradients[branch] is not None and abs(gradients[branch].numpy()).max() > 0
        assert gradients[1 - branch] is None or not gradients[1 - branch].numpy().any()
        taken = np.allclose(log_prob.detach().numpy(), minibatch.log_prob, atol=0.05)
        assert taken == record_paths


def test_learning_goes_on_where_every_minibatch_flips_the_branch():
    one = PPO(Rule, policy=Flip, seed=0, **{**QUICK, "learning_rate": 0.05}).learn(5 * 64)
    other = PPO(Rule, policy=Flip, seed=0, **{**QUICK, "learning_rate": 0.05, "record_paths": False}).learn(5 * 64)
    assert one.policy.program.sign.item() < 0 and other.policy.program.sign.item() < 0
    weights = [agent.policy.program.heads[1].weight.detach().numpy() for agent in (one, other)]
    assert (weights[0] != weights[1]).any()
    np.testing.assert_allclose(ratios(one), 1.0, atol=1e-5)


class Gate(nn.Module):
    """A random branch chooses the head; with `counted` its log-probability is part of the action's."""

    def __init__(self, counted=True, kind="categorical"):
        super().__init__()
        self.gate, self.counted, self.kind = nn.Parameter(dynarl.zeros(2)), counted, kind
        self.bias = nn.Parameter(dynarl.zeros(1))

    def forward(self, obs):
        logits = self.gate + 0 * obs[0]
        if self.kind == "categorical":
            gate = Categorical(logits=logits)
            branch = gate.sample()
            log_prob = gate.log_prob(branch)
        else:
            gate = Bernoulli(logits=logits[1] - logits[0])
            branch = gate.sample()
            log_prob = gate.log_prob(branch)
        good = 8.0 if branch == 1 else -8.0  # branch 1 takes the paying action, branch 0 the other
        distribution = Categorical(logits=dynarl.stack([0 * obs[0], good + 0 * self.bias[0]]))
        value = self.bias
        return (Branched(distribution, log_prob, gate.entropy()) if self.counted else distribution), value


class Pay(Rule):
    """Action 1 pays; nothing else matters."""

    def __init__(self):
        super().__init__()
        self.action_space = type(self.action_space)(2)

    def step(self, action):
        self.t += 1
        return self._obs(), float(action == 1), False, self.t == 5, {}

    def _info(self):
        return {}


OPTIONS = {**QUICK, "num_envs": 8, "batch_size": 64, "num_epochs": 4, "learning_rate": 0.05}
GATES = {
    kind: learns(
        f"paths-{kind}",
        lambda kind=kind, *, seed: PPO(Pay, policy=Gate(kind=kind), seed=seed, **OPTIONS),
        steps=15 * 128,
        scores=Score("logit", lambda agent: np.diff(agent.policy.program.gate.detach().numpy())[0], 2.0, 0.0),
    )
    for kind in ("categorical", "bernoulli")
}


@pytest.mark.learns
@pytest.mark.parametrize("kind", GATES)
def test_the_policy_gradient_reaches_what_drew_the_branch(kind):
    """Branch 1 is drawn nine times of ten."""
    np.testing.assert_allclose(ratios(GATES[kind].check()), 1.0, atol=1e-5)
    deaf = PPO(Pay, policy=Gate(counted=False, kind=kind), seed=0, **OPTIONS).learn(5 * 128)
    assert not deaf.policy.program.gate.detach().numpy().any()


def test_gradient_of_a_branch_is_the_score_function():
    """d/d gate of log p(branch) + log p(a | branch), against the closed form."""
    program = Gate()
    program.gate.data.array[...] = [0.3, -0.2]
    x, recorder = np.ones((64, 3), np.float32), DecisionRecorder(64)
    run = dynarl.batched(program)
    run(x, draws=Draws(0, np.arange(64), 0), recorder=recorder)
    branches = recorder.paths().values[recorder.paths().first]
    assert 0 < branches.mean() < 1
    distribution, _ = run(x, draws=Draws(0, np.arange(64), 0), paths=recorder.paths())
    distribution.log_prob(dynarl.tensor(branches)).sum().backward()
    p = np.exp([0.3, -0.2]) / np.exp([0.3, -0.2]).sum()
    expected = np.bincount(branches, minlength=2) - 64 * p
    np.testing.assert_allclose(program.gate.grad.numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(
        distribution.entropy().detach().numpy(),
        -(p * np.log(p)).sum() + distribution.base.entropy().detach().numpy(),
        rtol=1e-4,
    )


def test_branched():
    with pytest.raises(ValueError, match=r"Branched: log_prob must have the batch_shape \(4,\) of the distribution"):
        Branched(Categorical(logits=dynarl.zeros(4, 2)), dynarl.zeros(3))
    base = Categorical(logits=dynarl.tensor([[0.0, 1.0]] * 3))
    branched = Branched(base, dynarl.tensor([-1.0, -2.0, -3.0]))
    assert branched.noise == base.noise and (branched.mode.numpy() == 1).all()
    sample = branched.sample_from(np.full((3, 1), 0.1, np.float32))
    np.testing.assert_allclose(branched.log_prob(sample).numpy(), base.log_prob(sample).numpy() - [1, 2, 3], rtol=1e-6)
    np.testing.assert_array_equal(branched.entropy().numpy(), base.entropy().numpy())
    assert branched.sample((5,)).shape == (5, 3)


def test_paths_are_cut_and_stacked_like_arrays():
    one = Paths(np.arange(6), np.array([0, 1, 3]), np.array([1, 2, 3]))
    two = Paths.stack([one, one])
    assert two.shape == (2, 3) and two.first[1].tolist() == [6, 7, 9]
    cut = two.reshape(1, 2, 3).swapaxes(0, 1)
    assert cut.shape == (2, 1, 3) and cut[1, 0, 2].count == 3
