"""The wheel: the command, the tuned configurations and the types travel in it, from the checkout and from an sdist."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from dynarl.config import tuned

ROOT = Path(__file__).parents[2]
CONFIGS = {f"dynarl/{path.relative_to(ROOT)}" for path in ROOT.glob("configs/*/*.yaml")}


def test_configurations_are_mapped_into_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["dynarl"], "force-include": {"configs": "dynarl/configs"}}
    assert project["project"]["scripts"] == {"dynarl": "dynarl.__main__:main"}
    assert {f"dynarl/configs/{algo}/{name}.yaml" for algo in tuned.DEFAULTS for name in tuned.names(algo)} == CONFIGS


def pip(*arguments, cwd):
    command = [sys.executable, "-m", "pip", *map(str, arguments), "-q", "--disable-pip-version-check"]
    subprocess.run(command, cwd=cwd, check=True, timeout=280)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", ["checkout", "sdist"])
def test_an_installed_wheel(tmp_path, source):
    """Builds need the network: pip makes an environment with the build backend."""
    if source == "sdist":
        pip("install", "hatchling", "--target", tmp_path / "backend", cwd=tmp_path)
        environ = {**os.environ, "PYTHONPATH": str(tmp_path / "backend")}
        script = f"import hatchling.build as b; print(b.build_sdist({str(tmp_path)!r}))"
        build = [sys.executable, "-c", script]
        subprocess.run(build, cwd=ROOT, check=True, env=environ)
    origin = next(tmp_path.glob("*.tar.gz")) if source == "sdist" else ROOT
    pip("wheel", origin, "--no-deps", "--wheel-dir", tmp_path / "wheels", cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("dynarl-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= CONFIGS | {"dynarl/py.typed", "dynarl/agents/ppo/ppo.py"}
    assert not {name for name in names if name.startswith(("tests/", "scripts/", "configs/"))}

    pip("install", wheel, "--no-deps", "--target", tmp_path / "site", cwd=tmp_path)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def dynarl(*arguments):
        command = [str(tmp_path / "site" / "bin" / "dynarl"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)

    assert "pendulum" in dynarl("--help").stdout
    flags = ["--total-steps", "256", "--num-steps", "32", "--eval-episodes", "1", "--run-dir", "r"]
    trained = dynarl("train", "ppo", "acrobot", *flags)
    assert trained.returncode == 0, trained.stderr
    assert "env_id: Acrobot-v1" in (tmp_path / "r" / "config.yaml").read_text()
    hint = "import dynarl.extras as e; print(e.__file__, e.how_to_install('ray'), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", hint], cwd=tmp_path, env=environ, capture_output=True, text=True)
    where, command = done.stdout.splitlines()
    assert where.startswith(str(tmp_path)) and command == "pip install 'ray[default]>=2.54'"
