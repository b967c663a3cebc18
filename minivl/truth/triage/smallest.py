"""The smallest bad sample, written out for `minivl diff`: its golden trace, the sample itself, and
what to type.

Read next: `truth/trace/record.py`, which records.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...api import VLM
from ...door.files import write_whole
from ..trace.record import record
from .loss import LOGPROBS, REGRET, Sample, total
from .samplers import OUR_OWN

GOLDEN, LINE, THEIRS = "golden.safetensors", "sample.json", "mine.safetensors"
CLEAR = 0.25                    # of the median bad sample's loss, at least: one that is bad beyond doubt


@dataclass(frozen=True)
class Smallest:
    """Where the sample is: its name, how many patches and tokens it has, the folder, and the commands
    that go on."""
    name: str
    size: int
    folder: str
    with_answer: bool
    commands: tuple[str, ...]


def smallest(samples: Sequence[Sample], bad: np.ndarray) -> Sample:
    """The bad sample with the fewest patches and tokens among those that are bad beyond doubt."""
    found = [one for one, wrong in zip(samples, bad, strict=True) if wrong] or [
        max(samples, key=lambda one: total(one.losses, 0))]
    least = CLEAR * float(np.median([total(one.losses, 0) for one in found]))
    return min((one for one in found if total(one.losses, 0) >= least),
               key=lambda one: (one.size, one.line.number))


def needs_answer(sample: Sample, limit: dict[str, float]) -> bool:
    """Whether the first token is right, so that the difference shows only behind it."""
    line, first = sample.line, sample.mine.logprobs[:1]
    if not len(first):
        return False
    numbers = line.logprobs is not None and not abs(line.logprobs[0] -
                                                    float(first[0])) <= limit[LOGPROBS]
    return not numbers and float(sample.mine.choices[OUR_OWN].regret[0]) <= limit[REGRET]


def write(sample: Sample, vlm: VLM, precision: str, model: str | None, limit: dict[str, float],
          folder: Path) -> Smallest:
    """Record the golden trace of one sample into a folder. Raises OSError as the system does."""
    answer = needs_answer(sample, limit)
    messages: list[dict[str, Any]] = [*sample.line.messages]
    if answer:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": sample.answer}]})
    folder.mkdir(parents=True, exist_ok=True)
    yardsticks = tuple(dict.fromkeys((precision, "float32")))
    record(vlm.on("float64", "definition"), messages, folder / GOLDEN, yardsticks=yardsticks)
    text = json.dumps({"id": sample.line.name, "messages": messages,
                       "prompt_ids": sample.prompt_ids.tolist(),
                       "text": sample.line.text, "golden_text": sample.answer, "precision": precision},
                      indent=1, default=str) + "\n"
    write_whole(folder / LINE, lambda file: file.write(text.encode("utf-8")))
    path = [str(folder / name) for name in (GOLDEN, THEIRS)]
    more = ["--local", *(["--model", model] if model else [])]
    commands = tuple(shlex.join(["minivl", "diff", *path, *end]) for end in ([], more))
    return Smallest(sample.line.name, sample.size, str(folder), answer, commands)
