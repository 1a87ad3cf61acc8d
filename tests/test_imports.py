"""What imports what, what is exported, and how long `import dynarl` takes."""

import ast
import importlib
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dynarl

PACKAGE = Path(dynarl.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# Part -> the other parts it may import; what is not listed may import everything below the agents
MAY_IMPORT = {
    "autograd": set(),
    "nn": {"autograd", "optim"},
    "optim": {"autograd"},
    "distributions": {"autograd", "nn"},
    "envs": {"seeding", "ragged_rows"},
    "rollout": {"envs", "autograd", "ragged_rows"},
    "agents": {
        "autograd",
        "batching",
        "nn",
        "optim",
        "distributions",
        "envs",
        "rollout",
        "ragged_rows",
        "checkpoint",
        "config",
        "seeding",
        "callbacks",
        "threads",
    },
}
LAZY = {"gymnasium", "tensorboardX", "tyro", "rich", "ray", "cupy", "torch", "yaml", "safetensors", "pandas", "scipy"}


def imports(path, *, at_import=False):
    """Full names of the modules a file imports; with `at_import`, only those that run when it is imported."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    nodes = _top_level(tree) if at_import else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return found


def _top_level(tree):
    """Statements that run at import: not the bodies of functions, not `if TYPE_CHECKING`."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules():
    return [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "dynarl.")]


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_directions(name):
    if not (PACKAGE / name).exists():
        pytest.skip(f"{name} does not exist yet")
    for path in sorted((PACKAGE / name).rglob("*.py")):
        for module in imports(path):
            if module.startswith("dynarl."):
                other = module.split(".")[1]
                assert other in MAY_IMPORT[name] | {name}, f"{path} imports {module}"


def test_nothing_imports_torch_or_jax():
    for path in FILES:
        assert not {m.split(".")[0] for m in imports(path)} & {"torch", "jax", "tensorflow"}, path


def test_one_file_imports_cupy():
    assert [p.name for p in FILES if any(m.split(".")[0] in ("cupy", "cupyx") for m in imports(p))] == ["device.py"]


def test_one_package_imports_ray():
    assert {part(p) for p in FILES if "ray" in {m.split(".")[0] for m in imports(p)}} <= {"distributed"}


def test_import_dynarl_loads_numpy_and_nothing_else_heavy():
    code = "import sys, dynarl; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = set(python(code).split())
    assert "numpy" in loaded
    assert not loaded & LAZY


def test_import_is_quick():
    """0.1 s above `import numpy` on a quiet machine; a busy one gets three times that."""
    took = {m: min(seconds(f"import {m}") for _ in range(3)) for m in ("numpy", "dynarl")}
    assert took["dynarl"] - took["numpy"] < 0.3


@pytest.mark.parametrize("name", modules())
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
