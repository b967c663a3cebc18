"""From an answer's text to boxes on the picture: what is read, where it lands, what is drawn, what is refused.

No answer here is the model's own: texts are planted, so that nothing depends on how well the embedded model sees.
"""

import json
import math
import re
import string
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import minivl
from minivl.cli import words as cli
from minivl.config import PreprocessorConfig
from minivl.passes.answer import boxes_to_original, boxes_to_resized
from minivl.passes.picture import target_size
from minivl.run.answers import Said, read
from minivl.run.grounding import Found, Grounding, locate
from minivl.show import draw, plot

SETTINGS = PreprocessorConfig(3136, 12845056, 14, 2, 2, (0.5,) * 3, (0.5,) * 3)
EPS = np.finfo(np.float64).eps
CUT = "the answer ends before its brackets are closed: it may have been cut short"


@pytest.fixture(scope="module")
def vlm():
    with minivl.load() as loaded:
        yield loaded


@contextmanager
def saying(vlm, answer):
    """The model writes this answer, whatever it thinks."""
    ids = [*vlm.tokenizer.encode(answer), vlm.config.eos_token_id]
    left = iter(ids)
    with minivl.using({"sampling.most_likely": lambda logits: np.array([next(left)])}):
        yield


# ---- mapping -----------------------------------------------------------------------------------------------

sides = st.integers(20, 3000)
sources = st.tuples(sides, sides).filter(lambda s: max(s) < 200 * min(s))
numbers = st.integers(0, 400_000).map(lambda n: n / 100)
box_lists = st.lists(st.tuples(*[numbers] * 4), max_size=5).map(lambda rows: np.array(rows).reshape(-1, 4))


@given(sources)
def test_the_resized_picture_is_the_whole_original_exactly(source):
    size = target_size(source, SETTINGS)
    whole = boxes_to_original(np.array([[0, 0, size[1], size[0]]], np.float64), size, np.array(source))
    assert whole.tolist() == [[0, 0, source[1], source[0]]]


@given(sources, box_lists)
def test_there_and_back_within_rounding(source, boxes):
    size, source = target_size(source, SETTINGS), np.array(source)
    there = boxes_to_original(boxes, size, source)
    assert there.shape == boxes.shape and there.dtype == np.float64
    assert np.allclose(boxes_to_resized(there, size, source), boxes, rtol=4 * EPS, atol=0)
    assert np.allclose(boxes_to_original(boxes_to_resized(boxes, size, source), size, source), boxes, rtol=4 * EPS,
                       atol=0)


@given(sources, sources, box_lists, st.integers(1, 7))
def test_mapping_commutes_with_scaling(source, between, boxes, times):
    size, source, between = target_size(source, SETTINGS), np.array(source), np.array(between)
    once = boxes_to_original(boxes, size, source)
    assert np.allclose(boxes_to_original(boxes, size, times * source), times * once, rtol=4 * EPS, atol=0)
    assert np.allclose(boxes_to_original(times * boxes, times * size, source), once, rtol=4 * EPS, atol=0)
    assert np.allclose(boxes_to_original(boxes_to_original(boxes, size, between), between, source), once, rtol=8 * EPS,
                       atol=0)


def test_across_and_down_have_scales_of_their_own():
    """480 x 640 becomes 476 x 644: x shrinks on the way back, y grows; each by hand."""
    got = boxes_to_original(np.array([[322.0, 238, 644, 119]]), np.array([476, 644]), np.array([480, 640]))
    assert got.tolist() == [[320, 240, 640, 120]]


@given(sources, st.data())
def test_what_is_found_lies_in_the_picture(source, data):
    size = tuple(target_size(source, SETTINGS).tolist())
    wild = st.integers(-50, 4000)
    box = data.draw(st.tuples(wild, wild, wild, wild))
    found = locate(json.dumps([{"bbox_2d": box, "label": "a"}]), size, source)
    x0, x1 = sorted((box[0], box[2]))
    y0, y1 = sorted((box[1], box[3]))
    pixels = {(x, y) for x in (x0, x1 - 1) for y in (y0, y1 - 1)}
    overlaps = max(x0, 0) < min(x1, size[1]) and max(y0, 0) < min(y1, size[0])
    assert len(found) == overlaps
    outside = any(not (0 <= x < size[1] and 0 <= y < size[0]) for x, y in pixels)
    if overlaps:
        a, b, c, d = found[0].box
        assert 0 <= a < c <= source[1] and 0 <= b < d <= source[0] and found[0].said == box
        assert any("clipped" in note for note in found.notes) == outside
        assert any("in order" in note for note in found.notes) == ((x0, y0) != box[:2])
    else:
        assert len(found.notes) == 1 and found.notes[0].startswith("left out: a [")


