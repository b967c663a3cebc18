"""In which type each tap is stored, and in which the run was computed: two questions, and files mix the
answers.

    shown(array)                  the narrowest type that holds every number of it
    arithmetic(golden, taps)      name of an array -> the type that it was computed in

Bits tell how a tap was stored: sixteen bits in a float32 array leave the low ones zero. What was
computed is told by all taps of a half (tower, decoder) together. The roughest type that a tap shows is
what the half may have been computed in. But where a tap lies much nearer to the exact value than a run
in that type could, all that led there was computed in a finer one, and the narrow taps were only
stored so.

Read next: `compare.py`, which judges each tap by both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from ...door.contract import outputs
from ..trace.format import COORDINATES, YARDSTICK, Trace, row_axis
from . import metrics, verdict
from .taps import Kept, Part, Tap, part_of

ROUGHEST = ("bfloat16", "float16", "float32", "float64")
BITS = {"bfloat16": 0xFFFF, "float16": 0x1FFF}  # of a float32 that are zero in a narrower type
FINE = 0.35                     # a run in some type is never as near as this share of its own rounding
TOLD = 2.0                      # rounding must be so many times what storage adds, to be told from it
HANDED_OVER = ("decoder.place_features", "decoder.embed_tokens")    # rows that another half has made
MOVED = ("vision.order_by_window", "vision.restore_order", "decoder.select_rows")    # rows of one tap, as they are
FIRST = ("vision.embed_patches", "vision.order_by_window", *HANDED_OVER)   # before the first block


def shown(array: np.ndarray) -> str:
    """The narrowest type of floats that holds every number of an array; of whole numbers their own."""
    if array.dtype.kind not in "fV":
        return array.dtype.name
    own = array.dtype.name
    if own == "bfloat16":
        return own
    if own == "float16":
        array = array.astype(np.float32)
    if own == "float64":
        with np.errstate(over="ignore", invalid="ignore"):
            single = array.astype(np.float32)
        if not np.array_equal(single, array, equal_nan=True):
            return "float64"
        array = single
    bits = np.bitwise_or.reduce(np.ascontiguousarray(array).view(np.uint32), axis=None, initial=0)
    return next((name for name, low in BITS.items() if not bits & low), "float32") if array.size else own


def precision_of(values: Any) -> str:
    """The type that numbers were computed in, as far as they show by themselves."""
    arrays = [a for value in values for a in outputs(value) if a.dtype.kind in "fV" and a.size]
    native = [a.dtype.name for a in arrays if a.dtype.name in BITS]
    if native:
        return min(native, key=ROUGHEST.index)
    return max((shown(a) for a in arrays), key=ROUGHEST.index, default="float32")


def storage_of(tap: Tap) -> str:
    """The type in which a tap's true rows are stored."""
    if tap.kept.storage:
        return tap.kept.storage
    assert tap.found is not None
    return shown(tap.found.array)


def as_stored(array: np.ndarray, kind: str) -> np.ndarray:
    """Numbers as a type keeps them, in float64. What is too large for it becomes infinite."""
    from ...api import dtype_of
    if kind == "float64" or array.dtype.kind not in "fV":
        return array
    with np.errstate(over="ignore"):
        return array.astype(dtype_of(kind)).astype(np.float64)


def lost(tap: Tap) -> np.ndarray:
    """How far storage alone moves each row of the exact value: n."""
    axis = row_axis(tap.axes)
    if tap.kept.step is not None:
        # quantised: each number is off by a step over the root of twelve, on average
        step = np.broadcast_to(np.asarray(tap.kept.step, np.float64), tap.golden.shape)
        return metrics.row_distances(step / 12**0.5, None, axis)
    kind = storage_of(tap)
    with np.errstate(invalid="ignore"):
        found = metrics.row_distances(as_stored(tap.golden, kind), tap.golden, axis)
    return np.where(np.isfinite(found), found, 0.0)


def floats(taps: Sequence[Tap]) -> list[Tap]:
    """The taps that hold floating numbers in a layout that is understood."""
    return [tap for tap in taps if tap.found is not None and tap.golden.dtype.kind in "fV"
            and tap.found.array.dtype.kind in "fV" and tap.found.array.size]


# ---- what the run was computed in --------------------------------------------------------------

def arithmetic(golden: Trace, taps: Sequence[Tap], declared: str = "",
               alone: bool = False) -> dict[str, str]:
    """Name of each array -> the type in which its half of the run was computed, as far as can be told.

    declared: what was said of the whole run by hand; what was said of a single tap stands above it
    alone: each half by itself; without it what the tower rounds comes along into the decoder
    """
    known = {half: [tap for tap in floats(taps) if part_of(tap.stage.key) == half]
             for half in ("vision", "decoder")}
    mute = outdone(golden, taps)
    tower, decoder = (computed(golden, own, mute) for own in known.values())
    if not alone:
        # a tower without taps is told by the rows that it hands over
        handed = known["decoder"]
        before = rest(tower) if tower else rougher(rest(computed(golden, handed, mute, handed=True)),
                                                   rest(of_features(golden, handed)))
        decoder = {name: rougher(kind, before) for name, kind in decoder.items()}
    found = tower | decoder
    for tap in taps:
        inside = part_of(tap.stage.key) in known  # what is prepared is float32 in every run
        kind = found.get(tap.name, rest(found) if inside else "float32")
        found[tap.name] = tap.kept.precision or (declared if declared and inside else kind)
    return found


