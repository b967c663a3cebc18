"""Fingerprints of a trace: a few numbers a stage instead of its arrays, kilobytes instead of megabytes.

    write_prints(trace, "golden.prints.safetensors", key)       # what `record --no-pixels` writes

A print is NUMBERS sums of a whole array with random signs, each rounded to GRAIN of the array's size.
The signs are drawn from a key. The sums of two arrays differ about as much as the arrays do, so that
two prints of one key tell how large an error is, and in which stage it begins. Differences below GRAIN
are not seen.

What can be promised of it. No row of any array is in the file, so that nothing is read off row by row:
not the text from rows of the decoder, not pixels from rows of the tower. Whoever does not have the key
does not know what was summed up, and cannot learn it from other prints; of sizes only the power of two
is told. Two prints of one key are compared without it: send both, and keep the key. What is in the
file: sizes of pictures, the number of tokens, what the checkpoint is.

What cannot. Whoever has the key and the checkpoint learns the coarse greys of a picture from its sums,
and can confirm a guess of the whole prompt. So a key is as secret as the picture. A report of errors
(`minivl diff --json`) holds no value of an array at all.

Read next: `truth/compare/by_prints.py`, which compares them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from .format import PRINTS, YARDSTICK, Trace, Writer, row_axis

NUMBERS = 16                       # of each array
GRAIN = 2.0**-9                    # of the array's root mean square
ROOM = 1 << 12                     # bytes kept for the header to begin with
BLOCK = 1 << 20                    # signs that are drawn at a time
# Next to picture and text. What lies behind the first attention mixes all rows.
TELLING = ("picture.*", "video.*", "patches.*", "prompt.*", "positions.*", "vision.embed_patches",
           "vision.order_by_window", "vision.blocks.0.*", "decoder.embed_tokens",
           "decoder.place_features",
           "decoder.layers.0.normalise", "decoder.layers.0.project_qkv", "decoder.layers.0.rotate")
KEPT = ("producer", "precision", "weights", "versions", "checkpoint", "letters", "unfused")


def write_prints(trace: Trace, path: str | Path, key: str) -> None:
    """Write the fingerprints of a trace; nothing else of its arrays, its inputs and their hashes."""
    facts: dict[str, Any] = {name: trace.facts[name] for name in KEPT if name in trace.facts}
    facts["media"] = [{word: medium[word] for word in ("kind", "grid")}
                      for medium in trace.facts.get("media", [])]
    with Writer(path, {**facts, "key": name_of(key), PRINTS: dict(prints_of(trace, key))}) as out:
        out.recorder.room = ROOM
        out.stages = [replace(stage, arrays=()) for stage in trace.stages.values()]


def new_key() -> str:
    """A key that nobody guesses."""
    return secrets.token_hex(16)


def name_of(key: str) -> str:
    """By which a key is known again, and which does not give it away."""
    return sha256(b"minivl " + key.encode()).hexdigest()[:8]


def prints_of(trace: Trace, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of an array -> its print; how far rounding moves it in each precision that was measured."""
    tables = {name.partition(".")[2]: trace.tables(name) for name in trace.facts
              if name.startswith(YARDSTICK + ".")}
    for where in trace.recorded():
        stage = trace.stages[where]
        if any(fnmatchcase(stage.label, pattern) for pattern in TELLING):
            continue
        for name, array in zip(stage.arrays, trace.arrays(where), strict=True):
            axes = stage.axes_of(name)
            if array.dtype.kind not in "fV":
                continue
            size = float(np.linalg.norm(array.astype(np.float64).reshape(-1)))
            moved = {kind: float(f"{np.linalg.norm(table[name]) / max(size, 1e-300):.0e}")
                     for kind, table in tables.items() if name in table}
            yield name, {"key": where, "shape": list(array.shape), "rows": array.shape[row_axis(axes)]
                         if array.ndim
                         else 1, **sums(array, f"{key} {name}"), "rounding": moved}


def sums(array: np.ndarray, key: str) -> dict[str, Any]:
    """The print of one array: its root mean square to a power of two, and sums in units of GRAIN of
    it. What is not finite has a print of its own."""
    flat = array.reshape(-1).astype(np.float64)
    if not np.isfinite(flat).all():
        return {"size": None, "sums": []}
    mean = float(np.sqrt(np.mean(flat * flat))) if len(flat) else 0.0
    size = 2.0 ** round(float(np.log2(mean))) if mean else 0.0
    found = np.zeros(NUMBERS)
    draw = np.random.Generator(np.random.PCG64(int(sha256(key.encode()).hexdigest(), 16)))
    for start in range(0, len(flat), BLOCK):
        part = flat[start:start + BLOCK]
        signs = draw.integers(0, 2, (NUMBERS, len(part)), np.int8) * 2 - 1
        found += signs @ part
    unit = size * GRAIN * max(len(flat), 1) ** 0.5
    return {"size": size, "sums": np.rint(found / unit).astype(int).tolist() if unit else [0] * NUMBERS}


def apart(mine: dict[str, Any], right: dict[str, Any]) -> float:
    """How far two arrays are apart, relative to the second, as far as their prints tell; infinite
    where one is of another shape or not finite."""
    if mine["shape"] != right["shape"] or mine["size"] is None or right["size"] is None:
        return float("inf")
    if not right["size"]:
        return 0.0 if not mine["size"] else float("inf")
    a, b = (np.array(one["sums"], np.float64) * one["size"] for one in (mine, right))
    return float(np.sqrt(np.mean(np.square(a - b))) * GRAIN / right["size"])
