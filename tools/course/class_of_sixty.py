"""A class of sixty that hands in everything a teacher meets: right in several styles, wrong in known ways, saved by
other editors, broken, hostile.

    python -m tools.course.class_of_sixty FOLDER                      write FOLDER/submitted/STUDENT/pictures/...
    minivl course grade FOLDER/submitted --assignment pictures -o FOLDER/graded
    python -m tools.course.class_of_sixty FOLDER --compare            marks and reasons against those deserved

Solutions are made for each student's own variant. What a student deserves is written beside the student, by hand:
points of 3, and words that the reason must have. Read next: docs/teaching/grading.md,
`tests/teach/test_course_grading.py`.
"""

from __future__ import annotations

import argparse
import csv
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import minivl
from minivl.teach.check import find
from minivl.teach.course import release
from tools.course import lessons
from tools.course import nbgrader as course

ASSIGNMENT = "pictures"
FUNCTIONS = {"target_size": "target_size", "normalise": "picture.normalise", "patchify": "patchify"}
PACKAGE = Path(minivl.__file__).resolve().parent
SECRET = "LEAK"                                           # what a submission prints and raises to get at its inputs


class Student(NamedTuple):
    """A name, what makes the file, the points deserved, and words (a pattern) that the reason must have."""
    name: str
    make: Callable[[str], dict[str, bytes]]
    points: int
    reason: str


# ---------------------------------------------------------------------------------------------- right solutions

def rule(name: str, student: str) -> dict[str, Any]:
    """The sizes and orders that a student's variant asks for."""
    variant = find(FUNCTIONS[name]).varied(student)
    return dict(inspect.getclosurevars(variant.rule).nonlocals)


def size_loop(up: bool, square: bool) -> str:
    return f'''
def target_size(shape, config):
    step = config.patch_size * config.merge_size
    sides = []
    for side in (shape[0], shape[1]):
        steps, rest = divmod(side, step)
        if {up} and rest:
            steps = steps + 1
        if steps == 0:
            steps = 1
        sides.append(steps * step)
    if {square}:
        sides = [max(sides)] * 2
    return np.array(sides)
'''


def size_arrays(up: bool, square: bool) -> str:
    return f'''
def target_size(shape, config):
    """Both sides at once."""
    steps = np.{"ceil" if up else "floor"}(np.asarray(shape[:2]) / config.factor)
    sides = (np.maximum(steps, 1) * config.factor).astype(np.int32)
    return np.full(2, sides.max()) if {square} else sides
'''


def size_lambda(up: bool, square: bool) -> str:
    whole = "-(-n // f)" if up else "n // f"
    return f'''
to_steps = lambda n, f: f * max(1, {whole})
both = lambda shape, f: (to_steps(shape[0], f), to_steps(shape[1], f))
target_size = lambda shape, config: np.array({"2 * [max(both(shape, config.factor))]" if square
                                              else "both(shape, config.factor)"})
'''


def colours_arrays(order: tuple[int, ...], sign: int) -> str:
    return f'''
def normalise(pixels, config):
    scaled = {sign} * (pixels / 255 - config.image_mean) / config.image_std
    return np.moveaxis(scaled, 2, 0)[{list(order)}].astype(np.float32)
'''


def colours_loop(order: tuple[int, ...], sign: int) -> str:
    return f'''
def normalise(pixels, config):
    planes = []
    for channel in {list(order)}:
        plane = pixels[..., channel].astype(float)
        plane = plane / 255
        plane = plane - config.image_mean[channel]
        planes.append({"-" if sign < 0 else ""}plane / config.image_std[channel])
    return np.array(planes)
'''


def colours_strided(order: tuple[int, ...], sign: int) -> str:
    return f'''
WANTED = {list(order)}


def normalise(pixels, config):
    gain = {sign} / (255 * np.array(config.image_std))
    shift = {-sign} * np.array(config.image_mean) / config.image_std
    result = np.zeros((3, 2 * pixels.shape[0], 2 * pixels.shape[1]))
    result[:, ::2, ::2] = np.einsum("yxc,kc->kyx", pixels * gain + shift, np.eye(3)[WANTED])
    return result[:, ::2, ::2]
'''


