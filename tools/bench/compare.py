"""The last two results of a benchmark side by side, with a warning when they are not of the same machine.

    python -m tools.bench.compare                    all benchmarks that have two results
    python -m tools.bench.compare answers            one of them
    python -m tools.bench.compare --table FILE ...   results as a Markdown table, as in README

A difference is the code's only where the machine is the same one, and idle. Read next: `record.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .record import RESULTS, Result, kept, read

BUSY = 0.5        # processes a core, averaged over a minute: above it, others had part of the machine


def main() -> int:
    """Print the comparison; 1 when there are no two results to compare."""
    options = argparse.ArgumentParser(prog="python -m tools.bench.compare",
                                      description=__doc__.split("\n", 1)[0])
    options.add_argument("what", nargs="*", help="names of benchmarks; with --table, files of results")
    options.add_argument("--table", action="store_true", help="print these results as a Markdown table")
    chosen = options.parse_args()
    try:
        if chosen.table:
            print(table([read(Path(name)) for name in chosen.what]), end="")
            return 0
        found = {name: kept(name)[-2:] for name in chosen.what or names(RESULTS)}
    except (ValueError, OSError) as error:
        options.error(str(error))
    pairs = [pair for pair in found.values() if len(pair) == 2]
    for before, now in pairs:
        print("\n".join(comparison(before, now)))
    if not pairs:
        print(f"no two results of {', '.join(found) or 'any benchmark'}: run one with --keep before a "
              "change, and again after it", file=sys.stderr)
    return 0 if pairs else 1


def names(folder: Path) -> list[str]:
    """The benchmarks that have results."""
    return sorted({path.stem.rpartition("-")[0] for path in folder.glob("*-*.json")})


def comparison(before: Result, now: Result) -> Iterator[str]:
    """Lines: what is compared, each figure then and now, and what speaks against comparing them."""
    yield f"{now.bench}: {before.date} ({before.commit})  ->  {now.date} ({now.commit})"
    older = {figure.name: figure for figure in before.figures}
    for figure in now.figures:
        was = older.pop(figure.name, None)
        old = f"{was.value:12.4g}" if was else f"{'-':>12}"
        ratio = f"{figure.value / was.value:7.2f} x" if was and was.value else ""
        yield f"  {figure.name:<34} {old} -> {figure.value:10.4g} {figure.unit:<8} {ratio}".rstrip()
    for name in older:
        yield f"  {name:<34} is no longer measured"
    yield from warnings(before, now)


def warnings(before: Result, now: Result) -> Iterator[str]:
    """What makes the two results hard to compare: other machines, busy ones."""
    facts = dict.fromkeys([*before.machine, *now.machine])
    for fact in [name for name in facts if name != "load_average"]:
        was, here = before.machine.get(fact), now.machine.get(fact)
        if was != here:
            yield f"  warning: not the same machine: {fact} was {was}, is {here}"
    for result, when in ((before, "before"), (now, "now")):
        load, cores = result.machine.get("load_average"), result.machine.get("cores")
        if load and cores and load > BUSY * cores:
            yield f"  warning: the machine was busy {when}: load average {load} on {cores} cores"


def table(results: Sequence[Result]) -> str:
    """Figures of one or several benchmarks as one Markdown table, with a line on each machine."""
    lines = ["| what | costs | measured by |", "|---|---|---|"]
    for result in results:
        lines += [f"| {one.name} | {one.value:.3g} {one.unit} | `python -m tools.bench.{result.bench}` |"
                  for one in result.figures]
    told = [f"- {about(result)}" for result in results]
    return "\n".join([*lines, "", *told]) + "\n"


def about(result: Result) -> str:
    """A machine in one sentence."""
    known = result.machine
    load = known.get("load_average")
    others = "" if load is None else f" Load average {load}: {_others(load, known['cores'])}."
    hardware = f"{known['processor']}, {known['cores']} cores, {known['memory_gib']} GiB"
    blas = f"{known['blas']} ({known['blas_kernel']})"
    programs = f"NumPy {known['numpy']}, Python {known['python']}"
    return f"{result.bench}: {result.date[:10]}, {hardware}, {blas}, {programs}.{others}"


def _others(load: float, cores: int) -> str:
    return "other programs had part of the machine" if load > BUSY * cores else "the machine was idle"


if __name__ == "__main__":
    sys.exit(main())
