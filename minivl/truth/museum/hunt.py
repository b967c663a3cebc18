"""What is done with a fault: run it and see what changes, run it beside the model and name it, hide it
from a student.

Read next: `checks.py`, for laws that find faults without a right model beside them.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache

import numpy as np

from ...api import VLM, load
from ...door.contract import outputs
from ...door.errors import ArgumentError
from ...door.stage import Session, Wrap
from ...door.visit import Visit
from ...door.watch import relative_error
from ...kernels import definition as kernels
from .cases import SEEN, Case
from .fault import FAULTS, Fault

TOLERANCE = 1e-5                         # of what float32 does by itself


def get(name: str) -> Fault:
    """The fault of this name. Raises ArgumentError that suggests names near it."""
    if name in FAULTS:
        return FAULTS[name]
    near = ", ".join(get_close_matches(name, FAULTS, 3, 0.4))
    raise ArgumentError(f"no fault is called {name}; " + (f"near it: {near}; " if near else "")
                        + "`minivl faults` lists them")


@lru_cache(maxsize=1)
def embedded() -> VLM:
    """The model in the package, as the definitions have it."""
    return load(kernels="definition")


def guilty(found: Fault, vlm: VLM | None = None, case: Case | None = None) -> dict[str, float]:
    """Passes in which the fault differs from the model, key -> relative error, all from one run on its
    smallest input.

    Raises what the case raises: the run itself is the right one, whatever the fault does.
    """
    with Session(shadow=found.table(), tolerance=TOLERANCE, quiet=True) as s:
        (case or found.shows).run(vlm or embedded())
    return s.guilty


def right_of(found: Fault) -> Callable | None:
    """The pass or kernel that the fault stands in for, as the function that defines it; None when
    there are several."""
    if found.label.startswith("kernel."):
        return getattr(kernels, found.label.removeprefix("kernel.")).definition
    definitions: set[Callable] = set()

    def look(visit: Visit) -> None:
        if fnmatchcase(visit.label, found.label):
            definitions.add(visit.door.definition)
    with Session() as s:
        s.watchers.append(look)
        found.shows.run(embedded())
    return definitions.pop() if len(definitions) == 1 else None


def code_of(function: Callable) -> str:
    """A function's source without its decorators and its docstring, which are told elsewhere."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    node = ast.parse("\n".join(lines)).body[0]
    assert isinstance(node, ast.FunctionDef)
    first = node.body[0]
    if isinstance(first, ast.Expr) and ast.get_docstring(node) is not None:
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines[node.lineno - 1 :])


def seen(vlm: VLM, case: Case, table: Mapping[str, Wrap]) -> dict[str, np.ndarray]:
    """What a user can see of a run with these wraps in place: the ids of the prompt and every step's
    scores."""
    with Session(replace=table, record=SEEN, quiet=True) as s:
        case.run(vlm)
    return {f"{key} {n}": array for key, value in s.trace.items()
            for n, array in enumerate(outputs(value))}


def changes(found: Fault, vlm: VLM | None = None, case: Case | None = None) -> float:
    """How much the fault changes what can be seen, as a relative error; infinite when shapes or an
    error tell.

    Below TOLERANCE nothing has changed.
    """
    case, vlm = case or found.shows, vlm or embedded()
    right = seen(vlm, case, {})
    try:
        wrong = seen(vlm, case, found.table())
    except ValueError:                                   # it fails loudly: nobody can miss it
        return float("inf")
    if right.keys() != wrong.keys():
        return float("inf")
    return max(relative_error(wrong[key], right[key]) for key in right)


def ordinary(check: str, right: Mapping[str, np.ndarray], wrong: Mapping[str, np.ndarray]) -> bool:
    """Whether one of the checks that ports commonly have passes: `same`, `smoke` or `cosine`, as in
    `fault.WORDS`."""
    if right.keys() != wrong.keys() or any(right[key].shape != wrong[key].shape for key in right):
        return False
    if not all(np.isfinite(value).all() for value in wrong.values()):
        return False
    if check == "cosine":
        return all(_cosine(wrong[key], right[key]) > 0.99 for key in right if "logits" in key)
    return check == "smoke" or all(relative_error(wrong[key], right[key]) <= TOLERANCE for key in right)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


# ---- a fault of one's own ----------------------------------------------------------------------

class Private:
    """A fault whose name is hidden. `table()` plants it; `is_it(name)` and `is_in(label)` answer a
    guess."""

    def __init__(self, found: Fault, seed: int):
        self.__found, self.seed = found, seed

    def __repr__(self) -> str:
        return f"a private fault (seed {self.seed})"

    def table(self) -> dict[str, Wrap]:
        """What a session takes as `replace` or `shadow`. Its keys are labels, and they tell."""
        return self.__found.table()

    def is_it(self, name: str) -> bool:
        """Whether this is the fault. Raises ArgumentError when there is none of that name."""
        return get(name) is self.__found

    def is_in(self, label: str) -> bool:
        """Whether the fault lies in this pass."""
        return self.__found.is_named_by([label])


def private(seed: int, among: Iterable[str] | None = None) -> Private:
    """The fault that belongs to a seed, one and the same on every machine. among: names to choose
    from; all without it.

    Raises ArgumentError when there is nothing to choose from, or a name that there is not.
    """
    names = sorted(FAULTS if among is None else {get(name).name for name in among})
    if not names:
        raise ArgumentError("there is no fault to choose from: `among` is empty")
    return Private(FAULTS[names[int(np.random.default_rng(seed).integers(len(names)))]], seed)
