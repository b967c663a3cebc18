"""The lessons run from their first cell to their last, and their exercises can tell right from not done.

Two laws for each lesson. Solved: no cell fails. As a student gets it: every check cell fails, with its own message
that names the exercise, and no other cell does, so that a lesson can be read to its end with nothing filled in.
"""

import importlib.util
import math
import re
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.teach import lessons as exercises

from ..kernels.cuda.runs import needs_compiler
from ..notebook_cells import failures_of
from .test_live_questions import questions, trouble_with

ROOT = Path(__file__).parent.parent.parent
NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("lesson_*.py"))
LABEL = re.compile(r"\b(?:picture|patches|prompt|positions|vision|decoder|sampling)\.[a-z_0-9.]+\b")

_spec = importlib.util.spec_from_file_location("lessons", ROOT / "tools" / "course" / "lessons.py")
assert _spec is not None and _spec.loader is not None
lessons = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lessons)
SLOW = ("11", "12", "13", "14", "17", "18", "19")      # their unfilled form runs in `make test-full`


def source_of(name: str) -> str:
    return (ROOT / "notebooks" / f"{name}.py").read_text(encoding="utf-8")


def failures(book) -> dict[int, str]:
    """Cell number -> `ErrorName: message` of every cell that failed."""
    return {n: f"{output['ename']}: {output['evalue']}" for n, cell in enumerate(book.cells)
            for output in cell.get("outputs", []) if output["output_type"] == "error"}


def checks(book) -> list[int]:
    return [n for n, cell in enumerate(book.cells) if "check" in cell.metadata.get("tags", [])]


def test_every_lesson_is_tested():
    assert [path.stem for path in lessons.sources()] == NAMES


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_compiler if "_18_" in name else ()) for name in NAMES])
def test_a_solved_lesson_runs_to_its_end(name):
    book = lessons.executed(lessons.notebook(source_of(name)))
    assert failures(book) == {}
    assert len(checks(book)) in (2, 3)
    said = "".join(output.text for cell in book.cells for output in cell.get("outputs", [])
                   if output["output_type"] == "stream")
    assert not re.findall(r".*\bequal to\b.*: +False\b.*", said)        # a proof in code that is none


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.full if name.split("_")[1] in SLOW else ())
                                  for name in NAMES])
def test_an_unfilled_lesson_fails_at_its_checks_and_nowhere_else(name, monkeypatch):
    """And what it asks the embedded model is what that is mostly right about, or the figure is printed."""
    book, asked, printed = lessons.notebook(lessons.student_form(source_of(name))), questions(monkeypatch), StringIO()
    failed = failures_of(book, printed)
    assert not [trouble for one in asked if (trouble := trouble_with(one, printed.getvalue()))]
    number = int(name.split("_")[1])
    assert list(failed) == checks(book), failed
    for n, message in enumerate(failed.values(), start=1):
        assert message.startswith(f"AssertionError: exercise {number}.{n}: "), message
        assert "fill it in" in message


def test_the_notebooks_in_the_repository_are_those_of_the_sources():
    made = dict(lessons.made())
    assert sorted(made) == sorted((ROOT / "notebooks").glob("**/*.ipynb"))
    stale = [path.name for path, text in made.items() if path.read_bytes() != text]
    assert not stale, "make them anew: python tools/course/lessons.py"


def test_the_marks_are_what_nbgrader_reads():
    for name in NAMES:
        for text in (source_of(name), lessons.student_form(source_of(name))):
            marks = [cell.metadata["nbgrader"] for cell in lessons.notebook(text).cells
                     if "nbgrader" in cell.metadata]
            exercises_ = text.count("## Exercise ")
            assert [(mark["solution"], mark["grade"], mark["locked"]) for mark in marks] == [
                (True, False, False), (False, True, True)] * exercises_
            assert len({mark["grade_id"] for mark in marks}) == 2 * exercises_


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_has_what_every_lesson_has(name):
    text = source_of(name)
    assert text.count(lessons.BEGIN) == text.count("## Exercise ") in (2, 3)
    assert text.count("<summary>Hint ") == 3 * text.count("## Exercise ")
    for part in ("**The question.**", "you are here", "Now break it", "What the reference calls", "## Read next"):
        assert text.count(part) == 1, part
    assert re.findall(r"## Exercise [\d.]+: .* \(about \d+ minutes\)", text)[1:]