def test_points_of_the_border_are_kept_and_points_beyond_it_are_not():
    answer = json.dumps([{"point_2d": p, "label": "p"} for p in ([0, 0], [84, 56], [-1, -1], [85, 3])])
    found = locate(answer, (56, 84), (112, 84))
    assert [one.point for one in found] == [(0, 0), (84, 112)] and [one.box for one in found] == [None, None]
    assert ["lies outside" in note for note in found.notes] == [True, True]


# ---- reading -----------------------------------------------------------------------------------------------

labels = st.text(string.ascii_letters + string.digits + " '\"\\[]{}:,().-é猫\n", max_size=12)
coordinates = st.one_of(st.integers(-9, 5000), st.floats(-9, 5000, allow_nan=False).map(lambda x: round(x, 2)))
things = st.lists(st.one_of(st.tuples(labels, st.lists(coordinates, min_size=4, max_size=4)),
                            st.tuples(labels, st.lists(coordinates, min_size=2, max_size=2))),
                  max_size=5, unique_by=str)


def as_said(rows, nameless=""):
    return list(dict.fromkeys(Said(" ".join(label.split()) or nameless, tuple(map(float, n))) for label, n in rows))


def entry(label, n, turned=False):
    pairs = [("bbox_2d" if len(n) == 4 else "point_2d", n), ("label", label)]
    return dict(reversed(pairs) if turned else pairs)


wrappings = st.sampled_from(["{}", "```json\n{}\n```", "```\n{}", "Here [1] it's:\n{}\nThat's all {{really}}.",
                             '{{"objects": {}}}'])


@given(things, st.sampled_from([None, 2, "\t"]), st.booleans(), st.booleans(), wrappings)
def test_json_is_read_however_it_is_wrapped(rows, indent, turned, ascii_only, around):
    text = json.dumps([entry(label, n, turned) for label, n in rows], indent=indent, ensure_ascii=ascii_only)
    said, notes = read(around.format(text))
    assert said == as_said(rows, "objects" if "objects" in around else "")
    assert all("repeated" in note for note in notes)


@given(things.filter(bool), st.data())
def test_an_answer_cut_short_gives_what_was_complete(rows, data):
    text = json.dumps([entry(label, n) for label, n in rows])
    at = data.draw(st.integers(0, len(text)))
    said, notes = read(text[:at])
    whole = as_said(rows)
    assert [one.numbers for one in said] == [one.numbers for one in whole[:len(said)]]
    ends = [match.end() for match in re.finditer(r'_2d": \[[^\]]*\]', text)]
    if len(whole) == len(rows) and not re.search(r'_2d": \[', "".join(label for label, _ in rows)):
        assert len(said) == sum(end <= at for end in ends)
        assert said[:-1] == whole[:max(len(said) - 1, 0)]
    assert (CUT in notes) == (0 < at < len(text))


pieces = st.sampled_from(['"bbox_2d"', '"point_2d"', '"label"', "label", *":,[]{}()\"'\\\n =>é", "12", "-3.5", "1e999",
                          "9" * 500, "```json", "null", "x1", "<points"])


@given(st.one_of(st.text(max_size=80), st.lists(pieces, max_size=60).map("".join)))
def test_no_answer_is_too_strange(text):
    said, notes = read(text)
    assert all(len(one.numbers) in (2, 4) and all(map(math.isfinite, one.numbers)) for one in said)
    assert all(isinstance(note, str) and note for note in notes)
    found = locate(text, (56, 84), (100, 90))
    assert all(0 <= n <= 100 for one in found for n in (one.box or one.point))


A, B, P = Said("a", (1, 2, 3, 4)), Said("b", (5, 6, 7, 8)), Said("p", (10, 20))
NAMELESS = Said("", (1, 2, 3, 4))


