"""Join after `if`: a rewrite of the program's source that makes each plain `if` statement a join scope.

Samples that part at an `if` would otherwise stay apart until the enclosing function returns, and what follows would
run once for each of them. The rewritten statement is a function of its own with the names it assigns as results:

    def branch(a=a):                  # if h > 0:
        if h > 0:                     #     a = f(h)
            a = f(h)
        return (a,)
    (a,) = join(branch)

Only statements that assign nothing but names, and do not leave the block (return, break, ...), are rewritten, and only
where no list, dict or set is at hand that the block might change: everything else stays as it is and is still right,
by replay. Line numbers stay, so tracebacks and debuggers show the user's own lines.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from dynarl.batching.run import state
from dynarl.batching.scope import call_scope

__all__ = ["rewritten"]

_LEAVES_OR_HIDES = (
    ast.Return, ast.Break, ast.Continue, ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal, ast.Delete,
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Import, ast.ImportFrom, ast.Try, ast.With,
    ast.Raise, ast.NamedExpr, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Match,
)  # fmt: skip
_NAMES = ("_dynarl_join", "_dynarl_get", "_dynarl_undefined")
_CHANGEABLE = (list, dict, set, bytearray)


class _Undefined:
    """The value of a name that has none yet."""

    def __repr__(self) -> str:
        return "<undefined>"


_UNDEFINED = _Undefined()


def _join(branch: Callable[..., Any], names: dict[str, Any], touched: tuple[str, ...]) -> Any:
    """Run a branch in a scope, or plainly where a scope would not be sound or of use."""
    if state.context is None:
        return branch()
    if any(isinstance(names.get(name), _CHANGEABLE) for name in touched):
        return branch()
    return call_scope(branch.__code__, branch, (), {})


def _mentions(node: ast.AST, name: str) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def _sets_first(branch: list[ast.stmt], name: str) -> bool:
    """Tell whether the first statement of a branch that mentions a name assigns it (or none mentions it)."""
    first = next((statement for statement in branch if _mentions(statement, name)), None)
    return first is None or (
        isinstance(first, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in first.targets)
        and not _mentions(first.value, name)
    )


class _Rewriter(ast.NodeTransformer):
    def __init__(self, function: ast.FunctionDef) -> None:
        self.count = 0
        names = [part for part in ast.walk(function) if isinstance(part, ast.Name)]
        self.loads = [name for name in names if isinstance(name.ctx, ast.Load)]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node  # functions inside the program keep their own control flow

    visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        assigned: set[str] = set()
        loaded: set[str] = set()
        for part in ast.walk(node):
            if isinstance(part, _LEAVES_OR_HIDES) or (
                isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store)
            ):
                if not getattr(part, "_by_rewrite", False):
                    return node
            elif isinstance(part, ast.Expr) and not isinstance(part.value, ast.Constant):
                return node  # a bare call is there for its effect
            elif isinstance(part, ast.Name):
                (assigned if isinstance(part.ctx, ast.Store) else loaded).add(part.id)
        outs = sorted(n for n in assigned if not n.startswith("_dynarl") and not self._is_internal(n, node))
        if not outs:
            return node
        self.count += 1
        return self._as_scope(node, outs, sorted(loaded))

    def _is_internal(self, name: str, node: ast.If) -> bool:
        """Tell whether a name is used inside this statement alone, and set there before it is read."""
        inside = {id(part) for part in ast.walk(node)}
        if any(load.id == name and id(load) not in inside for load in self.loads):
            return False
        return all(_sets_first(branch, name) for branch in (node.body, node.orelse)) and not _mentions(node.test, name)

    def _as_scope(self, node: ast.If, outs: list[str], loaded: list[str]) -> list[ast.stmt]:
        name = f"_dynarl_if_{self.count}"
        defaults = ", ".join(f"{out}=_dynarl_get(_dynarl_here, {out!r})" for out in outs)
        touched = tuple(n for n in loaded if not n.startswith("_dynarl"))
        undone = {
            t.id
            for part in ast.walk(node)
            if isinstance(part, ast.Delete)
            for t in part.targets
            if isinstance(t, ast.Name)
        }
        answer = "".join(f"_dynarl_get(locals(), {out!r}), " if out in undone else f"{out}, " for out in outs)
        source = (
            "_dynarl_here = locals()\n"
            f"def {name}({defaults}):\n    pass\n    return ({answer})\n"
            f"({''.join(f'{out}, ' for out in outs)}) = _dynarl_join({name}, _dynarl_here, {touched!r})\n"
        )
        made = ast.parse(source).body
        for statement in made:
            for part in ast.walk(statement):
                part._by_rewrite = True  # type: ignore[attr-defined]
                ast.copy_location(part, node)
        made[1].body[0] = node  # type: ignore[attr-defined]
        drop = ast.parse("".join(f"if {out} is _dynarl_undefined: del {out}\n" for out in outs)).body
        for statement in drop:
            for part in ast.walk(statement):
                part._by_rewrite = True  # type: ignore[attr-defined]
                ast.copy_location(part, node)
        return [*made, *drop]


@functools.lru_cache(maxsize=512)
def _compiled(code: CodeType, function: FunctionType) -> tuple[CodeType, int] | None:
    """Return the code of a factory of the rewritten function, and how many statements were rewritten."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError, IndentationError):
        return None
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef) or "__class__" in code.co_freevars:
        return None
    definition.decorator_list = []
    rewriter = _Rewriter(definition)
    definition.body = [
        statement
        for old in definition.body
        for new in [rewriter.visit(old)]
        for statement in (new if isinstance(new, list) else [new])
    ]
    if not rewriter.count:
        return None
    ast.increment_lineno(tree, code.co_firstlineno - 1)
    factory = ast.parse(f"def _dynarl_factory({', '.join((*_NAMES, *code.co_freevars))}):\n    return None").body[0]
    assert isinstance(factory, ast.FunctionDef)
    answer = ast.parse(f"return {definition.name}".replace("return ", "x = ")).body[0]
    assert isinstance(answer, ast.Assign)
    factory.body = [definition, ast.copy_location(ast.Return(answer.value), definition)]
    module = ast.fix_missing_locations(ast.Module([factory], []))
    return compile(module, code.co_filename, "exec"), rewriter.count


def rewritten(function: Any) -> Any:
    """Return a function with its `if` statements as join scopes, or itself where there is nothing to rewrite."""
    if not isinstance(function, FunctionType):
        return function
    done = function.__dict__.get("_dynarl_rewritten")
    if done is not None and done[0] is function.__code__:
        return done[1]
    result = _rewrite(function)
    function.__dict__["_dynarl_rewritten"] = (function.__code__, result)
    return result


def _rewrite(function: FunctionType) -> FunctionType:
    found = _compiled(function.__code__, function)
    if found is None:
        return function
    try:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a name of the enclosing function that is not assigned yet
        return function
    namespace: dict[str, Any] = {}
    exec(found[0], function.__globals__, namespace)  # the program's own source, compiled again
    made: FunctionType = namespace["_dynarl_factory"](_join, _get, _UNDEFINED, *cells)
    made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return made


def _get(names: dict[str, Any], name: str) -> Any:
    return names.get(name, _UNDEFINED)
