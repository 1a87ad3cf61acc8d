"""Replay: rings of transitions, sampled uniformly, with n-step returns that stop at episode ends.

Every observation is stored once: the successor of a transition is the next row of the same environment, and only
the last observation of an episode goes to a side table. Each environment has its own ring of R rows and its own
write head; the row at the head holds the newest successor and is no transition yet. A transition has the flat index
row * N + environment. Action masks are stored next to their observations, if the environments have any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.ragged_rows import rows_nbytes
from dynarl.rollout.final_obs import FinalObservations
from dynarl.rollout.fragment import Batch, Fragment, ReplayBatch
from dynarl.rollout.packed import PackedRows
from dynarl.rollout.ring import RingIndex

__all__ = ["ReplayBuffer"]

Layout = tuple[tuple[int, ...], Any]


class ReplayBuffer:
    """The newest `capacity` transitions of `num_envs` environments, `capacity // num_envs` of each.

    `observation` and `action` are (shape, dtype) of one item. `sample` returns transitions over up to `n_step` steps:
    the sum of rewards, discounted by `gamma`, stops where the episode terminated or was truncated and at the write
    head, and the bootstrap is discounted by gamma**k for the k steps actually summed. With `packing`, observations are
    passed in and out as rows of float32, and stored packed.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation: Layout,
        action: Layout,
        *,
        n_step: int = 1,
        gamma: float = 0.99,
        packing: PackedRows | None = None,
    ) -> None:
        name = type(self).__name__
        if num_envs < 1:
            raise ValueError(f"{name}: num_envs must be at least 1, got {num_envs}")
        if capacity < num_envs:
            raise ValueError(f"{name}: capacity {capacity} holds no transition of each of {num_envs} environments")
        if not 1 <= n_step <= capacity // num_envs:
            raise ValueError(
                f"{name}: n_step must lie between 1 and the {capacity // num_envs} transitions kept of each "
                f"environment, got {n_step}"
            )
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"{name}: gamma must lie in [0, 1], got {gamma}")
        self.num_envs, self.n_step, self.gamma = num_envs, n_step, gamma
        self._ring = RingIndex(capacity // num_envs + 1, num_envs)
        self.rows, self.size = self._ring.rows, self._ring.size
        size = self.size
        self._packing = packing
        shape, dtype = observation if packing is None else packing.layout
        self._obs = _allocate(name, (size, *shape), dtype)
        self._action = _allocate(name, (size, *action[0]), action[1])
        self._reward = np.zeros(size, np.float32)
        self._terminated = np.zeros(size, np.bool_)
        self._ended = np.zeros(size, np.bool_)
        self._final = np.full(size, -1, np.int64)  # slot of an ended transition's successor in the side table
        self._finals = FinalObservations(self._obs.shape[1:], self._obs.dtype)
        self._mask: NDArray[np.bool_] | None = None  # [size, M] actions allowed at obs, allocated with the first masks
        self._envs = np.arange(num_envs)
        self._powers = (gamma ** np.arange(n_step)).astype(np.float32)
        self._discounts = (gamma ** np.arange(n_step + 1)).astype(np.float32)
        self._ones = np.ones(0, np.float32)

    def __len__(self) -> int:
        """How many transitions can be sampled."""
        return len(self._ring)

    @property
    def capacity(self) -> int:
        """How many transitions can be held."""
        return (self.rows - 1) * self.num_envs

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays when full; observations of varying size count as far as they are stored."""
        kept = (self._obs, self._action, self._reward, self._terminated, self._ended, self._final)
        masks = 0 if self._mask is None or self._finals.mask is None else self._mask.nbytes + self._finals.mask.nbytes
        rows = rows_nbytes(self._obs) + rows_nbytes(self._finals.obs)
        return sum(array.nbytes for array in kept) + self._finals.obs.nbytes + masks + rows

    @property
    def stored_as(self) -> str:
        """How observations are stored, for messages."""
        return str(self._obs.dtype) if self._packing is None else "bytes for pixels, float32 for the rest"

    # -- writing --------------------------------------------------------------------------------------------------

    def add(
        self,
        obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        next_obs: NDArray[Any],
        valid: NDArray[np.bool_] | None = None,
        *,
        action_mask: Any = None,
        next_action_mask: Any = None,
    ) -> None:
        """Store one step of all environments, [N, ...]; `next_obs` is the state reached before any reset.

        Rows where `valid` is False, dummies of a vector environment's reset, are not stored. `action_mask` and
        `next_action_mask` [N, M] are the actions allowed at `obs` and `next_obs`: given at every step, or never.
        """
        masked = self._is_masked(action_mask, next_action_mask)
        which = None if valid is None or valid.all() else np.flatnonzero(valid)
        if which is not None:
            obs, action, reward, next_obs = obs[which], action[which], reward[which], next_obs[which]
            terminated, truncated = terminated[which], truncated[which]
            if masked:
                action_mask, next_action_mask = action_mask[which], next_action_mask[which]
            if len(which) == 0:
                self._ring.advance(which)
                return
        obs, next_obs = self._packed(obs), self._packed(next_obs)
        ended = terminated | truncated
        index, following = self._ring.advance(which)
        self._finals.release(self._final[index])
        self._obs[index], self._action[index], self._reward[index] = obs, action, reward
        self._terminated[index], self._ended[index] = terminated, ended
        self._final[index] = -1
        # If the episode ended, the first observation of the next one overwrites this row.
        self._obs[following] = next_obs
        if self._mask is not None:
            self._mask[index], self._mask[following] = action_mask, next_action_mask
        if ended.any():
            flat = np.arange(self.size)[index] if isinstance(index, slice) else index
            masks = None if next_action_mask is None else next_action_mask[ended]
            self._final[flat[ended]] = self._finals.keep(next_obs[ended], masks)
        self._wrote(index)

    def add_fragment(self, fragment: Fragment) -> None:
        """Store steps [T, n] of the environments ``fragment.env_ids`` (each at most once), in their order.

        They continue the stored steps of these environments, so n-step returns reach across fragments. An episode that
        has not ended where a new one begins is cut. The arguments of `add` are fields of the fragment, which also has
        `last_obs`, `final_index` and `final_obs`. Raises ValueError for more steps than the replay holds of an
        environment.
        """
        envs, valid = fragment.env_ids, fragment["valid"]
        counts = valid.sum(axis=0)
        if counts.max() >= self.rows:
            raise ValueError(
                f"{type(self).__name__}: a fragment of {counts.max()} steps is more than the {self.rows - 1} "
                "transitions kept of each environment; use a larger capacity or shorter fragments"
            )
        if (begun := fragment["episode_start"][0] | ~valid[0]).any():
            self.cut(envs[begun])
        masked = self._is_masked(fragment.get("action_mask"), fragment.get("next_action_mask"))
        t, n = np.nonzero(valid)
        index = self._ring.advance_block(envs, valid)
        if len(t) == 0:
            return
        next_obs = fragment.build_next_obs()
        terminated, ended = fragment["terminated"][t, n], (fragment["terminated"] | fragment["truncated"])[t, n]
        self._finals.release(self._final[index])
        self._obs[index], self._action[index] = self._packed(fragment["obs"][t, n]), fragment["action"][t, n]
        self._reward[index], self._terminated[index], self._ended[index] = fragment["reward"][t, n], terminated, ended
        self._final[index] = -1
        some = np.flatnonzero(counts)
        last = len(valid) - 1 - valid[::-1].argmax(axis=0)[some]
        following = self._ring.heads(envs[some])
        self._obs[following] = self._packed(next_obs[last, some])
        masks = None
        if self._mask is not None and masked:
            next_mask = fragment["next_action_mask"]
            self._mask[index], self._mask[following] = fragment["action_mask"][t, n], next_mask[last, some]
            masks = next_mask[t, n][ended]
        if ended.any():
            self._final[index[ended]] = self._finals.keep(self._packed(next_obs[t, n][ended]), masks)
        self._wrote(index)

    def cut(self, envs: NDArray[Any] | None = None) -> None:
        """Truncate the open episodes of environments (indices or a mask; None: all) at their newest transition.

        For environments whose next observation does not follow from the newest transition: they could not be restored
        to the bit, or were reset from outside.
        """
        envs = self._envs if envs is None else self._envs[envs]
        envs = envs[self._ring.count[envs] > 0]
        last = self._ring.newest(envs)
        running = ~self._ended[last]
        last, envs = last[running], envs[running]
        if len(last):
            self._ended[last] = True
            newest = self._ring.heads(envs)
            masks = None if self._mask is None else self._mask[newest]
            self._final[last] = self._finals.keep(self._obs[newest], masks)

    def _is_masked(self, action_mask: Any, next_action_mask: Any) -> bool:
        """Return whether masks are stored: from the first ones given on."""
        if self._mask is None:
            if action_mask is None:
                return False
            self._mask = self._begin_masks(action_mask.shape[-1])
        if action_mask is None or next_action_mask is None:
            raise ValueError(
                f"{type(self).__name__}: add requires action_mask and next_action_mask at every step once masks "
                "were given, got None"
            )
        return True

    def _begin_masks(self, size: int) -> NDArray[np.bool_]:
        """Return memory for masks of `size` actions; transitions stored before allow all actions."""
        masks = _allocate(type(self).__name__, (self.size, size), np.bool_)
        masks[...] = True
        self._finals.begin_masks(size)
        return masks

    def _wrote(self, index: Any) -> None:
        """Called after transitions `index` (a slice or an array) were written."""

    # -- sampling -------------------------------------------------------------------------------------------------

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """Draw transitions uniformly, with replacement, and return them as a `Batch` of [B, ...].

        `obs`, `action`; `reward`, the sum of k discounted rewards; `next_obs`, the state after them; `discount`,
        gamma**k, 0 where the episode terminated; `index`, the flat indices; `weight`, all 1; if masks are stored,
        `action_mask` and `next_action_mask` [B, M] of `obs` and `next_obs`. Raises RuntimeError while nothing is
        stored.
        """
        index = self.draw(batch_size, rng)
        if len(self._ones) != batch_size:
            self._ones = np.ones(batch_size, np.float32)
            self._ones.flags.writeable = False
        return self.gather(index, self._ones)

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw flat indices of transitions uniformly, with replacement; raises RuntimeError while there are none."""
        total = len(self)
        if total == 0:
            raise RuntimeError("sample: the replay must hold a transition, got 0")
        return self._ring.locate(rng.integers(0, total, count))

    def following(self, index: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the `length` transitions starting at each of `index` [B], [length, B], and which of them are valid.

        Those after the end of an episode or after the newest transition are not valid: there the last valid one is
        repeated.
        """
        path = (index + np.arange(length)[:, None] * self.num_envs) % self.size
        kept = np.arange(length)[:, None] < self._ring.available(index)
        kept[1:] &= ~np.logical_or.accumulate(self._ended.take(path[:-1]), axis=0)
        last = path[kept.sum(axis=0) - 1, np.arange(len(index))]
        return np.where(kept, path, last), kept

    def gather(self, index: NDArray[np.int64], weight: NDArray[Any]) -> Batch:
        """Return the transitions with the given flat indices [B], as `sample` does."""
        if self.n_step == 1:
            reward, last, discount = self._reward.take(index), index, self._discounts[1]
        else:
            reward, last, steps = self._window(index)
            discount = self._discounts.take(steps)
        next_obs, next_action_mask = self._successor(last)
        batch = ReplayBatch(
            obs=self._unpacked(self._obs.take(index, axis=0)),
            action=self._action.take(index, axis=0),
            reward=reward,
            next_obs=next_obs,
            discount=discount * ~self._terminated.take(last),
            index=index,
            weight=weight,
        )
        if self._mask is not None:
            batch["action_mask"], batch["next_action_mask"] = self._mask.take(index, axis=0), next_action_mask
        return batch

    def _window(self, index: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        """Return the discounted reward sums from `index` on, the last transitions summed, and the numbers of steps."""
        n = self.n_step
        path = (index[:, None] + np.arange(n) * self.num_envs) % self.size  # [B, n]
        stops = self._ended.take(path)
        stops[:, -1] = True
        steps = np.minimum(stops.argmax(axis=1) + 1, self._ring.available(index))  # up to the write head
        kept = np.arange(n) < steps[:, None]
        reward = (self._reward.take(path) * kept) @ self._powers
        last = path[np.arange(len(index)), steps - 1]
        return reward, last, steps

    def _successor(self, last: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return the states that transitions `last` led to, and the actions allowed there."""
        following = last + self.num_envs
        following[following >= self.size] -= self.size
        next_obs = self._obs.take(following, axis=0)
        final = self._final.take(last)
        ended = np.flatnonzero(final >= 0)
        if len(ended):
            next_obs[ended] = self._finals.obs[final[ended]]
        next_obs = self._unpacked(next_obs)
        if self._mask is None:
            return next_obs, None
        masks = self._mask.take(following, axis=0)
        if len(ended) and self._finals.mask is not None:
            masks[ended] = self._finals.mask[final[ended]]
        return next_obs, masks

    def _packed(self, obs: NDArray[Any]) -> NDArray[Any]:
        return obs if self._packing is None else self._packing.pack(obs)

    def _unpacked(self, obs: NDArray[Any]) -> NDArray[Any]:
        return obs if self._packing is None else self._packing.unpack(obs)

    def history(self, env: int) -> NDArray[np.int64]:
        """Return the flat indices of all transitions of an environment, the oldest first."""
        head, count = int(self._ring.head[env]), int(self._ring.count[env])
        return (head - count + np.arange(count)) % self.rows * self.num_envs + env

    def ends(self, index: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return where the episode terminated at transitions `index`, and where it ended in any way."""
        return self._terminated.take(index), self._ended.take(index)

    # -- state ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All transitions, heads and counts, without rows never written. The arrays are copies."""
        used = self._ring.used
        return {
            "rows": self.rows,
            "num_envs": self.num_envs,
            **self._ring.state_dict(),
            **{name: getattr(self, f"_{name}")[:used].copy() for name in _FIELDS},
            **({} if self._mask is None else {"mask": self._mask[:used].copy()}),
            "finals": self._finals.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; raises ValueError for another capacity, number of environments or layout."""
        name = type(self).__name__
        if (int(state["rows"]), int(state["num_envs"])) != (self.rows, self.num_envs):
            raise ValueError(
                f"{name}: the state is of {state['num_envs']} environments with {int(state['rows']) - 1} transitions "
                f"each, this replay of {self.num_envs} with {self.rows - 1}"
            )
        for field in _FIELDS:
            mine, saved = getattr(self, f"_{field}"), state[field]
            if saved.shape[1:] != mine.shape[1:] or saved.dtype != mine.dtype:
                raise ValueError(
                    f"{name}: {field} of the state is {saved.dtype} {list(saved.shape[1:])} each, "
                    f"this replay's {mine.dtype} {list(mine.shape[1:])}"
                )
        for field in _FIELDS:
            getattr(self, f"_{field}")[: len(state[field])] = state[field]
        self._mask = None
        if "mask" in state:
            self._mask = self._begin_masks(state["mask"].shape[1])
            self._mask[: len(state["mask"])] = state["mask"]
        self._final[len(state["final"]) :] = -1
        self._ring.load_state_dict(state)
        self._finals.load_state_dict(state["finals"])


_FIELDS = ("obs", "action", "reward", "terminated", "ended", "final")


def _allocate(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    try:
        return np.zeros(shape, dtype)
    except MemoryError as error:
        size = np.dtype(dtype).itemsize * float(np.prod([float(n) for n in shape]))
        raise MemoryError(
            f"{name}: {shape[0]:,} rows of {list(shape[1:])} {np.dtype(dtype)} take {size / 2**30:,.1f} GiB; "
            "lower the capacity"
        ) from error
