"""`minivl ask`: a question about pictures, answered. Read next: `run.py`, the same run taken apart."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from ..door.errors import ArgumentError
from .console import clean, working
from .costs import tell_costs
from .given import Chosen, check_words, conversation, open_model, say_which


def ask(images: Sequence[str], question: str, chosen: Chosen, max_new_tokens: int,
        temperature: float | None, seed: int | None, stream: bool, fps: float | None,
        keeping: dict[str, Any], show_costs: bool = False) -> None:
    """Print the answer, and what it cost where that is asked for. keeping: options of `VLM.chat` that say
    how rows are kept. Raises ValueError or OSError for whatever is wrong with the input."""
    check_words(images, question)
    if show_costs and not (chosen.memory or chosen.parallel):
        raise ArgumentError("--costs tells of a run with --memory or --parallel; minivl explain tells what any "
                            "run costs, minivl run --profile where its time goes")
    with open_model(chosen) as vlm:
        messages = conversation(images, question, fps)
        films = any(item["type"] == "video" for item in messages[0]["content"])
        with working("looking at the video" if films else "looking at the picture" if len(images) == 1
                     else f"looking at {len(images)} pictures"):
            pieces = vlm.chat(messages, max_new_tokens, temperature, stream=True, seed=seed, **keeping)
            first = next(pieces, "")                      # the long wait: the whole prompt is run for it
        say_which(chosen.model)
        write(chain([first], pieces if stream else finished(pieces)))
        if show_costs:
            tell_costs(vlm, vlm.prepare(messages))


def finished(pieces: Iterator[str]) -> list[str]:
    """All of the answer at once, with a sign of life while it is written."""
    said: list[str] = []
    with working("answering") as say:
        for piece in pieces:
            said.append(piece)
            say(f"answering: {len(said)} tokens")
    return said


def write(pieces: Iterable[str]) -> None:
    """Each piece on stdout as it comes, then the end of the line."""
    for piece in pieces:
        sys.stdout.write(clean(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
