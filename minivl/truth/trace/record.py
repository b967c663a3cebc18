"""A run of minivl as a trace. The session's door is listened to; the model runs as always, and nothing
is kept.

    record(minivl.load(precision="float64"), messages, "golden.safetensors", yardsticks=("bfloat16",))

The run is the prompt's, with the logits of every row: teacher forcing. With `answer` the model's own
answer is part of the prompt, so that the logits of its rows are those by which it would be written.

Read next: `format.py` (the file), `truth/compare/yardstick.py` (what `yardsticks` adds), `oracle.py`
(the same of transformers).
"""

from __future__ import annotations

import hashlib
import platform
import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...api import VLM
from ...checkpoint.gguf_model import pair_of
from ...checkpoint.names import formats
from ...config import ModelConfig
from ...door.contract import outputs, parse
from ...door.errors import ArgumentError, OutOfRange
from ...door.files import sha256
from ...door.stage import session
from ...door.version import VERSION
from ...door.visit import Visit, Watcher
from ...run.inputs import Inputs
from ...run.provenance import provenance
from ..compare.yardstick import add_yardstick
from .conversation import keep
from .format import COORDINATES, INPUT, ROWS, Stage, Trace, Writer
from .prints import new_key, write_prints

# Arrays that no leaf hands over itself: Inputs and Batch copy them, the cache keeps them. By their
# term in a contract.
HANDED_ON = {"p x": ("patches.*",), "i 3": ("patches.*",), "3 s": ("positions.mrope",),
             "s": ("prompt.expand",),
             "m": ("prompt.expand",), "n": ("prompt.expand",)}
CACHED = {"r k e": ("project_qkv", "rotate")}
BLOCK = re.compile(r"\.(?:blocks|layers)\.(\d+)\.")


@dataclass(frozen=True)
class Selection:
    """What of a run goes into the file. rows: axis letter -> row numbers; layers: numbers of blocks,
    None for all; pixels: without them fingerprints alone (`prints.py`)."""
    patterns: tuple[str, ...] = ("*",)
    layers: tuple[int, ...] | None = None
    rows: Mapping[str, np.ndarray] = field(default_factory=dict)
    pixels: bool = True
    key: str = ""                                # of fingerprints; without one a new one, which nobody knows

    def check_layers(self, config: ModelConfig) -> None:
        """Raise ArgumentError for the number of a layer that neither tower nor decoder has."""
        most = max(config.vision.depth, config.text.num_hidden_layers)
        strange = [n for n in self.layers or () if not 0 <= n < most]
        if strange:
            raise ArgumentError(f"layer {strange[0]} is asked for; the tower has {config.vision.depth} "
                                f"blocks, the decoder {config.text.num_hidden_layers} layers, counted "
                                "from 0")

    def wants(self, key: str, label: str) -> bool:
        """Whether a stage's arrays are kept. Stages outside of blocks are no matter of `layers`."""
        number = BLOCK.search(f"{label}.")
        if self.layers is not None and number and int(number[1]) not in self.layers:
            return False
        return any(fnmatchcase(key, p) or fnmatchcase(label, p) for p in self.patterns)

    def put(self, out: Writer, stage: Stage, arrays: Sequence[np.ndarray]) -> None:
        """Write a stage with what is wanted of its arrays."""
        axes = stage.axes or ("",) * len(arrays)
        wanted = self.wants(stage.key, stage.label)
        out.stage(stage, [self.cut(a, x) for a, x in zip(arrays, axes, strict=True)] if wanted else [])

    def cut(self, array: np.ndarray, axes: str) -> np.ndarray:
        """The rows that are kept. Raises OutOfRange for a row that the array does not have."""
        for axis, letter in enumerate(axes.split()):
            if letter in self.rows:
                rows, there = self.rows[letter], array.shape[axis]
                if len(rows) and not 0 <= rows.min() <= rows.max() < there:
                    raise OutOfRange(f"rows {letter}={rows.min()}..{rows.max()} asked for; there are "
                                     f"{there}")
                return np.take(array, rows, axis=axis)
        return array


