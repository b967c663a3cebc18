"""A run's arrays as toolchains leave them behind: eleven ways, none of which minivl's own files have.

    dumped = dump(tapped, "mixed", folder, facts)
    dumped.path, dumped.names            # what `minivl diff` is given; a right table of names

`tapped` is what `Port.run` gave. Names stay the port's; what is storage is done here, and only that: no way changes
what was computed beyond the rounding of the type that a tap is stored in.

    mixed           .npz, taps in float32, float16 and bfloat16's bits in turn
    padded          a folder of .npy, rows filled up to a multiple of 64, with what was there before
    transposed      .safetensors, rows last, heads before rows
    bits            raw .bin with shapes.json: bfloat16 as uint16, names with slashes
    partial         .npz, five taps
    channels-first  .npz, pictures as (channels, height, width) in reading order, logits of the last row only
    windows         .npz, each window filled up to as many rows as the largest, in float16
    packed          .npz, values before keys before queries, or head by head
    batch           .npz, two prompts side by side, the shorter one filled up on the left
    numbered        raw .bin with shapes.txt, names that say nothing
    names           .safetensors, half of the taps under names that say nothing
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minivl.truth.trace.recorder import Recorder

from .port import cut, label_of

Arrays = dict[str, np.ndarray]
PARTIAL = ("tower.sorted", "tower.3.out", "bridge.out", "lm.2.out", "lm.scores")


@dataclass(frozen=True)
class Facts:
    """What a way needs to know of a run: grids of its pictures, cells along a window, heads."""
    grids: tuple[tuple[int, int, int], ...]
    side: int
    heads: int = 4
    kv: int = 2
    vheads: int = 4


@dataclass(frozen=True)
class Dumped:
    """What lies there. names: the right table, of every array that has a label; stored: name in the file -> the type
    that it is stored in; of: name in the file -> the port's name."""
    path: Path
    names: dict[str, object]
    stored: dict[str, str]
    of: dict[str, str]


def bits(x: np.ndarray) -> np.ndarray:
    """float32 as the upper sixteen bits, rounded: uint16."""
    return (cut(x, "bfloat16").view(np.uint32) >> 16).astype(np.uint16)


def as_stored(x: np.ndarray, kind: str) -> np.ndarray:
    if kind == "bfloat16":
        return bits(x)
    with np.errstate(over="ignore"):
        return np.asarray(x).astype(kind)


