"""The process that runs one submission: it gets code and inputs, and gives arrays. It knows no answer.

    python -I -B child.py FOLDER < job            (started by `process.py`, and by nothing else)

Of minivl it loads the two modules that inputs are made of (configurations and weights) and no pass,
kernel or check: a stand-in takes the package's place, and its files cannot be opened any more. So there
is nothing to call or to copy from, whatever a submission tries. Statements are compiled before the first
runs, and run one by one; one that fails is passed over: kinder than a notebook, which would leave out
the rest of its cell.

What is given back goes into FOLDER/results as frames: four bytes of length, a line of JSON, the bytes of
arrays. The submission could write there too: it would be believed no more than any other array that it
gives.
Read next: `confine.py`, then `process.py`, which reads the frames.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import inspect
import json
import os
import pickle
import signal
import struct
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

NOT_HERE = ("matplotlib", "IPython", "jupytext", "nbformat", "torch", "transformers")


class OutOfTime(BaseException):
    """Raised by the alarm; no `except Exception` of a submission swallows it."""


OPEN = ("minivl", "minivl.checkpoint", "minivl.teach", "minivl.teach.check", "minivl.teach.course")
KEPT = ("minivl.config", "minivl.checkpoint")  # what inputs are made of, and what graded code may name


def stand_in(root: Path) -> Callable[[], None]:
    """Put empty packages in minivl's place, with inputs to be unpickled; gives what closes them."""
    for name in OPEN:
        module = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module

    def close() -> None:
        for name in [name for name in sys.modules if name.startswith("minivl.")
                     and not name.startswith(KEPT)]:
            del sys.modules[name]
        for name in [name for name in sys.modules if name.startswith("minivl")]:
            if hasattr(sys.modules[name], "__path__"):
                sys.modules[name].__path__ = []
        for part in ("door", "teach", "text"):
            vars(sys.modules["minivl"]).pop(part, None)
        vars(sys.modules["minivl"])["check"] = lambda *args, **options: True      # says nothing
    return close


class Absent:
    """Says at once that a package is not there, so that nobody waits for figures that are not drawn."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in NOT_HERE:
            raise ModuleNotFoundError(f"{name} is not there in graded work", name=name)


def statements(cells: list[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    """Every statement of every cell that can be parsed, under a name that says where it stands."""
    for cell, source in cells:
        try:
            body = ast.parse(source).body
            for part in body:
                yield cell, compile(ast.Module([part], []), f"<cell {cell}>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # the grading process says what is wrong with it


def run_cells(compiled: list[tuple[int, Any]], send: Callable, seconds: float) -> dict[str, Any]:
    """The names that a notebook leaves behind, of its statements as `statements` gives them."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell, code in compiled:
        send({"at": f"cell {cell}"})
        guarded(partial(exec, code, names), seconds)
    return names