def record(vlm: VLM, prompt: Sequence[dict[str, Any]] | Inputs, path: str | Path,
           selection: Selection | None = None,
           yardsticks: Sequence[str] = (), answer: int = 0) -> None:
    """Run the model on messages (or Inputs) and write the trace to `path`; nothing is left there when
    it fails.

    yardsticks: precisions whose rounding errors are measured too, so that `minivl diff` needs no model.
    answer: so many tokens of the model's own answer are added to the prompt.
    """
    chosen = selection or Selection()
    chosen.check_layers(vlm.config)
    if vlm.dtype == np.float64:                        # golden values: never from what they will measure
        vlm = vlm.on(kernels="definition")
    if answer:
        prompt = with_answer(vlm, prompt, answer)
    if not chosen.pixels:
        return only_prints(path, chosen.key, lambda whole: record(
            vlm, prompt, whole, replace(chosen, pixels=True), yardsticks))
    with Writer(path, facts(vlm, f"minivl {VERSION}", vlm.dtype.name)) as out:
        kin = Kin()
        with session() as s:
            s.watchers.append(taker(out, chosen, kin))
            inputs = prompt if isinstance(prompt, Inputs) else vlm.prepare(list(prompt))
        describe(out, inputs, vlm, chosen)
        if not isinstance(prompt, Inputs):
            keep(out, prompt, vlm.processor.template)
        with session() as s:
            s.watchers.append(taker(out, chosen, kin))
            vlm.logits(inputs)
        out.facts["unfused"] = sorted(s.unfused)
        for precision in yardsticks:
            add_yardstick(out, vlm, inputs, precision, chosen.cut)


def only_prints(path: str | Path, key: str, write: Callable[[Path], None]) -> None:
    """What a trace of everything says in fingerprints; that trace is gone afterwards."""
    with TemporaryDirectory(prefix="minivl-private-") as folder:
        whole = Path(folder) / "whole.safetensors"
        write(whole)
        with Trace(whole) as trace:
            write_prints(trace, path, key or new_key())


def with_answer(vlm: VLM, prompt: Sequence[dict[str, Any]] | Inputs,
                tokens: int) -> list[dict[str, Any]]:
    """The conversation with the model's own greedy answer at its end."""
    if isinstance(prompt, Inputs):
        raise ArgumentError("an answer is added to messages, not to inputs: give the conversation "
                            "itself")
    said = vlm.chat(list(prompt), tokens, temperature=0)
    return [*prompt, {"role": "assistant", "content": [{"type": "text", "text": said}]}]


def taker(out: Writer, chosen: Selection, kin: Kin) -> Watcher:
    """A watcher that writes each leaf as it comes by."""
    def look(visit: Visit) -> None:
        chosen.put(out, stage_of(visit, kin), outputs(visit.output))
    return look


def stage_of(visit: Visit, kin: Kin) -> Stage:
    """What is said about a leaf that just ran; no arrays yet."""
    axes = tuple(axes_of(visit.label, visit.door.contract, len(outputs(visit.output))))
    return Stage(visit.key, visit.label, visit.door.contract, axes, kin.parents(visit))


def axes_of(label: str, contract: str, count: int) -> Iterator[str]:
    """The axis letters of every array that a stage gives. `n`, the caller's rows, is `w` in the tower;
    in the decoder it is `s`, for a trace asks for the logits of every row."""
    terms = parse(contract)[1]
    if terms[-1][-1] == "*":
        terms = terms[:-1] + [terms[-1][:-1]] * (count - len(terms) + 1)
    n = "w" if label.startswith("vision.") else "s" if label.startswith("decoder.") else "n"
    return (" ".join(n if axis == "n" else axis for axis in term) for term in terms)


def record_reference(vlm: VLM, prompt: Sequence[dict[str, Any]] | Inputs, path: str | Path,
                     precision: str = "float32",
                     attention: str = "sdpa", selection: Selection | None = None,
                     after_video: str = "max_plus_one") -> None:
    """The same of transformers on PyTorch, from the same folder and the same inputs, under the same
    labels.

    attention: "sdpa" or "eager". The inputs are minivl's, so that pixels and ids are no part of the
        comparison; the positions are the reference's own. Raises ModuleNotFoundError without torch
        and transformers.
    """
    from . import oracle  # torch: only when asked for

    chosen = selection or Selection()
    chosen.check_layers(vlm.config)
    inputs = prompt if isinstance(prompt, Inputs) else vlm.on(kernels="definition").prepare(
        list(prompt), after_video=after_video)
    if not chosen.pixels:
        return only_prints(path, chosen.key, lambda whole: record_reference(
            vlm, inputs, whole, precision, attention, replace(chosen, pixels=True), after_video))
    rows = skeleton(vlm, inputs)
    model, words = oracle.load(vlm.folder, precision, attention)
    with Writer(path, facts(vlm, words, precision)) as out:
        describe(out, inputs, vlm, chosen)

        def put(label: str, value: Any) -> None:
            chosen.put(out, rows.get(label, Stage(label, label)),
                       [oracle.as_stored(x) for x in outputs(value)])
        given = SimpleNamespace(**{name: array if len(array) else None
                                   for name, array in inputs.arrays().items()})
        oracle.listen(model, given, oracle.positions(model, given, after_video), put)