def patches_loop(order: str) -> str:
    axes = ["scyx".index(letter) for letter in order]
    return f'''
def patchify(frames, config):
    size, pair, merge = config.patch_size, config.temporal_patch_size, config.merge_size
    frames = list(frames)
    while len(frames) % pair:
        frames.append(frames[-1])
    frames = np.array(frames)
    side, rows = size * merge, []
    for first in range(0, len(frames), pair):
        for top in range(0, frames.shape[2], side):
            for left in range(0, frames.shape[3], side):
                for inside in range(merge * merge):
                    y = top + inside // merge * size
                    x = left + inside % merge * size
                    block = frames[first:first + pair, :, y:y + size, x:x + size]
                    rows.append(block.transpose({axes}).ravel())
    return np.stack(rows)
'''


def patches_einsum(order: str, words: str = "TYXvh") -> str:
    return f'''
def patchify(frames, config):
    s, n, m = config.patch_size, config.temporal_patch_size, config.merge_size
    extra = (n - len(frames) % n) % n
    frames = np.pad(frames, [(0, extra), (0, 0), (0, 0), (0, 0)], mode="edge")
    t, c, h, w = frames.shape
    cut = frames.reshape(t // n, n, c, h // (s * m), m, s, w // (s * m), m, s)
    return np.einsum("TscYvyXhx->{words}{order}", cut).reshape(-1, c * n * s * s)
'''


def patches_windows(order: str) -> str:
    axes = [5 + "scyx".index(letter) for letter in order]
    return f'''
def cut(frames, n, s):
    """t 3 h u -> pairs rows columns, s c y x, as views of one array."""
    windows = np.lib.stride_tricks.sliding_window_view(frames, (n, 3, s, s))
    return windows[::n, 0, ::s, ::s]


def patchify(frames, config):
    n, s, m = config.temporal_patch_size, config.patch_size, config.merge_size
    frames = np.concatenate([frames] + [frames[-1:]] * (-len(frames) % n)).astype(np.float64)
    grid = cut(frames, n, s)
    t, gh, gw = grid.shape[:3]
    cells = grid.reshape(t, gh // m, m, gw // m, m, n, 3, s, s).swapaxes(2, 3)
    return cells.transpose(0, 1, 2, 3, 4, {", ".join(map(str, axes))}).reshape(t * gh * gw, -1)
'''


STYLES = {"target_size": (size_loop, size_arrays, size_lambda),
          "normalise": (colours_arrays, colours_loop, colours_strided),
          "patchify": (patches_loop, patches_einsum, patches_windows)}


def right(student: str, styles: tuple[int, int, int] = (0, 0, 0)) -> dict[str, str]:
    """Right code for each function in a style."""
    return {name: STYLES[name][style](**rule(name, student)) for name, style in zip(STYLES, styles, strict=True)}


# --------------------------------------------------------------------------------------------------- notebooks

@cache
def released() -> Any:
    """The notebook as it is handed out."""
    return lessons.notebook(lessons.student_form(course.sources()[ASSIGNMENT]))


def book(student: str, code: dict[str, str]) -> Any:
    """The released notebook with the student's name and code in it."""
    made = release.named(released(), student)
    for cell in made.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in code:
            cell["source"] = code[name].strip("\n")
    return made


def file(made: Any, name: str = f"{ASSIGNMENT}/{ASSIGNMENT}.ipynb") -> dict[str, bytes]:
    return {name: json.dumps(made).encode("utf-8")}


def with_code(*styles: int, **code: str) -> Callable[[str], dict[str, bytes]]:
    """A student who hands in right code, in these styles, but for what is given."""
    def make(student: str) -> dict[str, bytes]:
        return file(book(student, {**right(student, (*styles, 0, 0, 0)[:3]), **code}))  # type: ignore[arg-type]
    return make