@pytest.mark.parametrize(("text", "said"), [
    ('{"bbox_2d": [1, 2, 3, 4], "label": "a"}', [A]),
    ('{"bbox_2d": [1, 2, 3, 4], "label": "a"}\n{"bbox_2d": [5, 6, 7, 8], "label": "b"}', [A, B]),
    ("[{'bbox_2d': [1, 2, 3, 4], 'label': 'a'}, {'bbox_2d': (5, 6, 7, 8), 'label': 'b',},]", [A, B]),
    ('{"bbox_2d": [1, 2, 3, 4], "label": "a", "bbox_2d": [5, 6, 7, 8], "label": "b"}', [A, B]),
    ('{"label": "a", "bbox_2d": [1, 2, 3, 4], "label": "b", "bbox_2d": [5, 6, 7, 8]}', [A, B]),
    ('{"label": "a", "bbox_2d": [1, 2, 3, 4], "bbox_2d": [5, 6, 7, 8]}', [A, Said("a", B.numbers)]),
    ('{"label": "a", "bbox_2d": [[1, 2, 3, 4], [5, 6, 7, 8]]}', [A, Said("a", B.numbers)]),
    ('{"label": "a", "bbox_2d": [[1, 2], [3, 4]]}', [A]),
    ('{"label": "a", "bbox_2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}', [A]),
    ('{"label": "a", "xmin": 1, "xmax": 3, "ymin": 2, "ymax": 4}', [A]),
    ('{"label": "a", "bbox_2d": ["1", "2", "3", "4"]}', [A]), ('{"label": "a", "bbox_2d": "1, 2, 3, 4"}', [A]),
    ('{"bbox_2d": [1, 2, 3, 4] "label": "a"}', [A]), ('{"bbox_2d": [1, 2, 3, 4}', [NAMELESS]),
    ('[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [5, 6, 7, 8], "label": "b"]', [A, B]),
    ('{"found": {"all": [{"name": "a", "bbox": [1, 2, 3, 4]}]}, "count": 1}', [A]),
    ('{"boxes": [{"label": "a", "bbox_2d": [1, 2, 3, 4]}, {"label": "b", "bbox_2d": [5, 6, 7, 8]}]}', [A, B]),
    ('{"a": [1, 2, 3, 4], "b": {"bbox_2d": [5, 6, 7, 8]}}', [A, B]),
    ('{"label": "a", "bbox_2d": [1, 2, 3, 4], "colour": [255, 0, 0, 255], "part": {"label": "b", "box": [5, 6, 7, 8]}}',
     [A, B]),
    ('{"label": , "bbox_2d": [1, 2, 3, 4]}', [NAMELESS]), ('{"bbox_2d": [1, 2, 3, 4), "label": "a"}', [A]),
    ("[[1, 2, 3, 4}, [5, 6, 7, 8]]", [NAMELESS, Said("", B.numbers)]),
    ("[1, 2, 3, 4]", [NAMELESS]), ("[[1, 2, 3, 4], [5, 6, 7, 8]]", [NAMELESS, Said("", B.numbers)]),
    ("[(10, 20)]", [Said("", P.numbers)]), ('{"point_2d": [10, 20], "label": "p"}', [P]),
    ('{"label": "p", "points": [[10, 20], {"x": 30, "y": 40}]}', [P, Said("p", (30, 40))]),
    ('{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": [10, 20]}}',
     [Said("computer_use", (10, 20))]),
    ('<points x1="10" y1="20" x2="1.5" y2="2" alt="p">the points</points>', [P, Said("p", (1.5, 2))]),
    ('<point x="10" y="20">p</point>', [P]),
    ("Look:\na(1,2),(3,4)b(5, 6), (7, 8)", [A, B]),
    ('[{"bbox_2d": [1, 2, 3, 4], "label": 7}]', [Said("7", A.numbers)]),
    (r'[{"bbox_2d": [1, 2, 3, 4], "label": "\ud800\u00e9"}]', [Said("?é", A.numbers)]),
    (r'{"\ud83d\ude00\ude00": [1, 2, 3, 4]}', [Said("\N{GRINNING FACE}?", A.numbers)]),
    ('[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, "label": "z"', [A]),
])
def test_forms_that_models_write(text, said):
    assert read(text)[0] == said


