"""`Module`: a named tree of parameters, buffers and submodules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from dynarl.autograd import Parameter, Tensor, dispatch
from dynarl.autograd import device as device_class
from dynarl.autograd.graph import RemovableHandle
from dynarl.nn.hooks import Hooks
from dynarl.nn.state_dict import IncompatibleKeys, load_into

_KIND_NAMES = {"parameter": "dynarl.nn.Parameter", "module": "dynarl.nn.Module", "buffer": "dynarl.Tensor"}


def _missing_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')


class _Changes:
    """A counter of the changes of all module trees: a child, a hook or `forward` added, removed or replaced.

    Sequential compares it to know whether its cached plan still describes its children.
    """

    count = 0


changes = _Changes()


class Module:
    """Base class of all networks, with the interface of `torch.nn.Module`.

    Values are in the instance's `__dict__`, so `self.weight` costs as much as any attribute. `_kinds` maps each
    registered name to "parameter", "buffer" or "module", in order of registration.
    """

    training: bool = True
    forward: Callable[..., Any] = _missing_forward
    _kinds: dict[str, str]
    _hooks: Hooks | None = None
    _straight = False  # True for the classes of this package: they do not branch on values, so samples cannot diverge

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._straight = cls.__module__.startswith("dynarl.nn.")

    def __init__(self) -> None:
        self.__dict__["_kinds"] = {}
        self.__dict__["_non_persistent"] = set()
        self.training = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if dispatch.call_module is not None:
            return dispatch.call_module(self, args, kwargs)
        if self._hooks is None:
            return self.forward(*args, **kwargs)
        return self._hooks.call(self, args, kwargs)

    # ------------------------------------------------------------------ registration

    def __setattr__(self, name: str, value: Any) -> None:
        if dispatch.call_module is not None:  # a batched call runs
            dispatch.refuse_attribute(self, name, value)
        if isinstance(value, Parameter):
            self._register("parameter", name, value)
        elif isinstance(value, Module):
            self._register("module", name, value)
        else:
            if value.__class__ is dispatch.sample_type:
                raise RuntimeError(
                    f"{type(self).__name__}.{name}: a per-sample tensor cannot be stored on a Module, because it "
                    "belongs to the samples of one call; return it as state and pass it to the next call"
                )
            kind = self.__dict__.get("_kinds", {}).get(name)
            if kind is not None:
                if not (value is None or (kind == "buffer" and isinstance(value, Tensor))):
                    what = "child module" if kind == "module" else kind
                    raise TypeError(
                        f"cannot assign '{type(value).__name__}' as {what} '{name}' "
                        f"({_KIND_NAMES[kind]} or None expected)"
                    )
                changes.count += 1
            elif name == "forward":
                changes.count += 1
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if dispatch.call_module is not None:
            dispatch.refuse_attribute(self, name, None)
        object.__delattr__(self, name)
        if self._kinds.pop(name, None) is not None or name == "forward":
            self.__dict__["_non_persistent"].discard(name)
            changes.count += 1

    def _register(self, kind: str, name: str, value: Any) -> None:
        if dispatch.call_module is not None:
            dispatch.refuse_attribute(self, name, value)
        kinds = self.__dict__.get("_kinds")
        if kinds is None:
            raise AttributeError(f"cannot assign {kind}s before {type(self).__name__}'s Module.__init__() call")
        if kinds.get(name) != kind:
            kinds.pop(name, None)  # a name that changes its kind moves to the end, as in torch
            self.__dict__["_non_persistent"].discard(name)
        kinds[name] = kind
        self.__dict__[name] = value
        changes.count += 1

    def _check_new_name(self, kind: str, name: Any) -> None:
        if "_kinds" not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and self._kinds.get(name) != kind:
            raise KeyError(f"attribute '{name}' already exists")

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but not a parameter; `persistent=False` keeps it out of `state_dict`."""
        self._check_new_name("buffer", name)
        if not (tensor is None or (isinstance(tensor, Tensor) and tensor.__class__ is not dispatch.sample_type)):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (dynarl.Tensor or None required)"
            )
        self._register("buffer", name, tensor)
        if not persistent:
            self.__dict__["_non_persistent"].add(name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under `name`; None reserves the name (a layer without bias)."""
        self._check_new_name("parameter", name)
        if not (param is None or isinstance(param, Parameter)):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                "(dynarl.nn.Parameter or None required)"
            )
        self._register("parameter", name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child under `name`, which need not be an identifier."""
        self._check_new_name("module", name)
        if not (module is None or isinstance(module, Module)):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._register("module", name, module)

    register_module = add_module

    def _of_kind(self, kind: str) -> MappingProxyType[str, Any]:
        values = self.__dict__
        return MappingProxyType({name: values[name] for name, k in self._kinds.items() if k == kind})

    @property
    def _parameters(self) -> MappingProxyType[str, Any]:
        return self._of_kind("parameter")

    @property
    def _buffers(self) -> MappingProxyType[str, Any]:
        return self._of_kind("buffer")

    @property
    def _modules(self) -> MappingProxyType[str, Any]:
        return self._of_kind("module")

    # ------------------------------------------------------------------ walking the tree

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield (dotted name, module) for this module and everything below it, parents first."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Yield this module and everything below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, child) of the direct children, each child once."""
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """Yield the direct children."""
        for _, child in self.named_children():
            yield child

    def _named_members(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            values = module.__dict__
            for name, k in module._kinds.items():
                value = values[name] if k == kind else None
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield (dotted name, parameter); a shared parameter once, under its first name."""
        return self._named_members("parameter", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield every parameter once."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield (dotted name, buffer)."""
        return self._named_members("buffer", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yield every buffer once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """Return the module at a dotted path; raises AttributeError naming the part that is missing."""
        module = self
        for name in target.split(".") if target else []:
            if not hasattr(module, name):
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            child = getattr(module, name)
            if not isinstance(child, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
            module = child
        return module

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter at a dotted path."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        value = getattr(module, name, None)
        if not isinstance(value, Parameter):
            problem = "is not an nn.Parameter" if hasattr(module, name) else "does not exist"
            raise AttributeError(f"{type(module).__name__}: attribute `{name}` {problem}")
        return value

    # ------------------------------------------------------------------ state

    def state_dict(
        self, *, destination: dict[str, Tensor] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """Return parameters and persistent buffers by dotted name, detached and sharing memory."""
        state: dict[str, Tensor] = OrderedDict() if destination is None else destination
        for kind in ("parameter", "buffer"):
            for name, value in self._of_kind(kind).items():
                if value is not None and name not in self.__dict__["_non_persistent"]:
                    state[prefix + name] = value if keep_vars else value.detach()
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(destination=state, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into this module's parameters and buffers by name.

        Values may be tensors, NumPy arrays or tensors of other libraries. Raises RuntimeError listing
        missing and unexpected keys (unless `strict=False`) and every shape that differs; then nothing
        has been copied.
        """
        return load_into(type(self).__name__, self.state_dict(keep_vars=True), state_dict, strict)

    def train(self, mode: bool = True) -> Self:
        """Set training mode here and below (Dropout acts only in it)."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode: `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` of every parameter."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradient of every parameter, or zero it in place with `set_to_none=False`."""
        for param in self.parameters():
            if param.grad is not None:
                if set_to_none:
                    param.grad = None
                else:
                    param.grad.detach_().zero_()

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module, children first."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # ------------------------------------------------------------------ device and dtype

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> Self:
        for module in self.modules():
            for param in module._parameters.values():
                if param is not None:
                    _replace_data(param, fn)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module.__dict__[name] = fn(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move and cast in place: `to(device)`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`.

        A dtype must be floating and is applied to floating tensors only.
        """
        device, dtype = _target(args, **kwargs)

        def convert(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        return self._apply(convert)

    def cpu(self) -> Self:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self, device: int | str | None = None) -> Self:
        """Move to a GPU: the current one, or `device`."""
        return self.to("cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)

    def float(self) -> Self:
        """Cast floating parameters and buffers to float32."""
        return self.to(dtype="float32")

    def double(self) -> Self:
        """Cast floating parameters and buffers to float64."""
        return self.to(dtype="float64")

    # ------------------------------------------------------------------ hooks

    def _hooks_changed(self) -> None:
        if not self._hooks:
            self.__dict__.pop("_hooks", None)
        changes.count += 1

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before `forward`; a value that it returns replaces the arguments."""
        hooks = self.__dict__.setdefault("_hooks", Hooks())
        entry = (hook, with_kwargs)
        hooks.pre.insert(0 if prepend else len(hooks.pre), entry)
        changes.count += 1
        return RemovableHandle(hooks.pre, entry, self._hooks_changed)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after `forward`; a value that it returns replaces the output."""
        hooks = self.__dict__.setdefault("_hooks", Hooks())
        entry = (hook, with_kwargs, always_call)
        hooks.post.insert(0 if prepend else len(hooks.post), entry)
        changes.count += 1
        return RemovableHandle(hooks.post, entry, self._hooks_changed)

    # ------------------------------------------------------------------ printing

    def extra_repr(self) -> str:
        """Return what to print between the parentheses."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {indent(repr(child))}" for name, child in self._modules.items()]
        if not children:
            return f"{self._get_name()}({indent(extra)})"
        lines = [*(extra.split("\n") if extra else []), *children]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def _replace_data(param: Parameter, fn: Callable[[Tensor], Tensor]) -> None:
    data = param.data
    changed = fn(data)
    if changed.array is not data.array:  # otherwise the parameter keeps its memory in the flat buffer
        param.data = changed
        if param.grad is not None:
            param.grad = fn(param.grad.detach())


def _target(args: tuple[Any, ...], device: Any = None, dtype: Any = None, non_blocking: bool = False) -> Any:
    """Read the arguments of `Module.to` as (device, dtype)."""
    for arg in args:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, (str, device_class)):
            device = arg
        elif arg is not None and not isinstance(arg, bool):  # a bool is PyTorch's non_blocking
            dtype = arg
    if dtype is not None:
        dtype = np.dtype(dtype)
        if dtype.kind != "f":
            raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}")
    return device, dtype


def indent(text: str) -> str:
    """Indent all lines but the first by two spaces."""
    return text.replace("\n", "\n  ")
