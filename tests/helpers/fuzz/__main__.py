"""The command: many programs, counts by construct and by reason of refusal, minimal programs that fail."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.helpers.fuzz import FEATURES, Report, check
from tests.helpers.fuzz.shrinking import shrunk


def reports(seeds: range, names: list[str], jobs: int) -> Iterator[Report]:
    """Yield the reports of seeds in order."""
    if jobs == 1:
        yield from (check(seed, names) for seed in seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(check, names=names), seeds, chunksize=8)


class Totals:
    """What the programs of a run had in common."""

    def __init__(self) -> None:
        self.programs = self.compared = self.failed = 0
        self.used: Counter[str] = Counter()
        self.failing: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def add(self, report: Report) -> None:
        self.programs += 1
        if report.skipped:
            self.skipped[report.skipped] += 1
            return
        self.compared += len(report.equal)
        self.failed += bool(report.failures)
        self.used.update(report.program.features)
        self.refused.update(report.refusals.values())
        self.failing.update(report.program.features if report.failures else ())
        self.kinds.update(f"{failure.mode}: {failure.kind}" for failure in report.failures)

    def __str__(self) -> str:
        """Show all counts."""
        lines = [
            f"{self.programs} programs, {sum(self.skipped.values())} skipped, {self.failed} failed, "
            f"{self.compared} comparisons equal",
            *(f"  skipped {n}: {why}" for why, n in self.skipped.most_common()),
            *(f"  refused {n}: {why}" for why, n in self.refused.most_common()),
            *(f"  failed {n}: {kind}" for kind, n in self.kinds.most_common()),
            "  programs with each construct (failed): "
            + ", ".join(f"{name} {n} ({self.failing[name]})" for name, n in sorted(self.used.items())),
        ]
        return "\n".join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.helpers.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--features", default="", help=f"constructs, comma-separated: {', '.join(FEATURES)}")
    parser.add_argument("--without", default="", help="constructs to leave out")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--failures", type=int, default=10, help="make so many failing programs minimal and show them")
    parser.add_argument("--shrink", type=float, default=60.0, help="seconds for one of them")
    options = parser.parse_args()
    chosen = [name for name in options.features.split(",") if name] or list(FEATURES)
    left_out = [name for name in options.without.split(",") if name]
    for name in (*chosen, *left_out):
        if name not in FEATURES:
            parser.error(f"no construct is called {name!r}")
    totals, shown = Totals(), 0
    seeds = range(options.first, options.first + options.programs)
    for report in reports(seeds, [name for name in chosen if name not in left_out], options.jobs):
        totals.add(report)
        if report.failures and shown < options.failures:
            shown += 1
            print(shrunk(report, seconds=options.shrink), flush=True)
    print(totals)
    raise SystemExit(totals.failed > 0)


if __name__ == "__main__":
    main()