@pytest.mark.parametrize(("text", "told"), [
    ("There is none.", []), ("[]", []), ("", []), ("See [1] and f(2).", []),
    ('{"bbox_2d": null, "label": "a"}', ["not read: a null, where a box has 4 numbers"]),
    ('{"bbox_2d": [], "label": "a"}', ["not read: a [], where a box has 4 numbers"]),
    ('{"bbox_2d": [1, 2, 3], "label": "a"}', ["not read: a [1, 2, 3], where a box has 4 numbers"]),
    ('{"point_2d": [1, 2, 3, 4]}', ["not read: [1, 2, 3, 4], where a point has 2 numbers"]),
    ('{"bbox_2d": [1, 2, 3, 1e999]}', ["not read: [1, 2, 3, 1e999], where a box has 4 numbers"]),
    ('{"bbox_2d": ["a", 2, 3, 4]}', ['not read: ["a", 2, 3, 4], where a box has 4 numbers']),
    ('{"bbox_2d": {"x": 1, "y": 2, "width": 3, "height": 4}}',
     ['not read: {"x": 1, "y": 2, "width": 3, "height": 4}, where a box has 4 numbers']),
    ("[1, 2, 3]", ["not read: [1, 2, 3], where a box has 4 numbers"]),
    ('[{"bbox_2d": [1, 2, 3, 4', [CUT]), ('[{"x1": 1, "y1": 2, "x2": 3, "y2": 4', [CUT]),
    ('[{"label": "a, "bbox_2d": [1, 2], "b":', [CUT]),
    ("[" * 5000, [CUT]), ("[" * 5000 + "1, 2, 3, 4" + "]" * 5000, [CUT]),
])
def test_what_cannot_be_read_is_told(text, told):
    said, notes = read(text)
    assert said == [] and [note for note in notes if "more was" not in note] == told


def test_a_box_lost_to_a_missing_quote_is_counted():
    said, notes = read('[{"bbox_2d": [1, 2, 3, 4], "label": "a}, {"bbox_2d": [5, 6, 7, 8], "label": "b"}]')
    assert [one.numbers for one in said] == [A.numbers] and "1 more was named, too damaged to be read" in notes


def test_a_model_going_round_in_circles_is_told_once():
    said, notes = read(f'[{", ".join([json.dumps(entry("a", [1, 2, 3, 4]))] * 50)}]')
    assert said == [A] and notes == ["49 repeated word for word: left out"]


# ---- in Python ---------------------------------------------------------------------------------------------

def picture_of(height, width, exif=None):
    """A PNG of noise as bytes, with an orientation."""
    import io
    buffer, noise = io.BytesIO(), np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    tags = Image.Exif()
    if exif:
        tags[0x0112] = exif
    Image.fromarray(noise).save(buffer, format="png", exif=tags)
    return buffer.getvalue()


def test_ground_maps_through_the_door(vlm):
    """100 x 150 becomes 112 x 140: half of each side stays half of each side."""
    answer = '[{"bbox_2d": [0, 0, 70, 112], "label": "left half"}, {"point_2d": [140, 56], "label": "edge"}]'
    with saying(vlm, answer), minivl.session(record="answer.*,picture.target_size", verify=True) as s:
        found = vlm.ground(picture_of(100, 150), "Where?")
    assert isinstance(found, Grounding) and isinstance(found, list)
    assert (found.answer, found.notes, found.size, found.source_size) == (answer, [], (112, 140), (100, 150))
    assert found == [Found("left half", (0, 0, 75, 100), None, (0, 0, 70, 112)),
                     Found("edge", None, (150, 50), (140, 56))]
    assert s.trace["answer.boxes_to_original"].tolist() == [[0, 0, 75, 100], [150, 50, 150, 50]]
    assert s.trace["picture.target_size"].tolist() == [112, 140]


def test_the_way_back_can_be_replaced(vlm):
    forgot = minivl.using({"answer.boxes_to_original": lambda boxes, size, source_size: boxes})
    with saying(vlm, "[[0, 0, 70, 112]]"), forgot:
        assert vlm.ground(picture_of(100, 150), "Where?")[0].box == (0, 0, 70, 112)


def test_a_picture_on_its_side_is_found_upright(vlm):
    with saying(vlm, "[[0, 0, 56, 84]]"):
        found = vlm.ground(picture_of(84, 112, exif=6), "Where?")
    assert found.source_size == (112, 84) and found[0].box == (0, 0, 56, 84)


def test_ground_is_greedy_and_takes_the_options_of_chat(vlm):
    with saying(vlm, "[[1, 2, 3, 4], [5, 6, 7, 8]]"):
        found = vlm.ground(picture_of(56, 56), "Where?", max_new_tokens=len(vlm.tokenizer.encode("[[1, 2, 3, 4], [5")))
    assert [one.said for one in found] == [(1, 2, 3, 4)] and found.notes == [CUT]
    with pytest.raises(TypeError, match="no option colour"):
        vlm.ground(picture_of(56, 56), "Where?", colour=1)
    with minivl.session(record="prompt.expand") as s:
        vlm.ground(picture_of(56, 56), "?", 1), vlm.ground(picture_of(56, 56), "?", 1, add_vision_id=True)
    assert len(s.trace["prompt.expand@1"]) > len(s.trace["prompt.expand"])
    assert vlm.ground(picture_of(56, 56), "?", 2, temperature=1.0, seed=1).source_size == (56, 56)
    with saying(vlm, "There is none."):
        found = vlm.ground(picture_of(56, 56), "Where?")
    assert found == [] and not found and found.answer == "There is none."


