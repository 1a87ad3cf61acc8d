"""Collects fragments: acts in environments with a policy and stores the transitions."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dynarl.envs.masks import is_maskable
from dynarl.envs.protocol import Environments
from dynarl.envs.spaces import action_layout
from dynarl.rollout.fragment import Final, Fragment
from dynarl.rollout.noise import NoiseStream

__all__ = ["ActResult", "ActingPolicy", "Collector", "Reporting"]


class ActResult(NamedTuple):
    """The result of acting: action [N, ...], log_prob [N] and value [N] (None if not computed), the policy's next
    state, and the paths [N] (None if not recorded).
    """

    action: NDArray[Any]
    log_prob: Any = None
    value: Any = None
    state: Any = None
    paths: Any = None


class ActingPolicy(Protocol):
    """The interface of a policy to `Collector`; arrays are NumPy's.

    ``noise_kind`` is "uniform" ((0, 1)), "normal" or "none"; ``noise_size`` is K, the random numbers per action
    (Discrete: 1 uniform by inversion or n; a Gaussian: one normal per dimension). With ``noise_period``, they change
    only every so many steps (state-dependent exploration).
    """

    noise_kind: str
    noise_size: int

    def act(
        self, obs: NDArray[Any], noise: NDArray[np.float32] | None, *, explore: bool, action_mask: Any = None
    ) -> ActResult:
        """Return action [N, ...], log_prob [N] and value [N] for obs [N, ...] and noise [N, K].

        The action is the policy's: unclipped, Discrete counted from 0. `action_mask` is [N, M] if the environments have
        masks. Collectors set `explore`; without it the action is the greedy one.
        """
        ...

    def value(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return V [B] of obs [B, ...]."""
        ...


class Reporting:
    """Reports of collectors to the log of a run; empty by default."""

    def metrics(self) -> dict[str, Any]:
        """Return metrics of collection since the last call."""
        return {}

    def counters(self) -> dict[str, float]:
        """Return cumulative counts for the log."""
        return {}

    def seconds(self) -> dict[str, float]:
        """Return the seconds spent in each phase of collection, as far as they are measured separately."""
        return {}

    def note(self) -> str:
        """Return a text for the progress line of a run."""
        return ""


