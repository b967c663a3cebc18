"""What all commands share: where output goes, a table that fits, JSON, progress, and numbers a person
can read.

Answers and tables go to stdout, everything else to stderr, so that a pipe carries the result alone.
Nothing here can fail on a character that the terminal does not have. Read next: any command beside
this file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

PIPE_WIDTH = 200                       # columns of a table that goes into a file or a pipe
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def be_lenient() -> None:
    """Let a character that the output's encoding lacks become `?` (a Windows code page has few), never
    an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def clean(text: Any) -> str:
    """Text from elsewhere (an answer, a tensor's name) without control characters, which could steer
    the terminal."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def console(stderr: bool = False):
    """A rich console that prints text as it is: no markup, no guessing at colours; NO_COLOR and pipes
    are honoured."""
    from rich.console import Console
    stream = sys.stderr if stderr else sys.stdout
    made = Console(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in made._environ:
        made.width = PIPE_WIDTH
    return made


def note(text: str) -> None:
    """One dim line on stderr."""
    console(stderr=True).print(clean(text), style="dim", soft_wrap=True)


def heading(text: str) -> None:
    """One line above a table."""
    console().print(clean(text), style="bold", soft_wrap=True)


def line(text: str = "") -> None:
    """One line of plain output."""
    console().print(clean(text), soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = (),
          droppable: Sequence[str] = ()) -> None:
    """Columns without a frame. On a narrow terminal the `droppable` ones go first (the last named
    first); what is left is folded, never cut."""
    from rich.table import Table
    screen = console()
    cells = [[clean(cell) for cell in row] for row in rows]
    kept = _fitting(list(columns), cells, screen.width, list(droppable))
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in (columns[n] for n in kept):
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in cells:
        made.add_row(*(row[n] for n in kept))
    show(screen, made)
    if len(kept) < len(columns):
        note("left out for want of width: "
             f"{', '.join(n for i, n in enumerate(columns) if i not in kept)}")


def show(screen, made) -> None:
    """Print it; into a file or a pipe without the blanks that fill up its last column."""
    if screen.is_terminal:
        return screen.print(made)
    with screen.capture() as text:
        screen.print(made)
    screen.file.writelines(line.rstrip() + "\n" for line in text.get().splitlines())


def _fitting(columns: list[str], cells: list[list[str]], width: int, droppable: list[str]) -> list[int]:
    """Numbers of the columns to keep."""
    widths = [max(map(len, (name, *(row[n] for row in cells)))) + 2 for n, name in enumerate(columns)]
    kept = list(range(len(columns)))
    while droppable and sum(widths[n] for n in kept) > width:
        kept.remove(columns.index(droppable.pop()))
    return kept


def facts(pairs: Sequence[tuple[str, Any]]) -> None:
    """Name and value, line by line."""
    wide = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        line(f"{name:<{wide}}  {value}")


def print_json(document: Any) -> None:
    """One JSON document on stdout, in ASCII, so that every encoding holds it."""
    sys.stdout.write(json.dumps(document, indent=1, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in JSON")


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """While the body runs, a turning line on stderr (on a terminal only); call what it gives to change
    the words."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda words: None
        return
    from rich.live import Live
    from rich.spinner import Spinner
    spinner = Spinner("line", text)
    # stdout is left alone: it may be a pipe while stderr is a terminal
    with Live(spinner, console=screen, transient=True, redirect_stdout=False, redirect_stderr=False):
        yield lambda words: spinner.update(text=clean(words))


# ---- numbers -------------------------------------------------------------------------------------

def count(number: float) -> str:
    """`12,345`, and from ten million on `12.3 M`: parameters, floating-point operations."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= 10 * size:
            return f"{number / size:.4g} {unit}"
    return f"{number:,}"


def size(number: float) -> str:
    """Bytes as `10.2 MiB`."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << power:
            return f"{number / (1 << power):.4g} {unit}"
    return f"{number} B"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f}"


def by(width_and_height: Sequence[int]) -> str:
    """`640 x 480`, width first, as people say it; arrays have the height first."""
    return " x ".join(map(str, width_and_height))


def box(values: Sequence[float]) -> str:
    """`x 28..56, y 0..28`: ends not included."""
    x0, y0, x1, y1 = (f"{value:.6g}" for value in values)
    return f"x {x0}..{x1}, y {y0}..{y1}"


def said(value: Any, words: Callable[[Any], str]) -> str:
    """A finding in words, or why there is none."""
    return f"failed: {value['error']}" if has_failed(value) else str(words(value))


def has_failed(value: Any) -> bool:
    """Whether a finding is what `tried` gives of one that could not be made."""
    return isinstance(value, dict) and "error" in value
