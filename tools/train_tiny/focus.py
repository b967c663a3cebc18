"""Samples of one kind of question: little else for a row on a plateau until it is broken, then a mix.

One yes or no among ten questions teaches nothing about relations; eight of them about one pair of
things, each with its opposite, do within minutes. Points, boxes and controls likewise: all that can be
asked about a picture, at once.

Read next: `phases.py`, whose phases draw them beside `tasks.KINDS_OF_SAMPLE`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from . import documents
from .packing import IN_CLIP, Sample, Turn, about, spelled
from .tasks import (
    Ask,
    a,
    at_point,
    boxes_of,
    click_on,
    count,
    describe,
    detect,
    differ_sample,
    find,
    find_text,
    left_to_right,
    odd_sample,
    once,
    opposite,
    pick,
    read_chart,
    read_invoice,
    read_number,
    read_table,
    read_word,
    relation,
    sentence,
    video_sample,
    whole,
    written,
)
from .world import (
    CHARACTERS,
    FPS_MORE,
    Clip,
    Rng,
    Thing,
    fitted,
    native_size,
    picture_of_lines,
    picture_of_shapes,
    picture_of_text,
)

SIDES = ("left of", "right of", "above", "below")


def pairs_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """Two things, later three or more, and relations between them, each with its opposite."""
    most = 2 if easy else int(rng.choice([2, 3, 3, 6]))
    clip = picture_of_shapes(rng, most, size=native_size(rng, 2, 6))
    asked = _many(rng, fitted(clip), relation, -(-turns // 2))
    both = [turn for one in asked for turn in (one, opposite(one)) if turn]
    return Sample([clip], both[:turns]) if both else pairs_sample(rng, easy, turns)


def told_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """Relations whose answers say first what they are judged by; bare answers are learned after them."""
    sample = pairs_sample(rng, easy, turns)
    shown = fitted(sample.clips[0])
    return Sample(sample.clips, [_told(turn, shown) for turn in sample.turns])


def _told(turn: Turn, clip: Clip) -> Turn:
    """Is the red star left of the blue ring? The red star is at (4, 5), the blue ring at (9, 2): yes."""
    one, other = (clip.things[number] for _, _, number in turn.shows)
    show = _centre if any(side in turn.question for side in SIDES) else _extent
    said = f"The {one.label} is {show(one)}", f"the {other.label} {show(other)}"
    return about(replace(turn, answer=f"{', '.join(said)}: {turn.answer.lower()}"),
                 *zip(said, map(clip.things.index, (one, other)), strict=True))


def _centre(thing: Thing) -> str:
    return "at ({:.0f}, {:.0f})".format(*thing.centre)


def _extent(thing: Thing) -> str:
    return f"from ({thing.box[0]}, {thing.box[1]}) to ({thing.box[2]}, {thing.box[3]})"


def points_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """What is at a point: many points of one picture."""
    clip = picture_of_shapes(rng, most=2 if easy else 6)
    return Sample([clip], _many(rng, fitted(clip), at_point, turns))


def boxes_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """One thing after the other, then all of them, in their order and in another one."""
    clip = picture_of_shapes(rng, most=2 if easy else 6)
    shown = fitted(clip)
    found = _many(rng, shown, find, max(1, turns - 4))
    asked = [detect(rng, shown), describe(rng, shown), *found, count(rng, shown)]
    return Sample([clip], [turn for turn in (*asked, _detect_from(rng, shown)) if turn])


def counts_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """How many there are: of all, of each shape, of each colour, and of some that are not there."""
    clip = picture_of_shapes(rng, most=3 if easy else 6)
    return Sample([clip], _many(rng, fitted(clip), count, turns))


def _detect_from(rng: Rng, clip: Clip) -> Turn | None:
    """All boxes, starting at one of them: what comes next must not lean on its place in the list."""
    things = left_to_right(clip.things)
    named = [i for i, thing in enumerate(things) if thing in once(clip)]
    if not named or len(things) < 2:
        return None
    first = named[int(rng.integers(len(named)))]
    return boxes_of("detect_from", f"Detect all objects. Start with the {things[first].label}.", clip,
                    things[first:] + things[:first])


def clicks_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """A screen, and where to click for each of its controls."""
    clip = documents.screen(rng).clip
    shown = fitted(clip)
    buttons = [thing for thing in shown.things if thing.kind == "button"]
    if easy and len(buttons) > 2:
        return clicks_sample(rng, easy, turns)
    return Sample([clip], [click_on(rng, shown, button) for button in buttons[:turns]])


def screens_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """A screen: what each control says, whether one is there, where to click. Who finds all controls and reads none
    clicks on any of them."""
    clip = documents.screen(rng).clip
    shown = fitted(clip)
    buttons = [thing for thing in shown.things if thing.kind == "button"]
    if len(buttons) < 2 or (easy and len(buttons) > 2):
        return screens_sample(rng, easy, turns)
    labels = [button.label for button in buttons]
    asked = [turn for button in buttons for turn in (_says(shown, button), click_on(rng, shown, button))]
    asked += [_control_there(str(label), shown) for label in (rng.choice(labels), rng.choice(documents.CONTROLS))]
    return Sample([clip], [asked[i] for i in rng.permutation(len(asked))[:turns]])


def _says(clip: Clip, button: Thing) -> Turn:
    x, y = button.centre
    turn = Turn("says", f"What does the button at ({x:.0f}, {y:.0f}) say?", f"{button.label}.")
    return whole(turn, clip, button)


def _control_there(label: str, clip: Clip) -> Turn:
    found = [i for i, thing in enumerate(clip.things) if (thing.kind, thing.label) == ("button", label)]
    return about(Turn("control", f"Is there a button {label}?", "Yes." if found else "No."), *(("", i) for i in found))


def characters_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """One to three characters of any kind, no word and no number: what the tower learns letters from."""
    text = "".join(rng.choice(list(CHARACTERS), 1 if easy else int(rng.integers(1, 4))))
    clip = picture_of_text(rng, text, easy)
    shown, read = fitted(clip), read_number if text.isdigit() else read_word
    return Sample([clip], [read(rng, shown), find_text(rng, shown)])


def written_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """A picture full of writing: what is written at a point, and where a text is."""
    clip = picture_of_lines(rng, 4 if easy else 40)
    shown = fitted(clip)
    return Sample([clip], _many(rng, shown, _read_at, -(-2 * turns // 3)) + _many(rng, shown, _find_line, turns // 3))


def _read_at(rng: Rng, clip: Clip) -> Turn:
    """What is written at a point inside the box of a text."""
    thing: Thing = pick(rng, list(clip.things))                                     # type: ignore[assignment]
    x, y = (int(rng.integers(low, max(high, low + 1))) for low, high in zip(thing.box[:2], thing.box[2:], strict=True))
    return whole(spelled("read_at", f"What is written at ({x}, {y})?", "", thing.label), clip, thing)


def _find_line(rng: Rng, clip: Clip) -> Turn | None:
    turn = find(rng, clip)
    return turn and replace(turn, task="find_line", question=turn.question.replace("Find the", "Find the text", 1))


def figures_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """A sheet of figures: what is written at a point."""
    clip = documents.figures(rng)
    return Sample([clip], _many(rng, fitted(clip), _read_at, turns))


def forms_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """A form, each of its values by itself, and all of it."""
    page = documents.invoice(rng)
    single = [about(spelled("field", f"What is the {name}?", "", value), ("", written(page.clip).index(value)))
              for name, value in page.truth.items()]
    asked = single if easy else [*single, read_invoice(page)]
    at = _many(rng, fitted(page.clip), _read_at, turns - len(asked))
    return Sample([page.clip], [*asked, *at][:turns])


def tables_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """A table, some of its cells by themselves, and all of it."""
    page = documents.table(rng)
    rows = page.truth["rows"]
    cells = [(i, j) for i, row in enumerate(rows, 1) for j in range(1, len(row) + 1)]
    asked = [about(spelled("cell", f"What is in row {i}, column {j}?", "", rows[i - 1][j - 1]),
                   ("", cells.index((i, j))))
             for i, j in rng.permutation(cells)[:turns if easy else turns - 1].tolist()]
    return Sample([page.clip], asked if easy else [*asked, read_table(page)])


def charts_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """A bar chart, bar after bar."""
    page = documents.chart(rng)
    return Sample([page.clip], _many(rng, page.clip, lambda rng, _: read_chart(rng, page), turns))


def odds_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """Which is the odd one out, what the others are, and what else can be said about things that look alike."""
    sample = odd_sample(rng)
    shown = fitted(sample.clips[0])
    asked = [ask(rng, shown) for ask in (_alike, count, find, describe, detect)]
    return Sample(sample.clips, [*sample.turns, *(turn for turn in asked if turn)])


def _alike(rng: Rng, clip: Clip) -> Turn:
    """What there is more than one of: the odd one is known by what the others are."""
    ((label, _),) = Counter(thing.label for thing in clip.things).most_common(1)
    turn = Turn("alike", "What is there more than once?", sentence(a(label)))
    return whole(turn, clip, *(thing for thing in clip.things if thing.label == label))


def differs_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """What differs in the second picture, and what each of the two shows."""
    sample = differ_sample(rng)
    told = []
    for number, clip in enumerate(sample.clips):
        if clip.things:
            one = describe(rng, fitted(clip))
            told.append(replace(one, task="describe_one", question=f"Describe the {('first', 'second')[number]} image.",
                                shows=tuple((*span, IN_CLIP * number + thing) for *span, thing in one.shows)))
    return Sample(sample.clips, [*sample.turns, *told])


def rates_sample(rng: Rng, easy: bool = False, turns: int = 8) -> Sample:
    """Videos at frame rates beside the usual ones, none of them among those kept for the evaluation."""
    return video_sample(rng, easy, turns, float(rng.choice(FPS_MORE)))


def _many(rng: Rng, clip: Clip, ask: Ask, most: int) -> list[Turn]:
    """Up to `most` different questions of one kind."""
    found: dict[str, Turn] = {}
    for _ in range(3 * most):
        turn = ask(rng, clip)
        if turn and len(found) < most:
            found.setdefault(turn.question, turn)
    return list(found.values())


FOCUS: dict[str, Callable[..., Sample]] = {
    "pairs": pairs_sample, "told": told_sample, "points": points_sample, "boxes": boxes_sample,
    "counts": counts_sample, "clicks": clicks_sample, "screens": screens_sample, "characters": characters_sample,
    "written": written_sample, "figures": figures_sample, "forms": forms_sample, "tables": tables_sample,
    "charts": charts_sample, "odds": odds_sample, "differs": differs_sample, "rates": rates_sample}