def nine(tapped: Mapping[str, np.ndarray]) -> list[str]:
    """The taps of an ordinary dump: both ends, and some blocks."""
    depth = 1 + max([int(n.split(".")[1]) for n in tapped if n.startswith("tower.") and n.endswith(".out")], default=-1)
    layers = 1 + max(int(n.split(".")[1]) for n in tapped if n.startswith("lm.") and n.endswith(".out"))
    wanted = ["px", "tower.stem", *(f"tower.{n}.out" for n in sorted({0, depth // 2, depth - 1})), "bridge.out",
              "lm.in", *(f"lm.{n}.out" for n in sorted({0, layers // 2, layers - 1})), "lm.scores"]
    return [name for name in wanted if name in tapped]


def dump(tapped: Mapping[str, np.ndarray], way: str, folder: str | Path, facts: Facts,
         other: Mapping[str, np.ndarray] | None = None) -> Dumped:
    """Leave a run behind in one of WAYS. other: the run of a second prompt, which `batch` needs."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if way == "batch":
        return _batch(tapped, other or tapped, folder)
    return WAYS[way](tapped, folder, facts)


def _table(of: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, object]:
    """The right table of names: what is in integers says so."""
    return {name: {"label": label_of(own), "dtype": "bfloat16"} if stored[name] == "bfloat16" else label_of(own)
            for name, own in of.items()}


def _npz(folder: Path, arrays: Arrays, of: dict[str, str], stored: dict[str, str]) -> Dumped:
    np.savez(folder / "dump.npz", **arrays)                              # type: ignore[arg-type]
    return Dumped(folder / "dump.npz", _table(of, stored), stored, of)


def _same(names) -> dict[str, str]:
    return {name: name for name in names}


def mixed(tapped, folder, facts) -> Dumped:
    names = nine(tapped)
    stored = {name: ("float32", "float16", "bfloat16")[n % 3] for n, name in enumerate(names)}
    stored |= {name: "float32" for name in names if np.abs(tapped[name]).max() > 6e4}
    return _npz(folder, {n: as_stored(tapped[n], stored[n]) for n in names}, _same(names), stored)


def padded(tapped, folder, facts) -> Dumped:
    names = nine(tapped)
    junk = np.random.default_rng(7)
    for n, name in enumerate(names):
        x = np.asarray(tapped[name], np.float32)
        # zeros, or what a buffer held before: full numbers behind rounded ones
        tail = np.zeros((-len(x) % 64, *x.shape[1:]), np.float32) if n % 2 else \
            junk.normal(size=(-len(x) % 64, *x.shape[1:])).astype(np.float32)
        np.save(folder / f"{name}.npy", np.concatenate([x, tail])[None])
    return Dumped(folder, _table(_same(names), dict.fromkeys(names, "float32")), dict.fromkeys(names, "float32"),
                  _same(names))


def transposed(tapped, folder, facts) -> Dumped:
    names = [*nine(tapped), *(n for n in tapped if n.endswith((".0.q", ".0.k", ".1.ctx")))]
    with Recorder(folder / "dump.safetensors") as out:
        for name in names:
            x = np.asarray(tapped[name], np.float32)
            if name.endswith(".ctx"):
                x = x.reshape(len(x), facts.heads if name.startswith("lm") else facts.vheads, -1)
            out.put(name, np.moveaxis(x, 0, -1) if x.ndim == 2 else x.transpose(1, 0, 2)[None])
    return Dumped(folder / "dump.safetensors", _table(_same(names), dict.fromkeys(names, "float32")),
                  dict.fromkeys(names, "float32"), _same(names))


def raw_bits(tapped, folder, facts) -> Dumped:
    of = {name.replace(".", "/"): name for name in nine(tapped)}
    rows = []
    for name, own in of.items():
        path = folder / f"{name}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        bits(tapped[own]).tofile(path)
        rows.append({"name": name, "dtype": "bf16", "shape": "x".join(map(str, tapped[own].shape))})
    (folder / "shapes.json").write_text(json.dumps(rows), encoding="utf-8")
    return Dumped(folder, {name: label_of(own) for name, own in of.items()}, dict.fromkeys(of, "bfloat16"), of)


def partial(tapped, folder, facts) -> Dumped:
    names = [name for name in PARTIAL if name in tapped]
    return _npz(folder, {n: np.asarray(tapped[n], np.float32) for n in names}, _same(names),
                dict.fromkeys(names, "float32"))


def raster(x: np.ndarray, grids, merged: bool = False) -> list[np.ndarray]:
    """Rows as cut, in 2x2 blocks (or merged cells), as one picture each: p d -> d h w."""
    found, at = [], 0
    for t, gh, gw in grids:
        part = x[at:at + t * gh * gw // (4 if merged else 1)]
        at += len(part)
        if merged:
            found.append(part.reshape(t * (gh // 2), gw // 2, -1).transpose(2, 0, 1))
        else:
            cells = part.reshape(t * gh // 2, gw // 2, 2, 2, -1).swapaxes(1, 2)
            found.append(cells.reshape(t * gh, gw, -1).transpose(2, 0, 1))
    return found


def channels_first(tapped, folder, facts) -> Dumped:
    names = nine(tapped)
    made = {name: np.asarray(tapped[name], np.float32) for name in names}
    if len(facts.grids) == 1 and facts.grids[0][0] == 1:
        made["tower.stem"] = raster(made["tower.stem"], facts.grids)[0][None]
        made["bridge.out"] = raster(made["bridge.out"], facts.grids, merged=True)[0][None]
    made["lm.scores"] = made["lm.scores"][-1:]
    return _npz(folder, made, _same(names), dict.fromkeys(names, "float32"))


def windows(tapped, folder, facts) -> Dumped:
    names, sizes = nine(tapped), []
    for t, gh, gw in facts.grids:
        s = facts.side
        sizes += [4 * min(s, gh // 2 - y) * min(s, gw // 2 - x) for _ in range(t)
                  for y in range(0, gh // 2, s) for x in range(0, gw // 2, s)]
    made = {}
    for name in names:
        x = np.asarray(tapped[name])
        if name.startswith("tower.") and name.endswith(".out"):
            parts = np.split(x, np.cumsum(sizes)[:-1])
            x = np.stack([np.pad(part, ((0, max(sizes) - len(part)), (0, 0))) for part in parts])
        made[name] = as_stored(x, "float16")
    return _npz(folder, made, _same(names), dict.fromkeys(names, "float16"))


def packed(tapped, folder, facts) -> Dumped:
    names = [*nine(tapped), *(n for n in tapped if n.endswith(".qkv"))]
    made = {name: np.asarray(tapped[name], np.float32) for name in names}
    for name in names:
        if name.endswith(".qkv"):
            a, k = (facts.heads, facts.kv) if name.startswith("lm") else (facts.vheads, facts.vheads)
            e = made[name].shape[1] // (a + 2 * k)
            q, k_, v = np.split(made[name], [a * e, (a + k) * e], axis=1)
            if name.startswith("lm"):
                made[name] = np.concatenate([v, k_, q], axis=1)
            else:                                                        # n (a 3 e): head by head
                made[name] = np.stack([p.reshape(len(q), a, e) for p in (q, k_, v)], axis=2).reshape(len(q), -1)
    return _npz(folder, made, _same(names), dict.fromkeys(names, "float32"))


def _batch(tapped, other, folder: Path) -> Dumped:
    names = [name for name in nine(tapped) if name.startswith("lm.")]
    made = {}
    for name in names:
        a, b = (np.asarray(run[name], np.float32) for run in (other, tapped))
        longest = max(len(a), len(b))
        made[name] = np.stack([np.pad(x, ((longest - len(x), 0), (0, 0))) for x in (a, b)])
    return _npz(folder, made, _same(names), dict.fromkeys(names, "float32"))


def numbered(tapped, folder, facts) -> Dumped:
    of = {f"t{7 * n + 3}": name for n, name in enumerate(nine(tapped))}
    lines = []
    for name, own in of.items():
        x = np.asarray(tapped[own], np.float32)
        x.tofile(folder / f"{name}.bin")
        lines.append(f"{name} fp32 {' '.join(map(str, x.shape))}")
    (folder / "shapes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Dumped(folder, {name: label_of(own) for name, own in of.items()}, dict.fromkeys(of, "float32"), of)


def half_named(tapped, folder, facts) -> Dumped:
    taps = [n for n in tapped if n.endswith((".out", ".ctx", ".mid"))] + ["lm.in", "lm.scores"]
    of = {f"buf_{n}" if n % 2 else name: name for n, name in enumerate(taps)}
    with Recorder(folder / "dump.safetensors") as out:
        for name, own in of.items():
            out.put(name, np.asarray(tapped[own], np.float32))
    return Dumped(folder / "dump.safetensors", _table(of, dict.fromkeys(of, "float32")), dict.fromkeys(of, "float32"),
                  of)


def drawn(tapped: Mapping[str, np.ndarray], random: np.random.Generator, folder: Path) -> Dumped:
    """Some taps, each in a storage and a layout of its own: what a healthy run may look like."""
    names = [name for name in tapped if random.random() < random.choice([0.1, 0.3, 0.9])] or ["lm.scores"]
    made, stored = {}, {}
    for name in names:
        x, fits = np.asarray(tapped[name], np.float32), np.abs(tapped[name]).max(initial=0) < 6e4
        stored[name] = str(random.choice(["float32", "float32", "bfloat16", "float16" if fits else "float32"]))
        x = as_stored(x.reshape(len(x), -1), stored[name])
        spare = int(random.integers(0, 40)) if random.random() < 0.5 else 0
        junk = as_stored(random.normal(size=(spare, x.shape[1])), stored[name])
        x = np.concatenate([x, junk] if random.random() < 0.7 else [junk, x])
        x = x.T if random.random() < 0.2 and x.shape[0] != x.shape[1] else x
        made[name] = x[None] if random.random() < 0.3 else x
    folder.mkdir(parents=True, exist_ok=True)
    return _npz(folder, made, _same(names), stored)


WAYS: dict[str, Callable[..., Dumped]] = {
    "mixed": mixed, "padded": padded, "transposed": transposed, "bits": raw_bits, "partial": partial,
    "channels-first": channels_first, "windows": windows, "packed": packed, "batch": _batch, "numbered": numbered,
    "names": half_named,
}