def guarded(work: Callable[[], Any], seconds: float) -> tuple[Any, dict[str, Any] | None]:
    """What `work` gives, or what stopped it: kind, exception, line of the submission."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return work(), None
    except OutOfTime as error:
        return None, {"kind": "time", "where": _where(error)}
    except MemoryError as error:
        return None, {"kind": "memory", "where": _where(error)}
    except BaseException as error:
        full = isinstance(error, OSError) and error.errno == errno.EFBIG
        return None, {"kind": "output" if full else "raised", "exception": type(error).__name__[:60],
                      "where": _where(error)}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _where(error: BaseException) -> str:
    """The innermost place in the submission, as `cell 4, line 7`."""
    where, at = "", error.__traceback__
    while at is not None:
        name = at.tb_frame.f_code.co_filename
        if name.startswith("<cell "):
            where = f"{name[1:-1]}, line {at.tb_lineno}"
        at = at.tb_next
    return where


def answer(asked: dict[str, Any], names: dict[str, Any], fresh: Callable, arrays_in: Callable,
           send: Callable, seconds: float, most: int) -> None:
    """Run one function on its inputs, and send what it gives; the last twice: is it stable?"""
    name = asked["function"]
    send({"at": name})
    function = names.get(name)
    if not callable(function):
        return send({"asked": name, "kind": "missing"})
    cases = [*asked["cases"], asked["cases"][-1]]
    until = process_time() + seconds
    try:
        inspect.signature(function).bind(*pickle.loads(cases[0][0]))
    except TypeError:
        return send({"asked": name, "kind": "signature"})
    except Exception:
        pass                                              # no signature: calling it will show
    for case, strided in cases:
        args = tuple(fresh(arg, strided) for arg in pickle.loads(case))
        told, problem = guarded(partial(called, function, args, arrays_in, most),
                                max(until - process_time(), 0.001))
        if not problem:
            send({"asked": name, **told[0]}, told[1])
            continue
        send({"asked": name, **problem})
        if problem["kind"] != "raised":                   # the same would come again, for as long
            return


def called(function: Callable, args: tuple, arrays_in: Callable, most: int
           ) -> tuple[dict[str, Any], list[bytes]]:
    """Call a function; what is sent of its result: the form and the inputs' digests, then its bytes.

    Looking at a result can run a submission's code too, a property or a type's name. OSError when the
    result has more than `most` bytes.
    """
    value = function(*args)
    if size_of(value) > most:
        raise OSError(errno.EFBIG, "too big")
    touched = [digest(array) for n, arg in enumerate(args) for _, array in arrays_in(str(n), arg)]
    return {"touched": touched, **form(value)}, contents(value)


def size_of(value: Any) -> int:
    """Bytes of the arrays of a result, and 8 for everything else."""
    many = value if isinstance(value, tuple) else (value,)
    return sum(int(getattr(one, "nbytes", 8)) for one in many)


def digest(array: Any) -> str:
    return hashlib.blake2b(repr(array.shape).encode() + array.tobytes(), digest_size=16).hexdigest()


def form(value: Any) -> dict[str, Any]:
    """A result without its numbers: what it is, and each array's type and shape."""
    many = isinstance(value, tuple)
    return {"kind": "values", "tuple": many,
            "arrays": [_form(one) for one in (value if many else (value,))][:256]}


def _form(one: Any) -> dict[str, Any]:
    import numpy as np
    if type(one) is np.ndarray or isinstance(one, np.generic):
        return {"type": "array", "dtype": one.dtype.str, "shape": list(one.shape)}
    if one is None:
        return {"type": "none"}
    return {"type": "subclass" if isinstance(one, np.ndarray) else type(one).__name__[:60]}


def contents(value: Any) -> list[bytes]:
    import numpy as np
    parts = value if isinstance(value, tuple) else (value,)
    return [one.tobytes() for one in parts[:256] if type(one) is np.ndarray
            or isinstance(one, np.generic)]


def sender(path: Path) -> Callable[..., None]:
    """A function that appends a frame to the results, at once."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def send(head: dict[str, Any], parts: list[bytes] | None = None) -> None:
        line = json.dumps({**head, "bytes": sum(map(len, parts or []))}).encode()
        frame = memoryview(b"".join([struct.pack("<I", len(line)), line, *(parts or [])]))
        while frame:
            frame = frame[os.write(file, frame):]
    return send


def main(folder: Path) -> None:
    close = stand_in(Path(__file__).resolve().parents[2])
    import numpy as np  # noqa: F401 - before addresses are counted

    import minivl.checkpoint.weight
    import minivl.config  # noqa: F401 - inputs are made of these two
    from minivl.teach.check.arguments import arrays_in, fresh
    from minivl.teach.course.confine import limit, lock, watch
    from minivl.teach.course.hidden import classes_in
    job = pickle.loads(sys.stdin.buffer.read())
    send = sender(folder / "results")
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(here, there)
    signal.signal(signal.SIGPROF, _alarm)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)         # a full file is an error, not the end
    sys.meta_path.insert(0, Absent)
    sys.excepthook = end_quietly
    close()
    limit(job["memory"], job["seconds"], job["output"])
    classes = classes_in(case for asked in job["asked"] for case, _ in asked["cases"])
    compiled = list(statements(job["cells"]))             # nothing else becomes code from here on
    send({"locked": lock(str(folder), job["package"])})
    watch(str(folder), job["package"], [code for _, code in compiled], classes,
          lambda what: send({"denied": what}))
    names = run_cells(compiled, send, job["patience"])
    for asked in job["asked"]:
        answer(asked, names, fresh, arrays_in, send, job["patience"], job["output"] // 64)
    send({"at": "end"})
    os._exit(0)                                           # no exit handler of the submission


def end_quietly(*error: Any) -> None:
    """Instead of a traceback, which would read the package and look like a submission that does."""
    os._exit(1)


def _alarm(number: int, frame: Any) -> None:
    raise OutOfTime


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