def with_cell(source: str, place: int = 2, **code: str) -> Callable[[str], dict[str, bytes]]:
    """Right code, and a cell of the student's own."""
    def make(student: str) -> dict[str, bytes]:
        made = book(student, {**right(student), **code})
        made.cells.insert(place, {"cell_type": "code", "source": source, "metadata": {}, "outputs": [],
                                  "execution_count": None})
        return file(made)
    return make


def saved(change: Callable[[Any], Any]) -> Callable[[str], dict[str, bytes]]:
    """Right code in a notebook that an editor has changed."""
    def make(student: str) -> dict[str, bytes]:
        made = json.loads(json.dumps(book(student, right(student))))
        changed = change(made)
        return file(changed or made)
    return make


def as_bytes(change: Callable[[bytes], bytes], name: str = f"{ASSIGNMENT}/{ASSIGNMENT}.ipynb"
             ) -> Callable[[str], dict[str, bytes]]:
    """Right code in a file that an editor has changed."""
    return lambda student: {name: change(json.dumps(book(student, right(student)), indent=1).encode("utf-8"))}


def retype(made: Any) -> None:
    for cell in made["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "patchify":
            cell["cell_type"] = "markdown"


def without(kept: Callable[[Any], bool]) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        made["cells"] = [cell for cell in made["cells"] if kept(cell)]
    return change


def other_kernel(made: Any) -> None:
    made["metadata"]["kernelspec"] = {"name": "conda-env-vision-py", "display_name": "Python [conda env:vision]"}


def as_lines(made: Any) -> None:
    """nbformat 4.2: no ids, text in lists of lines, outputs as stream lists."""
    made["nbformat_minor"] = 2
    for cell in made["cells"]:
        cell.pop("id", None)
        cell["source"] = cell["source"].splitlines(keepends=True)
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]}]


