"""From how many bad samples on is a kind named rightly? A few samples of every candidate at a time, in every form, and
how often triage names another kind than the true one.

    python -m tools.truth.triage --few --folder runs/few --samples 40 --random

Answers are made once; each draw takes some of a candidate's lines. Read next: `forms.py`; `FEWEST` in
`minivl/truth/triage/cause.py`, which is the number found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minivl.truth.triage.hypotheses import SETTINGS, UNDECIDED
from minivl.truth.triage.lines import LinesError
from minivl.truth.triage.triage import Triage

from .forms import FORMS, REFUSED, SAME, Form, Row

DRAWN = (1, 2, 3, 4, 6, 10)                      # samples at a time
MOST = 8                                        # bad samples that have a row of their own
COLUMNS = ("bad samples", "draws", "right", UNDECIDED, "settings, wrongly", "pixels, wrongly", "arithmetic, wrongly",
           "missed")


@dataclass(frozen=True)
class Draw:
    """A few samples of one candidate, and what was said of them."""
    candidate: str
    form: Form
    bad: int
    truth: str
    said: str
    because: str

    @property
    def column(self) -> str:
        """That it counts in."""
        if self.said == self.truth:
            return "right"
        known = {SAME: "missed", UNDECIDED: UNDECIDED}
        return known.get(self.said, f"{self.said}, wrongly")


def draws(rows: Mapping[str, Sequence[Row]], kinds: Mapping[str, str | None], ask: Callable[[Form, Path], Triage],
          path: Path, times: int, counts: Sequence[int] = DRAWN) -> Iterator[Draw]:
    """Every candidate in every form, some lines at a time; what is refused is left out."""
    for name, own in rows.items():
        for form in FORMS:
            for count in counts:
                for time in range(times):
                    chosen = np.random.default_rng([count, time]).choice(len(own), count, replace=False)
                    some, healthy = ([lines[n] for n in chosen] for lines in (own, rows["healthy"]))
                    truth = form.truth(kinds[name], some, healthy)
                    form.write(some, path)
                    try:
                        found = ask(form, path) if truth != REFUSED else None
                    except LinesError:
                        continue
                    if found is not None:
                        yield Draw(name, form, int(found.bad.sum()), truth, found.cause.kind or SAME,
                                   found.cause.because)


def table(found: Sequence[Draw]) -> list[str]:
    """Rows of COLUMNS: by the number of bad samples."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for bad in range(MOST + 1):
        own = [one for one in found if min(one.bad, MOST) == bad]
        words = Counter(one.column for one in own)
        cells = [f"{bad}{' or more' * (bad == MOST)}", str(len(own)), *(str(words[name]) for name in COLUMNS[2:])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def wrongly_settings(found: Sequence[Draw]) -> list[Draw]:
    """Draws of which settings are said and are not so."""
    return [one for one in found if one.said == SETTINGS != one.truth]
