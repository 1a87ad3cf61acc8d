"""What agents with a replay share: stepping the environments or reading workers, storing, sampling, saved state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.agent import Agent
from dynarl.agents.explain import Fact
from dynarl.agents.loaded_settings import Effect, affected
from dynarl.agents.off_policy.actor import OffPolicyActor
from dynarl.agents.off_policy.replay_feed import ReplayFeed
from dynarl.agents.off_policy.stepper import RecordStepper, make_stepper
from dynarl.agents.state import load_attributes, save_attributes
from dynarl.autograd.device import to_device
from dynarl.envs import Environments
from dynarl.rollout import Batch, ReplayBuffer
from dynarl.rollout.carry_over import carry_over
from dynarl.rollout.packed import packed_rows
from dynarl.rollout.transition_collector import TransitionCollector

__all__ = ["REPLAY_DETAIL", "OffPolicyAgent"]

REPLAY_DETAIL = Fact(
    "replay of observations",
    lambda agent: f"{agent.replay.nbytes / 2**20:.1f} MiB, each observation once, {agent.replay.stored_as}",
    "The next row is the successor; only last observations of episodes are stored apart.",
    "",
)

# Fields of a batch that updates read on the device; observations go there encoded
_ON_DEVICE = ("action", "reward", "discount", "weight", "noise", "next_noise", "action_mask", "next_action_mask")


class OffPolicyAgent(Agent):
    """An agent with a replay. A subclass defines `own_batches` and `sample`.

    An iteration steps the environments, or reads one fragment of the workers, stores the transitions in `replay`, and
    yields the samples that these pay for.
    """

    learns_from_replay = True
    actor: OffPolicyActor
    replay: ReplayBuffer
    progress_saved = (
        "stepper.started", "vector_steps", "env_steps", "learner.grad_steps", "iteration", "actor.predictions",
    )  # fmt: skip

    def _make_actor(self) -> Any:
        """Make the actor of the environments' spaces; close the environments where that fails."""
        spaces = self.observation_space, self.action_space
        try:
            return self.make_actor(*spaces, self.config, seed=self.seed, device=self.device, **self.given)
        except Exception:
            self.envs.close()
            raise

    def _start(self, replay: ReplayBuffer) -> None:
        """Make what steps environments, or reads those of workers, and stores transitions in `replay`."""
        cfg = self.config
        self.replay = replay
        self.stepper = make_stepper(self.envs, self.actor)
        self.collector: Any = TransitionCollector(self.stepper, num_steps=cfg.fragment_steps)
        if self.experience is not None:
            self.experience.networks = self.networks().values()
        self.feed: ReplayFeed | None = None
        if self.has_workers:
            ratio = {"train_freq": cfg.train_freq, "gradient_steps": cfg.gradient_steps}
            self.feed = ReplayFeed(**ratio, learning_starts=cfg.learning_starts)
        self._metrics: dict[str, Any] = {}

    @classmethod
    def make_collector(
        cls, envs: Environments, actor: OffPolicyActor, config: Any, *, seed: int = 0
    ) -> TransitionCollector:
        """Make the collector that writes fragments of transitions for another agent's replay."""
        return TransitionCollector(make_stepper(envs, actor), num_steps=config.fragment_steps)

    def acting_config(self, num_envs: int) -> Any:
        """Return the config of a worker with `num_envs` of the environments, which stores nothing itself."""
        least = max(self.config.batch_size, num_envs * self.config.n_step)
        return replace(self.config, num_envs=num_envs, buffer_size=least)

    def replay_arguments(self) -> dict[str, Any]:
        """Return how the replay stores observations and actions, and sums rewards."""
        layout, packing = self.actor.stored_layout(), None
        shape, dtype = layout["obs"]
        if self.actor.records is None or self.actor.records.plain:  # other records pack their observations themselves
            packing = packed_rows(self.observation_space)
            dtype = np.float32 if np.dtype(dtype).kind == "f" else dtype  # the networks read float32
        return {
            "observation": (shape, dtype), "action": layout["action"], "packing": packing,
            "n_step": self.config.n_step, "gamma": self.config.gamma,
        }  # fmt: skip

    # -- counters -------------------------------------------------------------------------------------------------

    @property
    def env_steps(self) -> int:
        """Environment steps so far; exploration depends on them, so the actor holds the count."""
        return self.actor.env_steps

    @env_steps.setter
    def env_steps(self, count: int) -> None:
        self.actor.env_steps = count

    @property
    def vector_steps(self) -> int:
        """Steps of each environment so far, which key random numbers."""
        return self.stepper.steps

    @vector_steps.setter
    def vector_steps(self, count: int) -> None:
        self.stepper.steps = count

    # -- learning -------------------------------------------------------------------------------------------------

    def batches(self, progress: float) -> Iterator[Batch]:
        """Store transitions of the own environments or of workers and yield the samples that they pay for."""
        self._metrics = {}
        self.learner.anneal(progress)
        return self.own_batches() if self.feed is None else self._batches_of_workers(self.feed)

    def own_batches(self) -> Iterator[Batch]:
        """Step the environments and yield the samples that are due."""
        raise TypeError(f"{type(self).__name__}: own_batches must be defined")

    def samples(self, count: int) -> Iterator[Batch]:
        """Yield the batches of `count` gradient steps."""
        raise TypeError(f"{type(self).__name__}: samples must be defined")

    def stored(self, before: int) -> None:
        """Called after steps were stored, with the environment steps before them."""

    def step_environments(self) -> Mapping[str, NDArray[Any]]:
        """Act once in every environment, store the transitions, and return the info of episodes that ended."""
        before = self.env_steps
        info = self.stepper.step(self.replay).info
        self.stored(before)
        return info

    def _batches_of_workers(self, feed: ReplayFeed) -> Iterator[Batch]:
        """Store a fragment that a worker collected and yield the samples that it pays for."""
        before = self.env_steps
        fragment = self.collector.collect(policy_version=self.iteration)
        self.replay.add_fragment(fragment)
        self.env_steps += fragment.num_valid
        due = feed.insert(fragment.num_valid, self.env_steps)
        self.stored(before)
        yield from self.samples(due)
        self.vector_steps = self.collector.step
        self._metrics = {
            **self.collector.metrics(), **feed.metrics(),
            "episode/return": fragment.episode_return, "episode/length": fragment.episode_length,
        }  # fmt: skip

    def on_device(self, batch: Batch) -> Batch:
        """Return a sample with the fields that updates read on the device."""
        if self.device != "cpu":
            for name in _ON_DEVICE:
                if name in batch:
                    batch[name] = to_device(batch[name], self.device)
        return batch

    def acting_metrics(self) -> dict[str, Any]:
        """Return the metrics of acting since the last call; those of workers are in their collector's."""
        return self.actor.metrics() if self.feed is None else {}

    def collect_in(self, envs: Environments) -> None:
        """Step other environments; random streams continue, episodes that are open in the replay end here."""
        steps, self.stepper = self.stepper.steps, make_stepper(envs, self.actor)
        self.stepper.steps = steps
        self.collector = TransitionCollector(self.stepper, num_steps=self.config.fragment_steps)
        if self.experience is not None:
            self.experience.networks = self.networks().values()
        self.replay.cut()

    def restart_episodes(self) -> None:
        """Begin new episodes in the environments; those that are open in the replay end here."""
        super().restart_episodes()
        self.replay.cut()

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def experience(self) -> RecordStepper | None:
        """The stepper, where acting carries a state from step to step."""
        return self.stepper if isinstance(self.stepper, RecordStepper) else None

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes: learner, replay, environments and counters."""
        return save_attributes(self, ("replay",)) | self.state_without_replay()

    def state_without_replay(self) -> dict[str, Any]:
        """Return everything that changes but the replay."""
        state = save_attributes(self, self.saved)
        state["envs"] = self.envs.state_dict() if self.stepper.started else {}
        state |= save_attributes(self, (*self.progress_saved, "experience"))
        if self.feed is not None:
            state["feed"] = {"limiter": self.feed.state_dict(), "collector": self.collector.state_dict()}
        return state

    def load_changed(self, state: Mapping[str, Any], changes: Mapping[str, tuple[Any, Any]]) -> list[str]:
        """Load a state that was saved with other settings; return a line for each part that does not continue."""
        notes, stored = [], state.get("replay")
        num_envs = self.replay.num_envs if stored is None else int(stored["num_envs"])
        resized = num_envs != self.replay.num_envs
        if stored is None:
            notes.append("replay: the checkpoint has none, so it begins empty")
        elif resized or affected(changes, Effect.REPLAY):
            kept, held = carry_over(stored, self.replay, self.replay_arguments()), int(np.sum(stored["count"]))
            notes.append(f"replay: {kept:,} of {held:,} transitions are carried over, with new priorities")
        else:
            self.replay.load_state_dict(stored)
        if resized:
            notes.append(f"num_envs: {num_envs} -> {self.replay.num_envs}, new episodes begin")
        same_envs, same_ratio = stored is not None and not resized, not affected(changes, Effect.RATIO)
        self._load(state, same_envs=same_envs, same_ratio=same_ratio)
        return notes

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; environments that cannot be restored begin new episodes."""
        self.replay.load_state_dict(state["replay"])
        self._load(state)

    def _load(self, state: Mapping[str, Any], *, same_envs: bool = True, same_ratio: bool = True) -> None:
        """Load everything but the replay."""
        load_attributes(self, (*self.saved, *self.progress_saved, *(("experience",) if same_envs else ())), state)
        feed = state.get("feed") if same_envs else None
        if self.feed is not None:
            self.stepper.started = False  # the environments are those of workers
            self._load_feed(self.feed, feed, same_ratio=same_ratio)
        elif not same_envs:
            self.stepper.started = False
        else:
            if feed is not None:
                self.replay.cut()  # episodes that workers had begun
            if self.stepper.started and not self.envs.load_state_dict(state["envs"]):
                self.replay.cut()  # new episodes: those that are open in the replay end here

    def _load_feed(self, feed: ReplayFeed, state: Mapping[str, Any] | None, *, same_ratio: bool) -> None:
        """Continue from the feed's state, or from a run without workers, or with another ratio of updates to data."""
        if state is None or not same_ratio:
            feed.begin_at(self.env_steps)
        else:
            feed.load_state_dict(state["limiter"])
        self.collector.load_state_dict({"step": self.vector_steps} if state is None else state["collector"])
