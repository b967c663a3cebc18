"""The recipe: phases in their order, what each draws, and how fast it learns.

It follows the technical report in small: pre-training of the tower, then of both, then longer context, with the tower
moving; fine-tuning and preference optimisation with the tower held still. Two detours are our own: `writing`, since
characters are hard for a tower of this size, and `answers`, since a decoder alone learns more in the same time.

Source: Bai et al., "Qwen2.5-VL Technical Report" (2025), sections 2.2 and 2.3. Read next: `train.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .focus import FOCUS
from .packing import Sample
from .preference import paired
from .tasks import KINDS_OF_SAMPLE
from .world import Rng

ALL_KINDS = KINDS_OF_SAMPLE | FOCUS


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own data and its own speed.

    number: with the seed, where its draws come from (no two phases draw the same); trains: tower, decoder or all;
    mix: kind of sample -> share; dense: weight of the dense targets; easy: share of the phase in which samples start
    small and simple; batch: samples a step; turns: questions a picture at most, in each of `again` steps (only while
    the tower holds still, whose features are then kept). Rates are those of Muon (matrix) and of AdamW (plain), times a
    cosine from rate_start to rate_end.
    """
    name: str
    number: int
    what: str
    trains: str
    steps: int
    mix: dict[str, float]
    dense: float = 0.0
    easy: float = 0.0
    batch: int = 48
    turns: int = 5
    again: int = 1
    matrix_rate: float = 4e-3
    plain_rate: float = 2e-3
    rate_start: float = 1.0
    rate_end: float = 1.0
    preference: bool = False
    time_axis: bool = True

    def at_rate(self, factor: float) -> Phase:
        """The phase with its learning rates times a factor."""
        return replace(self, matrix_rate=factor * self.matrix_rate, plain_rate=factor * self.plain_rate)


PHASES = {phase.name: phase for phase in (
    Phase("visual", 1, "dense targets in every cell: shapes, colours, outlines, edges, characters", "tower", 1500,
          {"shapes": 0.45, "number": 0.17, "word": 0.15, "video": 0.13, "document": 0.10},
          dense=1.0, easy=0.15, rate_end=0.7),
    Phase("words", 2, "briefly: what questions and answers look like", "all", 550,
          {"shapes": 0.56, "number": 0.13, "word": 0.09, "video": 0.15, "document": 0.07},
          dense=0.4, easy=0.12, rate_start=0.8, rate_end=0.8),
    Phase("writing", 3, "dense targets again, many of them on characters", "tower", 1300,
          {"number": 0.38, "word": 0.10, "document": 0.05, "shapes": 0.40, "video": 0.07},
          dense=1.0, rate_start=0.9, rate_end=0.05),
    Phase("answers", 8, "questions about pictures, writing, pages and videos", "decoder", 1500,
          {"shapes": 0.44, "number": 0.20, "word": 0.07, "video": 0.23, "document": 0.06},
          dense=0.3, turns=7, rate_start=0.8, rate_end=0.02),
    Phase("joint", 4, "questions about pictures, writing, pages and videos", "all", 1000,
          {"shapes": 0.44, "number": 0.23, "word": 0.07, "video": 0.20, "document": 0.06},
          dense=0.3, batch=32, turns=7, rate_start=0.2, rate_end=0.01),
    Phase("long", 5, "two pictures, the odd one out, more videos and pages", "all", 140,
          {"shapes": 0.34, "number": 0.1, "word": 0.08, "video": 0.12, "document": 0.14, "differ": 0.12, "odd": 0.1},
          dense=0.1, rate_start=0.15, rate_end=0.1),
    Phase("sft", 6, "dialogues of several turns", "decoder", 140,
          {"dialogue": 0.3, "shapes": 0.25, "number": 0.1, "word": 0.07, "video": 0.12, "document": 0.1,
           "differ": 0.03, "odd": 0.03}, rate_start=0.1, rate_end=0.0),
    Phase("dpo", 7, "pairs of a right and a plausible wrong answer", "decoder", 30,
          {"shapes": 0.6, "number": 0.15, "word": 0.1, "video": 0.15},
          preference=True, matrix_rate=1e-4, plain_rate=5e-5, rate_end=0.0),
)}
READ = {"number": 0.08, "word": 0.12, "written": 0.10, "document": 0.10, "forms": 0.08, "tables": 0.05, "clicks": 0.10}
SEEN = {"shapes": 0.16, "pairs": 0.06, "points": 0.05, "boxes": 0.10, "video": 0.06, "rates": 0.05}
TOLD = {"differs": 0.06, "odds": 0.05, "dialogue": 0.03}
# All kinds that are asked of the decoder, pages by their kinds, and most of what had not been learned.
LACKING = {"shapes": 0.18, "pairs": 0.06, "points": 0.02, "boxes": 0.09, "video": 0.04, "rates": 0.05,
              "number": 0.04, "word": 0.09, "written": 0.04, "forms": 0.12, "tables": 0.09, "clicks": 0.02,
              "screens": 0.03, "charts": 0.06, "differ": 0.06, "differs": 0.06, "odd": 0.06, "odds": 0.03,
              "dialogue": 0.03}
