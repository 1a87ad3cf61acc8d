"""Optimizer: parameter groups, state in PyTorch's format, and steps over spans of the flat parameter buffer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from dynarl.autograd import Tensor, enable_grad
from dynarl.autograd.flat import flatten
from dynarl.autograd.tensor import release_grad_view
from dynarl.autograd.versions import mark_modified
from dynarl.optim.saved_state import loaded_hyperparameter, loaded_state
from dynarl.optim.update_plan import Span, StateBuffers, UpdatePlan

__all__ = ["Optimizer"]


class Optimizer:
    """Base class of the optimisers: subclasses name their state and update one span of parameters in place.

    `params` is an iterable of Tensors, of (name, Tensor) pairs, or of dicts with a "params" entry and
    the options of a parameter group. The values in `param_groups` may change at any time. Parameters move into one
    flat buffer (`dynarl.autograd.flat`), so that a step takes a few vector operations for any number of parameters.
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    """Every state array the optimiser can keep for a parameter."""
    counts_steps: ClassVar[bool] = True
    """Whether state has a "step" entry: the number of updates a parameter has had."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        if isinstance(params, Tensor):
            raise TypeError(f"{name}: params must be an iterable of Tensors or dicts, got a Tensor; wrap it: [param]")
        if not isinstance(params, Iterable):
            raise TypeError(f"{name}: params must be an iterable of Tensors or dicts, got {type(params).__name__}")
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.has_stepped = False
        self._state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self._plans: list[UpdatePlan | None] = []
        self._buffers: list[StateBuffers] = []
        groups = list(params)
        if not groups:
            raise ValueError(f"{name}: optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group: a dict with "params" and options; missing options take the optimiser's defaults."""
        name = type(self).__name__
        if not isinstance(param_group, dict):
            raise TypeError(f"{name}: param_group must be a dict, got {type(param_group).__name__}")
        group = {**self.defaults, **param_group, "params": _as_list(name, param_group["params"])}
        params = group["params"]
        if params and all(isinstance(p, tuple) for p in params):
            group["param_names"] = [label for label, _ in params]
            group["params"] = params = [p for _, p in params]
        for index, p in enumerate(params):
            _check_parameter(name, index, p)
        if len(set(map(id, params))) != len(params):
            raise ValueError(f"{name}: a parameter group contains duplicate parameters")
        known = {id(p) for other in self.param_groups for p in other["params"]}
        if not known.isdisjoint(map(id, params)):
            raise ValueError(f"{name}: some parameters appear in more than one parameter group")
        self._check_options(group)
        flatten(params)
        self.param_groups.append(group)
        self._plans.append(None)
        self._buffers.append(StateBuffers())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or with `set_to_none=False` fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                leaf = p._leaf
                if leaf is not None and leaf.grad is not None:
                    if set_to_none:
                        release_grad_view(leaf)
                        leaf.grad = None
                    else:
                        leaf.grad.detach_()
                        leaf.grad.array[...] = 0
                        mark_modified(leaf.grad.array)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns the result of `closure`, which recomputes the loss."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self.has_stepped = True
        for index, group in enumerate(self.param_groups):
            names = self._names(group)
            plan = self._plans[index]
            if plan is None or not plan.holds(group["params"], names):
                plan = UpdatePlan(group["params"], names, self._state, self._buffers[index])
            self._plans[index] = plan if plan.reusable else None
            for span in plan.spans:
                if self.counts_steps:
                    span.count_step()
                self._update(group, span)
                mark_modified(span.data)
        return loss

    @property
    def state(self) -> defaultdict[Tensor, dict[str, Any]]:
        """The state of each parameter, by parameter; entries may be changed, replaced and removed."""
        self._plans = [None] * len(self._plans)
        return self._state

    @state.setter
    def state(self, state: dict[Tensor, dict[str, Any]]) -> None:
        self._plans = [None] * len(self._plans)
        self._state = defaultdict(dict, state)

    def state_dict(self) -> dict[str, Any]:
        """Return {"state": {index: {name: Tensor or number}}, "param_groups": [...]}, as PyTorch does.

        The index of a parameter is its position over all groups. The Tensors are the live state, not copies.
        """
        groups: list[dict[str, Any]] = []
        index: dict[int, int] = {}
        for group in self.param_groups:
            ids = [index.setdefault(id(p), len(index)) for p in group["params"]]
            groups.append({**group, "params": ids})
        state = {index[id(p)]: dict(entry) for p, entry in self._state.items() if entry}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a result of `state_dict()`, dynarl's or PyTorch's; arrays may be NumPy's.

        Raises ValueError where groups, parameters, names or shapes do not match, and then changes nothing.
        """
        name = type(self).__name__
        saved_groups = state_dict["param_groups"]
        if len(saved_groups) != len(self.param_groups):
            raise ValueError(
                f"{name}.load_state_dict: the loaded state dict has {len(saved_groups)} parameter groups, "
                f"the optimizer {len(self.param_groups)}"
            )
        owner: dict[int, Tensor] = {}
        groups = []
        for i, (group, saved) in enumerate(zip(self.param_groups, saved_groups)):
            if len(saved["params"]) != len(group["params"]):
                raise ValueError(
                    f"{name}.load_state_dict: parameter group {i} of the loaded state dict doesn't match the size of "
                    f"the optimizer's group: {len(saved['params'])} parameters, not {len(group['params'])}"
                )
            owner.update(zip(map(int, saved["params"]), group["params"]))
            options = {key: loaded_hyperparameter(value) for key, value in saved.items()}
            groups.append({**group, **options, "params": group["params"]})
        state = loaded_state(name, state_dict["state"], owner, self.state_names, self.counts_steps)
        for group, loaded in zip(self.param_groups, groups):
            group.update(loaded)
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "param_groups": self.param_groups, "state": dict(self._state)}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.defaults, self.param_groups, self.has_stepped = saved["defaults"], saved["param_groups"], False
        self._plans = [None] * len(self.param_groups)
        self._buffers = [StateBuffers() for _ in self.param_groups]
        self.state = saved["state"]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            options = [f"    {key}: {value}" for key, value in sorted(group.items()) if key != "params"]
            lines += [f"Parameter Group {i}", *options]
        return "\n".join([*lines, ")"])

    def _check_options(self, group: dict[str, Any]) -> None:
        """Raise ValueError for invalid options."""

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of the state arrays that a group needs with its current options."""
        raise NotImplementedError(f"{type(self).__name__} does not define _names()")

    def _update(self, group: dict[str, Any], span: Span) -> None:
        """Update one span of parameters in place."""
        raise NotImplementedError(f"{type(self).__name__} does not define _update()")