class Collector(Reporting):
    """Fills fragments of ``num_steps`` steps, each continuing where the last one ended.

    The randomness of actions is keyed by (seed, "action", environment id, environment step), so it does not depend on
    how environments are split over workers.
    """

    def __init__(self, envs: Environments, policy: ActingPolicy, *, num_steps: int, seed: int = 0) -> None:
        if num_steps < 1:
            raise ValueError(f"Collector: num_steps must be at least 1, got {num_steps}")
        if policy.noise_kind not in ("uniform", "normal", "none"):
            raise ValueError(f"Collector: noise_kind must be 'uniform', 'normal' or 'none', got {policy.noise_kind!r}")
        self.envs, self.policy, self.num_steps, self.seed = envs, policy, num_steps, seed
        self.step = 0
        self._started = False
        self._noise: NoiseStream | None = None
        if policy.noise_kind != "none":
            self._noise = NoiseStream(
                seed, "action", envs.env_ids, kind=policy.noise_kind, size=policy.noise_size,
                period=getattr(policy, "noise_period", 1),
            )  # fmt: skip
        self._fragment = self._allocate()

    def refuse_masks(self) -> None:
        """Reset environments whose actions cannot be masked, so that a mask in their info raises an error now."""
        if not is_maskable(self.envs.action_space):
            self.begin()

    def begin(self) -> None:
        """Reset the environments unless they were reset before."""
        if not self._started:
            self.envs.reset()
            self._started = True

    def collect(self, policy_version: int = 0) -> Fragment:
        """Make ``num_steps`` steps and return them as a `Fragment`, whose memory the next call reuses.

        ``next_value[t]`` is V of the state that step t reached, before any reset: ``value[t + 1]`` where the episode
        continued, 0 where it terminated; truncated states and the cut at the end share one further forward pass.
        """
        envs, act, step = self.envs, self.policy.act, self.envs.step
        self.begin()
        fragment = self._fragment
        obs_, action_, reward_ = fragment["obs"], fragment["action"], fragment["reward"]
        terminated_, truncated_, valid_ = fragment["terminated"], fragment["truncated"], fragment["valid"]
        log_prob_, value_, start_ = fragment["log_prob"], fragment["value"], fragment["episode_start"]
        finals: list[Final] = []
        infos: list[Any] = []
        noise = self._noise_block()
        masks = self._mask_memory()
        obs, shared = envs.obs, None
        valid_[...] = True
        for t in range(self.num_steps):
            obs_[t] = obs
            start_[t] = envs.episode_start
            numbers = None if noise is None else noise[t]
            mask = None
            if masks is not None:
                masks[t] = mask = envs.action_mask
            action, log_prob_[t], value_[t], _, _ = act(obs, numbers, explore=True, action_mask=mask)
            action_[t] = action
            next_obs, reward_[t], terminated_[t], truncated_[t], valid, info = step(action)
            obs = envs.obs
            if shared is not valid:  # most steps share one array of all True, which needs no copy
                valid_[t] = valid
                shared = valid if valid.all() else None
            if info:
                infos.append(info)
                if obs is not next_obs:
                    finals.append((t, info["env"], next_obs[info["env"]]))
        self._close(fragment, finals, infos, policy_version)
        self.step += self.num_steps
        return fragment

    def state_dict(self) -> dict[str, Any]:
        """The step by which the noise is keyed, and the environments' state."""
        envs = self.envs.state_dict() if self._started else {}
        return {"step": self.step, "started": self._started, "envs": envs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`. Of environments in groups, new episodes start."""
        self.step, self._started = int(state["step"]), bool(state.get("started"))
        if self._started:
            self.envs.load_state_dict(state["envs"])

    def _close(self, fragment: Fragment, finals: Any, infos: Any, policy_version: int) -> None:
        """Compute next_value, and set the fragment's attributes."""
        fragment.cut_before_dummies()
        last_obs, num_envs = self.envs.obs, self.envs.num_envs
        fragment.close(last_obs, finals, infos)
        rows, columns = fragment.final_index.T
        # Termination takes precedence over truncation: a terminal state has value 0.
        bootstrap = ~fragment["terminated"][rows, columns]
        extra = np.concatenate((fragment.final_obs[bootstrap], last_obs))
        values = np.asarray(self._values(extra, bootstrap))
        next_value = fragment["next_value"]
        next_value[:-1] = fragment["value"][1:]
        next_value[-1] = values[len(extra) - num_envs :]
        next_value[rows[bootstrap], columns[bootstrap]] = values[: len(extra) - num_envs]
        next_value[fragment["terminated"]] = 0.0
        fragment.env_ids = self.envs.env_ids
        fragment.first_step, fragment.policy_version = self.step, policy_version

    def _values(self, obs: NDArray[Any], bootstrap: NDArray[np.bool_]) -> NDArray[Any]:
        """Return V of the last observations of episodes (those in `bootstrap`) and of the cut."""
        return self.policy.value(obs)

    def _allocate(self) -> Fragment:
        lead = (self.num_steps, self.envs.num_envs)
        shape, dtype = action_layout(self.envs.action_space)
        obs = self.envs.obs
        fragment = Fragment(valid=np.ones(lead, np.bool_))
        fragment["obs"] = np.zeros((*lead, *obs.shape[1:]), obs.dtype)
        fragment["action"] = np.zeros((*lead, *shape), dtype)
        for name in ("reward", "log_prob", "value", "next_value"):
            fragment[name] = np.zeros(lead, np.float32)
        for name in ("terminated", "truncated", "episode_start"):
            fragment[name] = np.zeros(lead, np.bool_)
        return fragment

    def _mask_memory(self) -> NDArray[np.bool_] | None:
        """Return the memory of this fragment's masks, [T, N, M]; the first reset decides whether there are any."""
        mask = self.envs.action_mask
        if mask is None:
            return None
        if "action_mask" not in self._fragment:
            self._fragment["action_mask"] = np.ones((self.num_steps, *mask.shape), np.bool_)
        masks: NDArray[np.bool_] = self._fragment["action_mask"]
        return masks

    def _noise_block(self) -> list[NDArray[np.float32]] | None:
        """Return the noise of this fragment's steps, [N, K] each."""
        return None if self._noise is None else self._noise.block(self.step, self.num_steps)
