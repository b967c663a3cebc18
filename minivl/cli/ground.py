"""`minivl ground`: where things are in a picture, as a drawing, a table and JSON.

Read next: `run/grounding.py` of the package, which finds them; `show/draw.py`, which draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..door.files import check_place, write_whole
from ..run.grounding import Found, Grounding
from ..run.open_picture import load_picture
from ..show.draw import found as draw
from .console import box, by, heading, note, print_json, table, working
from .given import Chosen, check_words, named, open_model, say_which, speaks

# a word that stands in a question of the right form, and what is said where it is missing
HINT = "bbox", ("official models name boxes when they are asked to, as in 'Locate the red circle, output "
                "its bbox coordinates in JSON format.'")
HINT_TINY = "Find ", ("the embedded model names a box when it is asked in these words: 'Find the red "
                      "circle.'")


def ground(image: str, question: str, output: Path, chosen: Chosen, max_new_tokens: int,
           as_json: bool, keeping: Mapping[str, Any]) -> bool:
    """Draw and print what the answer names; False, and no drawing, when it names nothing.

    Raises ArgumentError or OSError for whatever is wrong with the input.
    """
    check_words([image], question)
    check_place(output, ".png", reads=(image,))
    pixels = load_picture(image)
    with open_model(chosen) as vlm, working("looking at the picture"):
        found = vlm.ground(pixels, question, max_new_tokens, **keeping)
    say_which(chosen.model)
    if found and speaks(vlm):
        picture = draw(pixels, found)
        write_whole(output, lambda file: picture.save(file, format="png"))
    if as_json:
        print_json(document(image, question, found, output))
    elif found:
        show(question, found)
    report(found, output)
    word, hint = HINT if chosen.model else HINT_TINY
    if not found and word not in question:
        note(hint)
    return bool(found)


def document(image: str, question: str, found: Grounding, output: Path) -> dict[str, Any]:
    """What `--json` prints. Sizes are [height, width]; coordinates to a hundredth of a pixel."""
    things = [{"label": one.label, "box": rounded(one.box), "point": rounded(one.point),
               "said": one.said}
              for one in found]
    return {"image": named(image), "question": question, "answer": found.answer,
            "source_size": found.source_size, "resized_size": found.size, "notes": found.notes,
            "picture": str(output) if found else None, "found": things}


def rounded(numbers: tuple[float, ...] | None) -> list[float] | None:
    return None if numbers is None else [round(n, 2) for n in numbers]


def show(question: str, found: Grounding) -> None:
    """A line for each thing; width before height."""
    heading(question)
    rows = [(n, one.label, where(one), ", ".join(f"{x:g}" for x in one.said))
            for n, one in enumerate(found, 1)]
    source, size = by(found.source_size[::-1]), by(found.size[::-1])
    table(("", "label", f"in the picture, {source}", f"as the model says, of {size}"), rows)


def where(one: Found) -> str:
    if one.box:
        return box([round(n, 2) for n in one.box])
    return "x {:.6g}, y {:.6g}".format(*(round(n, 2) for n in one.point or ()))


def report(found: Grounding, output: Path) -> None:
    """On stderr: what was mended or could not be read, where the drawing is, or why there is none."""
    for words in found.notes:
        note(words)
    if found:
        note(f"drawn: {output}")
    else:
        said = " ".join(found.answer.split())
        note(f"no box or point in the answer, so nothing is drawn. It was: {said[:300] or '(nothing)'}"
             + "..." * (len(said) > 300))
