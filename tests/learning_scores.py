"""The scores of the tests that learn, over seeds, checkpoints and BLAS kernels. Run by hand from the root:

    python -m tests.learning_scores                                   # all: 10 seeds, 3 checkpoints, 4 kernels
    python -m tests.learning_scores ragged --seeds 3 --kernel Haswell  # names that contain "ragged"

What a run learns depends on rounding, so on the kernels that OpenBLAS chooses for the processor. Each kernel is one
process with OPENBLAS_CORETYPE set ("unset" leaves the choice to OpenBLAS); kernels that OpenBLAS maps to the same
code are run once. Prints a line for each score: its worst value over seeds and checkpoints, the threshold of the
test, the score of who learned nothing. Exits with 1 where one lies below its threshold.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KERNELS = ("Haswell", "SkylakeX", "Zen", "unset")


@functools.cache
def table() -> dict[str, Any]:
    """Import the test files that state setups and return the table they filled."""
    from tests import learning

    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        if "tests.learning import" in path.read_text(encoding="utf8"):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return learning.TABLE


def architecture() -> str:
    """Return the name of the kernels that OpenBLAS chose, or an empty string without OpenBLAS."""
    import numpy as np  # noqa: F401  # loads the library
    from threadpoolctl import threadpool_info

    return next((str(info.get("architecture", "")) for info in threadpool_info()), "")


def measure(names: list[str], seeds: range) -> None:
    """Train each setup with each seed on this process's kernel; print a JSON line for each."""
    cases = table()
    for name in names:
        case, started = cases[name], time.process_time()
        found: dict[str, list[list[float]]] = {score.what: [] for score in case.scores}
        for seed in seeds:
            for row in found.values():
                row.append([])
            for agent in case.checkpoints(seed):
                for score in case.scores:
                    found[score.what][-1].append(float(score.measure(agent)))
        seconds = (time.process_time() - started) / len(seeds)
        print(json.dumps({"name": name, "seconds": seconds, "found": found}), flush=True)


def environment(kernel: str) -> dict[str, str]:
    """Return the environment variables of a process on a kernel."""
    rest = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return rest | one | ({} if kernel == "unset" else {"OPENBLAS_CORETYPE": kernel})


def report(kernel: str, line: str, verbose: bool) -> bool:
    """Print the rows of one setup; return whether all its scores hold."""
    said, holds = json.loads(line), True
    for score in table()[said["name"]].scores:
        runs = said["found"][score.what]
        worst = min(min(run) for run in runs)
        holds = holds and worst >= score.least
        name = f"{said['name']}: {score.what}"
        print(
            f"{name:<58} | {kernel:<8} | {worst:9.3f} | {score.least:9.3f} | {score.static:9.3f} | "
            f"{said['seconds']:5.1f} | {'ok' if worst >= score.least else 'FAILS'}",
            flush=True,
        )
        if verbose:
            for seed, run in enumerate(runs):
                print(f"    {seed}: {' '.join(f'{value:.3f}' for value in run)}", flush=True)
    return holds


def main() -> int:
    """Run this file once for each kernel and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of names of setups (default: all)")
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="repeat for several (default: all four)")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to this, exclusive (default: 10)")
    parser.add_argument("--verbose", action="store_true", help="every score of every seed as well")
    parser.add_argument("--list", action="store_true", help="only list the setups")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in the process of a kernel
    flags = parser.parse_args()
    names = [name for name in table() if not flags.names or any(part in name for part in flags.names)]
    if flags.here:
        warnings.simplefilter("error", RuntimeWarning)
        measure(flags.names, range(flags.seeds))
        return 0
    if flags.list or not names:
        print("\n".join(names) or f"no setup has a name with any of {flags.names}")
        return 0 if names else 2
    print(f"{'test':<58} | kernel   |     worst |     least |    static |     s | holds")
    holds, run = True, dict[str, str]()
    for kernel in flags.kernel or KERNELS:
        ask = [sys.executable, "-c", "from tests.learning_scores import architecture; print(architecture())"]
        kind = subprocess.run(ask, env=environment(kernel), cwd=ROOT, capture_output=True, text=True, check=True).stdout
        if kind in run:
            print(f"{'all':<58} | {kernel:<8} | OpenBLAS runs the code of {run[kind]}: the same scores")
            continue
        run[kind] = kernel
        command = [sys.executable, "-m", "tests.learning_scores", *names, "--here", "--seeds", str(flags.seeds)]
        with subprocess.Popen(command, env=environment(kernel), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                holds = report(kernel, line, flags.verbose) and holds
        holds = holds and process.returncode == 0
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