# ---- drawing -----------------------------------------------------------------------------------------------

def mark(box=None, point=None, label=""):
    return Found(label, box, point, box or point)


def rgb(colour):
    return tuple(int(colour[n:n + 2], 16) for n in (1, 3, 5))


@given(st.integers(150, 400), st.integers(150, 400), st.data())
def test_the_line_of_a_box_is_its_outer_edge(height, width, data):
    x0, y0 = data.draw(st.integers(0, width - 80)), data.draw(st.integers(0, height - 80))
    x1, y1 = data.draw(st.integers(x0 + 70, width)), data.draw(st.integers(y0 + 70, height))
    pixels, scale = np.full((height, width, 3), 90, np.uint8), draw.scale_of((height, width))
    drawn = np.asarray(draw.found(pixels, [mark((x0, y0, x1, y1))]))
    assert drawn.shape == (height * scale, width * scale, 3)
    line = draw.thickness_of(drawn.shape)
    across, down = drawn[scale * (y0 + y1) // 2], drawn[:, scale * (x0 + x1) // 2]       # no label in the middle
    for pixel_row, start, end in ((across, scale * x0, scale * x1), (down, scale * y0, scale * y1)):
        coloured = np.flatnonzero((pixel_row == rgb(plot.COLOURS[0])).all(axis=1))
        assert coloured.tolist() == [*range(start, start + line), *range(end - line, end)]
        assert (pixel_row[start + line:end - line] == 90).all()


def test_nothing_drawn_leaves_the_picture_as_it_is_enlarged():
    pixels = np.random.default_rng(0).integers(0, 256, (57, 90, 3), np.uint8)
    drawn = np.asarray(draw.found(pixels, []))
    scale = draw.scale_of(pixels.shape)
    assert scale == 6 and (drawn[::scale, ::scale] == pixels).all() and (drawn[5::scale, 5::scale] == pixels).all()


@pytest.mark.parametrize(("shape", "scale", "line"), [
    ((56, 56), 6, 2), ((336, 500), 1, 2), ((10, 2000), 1, 2), ((10, 900), 1, 2), ((100, 400), 3, 3),
    ((1080, 1920), 1, 7), ((4000, 3000), 1, 17)])
def test_lines_grow_with_the_picture_and_small_pictures_do_too(shape, scale, line):
    assert draw.scale_of(shape) == scale
    assert draw.thickness_of((shape[0] * scale, shape[1] * scale)) == line


@given(st.integers(1, 90), st.integers(1, 900), st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=6), labels)
def test_any_picture_takes_any_mark(height, width, places, label):
    marks = [mark((min(a, c) * width, min(b, d) * height, max(a, c) * width, max(b, d) * height), None, label)
             if n % 2 else mark(None, (a * width, b * height), label) for n, (a, b, c, d) in enumerate(places)]
    scale = draw.scale_of((height, width))
    assert draw.found(np.zeros((height, width, 3), np.uint8), marks).size == (width * scale, height * scale)


def test_a_point_is_a_disc_about_its_pixel():
    drawn = np.asarray(draw.found(np.zeros((400, 400, 3), np.uint8), [mark(None, (200.5, 100.5))]))
    rows, columns = np.nonzero((drawn == rgb(plot.COLOURS[0])).all(axis=2)[94:107])
    assert drawn[100, 200].tolist() == list(rgb(plot.COLOURS[0]))
    assert (rows.mean() + 94, columns.mean()) == pytest.approx((100, 200), abs=0.01)


def test_labels_do_not_cover_each_other():
    taken = []
    marks = [mark((50, 50, 300, 300), None, "one"), mark((50, 50, 300, 300), None, "two")]
    name = draw._name
    try:
        draw._name = lambda *args: taken.append(name(*args)) or taken[-1]
        draw.found(np.zeros((400, 400, 3), np.uint8), marks)
    finally:
        draw._name = name
    assert len(taken) == 2 and not draw._overlap(*taken)


