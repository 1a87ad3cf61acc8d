"""A rewrite of a program's source that makes its statements join scopes.

Without it, samples that diverge at an `if` stay apart until the enclosing function returns, and the code after the `if`
runs once for each path. The rewritten statement is an inner function that assigns the same variables:

    def statement():                  # if h > 0:
        nonlocal a                    #     a = f(h)
        if h > 0:
            a = f(h)
    join(statement, ("a",))

The variables are those of the program, as cells. Lambdas and inner functions, `del` and unassigned names therefore
behave as in the program itself. A loop becomes a function of one iteration. Samples that continue are joined at its
end; samples that leave wait until the last one has left:

    def step(_):                      # while n < 9:
        nonlocal h, n                 #     h, n = f(h), n + 1
        if not n < 9:                 #     if h > 0:
            return 1                  #         return g(h)
        h, n = f(h), n + 1            # return h
        if h > 0:
            return 2
        return 0
    way = loop(step, None, ("h", "n"), ...)
    if way == 2:
        return g(h)

Also scopes are simple statements in which samples can part (`y = a if c else b`, `int(k)`, comprehensions), and calls
of the user's own functions. A statement that leaves its block (`if c: return x`) is none; the loop or function around
it is. Only source that is proven to be the running code is rewritten (`dynarl.batching.scopes.source`). A function that
cannot be rewritten runs unchanged and is still correct, by replay. Line numbers stay the same, so that tracebacks and
debuggers show the user's lines.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import warnings
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from dynarl.batching.scopes.loops import run_loop
from dynarl.batching.scopes.names import (
    bound_names,
    captured_names,
    declared,
    leaves_block,
    loaded_names,
    own_nodes,
    sets_first,
)
from dynarl.batching.scopes.parting import calls_for_helper, may_part
from dynarl.batching.scopes.scope import callee, join_statement
from dynarl.batching.scopes.source import NotProven, source_of
from dynarl.batching.values.ragged import END
from dynarl.nn import Module

__all__ = ["parts", "rewritten", "why_unchanged"]

_RUNTIME = {
    "_dynarl_join": join_statement,
    "_dynarl_loop": run_loop,
    "_dynarl_callee": callee,
    "_dynarl_end": END,
}
_CONTROL = (ast.If, ast.While, ast.For, ast.Match, ast.Try)
_LEAVE = "_dynarl_leave"  # `return "_dynarl_leave"` stands for the end of a loop; _Leaving replaces it
_FRAME = frozenset(("locals", "vars", "dir", "eval", "exec"))  # functions that see the frame of their caller


class _Rewriter(ast.NodeTransformer):
    """Rewrites the statements of one function, inner statements before outer ones."""

    def __init__(self, function: FunctionType, definition: ast.FunctionDef) -> None:
        self.function = function
        self.count = self.loops = 0
        self.loads = loaded_names(definition)
        self.captured = captured_names(definition)
        self.globals = declared(definition.body, ast.Global)
        self.outer = declared(definition.body, ast.Nonlocal)
        arguments = definition.args
        self.first = next((a.arg for a in (*arguments.posonlyargs, *arguments.args)), None)
        self.shared: set[str] = set()  # names that inner functions made here assign

    # -- what keeps its own control flow ----------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node  # a function inside the program is rewritten when it is called

    visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = visit_FunctionDef  # type: ignore[assignment]

    # -- statements -------------------------------------------------------------------------------------------------

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        return node if leaves_block(node) else self._as_scope(node)

    visit_Match = visit_If  # type: ignore[assignment]

    def _simple(self, node: Any) -> Any:
        self.generic_visit(node)
        return self._as_scope(node) if may_part(node) else node

    visit_Assign = visit_AugAssign = visit_Expr = _simple

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if isinstance(node.target, ast.Name) and node.simple:  # an annotated name cannot be nonlocal
            if node.value is None:
                return node
            return self._simple(ast.copy_location(ast.Assign([node.target], node.value), node))
        return self._simple(node)

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args and self.first:
            # Inside an inner function `super()` does not find the method's own class and instance.
            node.args = [_at(ast.Name("__class__", ast.Load()), node), _at(ast.Name(self.first, ast.Load()), node)]
        elif calls_for_helper(node.func, self.function):
            node.func = _at(ast.Call(ast.Name("_dynarl_callee", ast.Load()), [node.func], []), node.func)
        return node

    def _as_scope(self, node: ast.stmt) -> Any:
        """Return a statement as an inner function and the call that runs it in a scope."""
        outs = self._shared_names(node, [getattr(node, "body", []), getattr(node, "orelse", [])], node)
        self.count += 1
        name = f"_dynarl_statement_{self.count}"
        made: Any = _statements(f"def {name}():\n    pass\n_dynarl_join({name}, {outs!r})\n", node)
        made[0].body = [*self._declarations(outs, node), node]
        return made

    # -- loops ------------------------------------------------------------------------------------------------------

    def visit_While(self, node: ast.While) -> Any:
        self._visit_inside(node)
        first: Any = []
        if not (isinstance(node.test, ast.Constant) and node.test.value):
            first = _statements(f"if not _:\n    return {_LEAVE!r}\n", node.test)
            first[0].test.operand = node.test
        return self._as_loop(node, None, first)

    def visit_For(self, node: ast.For) -> Any:
        self._visit_inside(node)
        source = f"if _dynarl_item is _dynarl_end:\n    return {_LEAVE!r}\n_ = _dynarl_item\n"
        first: Any = _statements(source, node.target)
        first[1].targets = [node.target]
        return self._as_loop(node, node.iter, first)

    def _visit_inside(self, node: ast.stmt) -> None:
        self.loops += 1
        self.generic_visit(node)
        self.loops -= 1

    def _as_loop(self, node: Any, items: ast.expr | None, first: list[Any]) -> Any:
        """Return a loop as a function of one iteration, the call that repeats it, and what follows its exits."""
        body = [*first, *node.body]
        whole = ast.Module([*body], [])
        outs = self._shared_names(whole, [body], node)
        inside = {id(part) for part in ast.walk(node)}
        after = {load.id for load in self.loads if id(load) not in inside} | self.captured | self.globals | self.outer
        after |= {part.id for statement in node.orelse for part in loaded_names(statement)}
        if self.loops:  # the next iteration of an outer loop reads what this loop reads before it assigns it
            after |= {out for out in outs if not sets_first(body, out)}
        self.count += 1
        number, name = self.count, f"_dynarl_loop_{self.count}"
        leaving = _Leaving(f"_dynarl_value_{number}", node, breaks=2 if node.orelse else 1)
        stepped = leaving.all(body)
        if leaving.keeps_values:
            outs = (*outs, leaving.value)
            self.shared.add(leaving.value)
        live: list[Any] = [None, *[tuple(sorted(after & set(outs)))] * leaving.breaks]
        live += [tuple(sorted(names & set(outs))) for _, _, names in leaving.returns]
        way = f"_dynarl_way_{number}"
        made: Any = _statements(
            f"def {name}(_dynarl_item):\n    pass\n{way} = _dynarl_loop({name}, _, {outs!r}, {tuple(live)!r})\n", node
        )
        made[0].body = [*self._declarations(outs, node), *stepped, *_statements("return 0", node)]
        made[1].value.args[1] = _at(ast.Constant(None), node) if items is None else items
        if node.orelse:
            made += _statements(f"if {way} == 1:\n    pass\n", node)
            made[-1].body = node.orelse
        for number, value, _ in leaving.returns:
            made += _statements(f"if {way} == {number}:\n    pass\n", node)
            made[-1].body = [value]
        return made

    # -- names ------------------------------------------------------------------------------------------------------

    def _shared_names(self, node: ast.AST, branches: list[list[ast.stmt]], whole: ast.AST) -> tuple[str, ...]:
        """Return the names that a statement assigns and that are used elsewhere or before it assigns them."""
        made = {
            name
            for part in ast.walk(node)
            if isinstance(part, ast.Nonlocal)
            for name in part.names
        }  # fmt: skip
        bound = (bound_names([node]) | made) - self.globals
        return tuple(sorted(n for n in bound if not _is_ours(n) and not self._is_internal(n, node, branches, whole)))

    def _is_internal(self, name: str, node: ast.AST, branches: list[list[ast.stmt]], whole: ast.AST) -> bool:
        """Return whether a name is used in this statement only, and assigned in it before it is read."""
        if name in self.captured or name in self.outer or not isinstance(whole, (ast.If, ast.For, ast.While)):
            return False
        inside = {id(part) for part in ast.walk(node)}
        if any(load.id == name and id(load) not in inside for load in self.loads):
            return False
        if not _by_names_alone(node, name) or any(
            isinstance(part, ast.Return) and any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(part))
            for part in ast.walk(node)
        ):
            return False  # a loop's returns are evaluated after it
        test = whole.test if isinstance(whole, ast.If) else None
        if test is not None and any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(test)):
            return False
        return all(sets_first(branch, name) for branch in branches)

    def _declarations(self, outs: tuple[str, ...], like: ast.AST) -> list[ast.stmt]:
        self.shared.update(outs)
        lines = f"nonlocal {', '.join(outs)}\n" if outs else ""
        lines += f"global {', '.join(sorted(self.globals))}\n" if self.globals else ""
        return _statements(lines, like)


def _by_names_alone(node: ast.AST, name: str) -> bool:
    """Return whether a name is assigned by simple names only, not by `def`, `import`, `except` or patterns."""
    return not any(
        name in (getattr(part, "name", None), getattr(part, "rest", None), getattr(part, "asname", None))
        for part in ast.walk(node)
        if not isinstance(part, ast.Name)
    )


def _is_ours(name: str) -> bool:
    return name.startswith("_dynarl") and not name.startswith("_dynarl_value")


class _Leaving(ast.NodeTransformer):
    """Replaces `break`, `continue` and `return` in a loop's body by returns of its iteration.

    The value of a `return` is computed after the loop, for all samples that left by it together; inside `with` and
    `try`, where it may mean something else, it is computed in place.
    """

    def __init__(self, value: str, loop: ast.AST, *, breaks: int) -> None:
        self.value, self.breaks, self.keeps_values = value, breaks, False
        self.returns: list[tuple[int, ast.Return, set[str]]] = []
        self.guarded = self.inner = 0

    def all(self, body: list[Any]) -> list[Any]:
        """Return the statements of the body with their exits replaced."""
        found = []
        for statement in body:
            made = self.visit(statement)
            found += made if isinstance(made, list) else [made]
        return found

    def visit_Break(self, node: ast.Break) -> Any:
        return node if self.inner else _statements(f"return {self.breaks}", node)

    def visit_Continue(self, node: ast.Continue) -> Any:
        return node if self.inner else _statements("return 0", node)

    def visit_Return(self, node: ast.Return) -> Any:
        if isinstance(node.value, ast.Constant) and node.value.value == _LEAVE:
            return _statements("return 1", node)
        way = self.breaks + 1 + len(self.returns)
        if not self.guarded:
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            self.returns.append((way, node, names))
            return _statements(f"return {way}", node)
        self.keeps_values = True
        made: Any = _statements(f"{self.value} = _\nreturn {way}\n", node)
        made[0].value = node.value or _at(ast.Constant(None), node)
        returned: Any = _statements(f"return {self.value}", node)[0]
        self.returns.append((way, returned, {self.value}))
        return made

    def _guarded(self, node: Any) -> Any:
        self.guarded += 1
        self.generic_visit(node)
        self.guarded -= 1
        return node

    visit_With = visit_Try = visit_TryStar = _guarded

    def visit_While(self, node: Any) -> Any:  # an inner loop that was not rewritten: break and continue are its own
        self.inner += 1
        node.body = self.all(node.body)
        self.inner -= 1
        node.orelse = self.all(node.orelse)
        return node

    visit_For = visit_AsyncFor = visit_While

    def visit_FunctionDef(self, node: Any) -> Any:
        return node  # a function of the program, or a statement that is rewritten already

    visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = visit_FunctionDef


def _at(node: Any, like: ast.AST) -> Any:
    """Return a node whose parts without a position are at the position of `like`."""
    for part in ast.walk(node):
        if not hasattr(part, "lineno"):
            ast.copy_location(part, like)
    return node


def _statements(source: str, like: ast.AST) -> list[Any]:
    """Return statements parsed from source, at the line of `like`."""
    statements = ast.parse(source).body
    for statement in statements:
        for part in ast.walk(statement):
            ast.copy_location(part, like)
    return statements


# -- compiling ------------------------------------------------------------------------------------------------------


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
    named = {part.id for part in own_nodes(ast.Module(definition.body, [])) if isinstance(part, ast.Name)}
    if named & _FRAME:
        return None, f"it calls {', '.join(sorted(named & _FRAME))}", True
    if any(name.startswith("_dynarl_") for name in named):
        return None, "it uses names that begin with _dynarl_", True
    definition.decorator_list, definition.returns = [], None
    for argument in ast.walk(definition.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    arguments = definition.args
    arguments.defaults = [ast.copy_location(ast.Constant(None), d) for d in arguments.defaults]
    arguments.kw_defaults = [d and ast.copy_location(ast.Constant(None), d) for d in arguments.kw_defaults]
    parting = any(isinstance(part, _CONTROL) for part in ast.walk(definition)) or may_part(definition)
    rewriter = _Rewriter(function, definition)
    definition.body = _rewritten_body(rewriter, definition.body)
    if not rewriter.count and not _mentions_callee(definition):
        return None, "", parting
    try:
        return _compile(code, definition, source.class_name), "", parting
    except (SyntaxError, ValueError, RecursionError) as error:
        return None, f"the rewritten source does not compile: {error}", True


def _mentions_callee(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "_dynarl_callee" for part in ast.walk(node))


def _rewritten_body(rewriter: _Rewriter, old: list[ast.stmt]) -> list[ast.stmt]:
    docstring = bool(old) and isinstance(old[0], ast.Expr) and isinstance(old[0].value, ast.Constant)
    body: list[ast.stmt] = [*old[:1]] if docstring else []
    for statement in old[docstring:]:
        made = rewriter.visit(statement)
        body += made if isinstance(made, list) else [made]
    body = [_Undeclared().visit(statement) for statement in body]
    # Every shared name needs an assignment in the function itself, which is its owner; `if 0` leaves no code.
    mine = sorted(rewriter.shared - rewriter.outer - rewriter.globals)
    heads = "".join(f"if 0: {name} = 0\n" for name in mine)
    heads += f"nonlocal {', '.join(sorted(rewriter.outer))}\n" if rewriter.outer else ""
    heads += f"global {', '.join(sorted(rewriter.globals))}\n" if rewriter.globals else ""
    return [*body[:docstring], *_statements(heads, old[0]), *body[docstring:]]


class _Undeclared(ast.NodeTransformer):
    """Removes the function's own `global` and `nonlocal` statements, which move to its beginning."""

    def visit_Global(self, node: ast.Global) -> Any:
        return ast.copy_location(ast.Pass(), node)

    visit_Nonlocal = visit_Global  # type: ignore[assignment]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        if node.name.startswith("_dynarl_"):  # a statement of the function; its declarations come first and stay
            count = next((i for i, s in enumerate(node.body) if not isinstance(s, (ast.Nonlocal, ast.Global))), 0)
            node.body[count:] = [self.visit(statement) for statement in node.body[count:]]
        return node

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda  # type: ignore[assignment]


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
        compiled = compile(module, code.co_filename, "exec", code.co_flags & _future_flags(), dont_inherit=True)
    found = _code_named(compiled, ([class_name] if class_name else []) + ["_dynarl_factory", definition.name])
    return _named(found, code.co_name, code.co_qualname, found.co_qualname)


def _future_flags() -> int:
    import __future__ as future

    return sum(getattr(future, name).compiler_flag for name in future.all_feature_names)


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
    if kind is MethodType:
        made = rewritten(function.__func__)
        return function if made is function.__func__ else MethodType(made, function.__self__)
    if kind is functools.partial:
        made = rewritten(function.func)
        return function if made is function.func else functools.partial(made, *function.args, **function.keywords)
    if kind is not FunctionType:
        call = getattr(kind, "__call__", None)
        if isinstance(call, FunctionType) and not issubclass(kind, (type, Module)):
            made = rewritten(call)
            return function if made is call else MethodType(made, function)
        return function
    done = function.__dict__.get("_dynarl_rewritten")
    if done is None or done[0] is not function or done[1] is not function.__code__:
        made = _rewrite(function)
        done = function.__dict__["_dynarl_rewritten"] = function, function.__code__, made
    made = done[2]
    if made is not function:
        made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return made


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
