"""Claims 20 and 25 to 33: what the model is said to be good for.

How good official weights are at a task is not tested in this project: it would take those weights and a
graded set of real pictures. What runs here is the part that a program around the model must get right, and,
where the embedded model's small world has something like the task, seeded questions to it. Its answers are
printed and stay out of the page: they say what a mechanism can learn, not what the official weights know.

Read next: `page.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

import minivl
from minivl.checkpoint.names import shapes
from minivl.passes.picture import target_size
from minivl.passes.prompt import PromptError, check_messages
from minivl.show.samples import GOOD_OVERLAP, boxes_in, overlap
from tools.train_tiny import tasks
from tools.train_tiny.grade import grade
from tools.train_tiny.packing import Sample
from tools.train_tiny.rows import asked, messages, one_of

from .finding import LOOSE, UNTESTED, Finding, claim, yes
from .language import survives
from .setting import CONFIG, PICTURES, cells, embedded, sized

SMALLER = replace(PICTURES, max_pixels=1280 * 28**2)    # transformers' limit when a checkpoint names none
ASKED = 10                                       # questions to the embedded model for each task
SCREEN = (1080, 1920)                            # height, width


def answers(draw: Callable[[np.random.Generator], Sample]) -> list[tuple[str, str]]:
    """(true answer, the embedded model's answer) to ASKED seeded questions of its world."""
    pairs = []
    for seed in range(ASKED):
        drawn = draw(np.random.default_rng([83, seed]))
        turn = drawn.turns[0]
        pairs.append((turn.truth or turn.answer, embedded().chat(messages(drawn.clips, turn))))
    return pairs


def located(rng: np.random.Generator) -> Sample:
    """Where is it? Asked of a picture with up to six shapes."""
    return asked(tasks.find, rng)


def read(rng: np.random.Generator) -> Sample:
    return one_of(tasks.number_sample, "number", rng)


def filled_in(rng: np.random.Generator) -> Sample:
    return one_of(tasks.invoice_sample, "form", rng)


def clicked(rng: np.random.Generator) -> Sample:
    return one_of(tasks.screen_sample, "click", rng)


def timed(rng: np.random.Generator) -> Sample:
    """When does it appear, or leave?"""
    return one_of(tasks.video_sample, "when", rng)


def box_overlaps() -> list[float]:
    """How well the embedded model's boxes fit (intersection over union); 0 where it gives not one box."""
    pairs = [(boxes_in(truth), boxes_in(said)) for truth, said in answers(located)]
    return [overlap(truth[0], said[0]) if len(said) == 1 else 0.0 for truth, said in pairs]


def share_right(pairs: list[tuple[str, str]]) -> str:
    """`7 of 10 right`."""
    return f"{sum(truth == said for truth, said in pairs)} of {len(pairs)} right"


@claim(20, "the model localises objects precisely")
def localisation() -> Finding:
    """What can be shown is what precision depends on. Boxes are pixels of the *resized* picture, and a
    program must map them back; when a server resizes differently from the client, every box drifts. A
    visual token covers 28 x 28 pixels, and anything finer the model has to have learned. Official weights
    and a graded set of boxes would test the rest; the technical report (arXiv 2502.13923) has such
    scores. The command asks the embedded model to locate drawn shapes and prints how well its boxes fit.
    """
    vlm, size = embedded(), (100, 130)
    grey = np.full((*size, 3), 128, np.uint8)
    content = [{"type": "image", "image": grey}, {"type": "text", "text": "Where?"}]
    inputs = vlm.prepare([{"role": "user", "content": content}])
    tokens = range(inputs.media[0].patches // 4)
    boxes = [box for n in tokens if (box := minivl.where_token(inputs, vlm.config, n).source_box) is not None]
    area = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)
    tiled = len(boxes) == len(tokens) and math.isclose(area, size[0] * size[1])
    height, width = sized(*SCREEN)
    slip = max(width - SCREEN[1], height - SCREEN[0])

    def live() -> list[str]:
        found = box_overlaps()
        return [f"the embedded model, asked where a shape is: mean overlap (IoU) {np.mean(found):.2f}, "
                f"{sum(one >= GOOD_OVERLAP for one in found)} of {len(found)} at {GOOD_OVERLAP:g} or more"]
    return Finding(UNTESTED, (
        f"mapped back, the boxes of all tokens tile a picture of {size[0]} x {size[1]}: {yes(tiled)}",
        f"a {SCREEN[0]} x {SCREEN[1]} screen is seen as {height} x {width}: a box that is not mapped back is "
        f"off by up to {slip} pixels"), live=live)


@claim(25, "invoices and forms: number, date and amount are read out")
def invoices() -> Finding:
    """The form is nothing special, JSON written as text. Whether the digits are right is a matter of
    training and of how many pixels a letter has left: some programs allow a picture 1,280 tokens by
    default, and small print is lost there. Official weights and a set of graded forms would test it. The
    embedded model was shown numbers and small forms; the command prints how many of them it reads.
    """
    text = '{"invoice": "2024-0117", "date": "2024-03-05", "total": "1,234.50"}'
    page = cells(1754, 1240)
    small = target_size((1754, 1240), SMALLER)

    def live() -> list[str]:
        return [f"the embedded model, asked to read a number: {share_right(answers(read))}",
                f"the embedded model, asked for all of a form as JSON: {share_right(answers(filled_in))}"]
    return Finding(UNTESTED, (
        f"such an answer survives the way to token ids and back: {yes(survives(text))}",
        f"a page of 1754 x 1240 is {page:,} tokens; under a limit of 1,003,520 pixels it shrinks to "
        f"{small[0]} x {small[1]}"), live=live)


@claim(26, "documents become HTML, with their tables and charts")
def documents() -> Finding:
    """HTML is text like any other output (claim 18); places on the page are written into it as numbers.
    That the official weights were trained on documents in such a form is in the technical report (arXiv
    2502.13923). Nothing here can grade it: the embedded model has never seen a document. Official weights
    and pages with known HTML would.
    """
    text = '<p data-bbox="40 60 560 96">Total</p><table><tr><td>2024</td><td>12.5</td></tr></table>'
    return Finding(UNTESTED, (
        f"HTML with a table and a place survives the way to token ids and back: {yes(survives(text))}",
        f"a page of 1754 x 1240 is {cells(1754, 1240):,} tokens, one for every 28 x 28 pixels"))


@claim(27, "legal and academic documents are summarised")
def summaries() -> Finding:
    """A summary takes a model that knows language, and the embedded one knows a few words. Official
    weights load through the same code and can be asked. The figure shows what decides in practice: twenty
    scanned pages are beyond the 32,768 tokens of the longest training sequences, so they have to be made
    smaller or read in parts. Where there is text, giving the text is far cheaper than a picture of it.
    """
    page = cells(1754, 1240)
    return Finding(UNTESTED, (f"twenty pages of 1754 x 1240 would be {20 * page:,} tokens, as pictures",))


@claim(28, "medical images: anomalies are found and located")
def anomalies() -> Finding:
    """No statement about medicine can be tested with drawn shapes, and none is made here. What can be
    computed is the resolution: a large scan is made smaller before the model sees it, and a finding of a
    few pixels is then a small part of a single token. A claim of this kind needs graded medical images
    and a study; benchmarks of general pictures do not stand in for it. A toy stand-in, finding the odd
    one out among shapes, would show the mechanism alone.
    """
    scan = sized(4000, 6000)
    lesion = 10 * scan[0] / 4000
    return Finding(UNTESTED, (
        f"a scan of 4000 x 6000 is seen as {scan[0]} x {scan[1]}; 10 of its pixels become {lesion:.1f}, a "
        "token covers 28",))


@claim(29, "handwriting, and many languages")
def languages() -> Finding:
    """*Writing* any script is certain: the tokenizer works on bytes, so no character is missing from it.
    *Reading* a script or a hand in a picture is learned, and the embedded model has seen one font. The
    technical report (arXiv 2502.13923) names the languages in its training data. Official weights and
    graded lines of handwriting would test it.
    """
    lines = ("Grüße, façade", "Здравствуйте", "你好，世界", "こんにちは", "مرحبا بالعالم", "नमस्ते", "안녕하세요",
             "ภาษาไทย")
    kept = sum(map(survives, lines))
    return Finding(UNTESTED, (
        f"lines in {len(lines)} scripts that survive the way to token ids and back: {kept}",))


@claim(30, "surveillance: key events are found, with timestamps")
def events() -> Finding:
    """The clock exists and is exact to half a second (claims 12 and 13). What limits a camera that
    watches for hours is sampling: an official program shows at most 768 frames of a video, evenly spread,
    so that in an hour whatever is shorter than some seconds may fall between two frames. Official weights
    and graded videos would test the rest. The command asks the embedded model when a shape appears and
    prints how often it is right.
    """
    longest = 768 / 2
    later = 3600 / 768

    def live() -> list[str]:
        return [f"the embedded model, asked when a shape appears or leaves: {share_right(answers(timed))}, exactly"]
    return Finding(UNTESTED, (
        f"at 2 frames a second, 768 frames last {longest:.0f} seconds; of an hour, one frame in "
        f"{later:.1f} seconds is seen",),
        live=live)


@claim(31, "user interfaces are operated: where to click")
def interfaces() -> Finding:
    """Pressing a button from a screenshot is localisation (claim 20) in a loop with a program that
    clicks; the model itself writes text. The loop must map every point back to the screen, or clicks land
    beside the button. That the official weights were trained on screens is in the technical report (arXiv
    2502.13923). A set of graded screens would test it; the command lets the embedded model click on
    mock screens and counts hits.
    """
    height, width = sized(*SCREEN)
    small = target_size(SCREEN, SMALLER)
    point = (1900, 1060)
    missed = (round(point[0] * small[1] / SCREEN[1]), round(point[1] * small[0] / SCREEN[0]))

    def live() -> list[str]:
        pairs = answers(clicked)
        hits = sum(int(grade("click", said, truth)["right"]) for truth, said in pairs)
        return [f"the embedded model, asked where to click: {hits} of {len(pairs)} hit the control"]
    return Finding(UNTESTED, (
        f"a screen of {SCREEN[0]} x {SCREEN[1]} is seen as {height} x {width}, or {small[0]} x {small[1]} "
        "under a limit of 1280 tokens",
        f"there, the button at x, y = {point} is written as {missed}: {point[0] - missed[0]} pixels off "
        "unless mapped back"), live=live)


@claim(32, "voice assistants")
def voice() -> Finding:
    """The model neither hears nor speaks. It can be the middle of a voice assistant, with a program that
    turns speech into text in front of it and one that reads its answer aloud behind it; those two are
    other models. Read like that the claim holds, as it would for any language model.
    """
    try:
        check_messages([{"role": "user", "content": [{"type": "audio", "audio": "question.wav"}]}])
        refused = False
    except PromptError:
        refused = True
    parts = sorted({name.split(".")[0] for name in shapes(CONFIG)})
    return Finding(LOOSE if refused else UNTESTED, (
        f"a message with sound is refused: {yes(refused)}",
        f"parts of the official 7B: {', '.join(parts)}; none takes or makes sound"))


@claim(33, "mathematical diagrams, step by step")
def diagrams() -> Finding:
    """The steps are text that the model writes before its answer; each step is read again when the next
    one is written, which is how they can help. Whether they are *right* takes graded problems and the
    official weights; scores are in the technical report (arXiv 2502.13923). A model of the embedded one's
    size cannot stand in for this.
    """
    text = "Since $\\angle ABC = 90^\\circ$, $x^2 = 3^2 + 4^2$, so $x = 5$."
    return Finding(UNTESTED, (
        f"a line of reasoning with formulas survives the way to token ids and back: {yes(survives(text))}",
        f"a figure of 400 x 600 is {cells(400, 600)} tokens"))
