"""`minivl diagnose`: which known fault a trace looks like.

Read next: the package `diagnose`, which does the work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..api import VLM
from ..door.files import PAGES, check_place, write_whole
from ..run.inputs import Inputs
from ..truth.compare.importers import is_trace, read_candidate
from ..truth.compare.page import html
from ..truth.diagnose import Diagnosis, report
from ..truth.diagnose import diagnose as examine
from ..truth.trace.conversation import conversation
from ..truth.trace.format import INPUT, Trace, TraceError
from .console import heading, line, note, print_json, table, working
from .given import Chosen, open_model
from .trace import kind_named, read_names


def diagnose(path: Path, golden: Path | None, names: Path | None, precision: str | None,
             model: str | None, most: int,
             as_json: bool, page: Path | None = None) -> int:
    """Say what a trace looks like; the exit code: 0 healthy, 1 not. Raises ValueError or OSError when
    nothing can be compared."""
    if page:
        check_place(page, *PAGES, reads=(path, golden, names))
    known = read_names(names) if names else None
    with open_model(Chosen(model, kernels="definition")) as vlm, golden_of(path, golden, vlm) as right:
        theirs = read_candidate(path, right, known, kind_named(precision))
        with working("trying the known faults"):
            found = examine(vlm, right, theirs)
        if page:
            text = html(found.comparison, right, report.headline(found))
            write_whole(page, lambda file: file.write(text.encode()))
    if as_json:
        print_json(report.document(found))
    else:
        tell(found, most)
    return 0 if found.healthy and not found.comparison.differs else 1


@contextmanager
def golden_of(path: Path, golden: Path | None, vlm: VLM) -> Iterator[Trace]:
    """The golden trace: the one that was named, or one made from the inputs that the candidate's trace
    holds."""
    if golden is not None:
        with Trace(golden) as named:
            yield named
        return
    from ..truth.trace.record import record
    if not path.exists():
        raise TraceError(f"{path}: there is no such file or folder")
    if not is_trace(path):
        raise TraceError(f"{path}: arrays alone do not say what was asked; record that with `minivl "
                         "trace record` and name it with --golden")
    with tempfile.TemporaryDirectory(prefix="minivl-diagnose-") as folder:
        with Trace(path) as theirs:
            prompt = conversation(theirs) or inputs_of(theirs, vlm)
            kept = theirs.precision
        with working("recording the golden run"):
            record(vlm.on("float64", "definition"), prompt, Path(folder) / "golden.safetensors",
                   yardsticks=(kept,))
        with Trace(Path(folder) / "golden.safetensors") as made:
            yield made


def inputs_of(theirs: Trace, vlm: VLM) -> Inputs:
    """Inputs made anew from ids and patches of a trace; its positions are the candidate's, and may be
    what is wrong."""
    given = theirs.tables(INPUT)
    if not given:
        raise TraceError(f"{theirs.path}: holds no inputs (--no-pixels); record what was asked with "
                         "`minivl trace record` and name it with --golden")
    known = {name: array for name, array in given.items() if name != "position_ids"}
    return Inputs.from_arrays(known, vlm.config)


def tell(found: Diagnosis, most: int) -> None:
    """The diagnosis on the terminal."""
    first, *more = report.headline(found)
    heading(first)
    for said in more:
        line(f"  {said}")
    if found.ranking and not found.healthy:
        line()
        table(report.COLUMNS, [report.cells(one) for one in found.ranking[:most]],
              right=report.COLUMNS[7:],
              droppable=("incident", "wrong taps left", "nearer"))
    if found.known:
        note(f"`minivl faults {found.known[0].fault.name}` shows it beside the right pass")
