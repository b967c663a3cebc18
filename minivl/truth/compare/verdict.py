"""What an error is worth. Rounding goes as far as the yardstick says; further is suspicious, much
further is wrong.

    exact        the golden value rounded to the candidate's type, bit for bit
    rounding     no further from the golden value than minivl's own run in that type, within FACTOR
    suspicious   up to twice that: another order of sums, another rounding, or a small bug
    wrong        more, or not finite, or integers that differ

Where no yardstick was recorded a rule of thumb from the type and the number of stages stands in for it.

And from the words of all taps: which is the first bad one, and which passes may be guilty of it.
Numbers and names only: no array comes here. Read next: `metrics.py` (the errors), `compare.py` (which
asks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from ..trace.format import Stage
from .metrics import Measure

EXACT, ROUNDING, SUSPICIOUS, WRONG = WORDS = ("exact", "rounding", "suspicious", "wrong")
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# The most that the whole error, and the worst row's, may be of minivl's own. In 16 bits the type
# rounds every result, and all honest runs are alike; in 32 and 64 the order of a sum decides, and one
# of 1,176 terms has been seen at 4.2.
FACTOR = {"float64": (8.0, 12.0), "float32": (8.0, 12.0), "float16": (1.5, 3.0), "bfloat16": (1.5, 3.0)}
SHORT = ("float16", "bfloat16")
WIDE = 2.0**-14  # where minivl's own error in 16 bits is below this, it does not round to 16 bits there
UNLIKE = 0.45                    # healthy: 0.3 at most, 0.01 as a rule; a GELU by tanh 0.6
LEANING = 4.5                    # sigmas
CLEAR = 3.0  # a right tap clears what is before it when this many limits are less than the fault
LEAST = 4.0                      # errors below so many eps are chance, whatever the yardstick says
LEAST_16 = 0.5                   # 16 bits round what was summed up in 32: half a last digit


@dataclass(frozen=True)
class Yard:
    """What rounding alone does to one array: error of the whole, and of the worst row."""
    error: float
    worst: float


NOTHING = Yard(0.0, 0.0)


@dataclass(frozen=True)
class Judged:
    """One array of one stage: the word, how many times the limit it is, and what it was judged by.

    storage: what keeping it in its type adds; stored, computed: these types; allowed: the limits of its
        error and of its worst row's
    """
    name: str
    key: str
    word: str
    ratio: float
    measure: Measure
    yard: Yard
    notes: tuple[str, ...] = ()
    storage: Yard = NOTHING
    stored: str = ""
    computed: str = ""
    allowed: Yard = NOTHING

    @property
    def bad(self) -> bool:
        """Whether its word is more than rounding."""
        return self.word in (SUSPICIOUS, WRONG)


def judge(measure: Measure, yard: Yard | None, precision: str, depth: int,
          rows: int, storage: Yard = NOTHING) -> tuple[str, float, Yard]:
    """The word for one array of floats, and its error as a multiple of what rounding may do.

    depth: how many arrays of the whole run came before, recorded or not; precision: that the
        candidate computed in; rows: of the array; storage: what keeping it in its type adds.
    """
    eps = EPS[precision]
    # errors of stages add like chance
    known = yard or Yard(eps * (1 + depth**0.5), 2 * eps * (1 + depth**0.5))
    ratio = multiple(measure, known, precision, rows, storage)
    if measure.finite and not measure.differing:
        return EXACT, ratio, known
    if ratio <= 1 and precision in SHORT and known.error < WIDE:
        # tables, rows that only move: ours is not in 16 bits
        in_32 = multiple(measure, known, "float32", rows, storage)
        return (ROUNDING, ratio, known) if in_32 <= 1 else (SUSPICIOUS, min(in_32, 2.0), known)
    return (ROUNDING if ratio <= 1 else SUSPICIOUS if ratio <= 2 else WRONG), ratio, known


def multiple(measure: Measure, yard: Yard, precision: str, rows: int, storage: Yard = NOTHING) -> float:
    """An error as a multiple of the limit. It is an average over rows, and of few rows varies by
    chance."""
    of_all, of_row = limits(yard, precision, rows, storage)
    return max(measure.error / of_all, measure.worst / of_row)


def limits(yard: Yard, precision: str, rows: int, storage: Yard = NOTHING) -> tuple[float, float]:
    """How large the relative error of a whole array may be, and that of one of its rows.

    What storage adds is known to a digit, whatever the run was computed in: it has the factors of 16
    bits, where the type decides and not the order of sums.
    """
    chance = 1 + 1.5 / max(rows, 1) ** 0.5
    of_all, of_row = (factor * chance for factor in FACTOR[precision])
    least = (LEAST_16 if precision in SHORT else LEAST) * EPS[precision]
    kept, kept_row = (factor * chance for factor in FACTOR["bfloat16"])
    return (max(of_all * yard.error, least) + kept * storage.error,
            max(of_row * yard.worst, 4 * least) + kept_row * storage.worst)


def unlike(name: str, word: str, beside: float, yard: Yard, precision: str) -> bool:
    """Whether a rounded value is not the one that minivl rounds to on the same inputs (a local trace
    only).

    In 16 bits almost every number of a healthy stage is the very same, for sums are formed in 32. So
    what differs by half of the rounding was computed otherwise, though it is as near to the exact
    value. Attention is apart: fused ones round their probabilities elsewhere.
    """
    return (word == ROUNDING and precision in SHORT and yard.error > WIDE
            and not name.endswith(".attend")
            and beside > UNLIKE * yard.error)


def kind_of(key: str) -> str:
    """The stages of all blocks that are one: `decoder.layers.3.normalise` ->
    `decoder.layers.*.normalise`."""
    return ".".join("*" if part.isdecimal() else part for part in key.split("."))


def worst_word(words: list[str]) -> str:
    """The worst of several words; exact of none."""
    return max(words, key=WORDS.index, default=EXACT)


def by_stage(judged: list[Judged]) -> dict[str, str]:
    """Key -> the worst word of its arrays, in order."""
    words: dict[str, list[str]] = {}
    for row in judged:
        words.setdefault(row.key, []).append(row.word)
    return {key: worst_word(found) for key, found in words.items()}


def first_bad(words: Mapping[str, str], stages: Mapping[str, Stage]) -> str | None:
    """The key of the first bad tap: the first wrong one, or a suspicious one that it comes from. None
    when all is well.

    Which comes first is decided by what goes into what: a tap is first when none that it comes from is
    bad.
    """
    bad = [key for word in (WRONG, SUSPICIOUS) for key in stages if words.get(key) == word]
    if not bad:
        return None
    # a suspicious tap that a wrong one comes from is where it began
    before = ancestors(bad[0], stages)
    return next((key for key in stages if key in before and words.get(key) in (SUSPICIOUS, WRONG)),
                bad[0])


def ancestors(key: str, stages: Mapping[str, Stage]) -> set[str]:
    """All stages that a stage comes from."""
    return _back(key, stages, set())


def suspects(key: str, words: Mapping[str, str], stages: Mapping[str, Stage],
             local: bool = False, clear: Set[str] | None = None) -> list[str]:
    """The passes that may be guilty of a bad tap: from it backwards up to the taps that are right, in
    order. What goes into a right tap is right too, and is left out wherever else it leads; but a tap
    behind the bad one that is right has not seen the fault, and says nothing of where it is.

    local: each stage ran on the candidate's own values, so that every tap ends the search, a bad one
        too.
    clear: the right taps in which the fault would have been seen (`clearing`); without it all of them
    """
    right = {k for k, word in words.items() if local or word in (EXACT, ROUNDING)}
    right = right if clear is None else set(clear)
    found = _back(key, stages, right - {key})
    if not local:
        before = [ancestors(k, stages) for k in right if k not in found]
        # a right tap that the bad one goes into lets its fault through
        found -= set().union(*(passes for passes in before if key not in passes)) - TABLES
    return [k for k in stages if k == key or k in found]


def single(key: str, tapped: Set[str], stages: Mapping[str, Stage]) -> bool:
    """Whether a tap is one stage away from the taps before it, tables apart: then an honest run rounds
    the same numbers the same way. Over several stages roundings pile up, and no two runs' are
    alike."""
    return not any(not k.endswith(CONSTANT) for k in stretch(key, tapped, stages))


def stretch(key: str, tapped: Set[str], stages: Mapping[str, Stage]) -> set[str]:
    """The stages between a tap and the taps before it."""
    return _back(key, stages, tapped - {key})


# tables: the same in every run of one type
CONSTANT = (".angles", ".cos_sin", ".spatial_angles", ".angles.order_by_window", ".schedule",
            ".window_order",
            "positions.mrope", "positions.ticks", "prompt.expand", "prompt.encode", "prompt.render")
# one array for each block: that a block is right says nothing of another's
TABLES = frozenset({"vision.schedule"})


def clearing(key: str, judged: Sequence[Judged]) -> set[str]:
    """The right taps that clear what goes into them of the fault of a bad one: those fine enough to have
    shown it. A tap that is stored roughly, or has the faults of its type, hides what others show."""
    bad = [row for row in judged if row.key == key]
    found: dict[str, bool] = {}
    for row in judged:
        fine = any(CLEAR * row.allowed.error <= one.measure.error
                   or CLEAR * row.allowed.worst <= one.measure.worst
                   for one in bad)
        # of a stage with several arrays all must clear it; whole numbers are right or wrong
        found[row.key] = found.get(row.key, True) and not row.bad and (fine or row.word == EXACT)
    return {k for k, fine in found.items() if fine and k != key}


def _back(key: str, stages: Mapping[str, Stage], stop: Set[str]) -> set[str]:
    found: set[str] = set()
    ahead = [key]                                    # breadth first, from the tap to what it was made of
    while ahead:
        new = {p for p in stages[ahead.pop()].parents if p in stages} - found - stop
        found |= new
        ahead += new
    return found


# ---- a baseline: what is known to differ -------------------------------------------------------

def baseline(judged: list[Judged]) -> dict[str, str]:
    """What to write down so that only what is new fails a later run: names of bad arrays and their
    words."""
    return {row.name: row.word for row in judged if row.bad}