def test_the_plot_draws_the_same_places():
    found = [mark((10, 20, 30, 40), None, "$a_1"), mark(None, (7, 8), "p")]
    ax = plot.found(np.zeros((50, 60, 3), np.uint8), found)
    frame, point = ax.lines[1], ax.lines[2]
    assert [min(frame.get_xdata()), min(frame.get_ydata()), max(frame.get_xdata()), max(frame.get_ydata())] == [
        9.5, 19.5, 29.5, 39.5]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (6.5, 7.5)
    assert [text.get_text() for text in ax.texts] == [r"1 \$a_1", "2 p"] and ax.get_title() == "2 found"
    ax.figure.savefig(SimpleNamespace(write=lambda data: None, flush=lambda: None), format="png")


# ---- on the command line -----------------------------------------------------------------------------------

def run(*words, code=0):
    result = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    return result.stdout, result.stderr


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "кот [1].png"
    path.write_bytes(picture_of(100, 150, exif=8))                    # upright: 150 high, 100 wide
    return path


ANSWER = '```json\n[{"bbox_2d": [56, 0, 200, 70], "label": "cat"}]\n```'


def test_ground_draws_and_prints(vlm, picture, tmp_path):
    with saying(vlm, ANSWER):
        out, err = run("ground", picture, "Where?", "-o", tmp_path / "out é.png")
    title, names, row = out.splitlines()
    assert title == "Where?" and "100 x 150" in names and "112 x 140" in names
    assert re.fullmatch(r"1 +cat +x 50\.\.100, y 0\.\.75 +56, 0, 200, 70", row)
    assert "clipped: cat [56, 0, 200, 70]" in err and "embedded" in err and "out é.png" in err.splitlines()[-1]
    image = Image.open(tmp_path / "out é.png")
    assert image.format == "PNG" and image.size == (400, 600)         # 4 times 100 x 150: upright


def test_ground_as_json(vlm, picture, tmp_path):
    answer = ANSWER.replace("]\n", ', {"point_2d": [33, 69]}]\n')      # 33 of 112 and 69 of 140: 29.464 and 73.929
    with saying(vlm, answer):
        out = run("ground", picture, "Where?", "--json", "-o", tmp_path / "out.png", "--model", vlm.folder)[0]
    found = json.loads(out)
    assert found["found"] == [{"label": "cat", "box": [50, 0, 100, 75], "point": None, "said": [56, 0, 200, 70]},
                              {"label": "", "box": None, "point": [29.46, 73.93], "said": [33, 69]}]
    assert (found["source_size"], found["resized_size"]) == ([150, 100], [140, 112])
    assert (found["answer"], found["question"], found["image"]) == (answer, "Where?", str(picture))
    assert found["picture"] == str(tmp_path / "out.png") and (tmp_path / "out.png").exists()
    assert len(found["notes"]) == 1


def test_an_answer_without_a_place_writes_nothing(vlm, picture, tmp_path):
    (tmp_path / "old.png").write_bytes(b"as it was")
    for name in ("new.png", "old.png"):
        with saying(vlm, "I see\nno cat."):
            out, err = run("ground", picture, "Where?", "-o", tmp_path / name, code=1)
        assert out == "" and "no box or point in the answer" in err and "I see no cat." in err \
            and "Find the red circle." in err
    with saying(vlm, '[{"bbox_2d": [1, 2, 3], "label": "cat"}]'):
        out, err = run("ground", picture, "Where?", "--json", "-o", tmp_path / "new.png", code=1)
    assert json.loads(out)["found"] == [] and json.loads(out)["picture"] is None and "not read: cat [1, 2, 3]" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.png", picture.name]
    assert (tmp_path / "old.png").read_bytes() == b"as it was"


def test_ground_refuses_before_it_works(picture, tmp_path):
    for path, why in ((tmp_path / "a.jpg", ".png"), (tmp_path / "none" / "a.png", "its folder"), (tmp_path, ".png"),
                      (picture, "would be written over")):
        out, err = run("ground", picture, "Where?", "-o", path, code=2)
        assert out == "" and why in err and err.count("\n") == 1
    assert "question is missing" in run("ground", picture, picture, code=2)[1]
    assert "question is empty" in run("ground", picture, " ", code=2)[1]
    assert "no such file" in run("ground", tmp_path / "none.png", "Where?", "-o", tmp_path / "a.png", code=2)[1]
    assert [path.name for path in tmp_path.iterdir()] == [picture.name]