def check_not_negative(optimizer: str, group: dict[str, Any], *options: str) -> None:
    """Raise ValueError if one of the named options is negative."""
    for option in options:
        if not float(group[option]) >= 0.0:
            raise ValueError(f"{optimizer}: {option} must not be negative, got {group[option]}")


def check_torch_switches(optimizer: str, **switches: Any) -> None:
    """Raise ValueError for switches of PyTorch that would change a step (`foreach` and `fused` do not)."""
    for switch, value in switches.items():
        if value:
            raise ValueError(f"{optimizer}: {switch}=True is not supported, steps are never recorded or captured")


def _as_list(name: str, params: Any) -> list[Any]:
    if isinstance(params, Tensor):
        return [params]
    if isinstance(params, (set, frozenset)):
        raise TypeError(f"{name}: parameters must come in an order, got a set; use a list")
    return list(params)


def _check_parameter(name: str, index: int, p: Any) -> None:
    if not isinstance(p, Tensor):
        raise TypeError(f"{name}: optimizer can only optimize Tensors, parameter {index} is a {type(p).__name__}")
    if not p.is_leaf:
        raise ValueError(
            f"{name}: can't optimize a non-leaf Tensor, parameter {index} of shape {tuple(p.shape)} was computed by "
            "an operation; optimise the tensors it was computed from, or detach() it"
        )
    if p.dtype.kind != "f":
        raise TypeError(f"{name}: parameter {index} must be floating, got {p.dtype}")


Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]] | Sequence[Any]
