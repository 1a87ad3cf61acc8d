"""`explain` names every option and detail with its value and source."""

import dataclasses

import pytest

from dynarl import agents
from dynarl.agents.explain import field_docs, split_source

EXPLAINED = [agents.PPO, agents.DQN, agents.SAC]


@pytest.mark.parametrize("cls", EXPLAINED)
def test_every_option_has_a_meaning_and_a_source(cls):
    names = {field.name for field in dataclasses.fields(cls.config_class)}
    docs = field_docs(cls.config_class)
    assert docs.keys() == names and cls.facts
    for name, doc in docs.items():
        meaning, source = split_source(doc)
        assert meaning and (source or cls.sources[name]), name


def test_ppo(capsys):
    agent = agents.PPO("CartPole-v1", gae_lambda=0.9, hidden_sizes=(8,))
    details = {detail.name: detail for detail in agent.explain()}
    assert details["gae_lambda"].value == 0.9
    assert "eq. 16" in details["gae_lambda"].source
    assert details["networks"].value == f"policy: {4 * 8 + 8 + 8 * 2 + 2 + 4 * 8 + 8 + 8 + 1:,} parameters"
    assert details["networks of actor and critic"].value == "separate"
    said = capsys.readouterr().out
    assert said.startswith("PPO on CartPole-v1\n")
    assert all(f"\n{name} = " in said for name in details)
    assert "source: arXiv:1707.06347, eq. 7" in said
    agent.explain(show=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "overrides", [{}, {"distributional": "c51", "double": True}, {"distributional": "qr", "noisy": True}]
)
def test_dqn(overrides, capsys):
    agent = agents.DQN("CartPole-v1", buffer_size=1000, train_freq=2, **overrides)
    details = {detail.name: detail for detail in agent.explain()}
    assert details["ratio of updates to data"].value == 0.5
    chooser = "Q" if agent.config.double else "Q'"
    assert details["td_target"].value == f"y = r + gamma^k Q'(s', argmax_a {chooser}(s', a))"
    assert ("Huber" in details["loss"].value) == (agent.config.distributional != "c51")
    assert details["exploration"].value == ("noise on the weights" if agent.config.noisy else "epsilon-greedy")
    assert "float32" in details["replay of observations"].value
    said = capsys.readouterr().out
    assert said.startswith("DQN on CartPole-v1\n") and "source: arXiv:1509.06461, eq. 4" in said


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_sac(env, capsys):
    agent = agents.SAC(env, buffer_size=1000)
    details = {detail.name: detail for detail in agent.explain()}
    box = env == "Pendulum-v1"
    assert details["target entropy"].value == agent.learner.objective.target_entropy()
    assert details["scale of Box actions"].value.startswith("density" if box else "only of Box")
    assert details["action masks"].value.startswith("only of Discrete" if box else "forbidden")
    assert details["encoders"].value == "none: observations are numbers"
    assert details["temperature loss"].value.startswith("-log alpha")
    assert "source: SAC, table 1\n" in capsys.readouterr().out


def test_every_fact_of_every_agent_has_a_value_and_is_named_once():
    for agent in (agents.PPO("CartPole-v1"), agents.DQN("CartPole-v1"), agents.SAC("Pendulum-v1", alpha=0.2)):
        names = [detail.name for detail in agent.explain(show=False)]
        assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
        assert all(
            detail.value is not None or hasattr(agent.config, detail.name) for detail in agent.explain(show=False)
        )


def test_field_docs_of_inherited_fields():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Child(agents.PPOConfig):
        """More."""

        more: int = 0
        """Mine,
        on two lines."""

    docs = field_docs(Child)
    assert docs["more"] == "Mine, on two lines."
    assert docs["gamma"].startswith("Discount factor. Source: arXiv:1707.06347")
