"""Learning from a replay that workers fill."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from dynarl.rollout import Fragment
from dynarl.rollout.limiter import SampleLimiter

__all__ = ["ReplayFeed"]


class ReplayFeed:
    """Stores the fragments of an agent's workers and says how many gradient steps they pay for.

    A `SampleLimiter` holds them at gradient_steps / train_freq for every step from `learning_starts` on, in rounds of
    gradient_steps. The next fragment is not looked at before they are made: a fast worker waits for the learner, a
    fast learner for the workers, and what is learned from what does not depend on either.
    """

    def __init__(self, agent: Any) -> None:
        cfg = agent.config
        self.agent, self._round = agent, cfg.gradient_steps
        self.limiter = SampleLimiter(Fraction(cfg.gradient_steps, cfg.train_freq), min_size=cfg.learning_starts)

    def take(self) -> tuple[Fragment, int]:
        """Put the next fragment into the replay; return it and the number of gradient steps to make now."""
        agent, limiter = self.agent, self.limiter
        fragment = agent.collector.collect(policy_version=agent.iteration)
        agent.replay.add_fragment(fragment)
        agent.env_steps += fragment.num_valid
        limiter.inserted(fragment.num_valid)
        due = limiter.allowed() // self._round * self._round if agent.env_steps > agent.config.learning_starts else 0
        limiter.sampled(due)
        return fragment, due

    def metrics(self, fragment: Fragment) -> dict[str, Any]:
        """Return what the collector reports, the episodes that ended, and the ratio so far."""
        limiter = self.limiter
        learned_from = max(1, limiter.inserts - limiter.min_size)
        return {
            **self.agent.collector.metrics(),
            "replay/updates_per_step": limiter.samples / learned_from,
            "episode/return": fragment.episode_return,
            "episode/length": fragment.episode_length,
        }

    def state_dict(self) -> dict[str, Any]:
        """The limiter's counts and the collector's state."""
        return {"limiter": self.limiter.state_dict(), "collector": self.agent.collector.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any] | None, *, steps: int) -> None:
        """Continue from `state_dict`, or from a run without workers, which made `steps` in each environment."""
        if state is not None:
            self.limiter.load_state_dict(state["limiter"])
            self.agent.collector.load_state_dict(state["collector"])
            return
        self.limiter.inserts, self.limiter.samples = self.agent.env_steps, 0
        self.limiter.sampled(self.limiter.allowed())
        self.agent.collector.load_state_dict({"step": steps})
