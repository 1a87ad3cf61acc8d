"""Rewritten functions: a function's proven source with its statements as scopes, compiled beside its own variables."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import warnings
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from dynarl.batching.scopes.builtin import builtin, item, library
from dynarl.batching.scopes.loops import run_loop
from dynarl.batching.scopes.names import own_nodes
from dynarl.batching.scopes.parting import may_part
from dynarl.batching.scopes.rewrite import rewrite
from dynarl.batching.scopes.scope import call_of, callee, join_element, join_statement
from dynarl.batching.scopes.source import FUTURE, NotProven, source_of
from dynarl.batching.values.ragged import END

__all__ = ["parts", "rewritten", "why_unchanged"]

_RUNTIME = {
    "_dynarl_join": join_statement,
    "_dynarl_loop": run_loop,
    "_dynarl_callee": callee,
    "_dynarl_builtin": builtin,
    "_dynarl_number": item,
    "_dynarl_library": library,
    "_dynarl_element": join_element,
    "_dynarl_end": END,
}
"""What rewritten source calls, by name."""
_CONTROL = (ast.If, ast.While, ast.For, ast.Match, ast.Try)
_FRAME = frozenset(
    ("locals", "vars", "dir", "eval", "exec", "id", "_getframe", "currentframe", "stack")
)  # they see the caller's frame, or identity

_Compiled = tuple[CodeType | None, str, bool]
_compiled_codes: dict[int, tuple[CodeType, _Compiled]] = {}


def _compiled(function: FunctionType) -> _Compiled:
    """Return (rewritten code, "", whether samples may part in it), or (None, why it stays as it is, ...)."""
    code = function.__code__
    found = _compiled_codes.get(id(code))
    if found is None or found[0] is not code:
        found = _compiled_codes[id(code)] = code, _rewritten_code(code, function)
    return found[1]


def _rewritten_code(code: CodeType, function: FunctionType) -> _Compiled:
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return None, "it is a generator or a coroutine", True
    try:
        source = source_of(function)
    except NotProven as error:
        return None, str(error), True
    definition = copy.deepcopy(source.definition)
    nodes = list(own_nodes(ast.Module(definition.body, [])))
    named = {part.id for part in nodes if isinstance(part, ast.Name)}
    named |= {part.attr for part in nodes if isinstance(part, ast.Attribute)} & {"_getframe", "currentframe"}
    reason = _unsuitable(definition, named)
    if reason:
        return None, reason, True
    definition.decorator_list, definition.returns = [], None
    for argument in ast.walk(definition.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    arguments = definition.args
    arguments.defaults = [ast.copy_location(ast.Constant(None), d) for d in arguments.defaults]
    arguments.kw_defaults = [d and ast.copy_location(ast.Constant(None), d) for d in arguments.kw_defaults]
    parting = any(isinstance(part, _CONTROL) for part in ast.walk(definition)) or may_part(definition)
    if not rewrite(definition, function, source.class_name):
        return None, "", parting
    try:
        return _compile(code, definition, source.class_name), "", parting
    except (SyntaxError, ValueError, RecursionError) as error:
        return None, f"the rewritten source does not compile: {error}", True


def _unsuitable(definition: ast.FunctionDef, named: set[str]) -> str:
    """Return why a function that uses the given names cannot be rewritten, or ""."""
    if named & _FRAME:
        return f"it calls {', '.join(sorted(named & _FRAME))}"
    if named & {"UnboundLocalError", "NameError"}:
        return "it asks whether its variables are assigned"
    if _compares_identity(definition):
        return "it compares objects by `is`, and what is joined is a new object"
    if any(name.startswith("_dynarl_") for name in named):
        return "it uses names that begin with _dynarl_"
    return ""


def _compares_identity(definition: ast.FunctionDef) -> bool:
    """Return whether a function compares objects by `is`, also in a pattern, other than with None."""
    return any(
        (
            isinstance(part, ast.Compare)
            and any(isinstance(op, (ast.Is, ast.IsNot)) for op in part.ops)
            and not any(
                isinstance(side, ast.Constant) and side.value is None for side in (part.left, *part.comparators)
            )
        )
        or (isinstance(part, ast.MatchSingleton) and part.value is not None)
        for part in ast.walk(definition)
    )


def _compile(code: CodeType, definition: ast.FunctionDef, class_name: str | None) -> CodeType:
    """Compile a rewritten definition in a function whose arguments are its free variables, in a class of its name."""
    free = (*_RUNTIME, *code.co_freevars)
    factory: Any = ast.parse(f"def _dynarl_factory({', '.join(free)}):\n    pass").body[0]
    definition.name = "_dynarl_function"  # its own name would hide a global that it calls itself by
    factory.body = [definition]
    outer: ast.stmt = factory
    if class_name is not None:
        outer = ast.parse(f"class {class_name}:\n    pass").body[0]
        outer.body = [factory]  # type: ignore[attr-defined]
    module = ast.fix_missing_locations(ast.Module([outer], []))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the user's source; Python has shown them before
        compiled = compile(module, code.co_filename, "exec", code.co_flags & FUTURE, dont_inherit=True)
    found = _code_named(compiled, ([class_name] if class_name else []) + ["_dynarl_factory", definition.name])
    return _named(found, code.co_name, code.co_qualname, found.co_qualname)


def _code_named(code: CodeType, path: list[str]) -> CodeType:
    for name in path:
        code = next(part for part in code.co_consts if isinstance(part, CodeType) and part.co_name == name)
    return code


def _named(code: CodeType, name: str, qualname: str, old: str) -> CodeType:
    """Give functions made from statements the name of the user's function, which tracebacks show."""
    inner = tuple([
        _named(part, name if part.co_name.startswith("_dynarl_") else part.co_name,
               qualname if part.co_name.startswith("_dynarl_") else part.co_qualname.replace(old, qualname, 1), old)
        if isinstance(part, CodeType) else part
        for part in code.co_consts
    ])  # fmt: skip
    return code.replace(co_consts=inner, co_name=name, co_qualname=qualname)