@pytest.mark.parametrize("name", NAMES)
def test_headings_stand_in_cells_of_text(name):
    """A forgotten mark of a cell makes a section a comment of the code before it."""
    code = [cell for cell in re.split(r"(?m)^(?=# %%)", source_of(name)) if not cell.startswith("# %% [markdown]")]
    assert len(code) > 5 and not [line for cell in code for line in cell.splitlines() if re.match("# #+ ", line)]


@pytest.mark.parametrize("name", NAMES)
def test_what_to_read_next_leads_to_the_next_lesson(name):
    """The last lesson leads out of the course; no other may leave one out."""
    number = int(name.split("_")[1])
    told = re.findall(r"Lesson (\d+)", source_of(name).partition("## Read next")[2])
    assert told in ([str(number + 1)], [] if number == len(NAMES) - 1 else None)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_is_printed_is_not_cut_short(name):
    """A sentence of this model has up to a dozen tokens; one token alone is a run and no answer."""
    most = re.findall(r"vlm\.(?:ask|chat|ground)\(.*max_new_tokens=(\d+)", source_of(name))
    assert [n for n in most if 1 < int(n) < 12 and name[7:9] != "00"] == []


@pytest.mark.parametrize("name", NAMES)
def test_answers_under_faults_stand_beside_the_truth(name):
    """A reader cannot tell a fault from a small model's own mistake without it."""
    section = source_of(name).partition("Now break it")[2].partition("## Exercise")[0]
    assert "truth" in section or not re.search(r"vlm\.(ask|chat)\(", section)


@pytest.mark.parametrize("name", NAMES)
def test_a_student_is_sent_to_nothing_that_is_not_in_the_notebook(name):
    """The solution is taken out of the student's notebook, so no text may point at it."""
    student = lessons.student_form(source_of(name))
    assert not re.search(r"(?i)solution\s+(?:#\s*)?(?:below|above)|(?:see|in) the solution", student)


@pytest.fixture(scope="module")
def labels() -> set[str]:
    """Every label of the model, composites and kernels aside, met while answering about a picture and a video."""
    vlm, frame = minivl.load(), np.full((56, 56, 3), 200, np.uint8)
    content = [{"type": "image", "image": frame}, {"type": "video", "video": [frame] * 2, "fps": 2.0}]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": "What?"}]}]
    with minivl.session(record="*") as session:
        vlm.chat(messages, max_new_tokens=1, temperature=0)
        vlm.chat(messages, max_new_tokens=1, temperature=1.0, repetition_penalty=1.1)
    return set(session.trace)


@pytest.mark.parametrize("name", NAMES)
def test_the_map_of_passes_names_passes(name, labels):
    """The map is the first code block of a lesson; a renamed pass must not leave it behind."""
    block = source_of(name).split("# ```")[1]
    named = set(LABEL.findall(block))
    assert len(named) >= 8
    assert named <= labels


def softmax(scores, shift=True):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True) if shift else scores)
    return powers / powers.sum(axis=-1, keepdims=True)


def top(scores, n, shift=True):
    best = np.argsort(-scores)[:n]
    return best, softmax(scores, shift)[best]


