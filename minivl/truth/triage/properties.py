"""What the bad samples have in common: for each property the counts, and an exact test of whether they
hang together.

Read next: `statistics.py` (the test), `triage.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...config import VisionConfig
from .loss import Sample
from .statistics import fisher_exact, holm

SURE = 0.05                              # a corrected p below this names a property
QUARTERS = (0.25, 0.5, 0.75)      # of the samples' patches: what counts as many is tried at three places
Test = Callable[[Sample], bool]
OF_PICTURES = ("ragged windows", "several windows", "several pictures", "video", "picture or video",
               "resized", "many patches")


@dataclass(frozen=True)
class Shared:
    """One property: how many of the samples with it are bad, and of those without; p corrected for all
    properties.

    beyond: the same test among samples that the first named property does not cover, NaN where there
        is none.
    """
    name: str
    bad_with: int
    all_with: int
    bad_without: int
    all_without: int
    p: float
    beyond: float = float("nan")

    @property
    def excess(self) -> float:
        """By how much the share of bad samples is higher with the property."""
        return self.bad_with / max(self.all_with, 1) - self.bad_without / max(self.all_without, 1)


def properties(samples: Sequence[Sample], vision: VisionConfig) -> dict[str, Test]:
    """Name -> test. What counts as many patches is taken from the samples."""
    patches = [sum(m.patches for m in one.media) for one in samples if one.media]
    levels = sorted({int(np.quantile(patches, q)) for q in QUARTERS}) if patches else []
    cells, merge = vision.window_cells, vision.spatial_merge_size

    def sides(one: Sample) -> list[int]:
        return [side // merge for medium in one.media for side in medium.grid[1:]]
    found: dict[str, Test] = {
        "ragged windows": lambda one: any(side % cells for side in sides(one)),
        "several windows": lambda one: any(side > cells for side in sides(one)),
        "several pictures": lambda one: len(one.media) > 1,
        "video": lambda one: any(m.kind == "video" for m in one.media),
        "picture or video": lambda one: bool(one.media),
        "resized": resized,
        "text after picture": lambda one: follows(order(one), "picture", "text"),
        "picture after text": lambda one: follows(order(one), "text", "picture"),
        "digits": lambda one: any(c.isdecimal() for c in one.answer),
        "several turns": lambda one: sum(m["role"] != "system" for m in one.line.messages) > 1,
        "asked again": lambda one: one.line.asked == "again",
        "asked together": lambda one: one.line.asked == "together",
        "long prompt": lambda one: one.line.asked == "long"}
    for level in levels:
        found[f"many patches (more than {level})"] = lambda one, level=level: (   # type: ignore[misc]
            sum(m.patches for m in one.media) > level)
    return found


def of_pictures(samples: Sequence[Sample], vision: VisionConfig) -> dict[str, Test]:
    """The properties that are of pictures alone, which nothing that happens after the model can see."""
    return {name: test for name, test in properties(samples, vision).items()
            if name.startswith(OF_PICTURES)}


def resized(one: Sample) -> bool:
    """Whether a picture or video came in another size than the model sees."""
    return any(m.source_size != m.size for m in one.media)


def order(one: Sample) -> list[str]:
    """What the conversation is made of, in order: text, picture (or video)."""
    out: list[str] = []
    for message in one.line.messages:
        content = message["content"]
        if message["role"] != "system":
            items = [{"text": content}] if isinstance(content, str) else content
            out += ["text" if "text" in item else "picture" for item in items]
    return out


def follows(items: list[str], first: str, then: str) -> bool:
    """Whether some `then` comes after some `first`."""
    return first in items and then in items[items.index(first):]


def shared(samples: Sequence[Sample], bad: np.ndarray, vision: VisionConfig) -> list[Shared]:
    """Every property that some samples have and some have not, the most telling first. Only an excess
    of bad samples counts; a lack of them is p = 1."""
    found = _table(samples, bad, vision)
    if not found or found[0].p >= SURE:
        return found
    first = properties(samples, vision)[found[0].name]
    rest = [n for n, one in enumerate(samples) if not first(one)]
    if not rest:
        return found
    later = {row.name: row.p for row in _table([samples[n] for n in rest], bad[rest], vision, samples)}
    return [replace(row, beyond=later.get(row.name, float("nan"))) for row in found]


def _table(samples: Sequence[Sample], bad: np.ndarray, vision: VisionConfig,
           levels: Sequence[Sample] | None = None) -> list[Shared]:
    rows = []
    for name, test in properties(levels or samples, vision).items():
        has = np.array([test(one) for one in samples], bool)
        if has.all() or not has.any():
            continue
        row = Shared(name, int((bad & has).sum()), int(has.sum()), int((bad & ~has).sum()),
                     int((~has).sum()), 1.0)
        p = fisher_exact(row.bad_with, row.all_with - row.bad_with, row.bad_without,
                         row.all_without - row.bad_without)
        rows.append(replace(row, p=p if row.excess > 0 else 1.0))
    corrected = holm([row.p for row in rows])
    fixed = [replace(row, p=p) for row, p in zip(rows, corrected, strict=True)]
    order_ = sorted(range(len(rows)), key=lambda n: (rows[n].p, -rows[n].excess))
    return [fixed[n] for n in order_]


def named(table: Sequence[Shared]) -> list[str]:
    """The property that the bad samples share, and those that are needed beside it; nothing when none
    is sure."""
    if not table or table[0].p >= SURE:
        return []
    return [table[0].name, *(row.name for row in table[1:] if row.beyond < SURE)]