def rewritten(function: Any) -> Any:
    """Return a callable with its statements as join scopes, or itself if nothing is to be rewritten.

    Functions, methods, partials and objects with a method `__call__` are rewritten. The result is kept on the function,
    for as long as its code is the same; defaults and closures are the function's.
    """
    kind = function.__class__
    if kind is not FunctionType:
        return _rewritten_callable(function, kind)
    done = function.__dict__.get("_dynarl_rewritten")
    if done is None or done[0] is not function or done[1] is not function.__code__:
        done = function.__dict__["_dynarl_rewritten"] = function, function.__code__, _rewrite(function)
    made = done[2]
    if made is not function:
        if made.__defaults__ is not function.__defaults__:
            made.__defaults__ = function.__defaults__
        if made.__kwdefaults__ is not function.__kwdefaults__:
            made.__kwdefaults__ = function.__kwdefaults__
    return made


def _rewritten_callable(function: Any, kind: type) -> Any:
    """Return a method, a partial or an object with a method `__call__` with its function rewritten."""
    if kind is MethodType:
        made = rewritten(function.__func__)
        return function if made is function.__func__ else MethodType(made, function.__self__)
    if kind is functools.partial:
        made = rewritten(function.func)
        return function if made is function.func else functools.partial(made, *function.args, **function.keywords)
    call = call_of(kind)
    if call is None or rewritten(call) is call:
        return function
    return MethodType(rewritten(call), function)


def parts(function: Any) -> bool:
    """Return whether samples may part in a function or method of the user's own."""
    if function.__class__ is MethodType:
        function = function.__func__
    if function.__class__ is not FunctionType:
        return True
    return _compiled(function)[2]


def _rewrite(function: FunctionType) -> FunctionType:
    code = _compiled(function)[0]
    if code is None:
        return function
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
    runtime: dict[str, Any] = {name: CellType(value) for name, value in _RUNTIME.items()}
    closure = tuple([cells.get(name) or runtime[name] for name in code.co_freevars])
    made = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    made.__qualname__, made.__module__, made.__doc__ = function.__qualname__, function.__module__, function.__doc__
    return made


def why_unchanged(function: Callable[..., Any]) -> str:
    """Return why a function runs as it is written, or "" if it is rewritten or has nothing to rewrite."""
    if not isinstance(function, FunctionType):
        return ""
    return _compiled(function)[1]
