"""Containers: Sequential, ModuleList, ModuleDict, ParameterList."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Self, overload

from dynarl.autograd import Parameter, Tensor
from dynarl.autograd.ops.affine import linear, mlp
from dynarl.nn.activation import ReLU, Sigmoid, Tanh
from dynarl.nn.linear import Linear
from dynarl.nn.module import Module, changes, indent

_FUSED: dict[type[Module], str] = {Tanh: "tanh", ReLU: "relu", Sigmoid: "sigmoid"}

Step = tuple[Module, bool, str | None]


class _Numbered(Module):
    """A list of modules whose names are "0", "1", ..."""

    def _add_all(self, modules: Iterable[Module]) -> None:
        for module in modules:
            self.add_module(str(len(self)), module)

    def _index(self, index: int) -> int:
        size = len(self)
        if type(index) is not int:  # also a number that differs between samples, whose class is int: it parts them here
            index = index.__index__()
        if not -size <= index < size:
            raise IndexError(f"{type(self).__name__}: index {index} is out of range, it has {size} modules")
        return index % size

    def _name_of(self, index: int) -> str:
        return next(islice(self._kinds, self._index(index), None))

    def _refill(self, modules: list[Module]) -> None:
        for name in list(self._modules):
            delattr(self, name)
        self._add_all(modules)

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[Module]:
        values = self.__dict__
        return iter([values[name] for name in self._kinds])

    def __contains__(self, module: object) -> bool:
        return any(module is child for child in self)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._part(list(self._modules.items())[index])
        return getattr(self, self._name_of(index))

    def _part(self, items: list[tuple[str, Module]]) -> Self:
        raise NotImplementedError

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name_of(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)
        drop = set(names[index] if isinstance(index, slice) else [self._name_of(index)])
        self._refill([getattr(self, name) for name in names if name not in drop])

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"extend: expected an iterable of modules, got {type(modules).__name__}")
        self._add_all(list(modules))
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Insert a module before `index`; those after it move up by one."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        modules = list(self)
        modules.insert(index, module)
        self._refill(modules)
        return self

    def pop(self, index: int) -> Module:
        """Remove a module and return it."""
        module = self[index]
        del self[index]
        return module

    def __add__(self, other: Iterable[Module]) -> Self:
        joined = type(self)()
        joined._add_all([*self, *other])
        return joined

    def __iadd__(self, other: Iterable[Module]) -> Self:
        return self.extend(other)


class Sequential(_Numbered):
    """Call modules one after the other; `Sequential(a, b)` or `Sequential(OrderedDict(name=a))`.

    A `Linear` directly followed by Tanh, ReLU or Sigmoid runs as one fused operation. Children, names,
    hooks and results are the same as without fusion; a module with a hook is not fused.
    """

    _plan: tuple[Step, ...] = ()
    _plan_version = -1
    _fused = False  # all steps are fused linear layers
    _stack: tuple[list[Any], tuple[str | None, ...]] | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], OrderedDict):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            self._add_all(args)

    def _part(self, items: list[tuple[str, Module]]) -> Self:
        return type(self)(OrderedDict(items))

    def _make_plan(self) -> tuple[Step, ...]:
        children = list(self)
        plan: list[Step] = []
        i = 0
        while i < len(children):
            child = children[i]
            plain = _is_plain(child, Linear)
            activation = None
            if plain and i + 1 < len(children):
                follower = children[i + 1]
                name = _FUSED.get(type(follower))
                if name is not None and _is_plain(follower, type(follower)):
                    activation = name
                    i += 1
            plan.append((child, plain, activation))
            i += 1
        values = self.__dict__
        steps = values["_plan"] = tuple(plan)
        values["_fused"] = bool(plan) and all(plain for _, plain, _ in plan)
        values["_stack"] = _stack(steps, values["_fused"])
        values["_plan_version"] = changes.count
        return steps

    def is_affine(self) -> bool:
        """Return whether this is a stack of linear layers and activations, which maps each row [..., in] by itself."""
        if self._plan_version != changes.count:
            self._make_plan()
        return self._fused

    def forward(self, input: Any) -> Any:
        plan = self._plan if self._plan_version == changes.count else self._make_plan()
        if self._stack is not None:
            layers, activations = self._stack
            parameters: list[Any] = []
            for layer in layers:
                parameters += layer.weight, layer.bias
            return mlp(input, *parameters, activations=activations)
        for module, plain, activation in plan:
            if plain:
                input = linear(input, module.weight, module.bias, activation=activation)  # type: ignore[attr-defined]
            else:
                input = module(input)
        return input


def _stack(plan: tuple[Step, ...], fused: bool) -> tuple[list[Any], tuple[str | None, ...]] | None:
    """Return (layers, activations) if all steps are fused linear layers, which then run as one operation, else None."""
    if len(plan) < 2 or not fused:
        return None
    return [module for module, _, _ in plan], tuple(activation for _, _, activation in plan)


def _is_plain(module: Module, kind: type[Module]) -> bool:
    """Return whether a call of `module` runs the `forward` of class `kind` and nothing else: no subclass, no hooks."""
    return type(module) is kind and module._hooks is None and "forward" not in module.__dict__


class ModuleList(_Numbered):
    """Hold modules in a list."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self._add_all(modules)

    def _part(self, items: list[tuple[str, Module]]) -> Self:
        return type(self)(module for _, module in items)

    def __repr__(self) -> str:
        texts = [repr(module) for module in self]
        if not texts:
            return f"{self._get_name()}()"
        lines, start = [], 0
        for i, text in enumerate(texts):
            if i + 1 < len(texts) and texts[i + 1] == text:
                continue
            count = i - start + 1
            line = f"({start}): {text}" if count == 1 else f"({start}-{i}): {count} x {text}"
            lines.append(indent(line))
            start = i + 1
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


class ModuleDict(Module):
    """Hold modules in a dict."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        found: Module = self._modules[key]
        return found

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self._modules:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._modules))

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """Return the modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Return (name, module) pairs."""
        return self._modules.items()

    def pop(self, key: str) -> Module:
        """Remove a module and return it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Remove all modules."""
        for key in self:
            del self[key]

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules from a mapping or from (name, module) pairs; existing names are replaced."""
        for key, module in modules.items() if isinstance(modules, Mapping) else modules:
            self[key] = module


class ParameterList(Module):
    """Hold parameters in a list; plain tensors become parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        if values is not None:
            self.extend(values)

    def _name_of(self, index: int) -> str:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"ParameterList: index {index} is out of range, it has {size} parameters")
        return str(index % size)

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(list(self._parameters.values()))

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return getattr(self, self._name_of(index))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._name_of(index), _as_parameter(value))

    def append(self, value: Any) -> Self:
        """Add a parameter at the end."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add parameters at the end."""
        for value in values:
            self.append(value)
        return self

    def extra_repr(self) -> str:
        sizes = ["x".join(map(str, p.shape)) for p in self]
        lines = [
            f"({i}): Parameter containing: [{p.dtype} of size {size}]" for i, (p, size) in enumerate(zip(self, sizes))
        ]
        return "  " + "\n  ".join(lines) if lines else ""


def _as_parameter(value: Any) -> Parameter:
    if isinstance(value, Parameter):
        return value
    if not isinstance(value, Tensor):
        raise TypeError(f"ParameterList: expected a Parameter or a Tensor, got {type(value).__name__}")
    return Parameter(value)
