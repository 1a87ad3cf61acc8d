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
from collections.abc import Iterable
from types import FunctionType
from typing import Any

from dynarl.batching.scopes.leaving import LEAVE, Leaving, at, statements
from dynarl.batching.scopes.names import bound_names, captured_names, declared, leaves_block, loaded_names, sets_first
from dynarl.batching.scopes.parting import calls_for_helper, calls_library, differing_numbers, may_part

__all__ = ["rewrite"]


_NOT_IN_LAMBDA = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Await)
_BUILTINS = frozenset(("print", "type", "int", "float", "bool", "max", "min"))


def rewrite(definition: ast.FunctionDef, function: FunctionType, class_name: str | None) -> bool:
    """Rewrite the definition of a function, which may be in a class, in place; return whether it changed."""
    rewriter = _Rewriter(function, definition, class_name)
    definition.body = _rewritten_body(rewriter, definition.body)
    return rewriter.changed


class _Rewriter(ast.NodeTransformer):
    """Rewrites the statements of one function, inner statements before outer ones."""

    def __init__(self, function: FunctionType, definition: ast.FunctionDef, class_name: str | None) -> None:
        self.function, self.class_name = function, class_name
        self.count = self.loops = 0
        self.changed = False
        self.loads = loaded_names(definition)
        self.captured = captured_names(definition)
        self.numbers = differing_numbers(definition)
        self.globals = declared(definition.body, ast.Global)
        self.outer = declared(definition.body, ast.Nonlocal)
        arguments = definition.args
        self.first = next((a.arg for a in (*arguments.posonlyargs, *arguments.args)), None)
        self.shared: set[str] = set()  # names that inner functions made here assign

    # -- what keeps its own control flow ----------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node  # a function inside the program is rewritten when it is called

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        node.body = self.visit(node.body)  # its calls only: it may be called by code that does not know programs
        return node

    # -- statements -------------------------------------------------------------------------------------------------

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        return node if leaves_block(node) else self._as_scope(node)

    visit_Match = visit_If  # type: ignore[assignment]

    def _simple(self, node: Any) -> Any:
        parting = may_part(node, self.numbers)
        self.generic_visit(node)
        return self._as_scope(node) if parting else node

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
            node.args = [at(ast.Name("__class__", ast.Load()), node), at(ast.Name(self.first, ast.Load()), node)]
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "item" and not node.args + node.keywords:
            self.changed = True
            return at(ast.Call(ast.Name("_dynarl_number", ast.Load()), [node.func.value], []), node)
        elif isinstance(node.func, ast.Name) and node.func.id in _BUILTINS:
            self.changed = True
            node.func = at(ast.Call(ast.Name("_dynarl_builtin", ast.Load()), [node.func], []), node.func)
        elif calls_library(node.func, self.function):
            self.changed = True
            node.func = at(ast.Call(ast.Name("_dynarl_library", ast.Load()), [node.func], []), node.func)
        elif calls_for_helper(node.func, self.function):
            self.changed = True
            node.func = at(ast.Call(ast.Name("_dynarl_callee", ast.Load()), [node.func], []), node.func)
        return node

    def _comprehension(self, node: Any) -> Any:
        part = "value" if isinstance(node, ast.DictComp) else "elt"
        element = getattr(node, part)
        parting = may_part(element, self.numbers)
        self.generic_visit(node)
        if parting and not any(isinstance(inside, _NOT_IN_LAMBDA) for inside in ast.walk(element)):
            self.changed = True
            nothing = ast.arguments([], [], None, [], [], None, [])
            call = ast.Call(ast.Name("_dynarl_element", ast.Load()), [ast.Lambda(nothing, getattr(node, part))], [])
            setattr(node, part, at(call, element))
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _as_scope(self, node: ast.stmt) -> Any:
        """Return a statement as an inner function and the call that runs it in a scope."""
        outs = self._shared_names(node, [getattr(node, "body", []), getattr(node, "orelse", [])], node)
        self.count, self.changed = self.count + 1, True
        name = f"_dynarl_statement_{self.count}"
        made: Any = statements(f"def {name}():\n    pass\n_dynarl_join({name}, {self._mangled(outs)!r})\n", node)
        made[0].body = [*self._declarations(outs, node), node]
        return made

    # -- loops ------------------------------------------------------------------------------------------------------

    def visit_While(self, node: ast.While) -> Any:
        self._visit_inside(node)
        first: Any = []
        if not (isinstance(node.test, ast.Constant) and node.test.value):
            first = statements(f"if not _:\n    return {LEAVE!r}\n", node.test)
            first[0].test.operand = node.test
        return self._as_loop(node, None, first)

    def visit_For(self, node: ast.For) -> Any:
        self._visit_inside(node)
        source = f"if _dynarl_item is _dynarl_end:\n    return {LEAVE!r}\n_ = _dynarl_item\n"
        first: Any = statements(source, node.target)
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
        self.count, self.changed = self.count + 1, True
        number, name = self.count, f"_dynarl_loop_{self.count}"
        leaving = Leaving(f"_dynarl_value_{number}", node, breaks=2 if node.orelse else 1)
        stepped = leaving.all(body)
        if leaving.keeps_values:
            outs = (*outs, leaving.value)
            self.shared.add(leaving.value)
        live: list[Any] = [None, *[self._mangled(after & set(outs))] * leaving.breaks]
        live += [self._mangled(names & set(outs)) for _, _, names in leaving.returns]
        way = f"_dynarl_way_{number}"
        arguments = f"{name}, _, {self._mangled(outs)!r}, {tuple(live)!r}"
        made: Any = statements(f"def {name}(_dynarl_item):\n    pass\n{way} = _dynarl_loop({arguments})\n", node)
        made[0].body = [*self._declarations(outs, node), *stepped, *statements("return 0", node)]
        made[1].value.args[1] = at(ast.Constant(None), node) if items is None else items
        if node.orelse:
            made += statements(f"if {way} == 1:\n    pass\n", node)
            made[-1].body = node.orelse
        for number, value, _ in leaving.returns:
            made += statements(f"if {way} == {number}:\n    pass\n", node)
            made[-1].body = [value]
        return made

    def _mangled(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return names as the compiler calls them: private names in a class begin with the name of the class."""
        prefix = "" if self.class_name is None else f"_{self.class_name.lstrip('_')}"
        return tuple([prefix + n if n.startswith("__") and not n.endswith("__") else n for n in sorted(names)])

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
        return statements(lines, like)


def _by_names_alone(node: ast.AST, name: str) -> bool:
    """Return whether a name is assigned by simple names only, not by `def`, `import`, `except` or patterns."""
    return not any(
        name in (getattr(part, "name", None), getattr(part, "rest", None), getattr(part, "asname", None))
        for part in ast.walk(node)
        if not isinstance(part, ast.Name)
    )


def _is_ours(name: str) -> bool:
    return name.startswith("_dynarl") and not name.startswith("_dynarl_value")


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
    return [*body[:docstring], *statements(heads, old[0]), *body[docstring:]]


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
