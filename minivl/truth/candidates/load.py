"""Candidates by name: `FILE.py:NAME` is an object in a Python file, or a function that makes one;
anything else is a command line (`engine.py`).

What the object may be: a candidate as `runnable.py` says; a torch module with the reference's names; a
table {label: function of the stage's own arguments}; or something with `table()`, which gives wraps (a
fault of the museum). Read next: `runnable.py`.
"""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...api import VLM
from .module import Module
from .ours import Ours
from .runnable import CandidateError, Checked


def load_object(words: str) -> Any:
    """The object that FILE.py:NAME names. Raises CandidateError."""
    path, _, name = words.rpartition(":")
    file = Path(path)
    if not path.endswith(".py") or not name:
        raise CandidateError(f"--candidate is {words!r}; it should be FILE.py:NAME, as in mine.py:port")
    if not file.is_file():
        raise CandidateError(f"{file}: there is no such file")
    sys.path.insert(0, str(file.resolve().parent))                # its own imports
    try:
        names = runpy.run_path(str(file), run_name=file.stem)
        if name not in names:
            raise CandidateError(f"{file} has no {name}; it has "
                                 + (", ".join(n for n in names if not n.startswith("_")) or "no names"))
        found = names[name]
        return found() if inspect.isfunction(found) or inspect.isclass(found) else found
    except CandidateError:
        raise
    except (Exception, SystemExit) as error:                   # sys.exit in it must not end this program
        raise CandidateError(f"{file}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)


def as_candidate(found: Any, vlm: VLM) -> Any:
    """An object as a candidate. Raises CandidateError (`Checked`) for what is none, or raises when it
    is asked."""
    try:
        made = _recognised(found, vlm)
    except CandidateError:
        raise
    except (Exception, SystemExit) as error:                      # whatever it is: it is the candidate's
        raise CandidateError(f"the candidate, a {type(found).__name__}, raised {type(error).__name__} "
                             f"when it was asked what it is made of: {error}") from error
    if isinstance(made, Ours) and made is not found and not made.table:
        raise CandidateError("the candidate's table is empty: it replaces no pass, and would be "
                             "compared with itself")
    return made


def _recognised(found: Any, vlm: VLM) -> Any:
    if callable(getattr(found, "run", None)):
        return found
    if callable(getattr(found, "named_modules", None)):
        return Module(found)
    if callable(getattr(found, "table", None)):
        return Ours(vlm, found.table())
    if isinstance(found, Mapping) and all(callable(value) for value in found.values()):
        return Ours.of_functions(vlm, found)
    return found


def checked(words: str, vlm: VLM) -> Checked:
    """The candidate that FILE.py:NAME names. Raises CandidateError."""
    return Checked(as_candidate(load_object(words), vlm), words)
