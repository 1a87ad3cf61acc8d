"""Compare dynarl with a hand-written NumPy floor and, if installed, with PyTorch and Stable-Baselines3.

    python scripts/benchmark.py                       everything, a few minutes
    python scripts/benchmark.py --only mlp,adam       some sections
    python scripts/benchmark.py --quick --json FILE   a rough estimate, also written as JSON
    python scripts/benchmark.py --ray [--workers 1,4,8] [--plot FILE.png]   workers on Ray, with a throughput model

All contestants run on one thread, alternating; the table shows the best of several rounds.
"""
# ruff: noqa: E402  (BLAS reads its number of threads when NumPy loads, so that is set before any import)

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_variable] = "1"

import argparse
import json
import platform
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import dynamic, dynamic_ppo, images, networks, processes, recurrent, sac, value_based
from benchmarks.timing import QUICK, Effort, Report

SECTIONS = (
    *("mlp", "adam", "update", "act", "dynamic", "dynamic-ppo", "recurrent", "replay", "dqn", "images", "sac"),
    *("run", "import", "solved"),
)
RAY_SECTIONS = ("workers", "faults", "rllib")


def main(arguments: list[str] | None = None) -> Report:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="short rounds and runs: a rough estimate")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--without-peers", action="store_true", help="skip PyTorch and Stable-Baselines3")
    parser.add_argument("--sbx-python", help="the Python of an environment with sbx-rl, for the section sac")
    parser.add_argument(
        "--ray", nargs="?", const=",".join(RAY_SECTIONS), metavar="SECTIONS",
        help=f"measure only workers on Ray: some of {', '.join(RAY_SECTIONS)} (default: all)",
    )  # fmt: skip
    parser.add_argument("--rllib-python", help="the Python of an environment with ray[rllib] and torch, for --ray")
    parser.add_argument("--workers", default="1,2,4,8", help="numbers of workers to measure with --ray")
    parser.add_argument(
        "--plot", type=Path, help="plot the measurements of --ray and the predictions of its model, as a PNG"
    )
    options = parser.parse_args(arguments)
    if options.ray:
        return ray_section(options)
    wanted = [name.strip() for name in options.only.split(",")]
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown sections {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    report = Report(QUICK if options.quick else Effort())
    libs = libraries(peers=not options.without_peers)
    print(description(libs))
    for section in wanted:
        run_section(section, report, libs, options.sbx_python)
    return finish(report, options)


def ray_section(options: argparse.Namespace) -> Report:
    """Measure workers on Ray."""
    from benchmarks import faults, rllib, workers

    wanted = options.ray.split(",")
    if unknown := [name for name in wanted if name not in RAY_SECTIONS]:
        raise SystemExit(f"--ray: unknown sections {', '.join(unknown)}; there are {', '.join(RAY_SECTIONS)}")
    report = Report(QUICK if options.quick else Effort())
    print(f"{description({})}; load {os.getloadavg()[0]:.1f}")
    if "workers" in wanted:
        workers.section(report, [int(number) for number in options.workers.split(",")], options.plot)
    if "faults" in wanted:
        faults.section(report, 1 if options.quick else faults.SEEDS)
    if "rllib" in wanted:
        rllib.section(report, options.rllib_python, 1 if options.quick else 3)
    return finish(report, options)


def finish(report: Report, options: argparse.Namespace) -> Report:
    """Say which goals were missed and write the rows where asked."""
    missed = report.missed()
    print("all goals met" if not missed else f"goals missed: {', '.join(missed)}")
    if options.json:
        rows = [row.as_json() for row in (*report.rows, *report.figures)]
        options.json.write_text(json.dumps({"machine": platform.processor(), "rows": rows}, indent=1))
    return report


def libraries(peers: bool) -> dict[str, Any]:
    """Return dynarl and, where installed, torch on one thread."""
    libs: dict[str, Any] = {"dynarl": import_module("dynarl")}
    for part in ("nn.utils", "optim", "distributions"):
        import_module(f"dynarl.{part}")
    if peers and find_spec("torch"):
        libs["torch"] = import_module("torch")
        libs["torch"].set_num_threads(1)
    return libs


def description(libs: dict[str, Any]) -> str:
    versions = [f"Python {platform.python_version()}", f"NumPy {np.__version__}"]
    versions += [f"{name} {getattr(lib, '__version__', '')}".strip() for name, lib in libs.items()]
    return (
        f"{', '.join(versions)}; one thread of {platform.machine()}, {os.cpu_count()} cores, times are the best round"
    )


def run_section(section: str, report: Report, libs: dict[str, Any], sbx_python: str | None = None) -> None:
    """Measure one section."""
    networks_sections = {
        "mlp": networks.mlp_section,
        "adam": networks.adam_section,
        "update": networks.update_section,
        "act": networks.act_section,
        "dynamic": dynamic.section,
        "dynamic-ppo": dynamic_ppo.section,
        "recurrent": recurrent.recurrent_section,
        "replay": value_based.replay_section,
        "dqn": value_based.dqn_section,
        "images": images.section,
    }
    if section in networks_sections:
        networks_sections[section](report, libs)
    elif section == "sac":
        sac.section(report, libs, sbx_python)
    elif section == "run":
        contestants = {"dynarl": processes.dynarl_run}
        if "torch" in libs and find_spec("stable_baselines3"):
            contestants["sb3"] = processes.sb3_run
        processes.run_section(report, contestants)
    elif section == "import":
        processes.import_section(report, list(libs))
    else:
        processes.solved_section(report, report.effort)


if __name__ == "__main__":
    sys.exit(1 if main().missed() else 0)