def skeleton(vlm: VLM, inputs: Inputs) -> dict[str, Stage]:
    """Every leaf of a run on these inputs, key -> Stage without arrays; nothing is computed
    (`kernels/shapes.py`)."""
    found: dict[str, Stage] = {}
    kin = Kin()

    def look(visit: Visit) -> None:
        found[visit.key] = stage_of(visit, kin)
    blank = vlm.on(kernels="shapes")
    with session() as s:
        s.watchers.append(look)
        blank.logits(inputs)
    return found


class Kin:
    """Which leaf made the arrays that go into another: the parents of a stage, found by whose memory
    an argument is.

    Between stages stand only views, so an argument lies in the memory of the leaf that made it. The
    rest came through the inputs or the cache (HANDED_ON, CACHED).
    """

    def __init__(self) -> None:
        self.makers: dict[int, tuple[weakref.ref, str]] = {}
        self.met: dict[str, str] = {}                                    # key -> label

    def parents(self, visit: Visit) -> tuple[str, ...]:
        """The parents of a leaf that just ran, each once; what it gave is noted as its own."""
        found: dict[str, None] = {}
        terms = [" ".join(term) for term in parse(visit.door.contract)[0]]
        for n, argument in enumerate(visit.args):
            term = terms[n] if n < len(terms) else "_"
            for array in argument if isinstance(argument, tuple) else (argument,):
                if hasattr(array, "dtype"):
                    found |= dict.fromkeys(self._makers_of(array, term, visit.key))
        self.met[visit.key] = visit.label
        for array in outputs(visit.raw):
            if hasattr(array, "dtype"):
                root = _root(array)
                self.makers[id(root)] = (weakref.ref(root), visit.key)
        return tuple(found)

    def _makers_of(self, array: np.ndarray, term: str, key: str) -> list[str]:
        root = _root(array)
        maker, name = self.makers.get(id(root), (lambda: None, ""))
        if maker() is root:
            return [name]
        beside = key.rpartition(".")[0]
        return [f"{beside}.{name}" for name in CACHED.get(term, ())
                if f"{beside}.{name}" in self.met] + [
            k for k, label in self.met.items() for p in HANDED_ON.get(term, ()) if fnmatchcase(label, p)]


def _root(array: Any) -> Any:
    """The array in whose memory a view lies, on whatever machine."""
    while hasattr(getattr(array, "base", None), "dtype"):
        array = array.base
    return array


# ---- what is said about a run ------------------------------------------------------------------

def facts(vlm: VLM, producer: str, precision: str) -> dict[str, Any]:
    """The manifest's part that is known before the run."""
    return {"producer": producer, "precision": precision, "weights": formats(vlm.weights), "seed": None, "unfused": [],
            "versions": {"numpy": np.__version__, "python": platform.python_version()},
            "checkpoint": checkpoint_hashes(vlm.folder)}


def checkpoint_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that decides what the model computes."""
    if pair := pair_of(folder):
        return {path.name: sha256(path) for path in pair if path is not None}
    files = sorted(folder.glob("*.safetensors"))
    files += [path for path in (folder / "config.json", folder / "packed.json") if path.exists()]
    return {path.name: sha256(path) for path in files}


def describe(out: Writer, inputs: Inputs, vlm: VLM, chosen: Selection) -> None:
    """Write down what was asked: inputs and their hashes, pictures, coordinates of every row, rows
    that are kept."""
    named = inputs.arrays()
    out.facts["input_hashes"] = {name: _hash(array) for name, array in named.items()}
    out.facts["media"] = [{"kind": m.kind, "grid": m.grid, "size": m.size, "source_size": m.source_size}
                          for m in inputs.media]
    coordinates = provenance(inputs, vlm.config)
    out.facts["letters"] = {letter: len(table) for letter, table in coordinates.items()}
    for name, array in named.items():
        out.table(INPUT, name, array)
    for letter, table in coordinates.items():
        out.table(COORDINATES, letter, chosen.cut(table, letter))
        if letter in chosen.rows:
            out.table(ROWS, letter, chosen.rows[letter])


def _hash(array: np.ndarray) -> str:
    said = f"{array.dtype.str} {list(array.shape)} ".encode()
    return hashlib.sha256(said + np.ascontiguousarray(array).tobytes()).hexdigest()