def as_version_3(made: Any) -> Any:
    cells = [{"cell_type": "code", "input": cell["source"], "language": "python", "outputs": []}
             if cell["cell_type"] == "code" else {"cell_type": "markdown", "source": cell["source"]}
             for cell in made["cells"]]
    return {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": cells}]}


def unfilled(student: str) -> dict[str, bytes]:
    return file(book(student, {}))


# ---------------------------------------------------------------------------------------------------- the class

def patch(*lines: str, before: str = "") -> dict[str, str]:
    """A patchify of these lines."""
    return {"patchify": "\n".join([before, "def patchify(frames, config):", *(f"    {line}" for line in lines)])}


MODELS_SIZE = '''
def target_size(shape, config):
    f = config.factor
    h, w = (round(n / f) * f for n in shape[:2])
    if h * w > config.max_pixels:
        r = (shape[0] * shape[1] / config.max_pixels) ** 0.5
        h, w = (max(f, int(n / r / f) * f) for n in shape[:2])
    elif h * w < config.min_pixels:
        r = (config.min_pixels / shape[0] / shape[1]) ** 0.5
        h, w = (int(-(-n * r // f)) * f for n in shape[:2])
    return np.array([h, w])
'''
NOT_SCALED = '''
def normalise(pixels, config):
    x = (pixels - np.array(config.image_mean)) / config.image_std
    return x.transpose(2, 0, 1)
'''
COLOUR_LAST = '''
def normalise(pixels, config):
    return (pixels / 255 - np.array(config.image_mean)) / config.image_std
'''
ENDLESS_RECURSION = '''
def normalise(pixels, config):
    return normalise(pixels, config)
'''
NATIVE = '''
def target_size(shape, config):
    return np.ctypeslib.ctypes.string_at(0)
'''
NO_CELL = '''
class Cutter:
    def __call__(self, frames, config):
        return cut_patches(frames, config)

patchify = Cutter()
'''
ARRAY_THAT_AGREES = '''
class Anything(np.ndarray):
    def __eq__(self, other):
        return True

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return np.asarray(True)
'''
LOOP_THAT_CATCHES = '''
def patchify(frames, config):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
'''
COMPARES = '''
vlm = minivl.load()
from minivl.passes import patches
np.abs(patches.patchify(np.ones((1, 3, 28, 28)), vlm.processor.preprocessor)).max()
'''
MAGICS = '''
%matplotlib inline
!pip list
minivl.check?
%time sum(range(10))
'''
AT = "cell 13, line"                                      # where patchify is defined


def members() -> Iterator[Student]:
    """All sixty."""
    yield from in_style()
    yield from wrong()
    yield from refused()
    yield from fenced()
    yield from in_files()
    yield from hostile()


def in_style() -> Iterator[Student]:
    """Right ones, and cells of their own beside."""
    for number, styles in enumerate([(0, 0, 0), (1, 1, 1), (2, 2, 2), (0, 1, 2), (1, 2, 0), (2, 0, 1)]):
        yield Student(f"ada{number}", with_code(*styles), 3, "^all: right$")
    yield Student("berta", with_cell(COMPARES, 5), 3, "^all: right$")
    yield Student("carl", with_cell("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", 3), 3, "right")
    yield Student("dora", with_cell(MAGICS), 3, "^all: right$")
    yield Student("emil", with_cell("print('x' * 1000)\n1 / 0\nundefined"), 3, "^all: right$")
    yield Student("gustav", in_a_class, 3, "^all: right$")


def in_a_class(student: str) -> dict[str, bytes]:
    code = right(student, (0, 0, 1))["patchify"].strip("\n").replace("def patchify(", "def __call__(self, ")
    lines = "\n".join(f"    {line}" for line in code.split("\n"))
    return file(book(student, {**right(student), "patchify": f"class Cutter:\n{lines}\n\n\npatchify = Cutter()"}))


def wrong() -> Iterator[Student]:
    """Wrong in known ways."""
    yield Student("hanna", unfilled, 0, "^all: gives None: not filled in")
    yield Student("frida", with_code(patchify=NO_CELL), 2, f"patchify: NameError in {AT} 3")
    yield Student("ida", with_code(target_size=MODELS_SIZE), 2, "target_size: that is the model's own rule")
    yield Student("jan", with_code(normalise=colours_arrays((0, 1, 2), 1)), 2, "normalise: that is the model's own")
    yield Student("karl", with_code(patchify=patches_einsum("csyx")), 2, "patchify: that is the model's own rule")
    yield Student("lena", in_raster_order, 2, "patchify: (wrong numbers|your rows are in raster)")
    yield Student("max", with_code(normalise=NOT_SCALED), 2, "(division by 255 is missing|wrong numbers)")
    yield Student("nora", with_code(normalise=COLOUR_LAST), 2, "normalise: colour is still last")
    yield Student("otto", with_code(target_size="target_size = lambda shape, config: [28, 28]"), 2, "gives a list")
    yield Student("paula", with_code(target_size="target_size = lambda shape, config: np.array([28.0, 28.0])"), 2,
                  "target_size: gives numbers of another kind")
    yield Student("quentin", with_code(**patch("x = frames.reshape(len(frames), -1)")), 2, "patchify: gives None")
    yield Student("rosa", with_code(**patch("return frames.reshape(config.patches, -1)")), 2,
                  f"patchify: AttributeError in {AT} 2")
    yield Student("sven", with_code(**patch("return np.random.normal(size=(4, 4))")), 2,
                  "another shape|wrong numbers")
    yield Student("tina", with_code(**patch("frames -= frames.mean()", "return frames")), 2,
                  "patchify: refused: changes its inputs")
    yield Student("udo", with_code(patchify="patchify = lambda frames: frames"), 2, "patchify: takes other arguments")


def in_raster_order(student: str) -> dict[str, bytes]:
    return with_code(patchify=patches_einsum(rule("patchify", student)["order"], "TYvXh"))(student)


def refused() -> Iterator[Student]:
    """What is refused by its text: it uses minivl, or is a copy of it."""
    yield Student("vera", with_code(**patch("return passes.patchify(frames, config)",
                                            before="from minivl.passes import patches as passes")), 2,
                  rf"patchify: refused: {AT} 1: uses minivl itself \(minivl.passes.patches\)")
    yield Student("willi", with_code(**patch("return table['cut'](frames, config)", before=(
        "import minivl as m\ntable = {}\ntable['cut'] = m.check.__globals__"))), 2, f"{AT} 1: uses minivl itself")
    yield Student("xaver", with_code(patchify=pasted(
        "cutting", "teach/check/plain.py", patchify="inner", cutting="make", rows="found", row="one")
        + "patchify = make('csyx')"), 2, f"refused: {AT} 1: is a copy: .* in minivl/teach/check/plain.py")
    yield Student("yara", with_code(patchify=pasted(
        "_cut", "teach/check/stages/patches.py", pair="n", size="s", frames="video", split="axes", _cut="slice_up")
        + "patchify = slice_up"), 2,
                  f"refused: {AT} 1: is a copy: .* of _cut in minivl/teach/check/stages/patches.py")


def fenced() -> Iterator[Student]:
    """What their text does not betray, and gains nothing in a process that holds no answer and compares nothing."""
    yield Student("zoe", with_code(**patch("return sys._getframe(1).f_locals['cases']", before="import sys")), 2,
                  r"patchify: refused: reads callers' frames \(while patchify ran")
    yield Student("anton", with_code(**patch("return inspect.stack()[1][0].f_locals", before="import inspect")), 2,
                  r"patchify: refused: reads callers' frames \(while patchify ran")
    yield Student("bea", with_code(**patch("return frames.view(Anything)", before=ARRAY_THAT_AGREES.strip())), 2,
                  "patchify: gives an array of its own class")
    yield Student("cora", with_cell("np.array_equal = np.allclose = lambda *both, **more: True",
                                    **patch("return np.zeros_like(frames)")), 2,
                  "patchify: gives an array of another shape")
    yield Student("dirk", with_code(**patch("return globals()['minivl'].passes.patches.patchify(frames, config)")), 2,
                  f"patchify: AttributeError in {AT} 2")
    yield Student("elke", with_cell("import gc\nfound = [o for o in gc.get_objects() if callable(o)]"), 0,
                  r"^all: refused: reads callers' frames \(while cell 3")


def pasted(function: str, path: str, **renamed: str) -> str:
    """A function of the package's source, as somebody pastes it, with other names for things."""
    text = (PACKAGE / path).read_text(encoding="utf-8")
    start = text.index(f"def {function}(")
    code = re.split(r"\n(?=\S)", text[start:])[0] + "\n\n"
    for old, new in renamed.items():
        code = re.sub(rf"\b{old}\b", new, code)
    return code


def in_files() -> Iterator[Student]:
    """What editors and mail programs do to files."""
    yield Student("fritz", as_bytes(lambda data: data, f"{ASSIGNMENT}/Untitled3 (copy).ipynb"), 3,
                  "the file is called")
    yield Student("gabi", as_bytes(lambda data: data, "homework.ipynb.txt"), 3, "the file is called")
    yield Student("hugo", saved(without(lambda cell: "check" not in cell["metadata"].get("tags", []))), 3, "right")
    yield Student("ines", saved(retype), 3, "cell 13 was turned into markdown; it is read as code")
    yield Student("jens", saved(other_kernel), 3, "^all: right$")
    yield Student("kira", saved(as_lines), 3, "^all: right$")
    yield Student("leo", saved(as_version_3), 3, "^all: right$")
    yield Student("mona", as_bytes(lambda data: data.replace(b"\n", b"\r\n").replace(b"\\n", b"\\r\\n")), 3, "right$")
    yield Student("nils", as_bytes(lambda data: b"\xef\xbb\xbf" + data), 3, "^all: right$")
    yield Student("olga", as_bytes(lambda data: data.decode("utf-8").encode("utf-16")), 3, "^all: right$")
    yield Student("peter", with_code(patchify="def patchify(frames, config)\n    return frames"), 2,
                  f"patchify: {AT} 1: syntax error")
    yield Student("quinn", lambda name: {f"{ASSIGNMENT}/{ASSIGNMENT}.ipynb": b""}, 0, "^all: the file is empty")
    yield Student("ralf", lambda name: {f"{ASSIGNMENT}/notes.txt": b"I was ill."}, 0, "no notebook")
    yield Student("susi", lambda name: {}, 0, "^all: nothing was handed in")
    yield Student("theo", saved(without(lambda cell: "def patchify" not in cell["source"])), 2,
                  "patchify: no code cell defines patchify")


def hostile() -> Iterator[Student]:
    """What would stop a run."""
    target = str(PACKAGE / "passes" / "patches.py")
    yield Student("uwe", with_code(**patch("while True:", "    pass")), 2, "patchify: does not end")
    yield Student("vicky", with_code(**patch("return np.ones(20 * 2**30, np.uint8)")), 2, "asks for more memory")
    yield Student("wanda", with_code(**patch("print('x' * 40 * 2**20)", "return frames")), 2,
                  "patchify: prints or gives back too much")
    yield Student("xenia", with_cell(f"open({target!r}, 'a').write('# ' + 'here')"), 0,
                  "^all: refused: writes into the package")
    yield Student("yvo", with_code(patchify=LOOP_THAT_CATCHES), 2, "patchify: does not end")
    yield Student("zack", with_code(target_size=NATIVE, **patch(
        f'raise ValueError("{SECRET} " + repr(frames.tolist()) + repr(config))')), 1,
        f"target_size: refused: calls native code.*patchify: ValueError in {AT} 2")
    yield Student("arno", with_code(normalise=ENDLESS_RECURSION), 2, "normalise: RecursionError")
    yield Student("britta", with_cell("while True:\n    pass", 3), 3, "^all: right$")
    yield Student("cleo", with_code(**patch("np.save('/tmp/mine', frames)", "return frames")), 2,
                  "patchify: refused: writes outside its folder")


# -------------------------------------------------------------------------------------------------- the command

def write(folder: Path, students: list[Student]) -> None:
    """Write what they hand in. Raises OSError as the system does."""
    for student in students:
        home = folder / student.name
        home.mkdir(parents=True, exist_ok=True)
        for name, data in student.make(student.name).items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(data)


def unfair(student: Student, points: int, reason: str) -> str:
    """How a mark differs from what is deserved; empty when it does not."""
    if points != student.points:
        return f"{student.name}: {points} points instead of {student.points}: {reason}"
    return "" if re.search(student.reason, reason) else f"{student.name}: {reason!r} does not say {student.reason!r}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.course.class_of_sixty",
                                     description="A class that was never there.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compare", action="store_true", help="the marks in FOLDER/graded with those deserved")
    wanted = parser.parse_args(arguments)
    students = list(members())
    if not wanted.compare:
        write(wanted.folder / "submitted", students)
        print(f"{len(students)} students have handed in {ASSIGNMENT}, in {wanted.folder / 'submitted'}")
        return
    with (wanted.folder / "graded" / ASSIGNMENT / "marks.csv").open(encoding="utf-8", newline="") as table:
        marks = {row["student_id"]: row for row in csv.DictReader(table)}
    told = [unfair(one, int(marks[one.name]["score"]), marks[one.name]["reason"]) if one.name in marks
            else f"{one.name}: no row" for one in students]
    print("\n".join(line for line in told if line) or f"all {len(marks)} rows are as deserved")
    sys.exit(1 if any(told) or len(marks) != len(students) else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
