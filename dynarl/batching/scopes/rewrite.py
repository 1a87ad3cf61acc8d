"""A rewrite of a program's source that makes its `if` statements and loops join scopes.

Without it, samples that diverge at an `if` stay apart until the enclosing function returns, and the code after the `if`
runs once for each path. The rewritten statement is a function that returns the names it assigns:

    def branch(a):                    # if h > 0:
        if h > 0:                     #     a = f(h)
            a = f(h)
        return (a,)
    (a,) = join(branch)

A loop becomes a function of one iteration. Samples that continue are joined at its end; samples that leave wait until
the last one has left, with the names that are read after the loop:

    def step(_, h, n):                # while n < 9:
        if not n < 9:                 #     h, n = f(h), n + 1
            return 1, (h, None)       #     if h > 0:
        h, n = f(h), n + 1            #         return g(h)
        if h > 0:                     # return h
            return 2, (h, None)
        return 0, (h, n)
    way, (h, n) = loop(step)
    if way == 2:
        return g(h)

A statement is rewritten only if it assigns nothing but names, and an `if` only if it does not leave its block. At run
time a rewritten statement is a scope only if it has no list, dict or set that it might change. Every other statement
stays unchanged and is still correct, by replay. Line numbers stay the same, so that tracebacks and debuggers show the
user's lines.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from types import CodeType, FunctionType
from typing import Any

from dynarl.batching.scopes.names import deleted_names, loaded_names, mentions, sets_first, statements_at, values_of
from dynarl.batching.scopes.statements import UNDEFINED, get_name, join_branch, join_loop
from dynarl.batching.values.ragged import END

__all__ = ["rewritten"]

_LEAVES = (ast.Return, ast.Break, ast.Continue)
_HIDES = (
    ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal, ast.Delete,
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Import, ast.ImportFrom, ast.Try, ast.With,
    ast.Raise, ast.NamedExpr, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Match,
)  # fmt: skip
_LATER = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Lambda,
    ast.GeneratorExp,
)  # they read their names later
_NAMES = ("_dynarl_join", "_dynarl_loop", "_dynarl_get", "_dynarl_undefined", "_dynarl_end", "_dynarl_locals")


class _Rewriter(ast.NodeTransformer):
    """Rewrites the statements of one function, inner statements before outer ones."""

    def __init__(self, function: ast.FunctionDef) -> None:
        self.count = self.loops = 0
        self.loads = loaded_names(function)
        later = [part for part in ast.walk(function) if isinstance(part, _LATER) and part is not function]
        self.later = {name.id for part in later for name in ast.walk(part) if isinstance(name, ast.Name)}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node  # functions inside the program keep their own control flow

    visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        names = self._names_of([node], (*_HIDES, *_LEAVES))
        if names is None:
            return node
        assigned, touched = names
        outs = sorted(n for n in assigned if not self._is_internal(n, node, (node.body, node.orelse), node.test))
        if not outs:
            return node
        self.count += 1
        name = f"_dynarl_if_{self.count}"
        defaults = ", ".join(f"{out}=_dynarl_get(_dynarl_locals(), {out!r})" for out in outs)
        answer = values_of(outs, set(outs), deleted_names(node))
        made: Any = statements_at(
            f"def {name}({defaults}):\n    pass\n    return ({answer})\n"
            f"({', '.join(outs)},) = _dynarl_join({name}, _dynarl_locals(), {touched!r})\n",
            node,
        )
        made[0].body[0] = node
        return [*made, *self._dropped(outs, node)]

    def visit_While(self, node: ast.While) -> Any:
        self._visit_inside(node)
        leaves = f"if not _:\n    {_LEAVE}\n"
        if isinstance(node.test, ast.Constant) and node.test.value:
            return self._as_loop(node, None, [], node.test)
        first: Any = statements_at(leaves, node.test)
        first[0].test.operand = node.test
        return self._as_loop(node, None, first, node.test)

    def visit_For(self, node: ast.For) -> Any:
        self._visit_inside(node)
        first: Any = statements_at(f"if _dynarl_item is _dynarl_end:\n    {_LEAVE}\n_ = _dynarl_item\n", node.target)
        first[1].targets = [node.target]
        return self._as_loop(node, node.iter, first, None)

    def _visit_inside(self, node: ast.stmt) -> None:
        self.loops += 1
        self.generic_visit(node)
        self.loops -= 1

    def _as_loop(self, node: Any, items: ast.expr | None, first: list[Any], test: ast.expr | None) -> Any:
        """Return a loop as a function of one iteration, the call that repeats it, and its `return` statements."""
        names = self._names_of([node.test if items is None else node.target, *node.body], _HIDES)
        if names is None or node.orelse or names[0] & self.later:
            return node
        assigned, touched = names
        body = [*first, *node.body]
        outs = sorted(n for n in assigned if not self._is_internal(n, node, (body,), test, returned=True))
        if not outs:
            return node
        inside = {id(part) for part in ast.walk(node)}
        after = {load.id for load in self.loads if id(load) not in inside}
        if self.loops:  # the next iteration of an outer loop reads what this loop reads before it assigns it
            after |= {out for out in outs if not sets_first(body, out)}
        self.count += 1
        leaving = _Leaving(outs, after, deleted_names(node))
        name = f"_dynarl_loop_{self.count}"
        arguments = ", ".join(["_dynarl_item", *outs])
        made: Any = statements_at(
            f"def {name}({arguments}):\n    pass\n    return 0, ({leaving.values(set(outs))})\n"
            f"_dynarl_way, ({', '.join(outs)},) = "
            f"_dynarl_loop({name}, _, _dynarl_locals(), {touched!r}, {tuple(outs)!r})\n",
            node,
        )
        made[0].body[-2:-1] = leaving.all(body)
        made[1].value.args[1] = ast.copy_location(ast.Constant(None), node) if items is None else items
        for way, value in leaving.returns:
            made += statements_at(f"if _dynarl_way == {way}:\n    pass\n", node)
            made[-1].body = [value]
        return [*made[:2], *self._dropped(outs, node), *made[2:]]

    def _names_of(self, nodes: list[Any], refused: tuple[type, ...]) -> tuple[set[str], tuple[str, ...]] | None:
        """Return the names that a statement assigns and all names in it, or None if it cannot be a scope."""
        assigned: set[str] = set()
        touched: set[str] = set()
        for part in (part for node in nodes for part in ast.walk(node)):
            if isinstance(part, refused) or (
                isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store)
            ):
                if not getattr(part, "_by_rewrite", False):
                    return None
            elif isinstance(part, ast.Expr) and not isinstance(part.value, ast.Constant):
                return None  # an expression statement is there for its side effect
            elif isinstance(part, ast.Name) and not part.id.startswith("_dynarl"):
                touched.add(part.id)
                if isinstance(part.ctx, ast.Store):
                    assigned.add(part.id)
        return assigned, tuple(sorted(touched))

    def _is_internal(
        self, name: str, node: ast.stmt, branches: Any, test: ast.expr | None, *, returned: bool = False
    ) -> bool:
        """Return whether a name is used in this statement only, and assigned in it before it is read."""
        inside = {id(part) for part in ast.walk(node)}
        if any(load.id == name and id(load) not in inside for load in self.loads):
            return False
        if returned and any(isinstance(part, ast.Return) and mentions(part, name) for part in ast.walk(node)):
            return False  # a loop's returns are evaluated after it
        return all(sets_first(branch, name) for branch in branches) and not (test and mentions(test, name))

    def _dropped(self, outs: list[str], like: ast.AST) -> list[ast.stmt]:
        """Return statements that delete names without a value, so that reading one raises NameError as usual."""
        return statements_at("".join(f"if {out} is _dynarl_undefined: del {out}\n" for out in outs), like)


_LEAVE = "return '_dynarl_leave'"  # stands for the end of the loop; _Leaving replaces it


class _Leaving(ast.NodeTransformer):
    """Replaces `break`, `continue` and `return` in a loop's body by returns of its iteration."""

    def __init__(self, outs: list[str], after: set[str], undone: set[str]) -> None:
        self.outs, self.after, self.undone = outs, after, undone
        self.returns: list[tuple[int, ast.Return]] = []

    def all(self, body: list[Any]) -> list[Any]:
        return [self.visit(statement) for statement in body]

    def values(self, read: set[str]) -> str:
        """Return the results of an iteration as source."""
        return values_of(self.outs, read, self.undone)

    def _out(self, way: int, read: set[str], like: ast.AST) -> Any:
        return statements_at(f"return {way}, ({self.values(read)})", like)[0]

    def visit_Break(self, node: ast.Break) -> Any:
        return self._out(1, self.after, node)

    def visit_Continue(self, node: ast.Continue) -> Any:
        return self._out(0, set(self.outs), node)

    def visit_Return(self, node: ast.Return) -> Any:
        if isinstance(node.value, ast.Constant) and node.value.value == "_dynarl_leave":
            return self._out(1, self.after, node)
        way = 2 + len(self.returns)
        self.returns.append((way, node))
        return self._out(way, {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}, node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return node  # an inner statement that is rewritten already

    def visit_While(self, node: Any) -> Any:  # an inner loop that was not rewritten: break and continue are its own
        inner = _LeavingInner(self)
        node.body = [inner.visit(statement) for statement in node.body]
        return node

    visit_For = visit_While


class _LeavingInner(ast.NodeTransformer):
    """Does the same in an inner loop that was not rewritten, where only `return` leaves the outer loop."""

    def __init__(self, outer: _Leaving) -> None:
        self.outer = outer

    def visit_Return(self, node: ast.Return) -> Any:
        return self.outer.visit_Return(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return node


@functools.lru_cache(maxsize=512)
def _compiled(code: CodeType, function: FunctionType) -> tuple[CodeType, int] | None:
    """Return the code of a function that makes the rewritten function, and the number of statements rewritten.

    None if the source is missing or nothing is to be rewritten.
    """
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
    answer = ast.Return(ast.Name(definition.name, ast.Load()))
    factory.body = [definition, ast.copy_location(answer, definition)]
    module = ast.fix_missing_locations(ast.Module([factory], []))
    return _named(compile(module, code.co_filename, "exec"), definition.name), rewriter.count


def _named(code: CodeType, name: str) -> CodeType:
    """Give functions made from statements the name of the user's function, which tracebacks show."""
    inner = tuple([_named(part, name) if isinstance(part, CodeType) else part for part in code.co_consts])
    made = code.co_name.startswith(("_dynarl_if", "_dynarl_loop"))
    return code.replace(co_consts=inner, co_name=name) if made else code.replace(co_consts=inner)


def rewritten(function: Any) -> Any:
    """Return a function with its `if` statements and loops as join scopes, or itself if there are none.

    The result is kept on the function, for as long as its code is the same.
    """
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
    except ValueError:  # a variable of the enclosing function is not assigned yet
        return function
    namespace: dict[str, Any] = {}
    exec(found[0], function.__globals__, namespace)  # compiled from the program's own source
    made: FunctionType = namespace["_dynarl_factory"](join_branch, join_loop, get_name, UNDEFINED, END, locals, *cells)
    made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return made
