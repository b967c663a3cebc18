"""How often the embedded model is right about a question of some kind: the figures of its card, as data.

    figure_of("Find the red star.").sentence()
    # 'right in 73 of 100 questions of this kind (find one: IoU above 0.5; mean IoU); a blind guess in 1'

They are the rows of `training.json` beside the weights, measured on held-out questions when the weights
were made; a kind that no row asks has no figure. A single answer shows how such an answer looks, and a
figure how much to expect of the next one.

Read next: `demo.py`, which prints one behind each answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..api import TINY

FAILS, OVER_A_GUESS = 0.5, 0.1  # a kind below either is not asked without saying so
MOST_NAMED = 4                  # objects in the pictures of the row about describing
COLOURS = "red|green|blue|yellow|purple|orange|cyan|pink"
SHAPES = "circle|square|triangle|star|cross|ring"
THING = rf"(?:{COLOURS}) (?:{SHAPES})"
CROWD = "describe 5 or 6 objects: exact set"
KINDS = (                       # a row of the card, and what it asks
    ("describe 1 to 4 objects: exact set", r"Describe the image\.|What is in this image\?"),
    ("count", rf"How many (?:(?:{COLOURS}) )?(?:objects|(?:{SHAPES})(?:es|s)) are there\?"),
    ("yes or no, hard negatives", rf"Is there an? {THING}\?"),
    ("find one: IoU above 0.5; mean IoU", rf"Find the {THING}\."),
    ("read numbers of 1 to 4 digits", r"What number is written\?|Read the number\."),
    ("video: what appears or leaves", r"What (?:appears|leaves) in the video\?"),
    ("video: when, within 0.5 s", rf"When does the {THING} (?:appear|leave)\?"),
    ("relations", rf"Is the {THING} (?:(?:left|right) of|above|below|(?:larger|smaller) than|inside) the "
                  rf"{THING}\?"),
    ("detect all: F1 at IoU 0.5", r"Detect all objects\."),
    ("read short words", r"What word is written\?|Read the word\."),
    ("deny what is not there, and only that", rf"(?:Where is|Describe) the {THING}[.?]"),
    ("name what is at a point", r"What is at \(\d+, \d+\)\?"),
    ("form into JSON", r"Read the form as JSON\."),
    ("screen: where to click", r"Click the [A-Z]\w* button\.|Where do I click to [a-z]\w*\?"),
    ("name a colour or a shape", r"What color is (?:the \w+|it)\?|What shape is the \w+ object\?"),
    ("two pictures: what differs", r"What differs in the second picture\?"),
    ("small table into HTML", r"Read the table as HTML\."),
    ("bar chart values", r"What is the value of the \w+ bar\?"),
    ("the odd one out", r"Which object is the odd one out\?"),
    ("dialogue: where is it?", r"Where is it\?"),
)


@dataclass(frozen=True)
class Figure:
    """A row of the card. figure and blind are from 0 to 1: the share of questions that it is right about,
    or another measure over all of them; always: the answer that it gives to nearly all questions of a form."""
    row: str
    measure: str = "right"
    figure: float | None = None             # None: not measured
    blind: float = 0.0
    samples: int = 0
    always: str = ""

    @property
    def fails(self) -> bool:
        """Whether the model is wrong more often than right, hardly better than a guess, or not counted."""
        return self.figure is None or self.figure < max(FAILS, self.blind + OVER_A_GUESS)

    def short(self) -> str:
        """The figure alone, for a heading."""
        if self.figure is None:
            return "not counted"
        if self.measure != "right":
            return f"{self.measure.upper()} {self.figure:.2f}"
        return f"{100 * self.figure:.0f} of 100"

    def sentence(self) -> str:
        """What to expect, in words."""
        if self.figure is None:
            return "no figure: nobody has counted how often it is right about this kind"
        always = f". To questions in these words it nearly always says {self.always!r}" if self.always else ""
        if self.measure != "right":
            words = f"{self.measure.upper()} {self.figure:.2f} over all questions of this kind ({self.row})"
            return words + always
        return (f"right in {100 * self.figure:.0f} of 100 questions of this kind ({self.row}); a blind "
                f"guess in {100 * self.blind:.0f}{always}")


@cache
def rows(folder: Path = TINY) -> dict[str, dict[str, Any]]:
    """Row of the card -> what `training.json` of the checkpoint in this folder says of it; empty where
    there is no such file."""
    path = folder / "training.json"
    found = json.loads(path.read_text(encoding="utf-8"))["evaluation"] if path.is_file() else []
    return {one["name"]: one for one in found}


def kind_of(question: str, answer: str = "") -> str | None:
    """The row of the card that asks such questions, None where none does. `answer` is the true one, when
    it is known: more objects than a row's pictures hold make another kind."""
    for row, pattern in KINDS:
        if re.fullmatch(pattern, question.strip()):
            crowded = row == KINDS[0][0] and len(re.findall(THING, answer.lower())) > MOST_NAMED
            return CROWD if crowded else row
    return None


def figure_of(question: str, answer: str = "", folder: Path = TINY) -> Figure:
    """The figure of a question's kind; one without a number where it was never counted."""
    name = kind_of(question, answer)
    row = rows(folder).get(name or "")
    if row is None:
        return Figure(name or "asked by no row of the card")
    always = row.get("constants", {}).get(form_of(question), "")
    return Figure(row["name"], row["measure"], row["figure"], row["blind"], row["samples"], always)


def form_of(question: str) -> str:
    """A question with dots for what changes from one to the next: "Is the ... left of the ...?"."""
    for pattern in (THING, rf"\b(?:{COLOURS}|(?:{SHAPES})(?:es|s)?)\b", r"\d+", r"(?<=the )[A-Z]\w*(?= button)",
                    r"(?<=click to )\w+"):
        question = re.sub(pattern, "...", question)
    return question.replace(" an ...", " a ...")