WRITTEN = {"shapes": 0.22, "pairs": 0.03, "points": 0.02, "boxes": 0.06, "video": 0.05, "rates": 0.08,
           "number": 0.03, "word": 0.10, "written": 0.03, "forms": 0.13, "tables": 0.10, "clicks": 0.01,
           "screens": 0.01, "charts": 0.05, "differ": 0.01, "differs": 0.03, "odd": 0.03, "odds": 0.01,
           "dialogue": 0.02}                              # LACKING with more videos, words, forms and tables
SCHEDULE = (                                              # `going_on.py`
    Phase("places", 31, "points, boxes, controls and pairs, each alone about a picture", "decoder", 420,
          {"points": 0.18, "boxes": 0.20, "clicks": 0.17, "pairs": 0.12, "shapes": 0.15, "video": 0.09,
           "number": 0.06, "word": 0.02, "document": 0.01},
          dense=0.2, turns=7, again=2, rate_start=0.4, rate_end=0.01),
    Phase("mend", 38, "dialogues, the odd one out, two pictures, which a focus forgets, beside everything else",
          "decoder", 150,
          {"dialogue": 0.19, "odd": 0.09, "differ": 0.11, "shapes": 0.19, "pairs": 0.06, "points": 0.06, "boxes": 0.10,
           "clicks": 0.03, "number": 0.05, "word": 0.02, "video": 0.07, "document": 0.03},
          dense=0.2, turns=6, again=2, rate_start=0.35, rate_end=0.01),
    Phase("characters", 32, "dense targets: single characters and short lines", "tower", 6000,
          {"characters": 0.35, "number": 0.22, "word": 0.18, "document": 0.07, "shapes": 0.13, "video": 0.05},
          dense=1.0, easy=0.3, rate_start=0.8, rate_end=0.8),
    Phase("lines", 33, "dense targets: words, pages, shapes", "tower", 8000,
          {"characters": 0.12, "number": 0.20, "word": 0.24, "document": 0.20, "shapes": 0.17, "video": 0.07},
          dense=1.0, rate_start=0.8, rate_end=0.3),
    Phase("told", 34, "pairs told before they are judged, points, boxes, controls, words", "decoder", 1000,
          {"told": 0.14, "points": 0.12, "boxes": 0.20, "clicks": 0.16, "word": 0.12, "number": 0.12, "shapes": 0.08,
           "video": 0.06},
          dense=0.2, turns=7, again=2, rate_start=0.6, rate_end=0.6),
    Phase("together", 35, "everything, with bare answers, the tower moving too", "all", 1800,
          {"shapes": 0.16, "pairs": 0.06, "points": 0.05, "boxes": 0.08, "video": 0.10, "number": 0.12, "word": 0.12,
           "document": 0.26, "clicks": 0.08, "differ": 0.03, "odd": 0.03, "dialogue": 0.03},
          dense=0.3, turns=7, rate_start=0.4, rate_end=0.15),
    Phase("finer", 39, "dense targets again, on pictures full of writing, down to small rates", "tower", 3000,
          {"written": 0.36, "number": 0.09, "word": 0.15, "document": 0.16, "characters": 0.06, "shapes": 0.13,
           "video": 0.05},
          dense=1.0, rate_start=0.8, rate_end=0.2),
    Phase("pages", 41, "what is written where: lines, forms, tables, controls, value by value", "decoder", 1600,
          {"written": 0.20, "forms": 0.18, "tables": 0.12, "clicks": 0.12, "word": 0.08, "number": 0.06,
           "boxes": 0.10, "shapes": 0.06, "pairs": 0.03, "video": 0.03, "rates": 0.02},
          dense=0.2, turns=7, again=2, rate_start=0.6, rate_end=0.4),
    Phase("joined", 40, "everything again, more pages and controls, both moving", "all", 2400, SEEN | READ | TOLD,
          dense=0.3, turns=7, rate_start=0.4, rate_end=0.1),
    Phase("small", 42, "dense targets again, small writing above all", "tower", 2800,
          {"written": 0.34, "number": 0.08, "word": 0.14, "document": 0.20, "characters": 0.04, "shapes": 0.15,
           "video": 0.05},
          dense=1.0, rate_start=0.7, rate_end=0.1),
    Phase("controls", 45, "what a button says, whether it is there, where it is", "decoder", 1400,
          {"screens": 0.6, "written": 0.1, "forms": 0.1, "shapes": 0.1, "boxes": 0.1},
          dense=0.2, easy=0.4, turns=7, again=2, rate_start=0.6, rate_end=0.4),
    Phase("sought", 46, "everything again, each answer told where to look", "decoder", 2800,
          SEEN | READ | TOLD | {"clicks": 0.05, "screens": 0.06, "charts": 0.05, "odd": 0.05},
          dense=0.2, turns=7, again=2, rate_start=0.6, rate_end=0.3),
    Phase("sharp", 48, "dense targets again, pages and small writing, and things beside them", "tower", 900,
          {"written": 0.26, "number": 0.06, "word": 0.14, "document": 0.26, "characters": 0.04, "shapes": 0.19,
           "video": 0.05},
          dense=1.0, rate_start=0.5, rate_end=0.03),
    Phase("twice", 49, "everything again, more of which is told where to look", "decoder", 1300, LACKING,
          dense=0.2, turns=7, again=2, rate_start=0.6, rate_end=0.5),
    Phase("unlike", 50, "the odd one out and what the others are, two pictures, counts", "decoder", 400,
          {"odd": 0.30, "odds": 0.25, "differ": 0.06, "differs": 0.09, "boxes": 0.10, "shapes": 0.15, "forms": 0.05},
          dense=0.2, turns=7, again=2, rate_start=0.5, rate_end=0.5),
    Phase("order", 52, "dense targets again, and how many things are named before each and after it", "tower", 2200,
          {"written": 0.21, "number": 0.04, "word": 0.12, "document": 0.20, "characters": 0.03, "shapes": 0.35,
           "video": 0.05},
          dense=1.0, rate_start=0.6, rate_end=0.03),
    Phase("ordered", 53, "everything again, videos and writing above all", "decoder", 1387,
          {"shapes": 0.22, "pairs": 0.04, "points": 0.02, "boxes": 0.06, "video": 0.05, "rates": 0.08,
           "number": 0.03, "word": 0.09, "written": 0.03, "forms": 0.12, "tables": 0.09, "clicks": 0.01,
           "screens": 0.01, "charts": 0.05, "differ": 0.01, "differs": 0.03, "odd": 0.03, "odds": 0.01,
           "dialogue": 0.02},
          dense=0.2, turns=7, again=2, rate_start=0.6, rate_end=0.4),
    Phase("halved", 54, "dense targets again, with the characters that lie on the border of two slots", "tower", 1500,
          {"written": 0.24, "number": 0.06, "word": 0.18, "document": 0.24, "characters": 0.03, "shapes": 0.21,
           "video": 0.04},
          dense=1.0, rate_start=0.5, rate_end=0.03),
    Phase("reread", 55, "everything again, with characters on the border of two slots", "decoder", 2600, WRITTEN,
          dense=0.2, turns=7, again=2, rate_start=0.6, rate_end=0.4),
    Phase("tabled", 56, "dense targets again, tables and pages full of writing above all", "tower", 1400,
          {"tables": 0.22, "written": 0.24, "document": 0.16, "word": 0.14, "number": 0.04, "shapes": 0.17,
           "video": 0.03},
          dense=1.0, rate_start=0.5, rate_end=0.03),
    Phase("alike", 58, "dense targets again, and how many things have the colour or the kind of each", "tower", 1100,
          {"shapes": 0.45, "tables": 0.12, "written": 0.13, "document": 0.12, "word": 0.12, "number": 0.03,
           "video": 0.03},
          dense=1.0, rate_start=0.5, rate_end=0.03),
    Phase("rated", 57, "everything again, videos of many rates, tables", "decoder", 1700,
          WRITTEN | {"rates": 0.14, "tables": 0.13, "differ": 0.02, "differs": 0.04, "odd": 0.04, "odds": 0.02},
          dense=0.2, turns=7, again=2, rate_start=0.6, rate_end=0.4),
    Phase("figures", 59, "dense targets again, digits in small print above all, and how many things there are", "tower",
          1600, {"figures": 0.34, "tables": 0.10, "forms": 0.10, "written": 0.08, "word": 0.10, "shapes": 0.25,
                 "video": 0.03},
          dense=1.0, rate_start=0.6, rate_end=0.02),
    Phase("printed", 60, "everything again, forms, tables, small print and counts", "decoder", 3000,
          {"shapes": 0.17, "counts": 0.09, "pairs": 0.03, "points": 0.02, "boxes": 0.06, "video": 0.04, "rates": 0.08,
           "number": 0.03, "word": 0.08, "figures": 0.05, "forms": 0.12, "tables": 0.12, "clicks": 0.02,
           "screens": 0.01, "charts": 0.05, "differ": 0.01, "differs": 0.02, "odd": 0.03, "odds": 0.01,
           "dialogue": 0.02},
          dense=0.2, turns=7, again=2, rate_start=0.6, rate_end=0.4),
    Phase("settle", 37, "everything, the tower at rest, coming down", "decoder", 1300,
          WRITTEN | {"rates": 0.11, "tables": 0.12, "differs": 0.04, "odd": 0.04},
          dense=0.2, turns=7, again=2, rate_start=0.5, rate_end=0.0),
    Phase("evened", 51, "more shapes, videos and charts, of which the mix had too few", "decoder", 300,
          {"rates": 0.16, "video": 0.09, "word": 0.08, "shapes": 0.26, "boxes": 0.08, "charts": 0.10, "forms": 0.08,
           "tables": 0.06, "pairs": 0.05, "number": 0.03, "differ": 0.01, "odd": 0.02, "dialogue": 0.02},
          dense=0.2, turns=7, again=2, rate_start=0.3, rate_end=0.0),
)
PHASES |= {phase.name: phase for phase in SCHEDULE}
PAIR = {name: Phase(name, 9, "what appears or leaves in a video, and when", "decoder", 360, {"video": 1.0},
                    dense=0.3, easy=0.1, rate_end=0.02, time_axis=axis)
        for name, axis in (("with the time axis", True), ("without the time axis", False))}       # `ablate.py`


def draw(rng: Rng, phase: Phase, progress: float = 1.0) -> Sample:
    """One sample of a phase. Early in the phase (progress below `easy`) most samples are easy, and some stay so."""
    kinds = list(phase.mix)
    kind = kinds[int(np.searchsorted(np.cumsum(list(phase.mix.values())), rng.random() * sum(phase.mix.values())))]
    hard = 0.92 if not phase.easy else min(0.92, progress / phase.easy)
    sample = ALL_KINDS[kind](rng, easy=rng.random() > hard, turns=phase.turns * phase.again)
    if not phase.preference:
        return sample
    pairs = paired(rng, sample)
    return pairs if pairs.turns else draw(rng, phase, progress)
