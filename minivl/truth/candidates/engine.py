"""A program in any language as a candidate: it is started for each question, and arrays go in and out
as files.

    COMMAND cuts                     prints its cuts, one a line
    COMMAND run IN OUT               reads IN, writes OUT

IN and OUT are .safetensors, or .npz with `--exchange npz`. IN holds `inputs.NAME` for each input and
`given.CUT` for each given cut (`given.CUT:0`, `given.CUT:1` ... where a stage gives several arrays).
OUT holds `logits`, and the program's own value at each cut under its label (or `LABEL:0`, ...).
Numbers are float32 (float64 for a float64 candidate) and int64.

A program that ends with another code than 0 has crashed; the last line that it wrote to stderr is told.
Read next: `runnable.py`.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ...door.contract import outputs
from ..compare.importers import read_arrays
from ..trace.recorder import Recorder
from .runnable import CandidateError, Value, Values

EXCHANGE = ("safetensors", "npz")


class Engine:
    """A command line as a candidate. seconds: after which a run is ended and counts as a crash."""

    def __init__(self, command: str, precision: str = "float32", exchange: str = "safetensors",
                 seconds: float = 3600):
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise CandidateError(f"--command is {command!r}: {str(error).lower()}") from None
        self.precision, self.exchange, self.seconds = precision, exchange, seconds
        if not self.words or exchange not in EXCHANGE:
            raise CandidateError(f"--command is {command!r}, --exchange {exchange!r}: the first should "
                                 f"be a program and its words, the second {' or '.join(EXCHANGE)}")

    def cuts(self) -> list[str]:
        """What the program prints when it is asked for its cuts. Raises CandidateError."""
        try:
            return self._call("cuts").split()
        except RuntimeError as error:
            raise CandidateError(f"{error}; asked for its cuts it should print them, one a line"
                                 ) from None

    def run(self, inputs: Mapping[str, np.ndarray], given: Values) -> dict[str, Value]:
        """One run of the program. Raises RuntimeError when it fails."""
        with TemporaryDirectory(prefix="minivl-engine-") as folder:
            asked, answer = (Path(folder) / f"{name}.{self.exchange}" for name in ("in", "out"))
            write(asked, {**{f"inputs.{name}": array for name, array in inputs.items()},
                          **flat(given, "given.")})
            self._call("run", str(asked), str(answer))
            if not answer.is_file():
                raise RuntimeError(f"{self.words[0]} ended well and wrote no {answer.name}")
            return grouped({name: np.array(array) for name, array in read_arrays(answer).items()})

    def _call(self, *words: str) -> str:
        try:
            done = subprocess.run([*self.words, *words], capture_output=True, text=True,
                                  encoding="utf-8",
                                  errors="replace", timeout=self.seconds, check=False)
        except FileNotFoundError:
            raise CandidateError(f"{self.words[0]}: there is no such program") from None
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self.words[0]} {words[0]} took more than {self.seconds:g} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise RuntimeError(f"{self.words[0]} {words[0]} ended with code {done.returncode}: {last}")
        return done.stdout


def flat(values: Values, prefix: str = "") -> dict[str, np.ndarray]:
    """Arrays by name; a stage's several arrays get :0, :1, ..."""
    found: dict[str, np.ndarray] = {}
    for key, value in values.items():
        parts = outputs(value)
        name = f"{prefix}{key}"
        many = isinstance(value, tuple)
        found |= {f"{name}:{n}": a for n, a in enumerate(parts)} if many else {name: parts[0]}
    return found


def grouped(arrays: Mapping[str, np.ndarray]) -> dict[str, Value]:
    """The way back: LABEL:0, LABEL:1 as one tuple."""
    found: dict[str, Value] = {name: array for name, array in arrays.items() if ":" not in name}
    several: dict[str, dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        key, colon, part = name.rpartition(":")
        if colon and part.isdecimal():
            several.setdefault(key, {})[int(part)] = array
    return found | {key: tuple(parts[n] for n in sorted(parts)) for key, parts in several.items()}


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays into the file that goes to the program."""
    if path.suffix == ".npz":
        with path.open("wb") as file:
            np.savez(file, **arrays)                              # type: ignore[arg-type]
        return
    with Recorder(path) as out:
        for name, array in arrays.items():
            out.put(name, array)