def up_to_28(y, b, least, most):
    """The rule of qwen-vl-utils: sides are lifted to 28 before the area is tested."""
    h, u = (max(28, 28 * round(side / 28)) for side in (y, b))
    if h * u > most:
        s = (y * b / most) ** 0.5
        return int(y / s / 28) * 28, int(b / s / 28) * 28
    if h * u < least:
        s = (least / (y * b)) ** 0.5
        return -int(-y * s // 28) * 28, -int(-b * s // 28) * 28
    return h, u


def scaled(box, down, across):
    return np.clip(np.asarray(box) * [across, down, across, down], 0, [640, 480, 640, 480])


def greedy(vlm, inputs):
    return vlm.generate(inputs, max_new_tokens=20, repetition_penalty=1.0)


def row_of(row, col, gw):
    return 4 * (row // 2 * (gw // 2) + col // 2) + 2 * (row % 2) + col % 2


def frame_of(rows, gh, gw, t):
    patches = rows.reshape(-1, 3, 2, 14, 14)[:, :, t]
    return np.block([[patches[row_of(row, col, gw)] for col in range(gw)] for row in range(gh)])


def masked(q, k, v, seen, scale=2.0, low=-np.inf, shift=True):
    return softmax(np.where(seen, q @ k.T / scale, low), shift) @ v


def masked_late(q, k, v, seen):
    shares = softmax(q @ k.T / 2) * seen
    return shares / shares.sum(axis=1, keepdims=True) @ v


def grouped(q, k, v, partner):
    scores = np.einsum("nae,mae->anm", q, k[:, partner]) / 3**0.5
    return np.einsum("anm,mae->nae", softmax(scores), v[:, partner])


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def chosen(table, ids):
    return table[np.arange(len(ids)), ids]


def by_window(rows, columns, side, down=False):
    """Windows and cells as one reads, or downwards."""
    r, c = np.indices((rows, columns)).reshape(2, -1)
    key = [c // side, r // side, c % side, r % side] if down else [r // side, c // side, r % side, c % side]
    return np.lexsort(key[::-1])


def window_sizes(rows, columns, side):
    down, across = (np.bincount(np.arange(n) // side) for n in (rows, columns))
    return np.outer(down, across).ravel()


def turned(row, angles, signs=(-1, 1)):
    a, b = np.split(row, 2)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([a * cos + signs[0] * b * sin, b * cos + signs[1] * a * sin])


def turned_neighbours(row, angles):
    a, b, cos, sin = row[::2], row[1::2], np.cos(angles), np.sin(angles)
    return np.stack([a * cos - b * sin, b * cos + a * sin], axis=1).ravel()


def flat_angles(at, width, order=(0, 1), exponent=None):
    speed = 10000.0 ** (-np.arange(0, width // 2, 2) / (exponent or width // 2))
    return np.concatenate([at[:, [axis]] * speed for axis in order], axis=1)


def normed(x, weight=1, eps=0.0, axis=-1):
    return x / np.sqrt((x * x).mean(axis=axis, keepdims=True) + eps) * weight


def silu(g):
    return g / (1 + np.exp(-g))


def gelu(y):
    return y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))


def gelu_tanh(y):
    return 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))


def merged(cells, inner, outer, act=gelu):
    return act(cells @ inner[0].T + inner[1]) @ outer[0].T + outer[1]


def joined(x, norm):
    return normed(x, norm, 1e-6).reshape(len(x) // 4, -1)


def token(y, x, photo, seen, size=28):
    row, column = int(y * seen[0] / photo[0] // size), int(x * seen[1] / photo[1] // size)
    return row * (seen[1] // size) + column


def linear_by_loops(x, weight, bias):
    return [[float(row @ line) + shift for line, shift in zip(weight, bias, strict=True)] for row in x]


def rms_norm_by_loops(x, weight, eps):
    return [[v * w / math.sqrt(sum(u * u for u in row) / len(row) + eps) for v, w in zip(row, weight, strict=True)]
            for row in x.tolist()]


def windows_by_loops(rows, columns, side):
    return [r * columns + c for top in range(0, rows, side) for left in range(0, columns, side)
            for r in range(top, min(top + side, rows)) for c in range(left, min(left + side, columns))]


RIGHT = [           # the same in other styles: loops, lists, einsum, complex numbers
    ("linear_map", linear_by_loops),
    ("linear_map", lambda x, weight, bias: np.einsum("nd,od->no", x, weight) + bias),
    ("surprise", lambda z, ids: np.log(np.exp(z - chosen(z, ids)[:, None] - 700).sum(axis=1)) + 700 if z.max() < 9
        else -chosen(log_softmax(z), ids)),
    ("cells_by_window", windows_by_loops),
    ("pairs_in_windows", lambda r, c, s: int((16 * window_sizes(r, c, s) ** 2).sum())),
    ("turn", lambda row, angles: (lambda z: np.r_[z.real, z.imag])(
        (row[: len(angles)] + 1j * row[len(angles) :]) * np.exp(1j * angles))),
    ("angles_2d", lambda at, width: [[n * 10000 ** (-4 * i / width) for n in place for i in range(width // 4)]
                                     for place in at.tolist()]),
    ("rms_norm", rms_norm_by_loops),
    ("swiglu", lambda x, gate, up, down: np.einsum("nh,oh->no", silu(x @ gate.T) * (x @ up.T), down)),
    ("merge", lambda x, norm, inner, outer: [merged(joined(x[i : i + 4], norm), inner, outer)[0]
                                             for i in range(0, len(x), 4)]),
    ("token_of_pixel", lambda y, x, photo, seen: y * seen[0] // photo[0] // 28 * (seen[1] // 28)
        + x * seen[1] // photo[1] // 28),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_a_check_takes_a_right_answer_in_any_style(exercise, answer):
    minivl.check(next(key for key, asked in exercises.EXERCISES.items() if asked.name == exercise), answer)


MISTAKES = [
    (1, "linear_map", lambda x, w, b: x @ w.T, "bias is missing"),
    (1, "linear_map", lambda x, w, b: x @ w.T + b[:, None], "down the columns"),
    (1, "linear_map", lambda x, w, b: x @ (w if w.shape[0] == w.shape[1] else w.T) + b,
     "you multiply without transposing"),
    (1, "linear_map", lambda x, w, b: x, "is the argument x, unchanged"),
    (1, "linear_map", lambda x, w, b: np.round(x @ w.T + b, 1), "you are close"),
    (1, "surprise", lambda z, ids: chosen(np.exp(log_softmax(z)), ids), "those are the probabilities"),
    (1, "surprise", lambda z, ids: chosen(log_softmax(z), ids), "the sign"),
    (1, "surprise", lambda z, ids: -chosen(z, ids), "those are logits"),
    (1, "surprise", lambda z, ids: -log_softmax(z).max(axis=1), "likeliest token"),
    (1, "surprise", lambda z, ids: -chosen(log_softmax(z), ids) / np.log(2), "base 2"),
    (1, "surprise", lambda z, ids: -np.log(chosen(softmax(z), ids)), "a softmax that has become 0"),
    (1, "surprise", lambda z, ids: -chosen(log_softmax(z), ids).mean(), "it should be"),
    (5, "cells_by_window", lambda r, c, s: np.arange(r * c), "in raster order"),
    (5, "cells_by_window", lambda r, c, s: np.argsort(by_window(r, c, s)), "inverse"),
    (5, "cells_by_window", lambda r, c, s: by_window(r, c, s, down=True), "goes down first"),
    (5, "cells_by_window", lambda r, c, s: by_window(r, c, s).astype(float), "whole numbers"),
    (5, "cells_by_window", lambda r, c, s: np.zeros(r * c, int), "wrong numbers are all 0"),
    (5, "cells_by_window", lambda r, c, s: by_window(r, c, s) if r % s == c % s == 0 else np.zeros(64, int),
     "it should be"),
    (5, "pairs_in_windows", lambda r, c, s: int((window_sizes(r, c, s) ** 2).sum()), "counts cells"),
    (5, "pairs_in_windows", lambda r, c, s: 16 * (r * c) ** 2, "without windows"),
    (5, "pairs_in_windows", lambda r, c, s: len(window_sizes(r, c, s)) * 16 * s**4, "a whole one"),
    (5, "pairs_in_windows", lambda r, c, s: (16 * window_sizes(r, c, s) ** 2).sum() / 1, "one integer"),
    (5, "pairs_in_windows", lambda r, c, s: int((4 * window_sizes(r, c, s)).sum()), "pairs of patches, you say"),
    (6, "turn", turned_neighbours, "turn neighbours"),
    (6, "turn", lambda row, angles: turned(row, -angles), "the wrong way"),
    (6, "turn", lambda row, angles: turned(row, angles, (-1, -1)), "both halves have the sign"),
    (6, "turn", lambda row, angles: turned(row, angles, (1, 1)), "no minus anywhere"),
    (6, "turn", lambda row, angles: turned(row, np.full_like(angles, angles[0])), "its own angle"),
    (6, "turn", lambda row, angles: turned(row, np.minimum(angles, 1.6)), "first wrong"),
    (6, "turn", lambda row, angles: turned(row, np.maximum(angles, 0)), "first wrong"),
    (6, "angles_2d", lambda at, width: flat_angles(at, width, (1, 0)), "columns come before rows"),
    (6, "angles_2d", lambda at, width: flat_angles(at, width, (0, 0)), "both halves"),
    (6, "angles_2d", lambda at, width: flat_angles(at, width, exponent=width),
     "frequencies are those of the whole head"),
    (6, "angles_2d", lambda at, width: flat_angles(at, width).reshape(-1, 2, width // 4).swapaxes(1, 2).reshape(
        -1, width // 2), "rows and columns take turns"),
    (6, "angles_2d", lambda at, width: flat_angles(at, width)[:, :-1], "it should be"),
    (6, "angles_2d", lambda at, width: 2 * flat_angles(at, width), "2 times the right one"),
    (6, "angles_2d", lambda at, width: flat_angles(at, 8) if width == 8 else np.zeros((1, 8)), "it should be"),
    (7, "rms_norm", lambda x, w, eps: normed(x - x.mean(axis=1, keepdims=True), w), "LayerNorm"),
    (7, "rms_norm", lambda x, w, eps: x / np.linalg.norm(x, axis=1, keepdims=True) * w, "sum of squares"),
    (7, "rms_norm", lambda x, w, eps: normed(x, 1, eps), "the weight is missing"),
    (7, "rms_norm", lambda x, w, eps: normed(x, 1 + w, eps), "1 \\+ weight"),
    (7, "rms_norm", lambda x, w, eps: normed(x, w, eps, axis=0), "over the rows .axis 0"),
    (7, "rms_norm", lambda x, w, eps: x / ((x * x).mean(axis=1, keepdims=True) + eps) * w, "root is missing"),
    (7, "rms_norm", lambda x, w, eps: normed(x, w), "eps is missing"),
    (7, "rms_norm", lambda x, w, eps: x / (np.sqrt((x * x).mean(axis=1, keepdims=True)) + eps) * w,
     "eps is outside the root"),
    (7, "swiglu", lambda x, g, u, d: (x @ g.T * silu(x @ u.T)) @ d.T, "gate and up are swapped"),
    (7, "swiglu", lambda x, g, u, d: (x @ u.T / (1 + np.exp(-x @ g.T))) @ d.T, "only sigmoid"),
    (7, "swiglu", lambda x, g, u, d: silu(x @ g.T) @ d.T, "up is missing"),
    (7, "swiglu", lambda x, g, u, d: silu(x @ g.T * (x @ u.T)) @ d.T, "are multiplied first"),
    (7, "swiglu", lambda x, g, u, d: (silu(x @ g.T) + x @ u.T) @ d.T, "you add gate and up"),
    (7, "swiglu", lambda x, g, u, d: (x @ g.T * (x @ u.T)) @ d.T, "there is no activation"),
    (7, "swiglu", lambda x, g, u, d: (np.maximum(x @ g.T, 0) * (x @ u.T)) @ d.T, "your gate is ReLU"),
    (7, "swiglu", lambda x, g, u, d: silu(x @ g.T) * (x @ u.T), "does not depend on down"),
    (8, "merge", lambda x, n, i, o: merged(normed(x.reshape(-1, 12), np.tile(n, 4), 1e-6), i, o),
     "you normalise the joined row"),
    (8, "merge", lambda x, n, i, o: merged(x.reshape(-1, 12), i, o), "norm is missing"),
    (8, "merge", lambda x, n, i, o: merged(joined(x, 1), i, o), "in your norm: the weight is missing"),
    (8, "merge", lambda x, n, i, o: merged(joined(x, n), i, o, lambda y: y), "GELU between"),
    (8, "merge", lambda x, n, i, o: merged(joined(x, n), i, o, silu), "that is SiLU"),
    (8, "merge", lambda x, n, i, o: merged(joined(x, n), i, o, gelu_tanh), "tanh approximation"),
    (8, "merge", lambda x, n, i, o: merged(joined(x[[0, 2, 4, 6, 1, 3, 5, 7]], n), i, o), "in raster order"),
    (8, "merge", lambda x, n, i, o: merged(normed(x, n, 1e-6).reshape(2, 4, 3).swapaxes(1, 2).reshape(2, 12), i, o),
     "you interleave the four rows"),
    (8, "merge", lambda x, n, i, o: merged(joined(x, n), i, o)[:1], "it should be"),
    (8, "token_of_pixel", lambda y, x, photo, seen: token(y, x, photo, seen, 14), "counts patches"),
    (8, "token_of_pixel", lambda y, x, photo, seen: y // 28 * (seen[1] // 28) + x // 28, "token 390, you say 413"),
    (8, "token_of_pixel", lambda y, x, photo, seen: token(y, x, photo, seen) / 1, "one integer"),
    (8, "token_of_pixel", lambda y, x, photo, seen: token(x, y, photo[::-1], seen[::-1]), "along the rows"),
    (8, "token_of_pixel", lambda y, x, photo, seen: int(y * seen[0] / photo[0]) // 28 * (seen[0] // 28)
        + int(x * seen[1] / photo[1]) // 28, "not 17"),
    (0, "top_tokens", lambda z, n: (np.argsort(z)[:n], z), "most likely ids"),
    (0, "top_tokens", lambda z, n: (np.argsort(-z)[:n], softmax(np.sort(z)[::-1][:n])), "over the whole row"),
    (0, "top_tokens", lambda z, n: top(z, n, shift=False), "subtract the largest"),
    (0, "top_tokens", lambda z, n: (top(z, n)[0], softmax(z)), "two probabilities"),
    (0, "top_tokens", lambda z, n: (np.argsort(-z), softmax(z)), "ids of shape"),
    (0, "write_greedily", lambda vlm, inputs, stop, most: [], "list is empty"),
    (0, "write_greedily", lambda vlm, inputs, stop, most: "A red circle.", "a list of ids.*not str"),
    (0, "write_greedily", lambda vlm, inputs, stop, most: 7, "a list of ids.*not int"),
    (0, "write_greedily", lambda vlm, inputs, stop, most: [7.0], "one of yours is float"),
    (0, "write_greedily", lambda vlm, inputs, stop, most: greedy(vlm, inputs)[:1], "ends too early"),
    (0, "write_greedily", lambda vlm, inputs, stop, most: greedy(vlm, inputs)[:-1], "stop token is missing"),
    (0, "write_greedily", lambda vlm, inputs, stop, most: [*greedy(vlm, inputs), 7], "do you stop after"),
    (0, "write_greedily", lambda vlm, inputs, stop, most: [*inputs.input_ids.tolist(), 7], "without the prompt"),
    (2, "target_size", lambda y, b, least, most: 28 * round(y / 28), "it should be .2."),
    (2, "target_size", lambda y, b, least, most: (28.0 * round(y / 28), 28.0 * round(b / 28)), "whole numbers"),
    (2, "target_size", lambda y, b, least, most: (28 * int(y / 28 + 0.5), 28 * int(b / 28 + 0.5)), "even neighbour"),
    (2, "target_size", lambda y, b, least, most: (28 * round(y / 28), 28 * round(b / 28)),
     "neither limit of the area"),
    (2, "target_size", lambda y, b, least, most: (28 * round(b / 28), 28 * round(y / 28)), "height comes first"),
    (2, "target_size", up_to_28, "stays 0"),
    (2, "box_to_photo", lambda box, seen, photo: scaled(box, 640 / 644, 480 / 476), "x was scaled with the height"),
    (2, "box_to_photo", lambda box, seen, photo: scaled(box, 476 / 480, 644 / 640), "turn the factors round"),
    (2, "box_to_photo", lambda box, seen, photo: np.asarray(box) * ([640 / 644, 480 / 476] * 2), "beyond the border"),
    (2, "box_to_photo", lambda box, seen, photo: scaled(box, 480 / 476, 640 / 644).astype(int), "four floats"),
    (2, "box_to_photo", lambda box, seen, photo: np.rint(scaled(box, 480 / 476, 640 / 644)), "keep the fractions"),
    (3, "row_of_patch", lambda row, col, gw: row * gw + col, "raster order"),
    (3, "row_of_patch", lambda row, col, gw: row_of(row, col, gw) + 1, "one too high"),
    (3, "row_of_patch", lambda row, col, gw: row_of(row, col, gw) - 1, "one too low"),
    (3, "row_of_patch", lambda row, col, gw: row // 2 * (gw // 2) + col // 2 + 2 * (row % 2) + col % 2, "4 patches"),
    (3, "row_of_patch", lambda row, col, gw: row_of(row, col, gw) // 4 * 4, "place inside the cell is missing"),
    (3, "row_of_patch", lambda row, col, gw: 7, "expected 0, got 7"),
    (3, "row_of_patch", lambda row, col, gw: (row, col), "it should be .2, 2."),
    (3, "row_of_patch", lambda row, col, gw: np.array([row, col]), "it should be .2, 2."),
    (3, "row_of_patch", lambda row, col, gw: row_of(row, col, gw) / 1, "whole numbers"),
    (3, "row_of_patch", lambda row, col, gw: 4 * (row // 2 * (gw // 2) + col // 2) + row % 2 + 2 * (col % 2),
     "inside a cell your patches go down"),
    (3, "row_of_patch", lambda row, col, gw: 4 * (row // 2 * gw + col // 2) + 2 * (row % 2) + col % 2, "not cells"),
    (3, "to_picture", lambda rows, gh, gw: rows, "should give"),
    (3, "to_picture", lambda rows, gh, gw: np.zeros((3, 14 * gh, 14 * gw)), "is 0, a number that neither"),
    (3, "to_picture", lambda rows, gh, gw: frame_of(rows, gh, gw, 1), "that is the second frame"),
    (3, "to_picture", lambda rows, gh, gw: (frame_of(rows, gh, gw, 0) + frame_of(rows, gh, gw, 1)) / 2, "neither"),
    (3, "to_picture", lambda rows, gh, gw: rows.reshape(-1)[: 588 * gh * gw].reshape(3, 14 * gh, 14 * gw), "wrong"),
    (4, "attend_masked", lambda q, k, v, seen: softmax(q @ k.T / 2) @ v, "forbidden key"),
    (4, "attend_masked", lambda q, k, v, seen: masked(q, k, v, seen, scale=1.0), "scores are divided by sqrt"),
    (4, "attend_masked", lambda q, k, v, seen: softmax(q @ k.T / 2) * seen @ v, "sum to one"),
    (4, "attend_masked", lambda q, k, v, seen: masked(q, k, v, seen, low=-100), "no finite number"),
    (4, "attend_masked", lambda q, k, v, seen: masked(q, k, v, seen, low=-1e9), "no finite number"),
    (4, "attend_masked", lambda q, k, v, seen: masked(q, k, v, seen, shift=False), "exp overflows on large scores"),
    (4, "attend_masked", lambda q, k, v, seen: masked_late(q, k, v, seen), "mask before the softmax"),
    (4, "attend_masked", lambda q, k, v, seen: masked(q, k, k, seen), "sum keys where values belong"),
    (4, "attend_masked", lambda q, k, v, seen: softmax(np.where(seen, q @ k.T / 2, -np.inf).T).T @ v, "columns"),
    (4, "attend_masked", lambda q, k, v, seen: softmax(q @ k.T / 2 + ~seen * -np.inf) @ v, "NaN or infinity"),
    (4, "attend_masked", lambda q, k, v, seen: np.exp(np.where(seen, q @ k.T / 2, -np.inf)) @ v,
     "a factor of its own"),
    (4, "attend_grouped", lambda q, k, v: grouped(q, k, v, [0, 1, 0, 1]), "dealt out in turn .a % k"),
    (4, "attend_grouped", lambda q, k, v: grouped(q, k[:, ::-1], v, [0, 0, 1, 1]), "wrong shares"),
]


@pytest.mark.parametrize(("number", "exercise", "answer", "remark"), MISTAKES)
def test_a_check_names_the_usual_mistake(number, exercise, answer, remark):
    numbers = [key for key, asked in exercises.EXERCISES.items() if asked.name == exercise]
    assert len(numbers) == 1 and numbers[0].startswith(f"{number}.")
    with pytest.raises(AssertionError,
                       match=f"(?i)exercise {number}\\.[12]: .*(?:{remark})"), np.errstate(all="ignore"):
        minivl.check(numbers[0], answer)


def test_student_form_replaces_what_stands_between_the_markers():
    source = "def f():\n    ### BEGIN SOLUTION\n    x = 1\n    return x\n    ### END SOLUTION\nprint(f())\n"
    assert lessons.student_form(source) == "def f():\n    ...  # your code here\nprint(f())\n"


def test_a_filled_in_notebook_is_not_written_over(tmp_path, capsys):
    lessons.main([str(tmp_path)])
    fresh = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(fresh) == [f"{name}.ipynb" for name in NAMES]
    mine = tmp_path / f"{NAMES[2]}.ipynb"
    mine.write_text("an evening's work", encoding="utf-8")
    for path in tmp_path.iterdir():
        if path != mine:
            path.unlink()
    with pytest.raises(SystemExit) as left:
        lessons.main([str(tmp_path)])
    assert left.value.code == 2 and f"already there: {mine}; nothing was written" in capsys.readouterr().err
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["an evening's work"]
    lessons.main([str(tmp_path), "--force"])
    assert {path.name: len(path.read_bytes()) for path in tmp_path.iterdir()} == {n: len(b) for n, b in fresh.items()}


@pytest.mark.parametrize(("arguments", "module"), [([], "nbformat"), (["--solved"], "ipykernel")])
def test_what_is_not_installed_is_named_with_the_remedy(arguments, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match=rf'not installed: {module}\. .*pip install "minivl\[lessons\]"'):
        lessons.main([str(tmp_path / "new"), *arguments])
    assert not (tmp_path / "new").exists()


def test_figures_are_kept_whatever_backend_the_shell_names(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    book = lessons.executed(lessons.notebook("# %%\nimport matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()\n"))
    assert any("image/png" in output.get("data", {}) for output in book.cells[0].outputs)


@pytest.mark.parametrize("source", ["### BEGIN SOLUTION\nx = 1\n", "x = 1\n### END SOLUTION\n",
                                    "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION\n"])
def test_a_marker_without_its_partner_is_refused(source):
    with pytest.raises(ValueError, match="line "):
        lessons.student_form(source)
