"""`explain` names every option and detail with its value and source."""

import dataclasses

import pytest

from dynarl import agents
from dynarl.agents.explain import field_docs

EXPLAINED = [
    cls
    for cls in (getattr(agents, name) for name in agents.__all__)
    if isinstance(cls, type) and getattr(cls, "sources", None)
]


@pytest.mark.parametrize("cls", EXPLAINED)
def test_every_option_has_a_meaning_and_a_source(cls):
    names = {field.name for field in dataclasses.fields(cls.config_class)}
    assert cls.sources.keys() == names
    assert field_docs(cls.config_class).keys() == names
    assert all(cls.sources.values()) and cls.facts


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


def test_field_docs_of_inherited_fields():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Child(agents.PPOConfig):
        """More."""

        more: int = 0
        """Mine,
        on two lines."""

    docs = field_docs(Child)
    assert docs["more"] == "Mine, on two lines." and docs["gamma"] == "Discount factor."
