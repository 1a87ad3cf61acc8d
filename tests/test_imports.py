"""What imports what, what is exported, and how long `import dynarl` takes."""

import ast
import functools
import importlib
import pkgutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

import dynarl

PACKAGE = Path(dynarl.__file__).parent
FILES = {
    ".".join(("dynarl", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
LAZY = {"gymnasium", "tensorboardX", "tyro", "rich", "ray", "cupy", "torch", "yaml", "safetensors", "pandas", "scipy"}

# The rooms from the lowest to the highest, and what each may import: rooms named above it only. A room is a folder,
# or a module directly in dynarl. `autograd+` is the modules of autograd/ that stand above its sub-folders (UPPER).
# Outside its own package a name includes the rooms inside: `autograd` stands for autograd, autograd/ops and autograd+.
LAYERS = """
moved:
extras:
seeding:
threads:
ragged_rows:
autograd:               extras
autograd/ops:           autograd
autograd+:              autograd autograd/ops
optim:                  autograd
optim/lr_scheduler:     autograd optim
optim+:                 optim optim/lr_scheduler
nn:                     autograd optim
nn/utils:               optim nn
distributions:          autograd nn
batching:               autograd nn
batching/groups:        autograd batching
batching/values:        autograd nn distributions batching/groups
batching/rules:         autograd nn batching/groups batching/values
batching/guard:         autograd nn batching batching/groups batching/values batching/rules
batching/scopes:        autograd nn batching/groups batching/values
batching/eager:         autograd nn batching batching/groups batching/values batching/rules batching/scopes
batching/lockstep:      autograd nn batching batching/groups batching/values batching/rules batching/scopes
                        batching/eager
batching+:              moved autograd nn batching batching/groups batching/values batching/rules batching/guard
                        batching/scopes batching/eager batching/lockstep
envs:                   extras seeding ragged_rows
envs/checker:           envs
envs/tasks:
envs+:                  envs envs/checker envs/tasks
rollout:                moved autograd envs ragged_rows
checkpoint:             ragged_rows
config:
callbacks:              checkpoint
agents/encoders:        autograd nn envs batching
agents/policies:        autograd nn distributions envs rollout config agents/encoders
agents/conditional:     autograd nn distributions batching envs rollout agents/policies
agents/user_policy:     autograd nn batching envs rollout agents/encoders agents/policies
agents:                 autograd nn optim envs rollout checkpoint config callbacks threads ragged_rows
                        agents/encoders agents/user_policy
agents/off_policy:      autograd nn batching envs rollout agents agents/user_policy
agents/ppo:             autograd nn optim envs rollout config seeding
                        agents agents/policies agents/encoders agents/user_policy
agents/dqn:             autograd nn optim envs rollout config seeding
                        agents agents/policies agents/encoders agents/user_policy agents/off_policy
agents/sac:             autograd nn optim distributions batching envs rollout config seeding
                        agents agents/policies agents/encoders agents/user_policy agents/off_policy
agents+:                agents agents/policies agents/ppo agents/dqn agents/sac
distributed:            moved extras batching config envs rollout threads agents
train:                  extras seeding threads checkpoint config callbacks envs agents distributed
__main__:               train
"""
UPPER = {
    "autograd": {"__init__", "creation", "gradcheck", "lifted", "methods", "random"},
    "optim": {"__init__"},
    "batching": {"__init__", "batched", "explanation", "inputs", "random", "reference", "self_check", "wiring"},
    "envs": {"__init__"},
    "agents": {"__init__"},
}

# Imports of dynarl inside functions, each with the reason it is not at the top of its file.
IN_FUNCTIONS = {
    ("distributed.setup", "distributed.ray_transport"): "loads ray",
    ("distributed.nodes", "envs"): "a function that is pickled by value and reports a missing dynarl",
    ("distributed.nodes", "envs.env_group"): "a function that is pickled by value and reports a missing dynarl",
    ("train.construction", "distributed"): "runs without workers do not load it",
    ("train.monitor", "train.video"): "loads gymnasium, which a run without videos loads later",
    ("__main__", "train.command"): "Ctrl-C while it loads is caught",
    ("train.command", "envs"): "only `dynarl check` needs it",
    ("train.command", "train.evaluate"): "only `dynarl evaluate` needs it",
    ("train.command", "train.load_run"): "the agents are loaded by `dynarl train` alone",
    ("train.command", "train.plot"): "only `dynarl plot` needs it",
    ("train.evaluate", "train.load_run"): "--help answers before the agents load",
    ("train.evaluate", "train.video"): "only --record-video needs it",
}

# A name may stand for two things only where a reader cannot take one for the other.
TWICE = {
    "guard": "what refuses calls of per-sample programs, in its folder, and what checks an environment's",
    "names": "the names in a program's source, and those in compiled code that its guard reads",
    "config": "the package, and the hyperparameters of each algorithm in its folder",
    "activation": "operations in autograd/ops and the layers over them in nn, as in PyTorch",
    "conv": "operations in autograd/ops and the layers over them in nn, as in PyTorch",
    "indexing": "operations in autograd/ops, and how they act on per-sample tensors in batching/rules",
    "recurrent": "operations in autograd/ops and the layers over them in nn, as in PyTorch",
    "actor": "the acting role, and its form in each algorithm, in its folder",
    "agent": "the role of the user's verbs, and its form in each algorithm, in its folder",
    "ppo": "an algorithm's folder, and the file in it that holds the algorithm",
    "dqn": "an algorithm's folder, and the file in it that holds the algorithm",
    "sac": "an algorithm's folder, and the file in it that holds the algorithm",
    "implementation_details": "the details of an algorithm that are no options, in its folder",
    "losses": "the losses of an algorithm, in its folder",
    "networks": "the networks of an algorithm, in its folder",
    "random": "random numbers as PyTorch names them, and those of per-sample programs",
}

# ------------------------------------------------------------------------------------------------ reading imports


def imported_names(path, *, nodes=None):
    """Full names that a file imports: the modules, and for `from a import b` also `a.b`."""
    found = set()
    for node in ast.walk(tree(path)) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return found


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf8"))


def modules_of(node):
    """The modules of dynarl that an import statement loads: `from a import b` loads a.b where that is a module."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name in FILES}
    if isinstance(node, ast.ImportFrom) and node.module in FILES:
        inner = {f"{node.module}.{alias.name}" for alias in node.names}
        return {name if name in FILES else node.module for name in inner}
    return set()


def arrows(*, in_functions_only=False):
    """{module: modules of dynarl that it imports anywhere, in functions and for type checking as well}."""
    found = {}
    for name, path in FILES.items():
        if name == "dynarl":  # the public names of the package, which any module loads
            continue
        functions = (n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
        roots = functions if in_functions_only else [tree(path)]
        nodes = (node for root in roots for node in ast.walk(root))
        found[name] = set().union(*map(modules_of, nodes)) - {"dynarl", name}
    return found


def circles(graph):
    """Sets of modules that reach each other (strongly connected components of more than one, by Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def room(module):
    """The room of a module: its folder, `folder+` where it stands above the sub-folders, or its own name."""
    path = FILES[module].relative_to(PACKAGE)
    folder = path.parent.as_posix()
    if folder == ".":
        return path.stem
    return folder + "+" if path.stem in UPPER.get(folder, ()) else folder


def package(name):
    """The first name below dynarl, of a module or a room."""
    return name.removeprefix("dynarl.").replace("/", ".").split(".")[0].rstrip("+")


def layers():
    """{room: names of the rooms it may import}, in the order of the table."""
    table, name = {}, ""
    for line in LAYERS.strip().splitlines():
        head, colon, rest = line.rpartition(":")
        name = head.strip() if colon else name
        table.setdefault(name, []).extend(rest.split())
    return table


def covers(allowed, target, importer):
    """Say whether the name `allowed` in the row of `importer` includes the room `target`."""
    inner = package(allowed) != package(importer) and target.startswith((f"{allowed}/", f"{allowed}+"))
    return allowed == target or inner


# ------------------------------------------------------------------------------------------------------- layers


def test_every_room_has_a_layer():
    assert not {room(module) for module in FILES if module != "dynarl"} - layers().keys()


def test_layers_point_down():
    """A row names rooms above it in the table only, so that the rooms have no circle."""
    above = []
    for name, allowed in layers().items():
        for other in allowed:
            known = [one for one in above if covers(other, one, name)]
            assert known, f"{name} may import {other}, which stands below it"
        above.append(name)


@pytest.mark.parametrize("name", layers())
def test_directions(name):
    allowed = layers()[name]
    for module, targets in arrows().items():
        for target in sorted(targets) if room(module) == name else ():
            inside = room(target) == name or any(covers(one, room(target), name) for one in allowed)
            assert inside, f"{module} imports {target}: not in the row of {name}"


def test_no_import_circle():
    """No circle of any kind: imports in functions and for type checking count as those at the top of a file."""
    assert not circles(arrows())


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}}) == []


def test_imports_in_functions_have_a_reason():
    found = {
        (m.removeprefix("dynarl."), t.removeprefix("dynarl."))
        for m, ts in arrows(in_functions_only=True).items()
        for t in ts
    }
    assert not found - IN_FUNCTIONS.keys(), "import at the top of the file, or give the reason in IN_FUNCTIONS"
    assert not IN_FUNCTIONS.keys() - found, "not imported in a function any more"


# -------------------------------------------------------------------------------------------------------- names


def standing_twice():
    """{name: where}, of classes and modules (folders too) that more than one place in the package defines."""
    classes, files = defaultdict(set), defaultdict(set)
    for module, path in FILES.items():
        files[module.rpartition(".")[2]].add(module)
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].add(f"{module}.{node.name}")
    return {name: sorted(where) for kind in (classes, files) for name, where in kind.items() if len(where) > 1}