def outdone(golden: Trace, taps: Sequence[Tap]) -> set[str]:
    """Names of the taps whose rows are there a second time, moved and in finer numbers than they show:
    their own type is that of their storage, and says nothing of what they were computed in."""
    shows: dict[str, dict[str, str]] = {}                       # key -> what each of its arrays shows
    for tap in floats(taps):
        shows.setdefault(tap.stage.key, {})[tap.name] = storage_of(tap)
    return {name for key in MOVED if key in shows for parent in golden.stages[key].parents
            for name, kind in shows.get(parent, {}).items() if finer(max(
                shows[key].values(), key=ROUGHEST.index), kind)}


def of_features(golden: Trace, taps: Sequence[Tap]) -> dict[str, str]:
    """A narrow type of the rows that the tower hands over, where these are as far from the exact value
    as a run in it is: a decoder that is finer does not speak against it."""
    kinds = {tap.name: storage_of(tap) for tap in taps if tap.stage.key == HANDED_OVER[0]}
    return {tap.name: kinds[tap.name] for tap in taps if kinds.get(tap.name) in BITS
            and tells(tap, kinds[tap.name])
            and not nearer(golden, tap, kinds[tap.name], kinds[tap.name], of_pictures(golden, tap))}


def of_pictures(golden: Trace, tap: Tap) -> np.ndarray | slice:
    """Which rows of a sequence are pictures', one truth value each; all where that is not known."""
    at = golden.tables(COORDINATES).get("s")
    if at is None:
        return slice(None)
    seen = at.reshape(len(at), -1)[:, 0] >= 0                              # a row of text has medium -1
    return seen if tap.rows is None else seen[tap.rows]


def rougher(one: str, other: str) -> str:
    """The narrower of two types."""
    return min(one, other, key=ROUGHEST.index)


def rest(found: Mapping[str, str]) -> str:
    """The type of taps that say nothing themselves."""
    return min(found.values(), key=ROUGHEST.index, default="float32")


def computed(golden: Trace, taps: Sequence[Tap], mute: Set[str], handed: bool = False
             ) -> dict[str, str]:
    """The same for the taps of one half; mute: names that say nothing; handed: from the rows that come
    from the other as well."""
    shows = {tap.name: storage_of(tap) for tap in taps}
    telling = [tap.name for tap in taps if (handed or tap.stage.key not in HANDED_OVER)
               and tap.name not in mute and tells(tap, shows[tap.name])]
    kinds = {shows[name] for name in telling} or {max(shows.values(), key=ROUGHEST.index,
                                                      default="float32")}
    roughest = min(kinds, key=ROUGHEST.index)
    # from the roughest type on: is there a tap that a run in it could not have made?
    for kind in (kind for kind in BITS if not finer(roughest, kind)):
        if not too_near(golden, taps, shows, kind):
            return dict.fromkeys(shows, kind)
    return dict.fromkeys(shows, "float64" if kinds == {"float64"} else "float32")


def tells(tap: Tap, kind: str) -> bool:
    """Whether a tap that shows a narrow type says anything by it: the exact value must not fit too."""
    return kind not in BITS or bool(lost(tap).any())


def too_near(golden: Trace, taps: Sequence[Tap], shows: Mapping[str, str], kind: str) -> bool:
    """Whether some tap is nearer to the exact value than a run in a 16-bit type comes."""
    near = [tap for tap in taps if nearer(golden, tap, shows[tap.name], kind)]
    if any(tap.stage.key not in FIRST for tap in near):
        return True
    # patches may be embedded finely in a tower that is not: only with finer numbers behind them
    return bool(near) and any(finer(shows[tap.name], kind) for tap in taps if tap.stage.key not in FIRST)


def finer(one: str, other: str) -> bool:
    return ROUGHEST.index(one) > ROUGHEST.index(other)


def nearer(golden: Trace, tap: Tap, storage: str, kind: str, of: np.ndarray | slice = slice(None)
           ) -> bool:
    """Whether one tap is nearer to the exact value than a run in `kind` could be, storage aside; of:
    rows that count."""
    yard = golden.tables(f"{YARDSTICK}.{kind}").get(tap.name)
    if yard is None or tap.kept.step is not None:
        return False
    axis = row_axis(tap.axes)
    yard = yard if tap.rows is None else yard[tap.rows]
    rounding = float(np.linalg.norm(yard[of]))
    # where the yardstick is not rounded to 16 bits, or storage hides it, nothing can be told
    size = float(np.linalg.norm(metrics.row_norms(tap.golden, axis)[of]))
    stored = float(np.linalg.norm(lost(tap)[of])) if finer(kind, storage) or kind == storage else 0.0
    if rounding < verdict.WIDE * size or rounding**2 < TOLD * stored**2:
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        apart = metrics.row_distances(tap.found.array, tap.golden, axis)       # type: ignore[union-attr]
    error = float(np.linalg.norm(apart[of]))
    return error**2 - stored**2 < (FINE * rounding) ** 2


def said_of(stored: Mapping[str, str], made: Mapping[str, str]) -> list[str]:
    """How the taps are stored and how the run was computed, in words; nothing where both are one
    type."""
    kinds = sorted(set(stored.values()), key=ROUGHEST.index)
    types = sorted(set(made.values()), key=ROUGHEST.index)
    if kinds == types and len(kinds) < 2:
        return []
    counts = ", ".join(f"{list(stored.values()).count(kind)} in {kind}" for kind in kinds)
    ways = " and ".join(types) if len(types) < 2 else ", ".join(
        f"{kind} ({', '.join(dict.fromkeys(part_of(name) for name, k in made.items() if k == kind))})"
        for kind in types)
    return [f"stored: {counts}; computed in {ways}, as far as the numbers show"]


__all__ = ["Kept", "Part", "arithmetic", "precision_of", "shown", "storage_of"]
