"""What is asked about a clip, and the true answer: one function for each row of the evaluation.

A question function takes the generator and the clip as the model sees it (fitted: boxes and points are pixels of the
resized picture, as in the original) and gives a `Turn`, or None when the clip has nothing to ask this way.

Read next: `packing.py` (turns into tokens), `grade.py` (when an answer is right).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from . import documents
from .packing import IN_CLIP, Sample, Turn, about, spelled
from .world import (
    COLOUR_NAMES,
    SHAPES,
    Clip,
    Rng,
    Thing,
    fitted,
    left_to_right,
    native_size,
    number,
    overlap,
    picture_of_shapes,
    picture_of_text,
    video_of_shapes,
    within,
    word,
)

Ask = Callable[[Rng, Clip], Turn | None]
PLURAL = {"cross": "crosses"}
ROOMY = ("square", "circle", "ring")                      # shapes that fill their box enough to have an inside


def some_name(rng: Rng) -> tuple[str, str]:
    return str(pick(rng, COLOUR_NAMES)), str(pick(rng, SHAPES))


def a(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def listed(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def once(clip: Clip) -> list[Thing]:
    """Things whose name fits no other thing of the clip."""
    counts = Counter(thing.label for thing in clip.things)
    return [thing for thing in clip.things if counts[thing.label] == 1]


def pick(rng: Rng, options: list) -> object:
    return options[int(rng.integers(len(options)))]


def box_json(things: list[Thing]) -> str:
    """Grounding in the official form."""
    return json.dumps([{"bbox_2d": list(thing.box), "label": thing.label} for thing in things])


def point_json(point: tuple[int, int], label: str) -> str:
    return json.dumps([{"point_2d": list(point), "label": label}])


# ------------------------------------------------------------------------------------------------- one picture

def describe(rng: Rng, clip: Clip) -> Turn:
    question = pick(rng, ["Describe the image.", "What is in this image?"])
    things = left_to_right(clip.things)
    turn = Turn("describe", str(question), sentence(listed([a(t.label) for t in things])))
    return about(turn, *((t.label, clip.things.index(t)) for t in things))


def count(rng: Rng, clip: Clip) -> Turn:
    kind = rng.random()
    if kind < 0.45:
        return _counted("objects", clip, clip.things)
    seen = pick(rng, list(clip.things))
    absent = rng.random() < 0.2
    if kind < 0.72:
        shape = str(pick(rng, SHAPES)) if absent else seen.kind                     # type: ignore[attr-defined]
        return _counted(PLURAL.get(shape, shape + "s"), clip, [t for t in clip.things if t.kind == shape])
    colour = str(pick(rng, COLOUR_NAMES)) if absent else seen.colour                # type: ignore[attr-defined]
    return _counted(f"{colour} objects", clip, [t for t in clip.things if t.colour == colour])


def _counted(name: str, clip: Clip, things: Sequence[Thing]) -> Turn:
    return whole(Turn("count", f"How many {name} are there?", str(len(things))), clip, *things)


def whole(turn: Turn, clip: Clip, *things: Thing) -> Turn:
    """The turn, all of whose answer speaks of these things of a clip."""
    return about(turn, *(("", clip.things.index(thing)) for thing in things))


def exists(rng: Rng, clip: Clip) -> Turn:
    """Yes or no; a no shares its colour or its shape with something that is there."""
    if rng.random() < 0.5:
        thing: Thing = pick(rng, list(clip.things))                                 # type: ignore[assignment]
        turn = Turn("exists", f"Is there {a(thing.label)}?", "Yes.")
        return whole(turn, clip, *(t for t in clip.things if t.label == thing.label))
    return Turn("exists", f"Is there {a(_absent(rng, clip))}?", "No.")


def _absent(rng: Rng, clip: Clip) -> str:
    """A name that fits nothing in the clip, but half of it does."""
    names = {thing.label for thing in clip.things}
    while True:
        thing: Thing = pick(rng, list(clip.things))                                 # type: ignore[assignment]
        if rng.random() < 0.5:
            name = f"{pick(rng, COLOUR_NAMES)} {thing.kind}"
        else:
            name = f"{thing.colour} {pick(rng, SHAPES)}"
        if name not in names:
            return name


def deny(rng: Rng, clip: Clip) -> Turn:
    """A request about what is not there."""
    name = _absent(rng, clip)
    question = pick(rng, [f"Find the {name}.", f"Where is the {name}?", f"Describe the {name}."])
    return Turn("deny", str(question), f"There is no {name}.")


def find(rng: Rng, clip: Clip) -> Turn | None:
    things = once(clip)
    if not things:
        return None
    thing: Thing = pick(rng, things)                                                # type: ignore[assignment]
    return whole(Turn("find", f"Find the {thing.label}.", box_json([thing])), clip, thing)


def detect(rng: Rng, clip: Clip) -> Turn:
    return boxes_of("detect", "Detect all objects.", clip, left_to_right(clip.things))


def boxes_of(task: str, question: str, clip: Clip, things: list[Thing]) -> Turn:
    """The boxes of these things of a clip, one after the other."""
    return about(Turn(task, question, box_json(things)), *((box_json([t])[1:-1], clip.things.index(t)) for t in things))


def at_point(rng: Rng, clip: Clip) -> Turn:
    """Name what is at a point that lies on it, two pixels at least from its edge where it is that thick."""
    index = int(rng.integers(len(clip.things)))
    mine = clip.owner[0] == index
    inner = mine[2:-2, 2:-2] & mine[:-4, 2:-2] & mine[4:, 2:-2] & mine[2:-2, :-4] & mine[2:-2, 4:]
    ys, xs = np.nonzero(inner)
    if not len(ys):
        ys, xs = np.nonzero(mine[2:-2, 2:-2])
    k = int(rng.integers(len(ys)))
    return about(Turn("point", f"What is at ({xs[k] + 2}, {ys[k] + 2})?", sentence(a(clip.things[index].label))),
                 ("", index))


def attribute(rng: Rng, clip: Clip) -> Turn | None:
    thing: Thing = pick(rng, list(clip.things))                                     # type: ignore[assignment]
    if rng.random() < 0.5 and sum(t.kind == thing.kind for t in clip.things) == 1:
        turn = Turn("attribute", f"What color is the {thing.kind}?", sentence(thing.colour))
    elif sum(t.colour == thing.colour for t in clip.things) == 1:
        turn = Turn("attribute", f"What shape is the {thing.colour} object?", sentence(thing.kind))
    else:
        return None
    return whole(turn, clip, thing)


def relation(rng: Rng, clip: Clip) -> Turn | None:
    """Left of, above, larger, inside: yes or no, half of them yes; only pairs about which there is no doubt."""
    things = once(clip)
    if len(things) < 2:
        return None
    one, other = (things[i] for i in rng.permutation(len(things))[:2])
    inside = _inside_pair(things)
    kind = rng.random()
    if inside is not None and kind < 0.5:
        one, other = inside if rng.random() < 0.5 else inside[::-1]
        turn = _yes_no(f"Is the {one.label} inside the {other.label}?", within(one.box, other.box))
    elif kind < 0.6:
        axis = int(kind >= 0.3)
        side = (("left of", "right of"), ("above", "below"))[axis][rng.integers(2)]
        apart = other.centre[axis] - one.centre[axis]
        if abs(apart) < 8:
            return None
        turn = _yes_no(f"Is the {one.label} {side} the {other.label}?", (apart > 0) == (side in ("left of", "above")))
    elif kind < 0.9:
        word_ = ("larger", "smaller")[rng.integers(2)]
        if not max(one.area, other.area) / max(1, min(one.area, other.area)) > 1.35:
            return None
        turn = _yes_no(f"Is the {one.label} {word_} than the {other.label}?",
                       (one.area > other.area) == (word_ == "larger"))
    elif overlap(one.box, other.box):
        return None                                       # about these there is doubt
    else:
        turn = _yes_no(f"Is the {one.label} inside the {other.label}?", False)
    return whole(turn, clip, one, other)


OPPOSITES = {"left of": "right of", "above": "below", "larger than": "smaller than"}
OPPOSITES |= {other: word_ for word_, other in OPPOSITES.items()}


def opposite(turn: Turn) -> Turn | None:
    """The question whose answer must be the other one; None where there is no such question."""
    for word_, other in OPPOSITES.items():
        if f" {word_} the " in turn.question:
            other_way = _yes_no(turn.question.replace(word_, other), turn.answer == "No.")
            return about(other_way, *(("", thing) for _, _, thing in turn.shows))
    return None


def _inside_pair(things: list[Thing]) -> tuple[Thing, Thing] | None:
    pairs = [(p, q) for p in things for q in things if p is not q and q.kind in ROOMY and within(p.box, q.box)]
    return pairs[0] if pairs else None


def _yes_no(question: str, yes: bool) -> Turn:
    return Turn("relation", question, "Yes." if yes else "No.")


# ------------------------------------------------------------------------------------------------- writing, video

def read_number(rng: Rng, clip: Clip) -> Turn:
    return about(spelled("number", str(pick(rng, ["What number is written?", "Read the number."])), "",
                         clip.things[0].label), ("", 0))


def read_word(rng: Rng, clip: Clip) -> Turn:
    return about(spelled("word", str(pick(rng, ["What word is written?", "Read the word."])), "",
                         clip.things[0].label), ("", 0))


def find_text(rng: Rng, clip: Clip) -> Turn:
    before, after = box_json([replace(clip.things[0], label="|")]).split("|")
    return about(spelled("find_text", "Find the text.", before, clip.things[0].label, after), ("", 0))


def video_what(rng: Rng, clip: Clip) -> Turn | None:
    last = len(clip.frames)
    events = {"appears": [t for t in clip.things if t.spans and t.spans[1] == last],
              "leaves": [t for t in clip.things if t.spans and t.spans[0] == 0 and t.spans[1] < last]}
    clear = [name for name, things in events.items() if len(things) == 1]
    if not clear:
        return None
    event = str(pick(rng, clear))
    thing = events[event][0]
    return whole(Turn("what", f"What {event} in the video?", sentence(a(thing.label))), clip, thing)


def video_when(rng: Rng, clip: Clip) -> Turn | None:
    moving = [t for t in once(clip) if t.spans]
    if not moving or clip.fps is None:
        return None
    thing: Thing = pick(rng, moving)                                                # type: ignore[assignment]
    assert thing.spans
    appears = thing.spans[1] == len(clip.frames)
    moment = (thing.spans[0] if appears else thing.spans[1]) / clip.fps
    turn = Turn("when", f"When does the {thing.label} {'appear' if appears else 'leave'}?", f"At {moment:.1f} s.")
    return whole(turn, clip, thing)


# ------------------------------------------------------------------------------------------------- pages

def read_invoice(page: documents.Drawn) -> Turn:
    truth = page.truth
    pairs = [(('", "' if i else '{"') + name + '": "', value) for i, (name, value) in enumerate(truth.items())]
    turn = spelled("form", "Read the form as JSON.", *chain(*pairs), '"}')
    return about(turn, *((value, written(page.clip).index(value)) for value in truth.values()))


def written(clip: Clip) -> list[str]:
    """What each thing says."""
    return [thing.label for thing in clip.things]


def click(rng: Rng, clip: Clip) -> Turn:
    return click_on(rng, clip, pick(rng, [t for t in clip.things if t.kind == "button"]))       # type: ignore[arg-type]


def click_on(rng: Rng, clip: Clip, button: Thing) -> Turn:
    """Where to click for one button."""
    x, y = button.centre
    turn = Turn("click", f"Where do I click to {button.label.lower()}?" if rng.random() < 0.3
                else f"Click the {button.label} button.", point_json((round(x), round(y)), button.label),
                truth=box_json([button]))
    return whole(turn, clip, button)


def read_table(page: documents.Drawn) -> Turn:
    pairs = [("</td><td>" if j else "</td></tr><tr><td>" if i else "<table><tr><td>", cell)
             for i, row in enumerate(page.truth["rows"]) for j, cell in enumerate(row)]
    turn = spelled("table", "Read the table as HTML.", *chain(*pairs), "</td></tr></table>")
    return replace(turn, shows=tuple((*span, i) for i, span in enumerate(turn.read)))     # as they were drawn


def read_chart(rng: Rng, page: documents.Drawn) -> Turn:
    colour = str(pick(rng, list(page.truth)))
    turn = Turn("chart", f"What is the value of the {colour} bar?", str(page.truth[colour]))
    return about(turn, ("", written(page.clip).index(f"{colour} bar")))


# ------------------------------------------------------------------------------------------------- several things

def odd_sample(rng: Rng, easy: bool = False, turns: int = 5) -> Sample:
    """Three to five things of one name, but for one that differs in its colour or its shape."""
    shape, other = (str(s) for s in rng.permutation(SHAPES)[:2])
    colour, tint = (str(c) for c in rng.permutation(COLOUR_NAMES)[:2])
    count_, odd = int(rng.integers(3, 6)), (colour, other) if rng.random() < 0.5 else (tint, shape)
    names = [(colour, shape)] * (count_ - 1) + [odd]
    clip = picture_of_shapes(rng, size=native_size(rng, 4, 7), names=names)
    if len(clip.things) < 3 or len(once(clip)) != 1:
        return odd_sample(rng)
    one = once(clip)[0]
    turn = Turn("odd", "Which object is the odd one out?", sentence(f"the {one.label}"))
    return Sample([clip], [whole(turn, clip, one)])


def differ_sample(rng: Rng, easy: bool = False, turns: int = 5) -> Sample:
    """The same scene twice; in the second picture one thing has gone, or has another colour or shape."""
    seed, size = int(rng.integers(2**31)), native_size(rng, 2, 5, 16)
    clip = picture_of_shapes(np.random.default_rng(seed), most=3, size=size)
    things = once(clip)
    if not things:
        return differ_sample(rng)
    thing: Thing = pick(rng, things)                                                # type: ignore[assignment]
    index, kind = clip.things.index(thing), int(rng.integers(3))
    colour = str(pick(rng, [c for c in COLOUR_NAMES if c != thing.colour])) if kind == 1 else thing.colour
    shape = str(pick(rng, [s for s in SHAPES if s != thing.kind])) if kind == 2 else thing.kind
    change = None if kind == 0 else (colour, shape)
    second = picture_of_shapes(np.random.default_rng(seed), most=3, size=size, change=(index, change))
    told = f"the {thing.label} is gone" if change is None else f"the {thing.label} is now {a(f'{colour} {shape}')}"
    turn = Turn("differ", "What differs in the second picture?", sentence(told))
    now = () if change is None else ((f"is now {a(f'{colour} {shape}')}", IN_CLIP + index),)
    return Sample([clip, replace(second, before=clip)], [about(turn, (thing.label, index), *now)])


# ------------------------------------------------------------------------------------------------- dialogues

def dialogue_sample(rng: Rng, easy: bool = False, turns: int = 5) -> Sample:
    """Conversations of two or three turns about one picture; what is asked may lean on what was said."""
    clip = picture_of_shapes(rng, most=4)
    shown = fitted(clip)
    out = [_follow_up(rng, shown)]
    asked = _ask_many(rng, shown, 3)
    out += [replace(turn, before=tuple((t.question, t.answer) for t in asked[:i])) for i, turn in enumerate(asked) if i]
    return Sample([clip], [turn for turn in out if turn] or asked)


def _follow_up(rng: Rng, clip: Clip) -> Turn | None:
    """Where is it? What color is it? Asked of the thing that the turn before was about."""
    things = once(clip)
    if not things:
        return None
    thing: Thing = pick(rng, things)                                                # type: ignore[assignment]
    before = ((f"Is there {a(thing.label)}?", "Yes."),)
    if rng.random() < 0.5 and sum(t.kind == thing.kind for t in clip.things) == 1:
        before = ((f"Is there {a(thing.kind)}?", "Yes."),)
        turn = Turn("attribute", "What color is it?", sentence(thing.colour), before)
    else:
        turn = Turn("find", "Where is it?", box_json([thing]), before)
    return whole(turn, clip, thing)


# ------------------------------------------------------------------------------------------------- samples

PICTURE_TASKS: dict[str, tuple[Ask, float]] = {
    "describe": (describe, 1.3), "count": (count, 1.1), "exists": (exists, 0.6), "find": (find, 2.0),
    "detect": (detect, 0.3), "point": (at_point, 0.6), "attribute": (attribute, 0.3), "relation": (relation, 0.7),
    "deny": (deny, 0.3)}
SINGLE = ("describe", "detect")                           # asked at most once about a picture


def shapes_sample(rng: Rng, easy: bool = False, turns: int = 5, **options) -> Sample:
    clip = picture_of_shapes(rng, easy=easy, **options)
    return Sample([clip], _ask_many(rng, fitted(clip), turns))


def _ask_many(rng: Rng, clip: Clip, turns: int) -> list[Turn]:
    names, weights = list(PICTURE_TASKS), np.array([w for _, w in PICTURE_TASKS.values()])
    out: list[Turn] = []
    for name in rng.choice(names, turns, p=weights / weights.sum()):
        turn = PICTURE_TASKS[str(name)][0](rng, clip)
        if turn and not (name in SINGLE and any(old.task == name for old in out)):
            out.append(turn)
    return out or [describe(rng, clip)]


def number_sample(rng: Rng, easy: bool = False, turns: int = 5) -> Sample:
    clip = picture_of_text(rng, number(rng, int(rng.integers(1, 3 if easy else 5))), easy)
    return Sample([clip], _with_place(rng, clip, read_number))


def word_sample(rng: Rng, easy: bool = False, turns: int = 5) -> Sample:
    clip = picture_of_text(rng, word(rng, 2, 3 if easy else 6), easy)
    return Sample([clip], _with_place(rng, clip, read_word))


def _with_place(rng: Rng, clip: Clip, read: Callable[[Rng, Clip], Turn]) -> list[Turn]:
    shown = fitted(clip)
    return [read(rng, shown)] + ([find_text(rng, shown)] if rng.random() < 0.4 else [])


def video_sample(rng: Rng, easy: bool = False, turns: int = 5, fps: float | None = None) -> Sample:
    clip = video_of_shapes(rng, easy, fps)
    asked = [video_when(rng, clip), video_what(rng, clip), video_when(rng, clip)]
    found = [turn for turn in asked if turn]
    return Sample([clip], found) if found else video_sample(rng, easy, turns, fps)


def document_sample(rng: Rng, easy: bool = False, turns: int = 5) -> Sample:
    kind = rng.random()
    if kind < 0.3:
        return invoice_sample(rng)
    return screen_sample(rng) if kind < 0.65 else chart_sample(rng) if kind < 0.85 else table_sample(rng)


def invoice_sample(rng: Rng) -> Sample:
    page = documents.invoice(rng)
    return Sample([page.clip], [read_invoice(page)])


def screen_sample(rng: Rng) -> Sample:
    page = documents.screen(rng)
    shown = fitted(page.clip)
    return Sample([page.clip], [click(rng, shown) for _ in range(min(3, len(page.truth)))])


def table_sample(rng: Rng) -> Sample:
    page = documents.table(rng)
    return Sample([page.clip], [read_table(page)])


def chart_sample(rng: Rng) -> Sample:
    page = documents.chart(rng)
    return Sample([page.clip], [read_chart(rng, page) for _ in range(2)])


KINDS_OF_SAMPLE: dict[str, Callable[..., Sample]] = {
    "shapes": shapes_sample, "number": number_sample, "word": word_sample, "video": video_sample,
    "document": document_sample, "odd": odd_sample, "differ": differ_sample, "dialogue": dialogue_sample}