def test_no_name_stands_twice():
    found = standing_twice()
    assert not {name: where for name, where in found.items() if name not in TWICE}
    assert not TWICE.keys() - found.keys(), "stands once now: take it off the list"


# ------------------------------------------------------------------------------------------- third-party imports


def test_nothing_imports_torch_or_jax():
    for path in FILES.values():
        assert not {m.split(".")[0] for m in imported_names(path)} & {"torch", "jax", "tensorflow"}, path


def test_one_file_imports_cupy():
    heavy = [
        path.name for path in FILES.values() if {m.split(".")[0] for m in imported_names(path)} & {"cupy", "cupyx"}
    ]
    assert heavy == ["device.py"]


def test_one_package_imports_ray():
    ray = {package(m) for m, path in FILES.items() if "ray" in {n.split(".")[0] for n in imported_names(path)}}
    assert ray <= {"distributed"}


def test_import_dynarl_loads_numpy_and_nothing_else_heavy():
    code = "import sys, dynarl; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = set(python(code).split())
    assert "numpy" in loaded
    assert not loaded & LAZY


def test_import_is_quick():
    """0.1 s above `import numpy` on a quiet machine; a busy one gets three times that."""
    took = {m: min(seconds(f"import {m}") for _ in range(3)) for m in ("numpy", "dynarl")}
    assert took["dynarl"] - took["numpy"] < 0.3


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "dynarl.")])
def test_all_is_true(name):
    """Every public module says what it exports, and exports it."""
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    if exported is None:
        return
    assert len(exported) == len(set(exported))
    missing = [n for n in exported if not hasattr(module, n)]
    assert not missing


@pytest.mark.parametrize(
    "name", ["dynarl", "dynarl.nn", "dynarl.nn.functional", "dynarl.optim", "dynarl.distributions"]
)
def test_no_stubs(name):
    """A name that PyTorch users know either works or raises AttributeError."""
    module = importlib.import_module(name)
    for attribute in getattr(module, "__all__", dir(module)):
        value = getattr(module, attribute)
        code = getattr(value, "__code__", None)
        assert code is None or "NotImplementedError" not in code.co_names, f"{name}.{attribute}"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def test_is_typed():
    assert (PACKAGE / "py.typed").exists()


def python(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def seconds(code):
    start = time.perf_counter()
    python(code)
    return time.perf_counter() - start
