"""What models write around and instead of the official form: what is read, what is noted, and that nothing is lost.

Expected values are written by hand. `read` is held to three laws: it never raises, it says or notes every two numbers
that stand side by side, and its work grows with the length of the text and no
faster.
"""

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivl.run.answers import Said, read
from minivl.run.grounding import locate

BOX, BOX2, POINT, POINT2 = (12, 30, 60, 88), (5, 6, 70, 80), (12, 30), (60, 88)
CLEAN = [
    ("Thought: it is at the top.\nAction: click(start_box='(12,30)')", [("click", POINT)]),
    ("Action: click(start_box='<|box_start|>(12,30)<|box_end|>')", [("click", POINT)]),
    ("Action: click(start_box=<|box_start|>(12,30)<|box_end|>)", [("click", POINT)]),
    ("Action: click(point='<point>12 30</point>')", [("click", POINT)]),
    ("Action: left_double(start_box='(12,30)')", [("left_double", POINT)]),
    ("Action: right_single(start_box='[12, 30, 60, 88]')", [("right_single", BOX)]),
    ("Action: long_press(start_box='(12,30)', time='2')", [("long_press", POINT)]),
    ("Action: scroll(start_box='(12,30)', direction='down')", [("scroll", POINT)]),
    ("Action: drag(start_box='(12,30)', end_box='(60,88)')", [("drag", POINT), ("drag", POINT2)]),
    ("Action: drag(start_point='<point>12 30</point>', end_point='<point>60 88</point>')",
     [("drag", POINT), ("drag", POINT2)]),
    ("Action: click(start_box='(12,30)')\n\nclick(start_box='(60,88)')", [("click", POINT), ("click", POINT2)]),
    ("pyautogui.click(x=12, y=30)", [("click", POINT)]),
    ("pyautogui.click(12, 30, clicks=2, button='left')", [("click", POINT)]),
    ("```python\nimport pyautogui\npyautogui.moveTo(12, 30)\npyautogui.dragTo(60, 88, duration=0.5)\n```",
     [("moveTo", POINT), ("dragTo", POINT2)]),
    ("await page.mouse.click(12, 30)", [("click", POINT)]), ("Action: CLICK(12, 30)", [("CLICK", POINT)]),
    ("tap([12, 30])", [("tap", POINT)]), ("click((12, 30))", [("click", POINT)]),
    ("swipe(12, 30, 60, 88)", [("swipe", POINT), ("swipe", POINT2)]),
    ("drag((12, 30), (60, 88))", [("drag", POINT), ("drag", POINT2)]),
    ('<tool_call>\n{"name": "mobile_use", "arguments": {"action": "swipe", "coordinate": [12, 30], "coordinate2": '
     '[60, 88]}}\n</tool_call>', [("mobile_use", POINT), ("mobile_use", POINT2)]),
    ('<tool_call>{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": [12, 30]',
     [("computer_use", POINT)]),
    (r'{"name": "click", "arguments": "{\"x\": 12, \"y\": 30}"}', [("click", POINT)]),
    ('{"action": "click", "x": 12, "y": 30}', [("", POINT)]),
    ('{"action": "drag", "x1": 12, "y1": 30, "x2": 60, "y2": 88}', [("", POINT), ("", POINT2)]),
    ('{"action": "click(start_box=\'(12,30)\')"}', [("click", POINT)]),
    ('{"action": "left_click_drag", "start_coordinate": [12, 30], "coordinate": [60, 88]}',
     [("", POINT), ("", POINT2)]),
    ("{'action': 'CLICK', 'value': None, 'position': [12, 30]}", [("", POINT)]),
    ('{"label": "a", "coordinates": [12, 30, 60, 88]}', [("a", BOX)]),
    ('{"label": "a", "bounds": "[12,30][60,88]"}', [("a", BOX)]),
    ('{bbox_2d: [12, 30, 60, 88], label: cat}', [("cat", BOX)]),
    ('[{"bbox_2d": [12 30 60 88], "label": "a"}]', [("a", BOX)]),
    ('{"label": "a", "left": 12, "top": 30, "right": 60, "bottom": 88}', [("a", BOX)]),
    ('<click x="12" y="30"/>', [("", POINT)]), ("<click x=12 y=30/>", [("", POINT)]),
    ("<tap>12, 30</tap>", [("", POINT)]), ("<point>12 30</point>", [("", POINT)]),
    ("CLICK <point>[[12, 30]]</point>", [("", POINT)]), ("<coordinate>[12, 30]</coordinate>", [("", POINT)]),
    ("<box x1=12 y1=30 x2=60 y2=88 alt='a b'/>", [("a b", BOX)]), ("<bbox>12 30 60 88</bbox>", [("", BOX)]),
    ("<box>(12,30),(60,88)</box>", [("", BOX)]),
    ("<ref>a cat</ref><box>[[12, 30, 60, 88], [5, 6, 70, 80]]</box>", [("a cat", BOX), ("a cat", BOX2)]),
    (r"So it is \boxed{[12, 30, 60, 88]}", [("", BOX)]), (r"\boxed{(12, 30)}", [("", POINT)]),
    ("The box is [12, 30, 60, 88].", [("", BOX)]),
    ('[{"bbox_2d": [12, 30, 60, 88], "label": "rows 3, 4", "score": 0.9, "id": 3}]', [("rows 3, 4", BOX)]),
    ('<answer>[{"point_2d": [12, 30], "label": "a"}]</answer>', [("a", POINT)]),
    ('[{"bbox_2d": [12, 30, 60, 88], // the left one\n"label": "a"}]', [("a", BOX)]),
    ('"bbox_2d": [12, 30, 60, 88]', [("", BOX)]),
    ('<body><h2 data-bbox="12 30 60 88">A title</h2>\n<div class="image" data-bbox="5 6 70 80"></div></body>',
     [("A title", BOX), ("div", BOX2)]),
    ('<p class="x">at <point>12 30</point></p>', [("", POINT)]),
]
TABLES = [
    ("| label | x1 | y1 | x2 | y2 |\n|---|---|---|---|---|\n| a cat | 12 | 30 | 60 | 88 |\n| a dog | 5 | 6 | 70 | 80 |",
     [("a cat", BOX), ("a dog", BOX2)]),
    ("| Object | Bounding Box |\r\n|:---|---:|\r\n| a cat | [12, 30, 60, 88] |\r\n| a dog | (5, 6), (70, 80) |\r\n",
     [("a cat", BOX), ("a dog", BOX2)]),
    ("| **Object** | **BBox (x1, y1, x2, y2)** |\n|---|---|\n| **a cat** | `[12, 30, 60, 88]` |", [("a cat", BOX)]),
    ("Here:\n\n| # | Thing | Top-left | Bottom-right |\n|--|--|--|--|\n| 1 | a cat | (12, 30) | (60, 88) |\n\nDone",
     [("a cat", BOX)]),
    ("button | coordinates (x, y)\n--- | ---\nOK | (12, 30)\nNo | 60, 88", [("OK", POINT), ("No", POINT2)]),
    ("| x | y |\n|-|-|\n| 12 | 30 |", [("", POINT)]),
    ("| action | start | end |\n|-|-|-|\n| drag | (12, 30) | (60, 88) |", [("drag", POINT), ("drag", POINT2)]),
    ("| a | place |\n|-|-|\n| b | [12, 30] |", [("", POINT)]),            # no column of places: brackets are read
    ("| label | left | top | right | bottom | score |\n|-|-|-|-|-|-|\n| a cat | 12 | 30 | 60 | 88 | 0.9 |",
     [("a cat", BOX)]),
    ("label,x1,y1,x2,y2\na cat,12,30,60,88\na dog,5,6,70,80\n", [("a cat", BOX), ("a dog", BOX2)]),
    ('```csv\nlabel, bbox\na cat, "12,30,60,88"\na dog, [5, 6, 70, 80]\n```', [("a cat", BOX), ("a dog", BOX2)]),
]
BLOCKS = [
    ('```json\n[{"bbox_2d": [12, 30, 60, 88], "label": "a"}]\n```\nand\n```json\n'
     '[{"bbox_2d": [5, 6, 70, 80], "label": "b"}]\n```', [("a", BOX), ("b", BOX2)], None),
    ('```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [5, 6, 70, 80], "label": "b"}]\n```\nAgain:\n'
     '```json\n[{"bbox_2d": [12, 30, 60, 88], "label": "a"}]\n```', [("b", BOX2), ("a", BOX)], "a [1, 2, 3, 4]"),
    ("```\n[1, 2, 3, 4]\n```\n```\n[12, 30, 60, 88]\n```", [("", BOX)], "[1, 2, 3, 4]"),
    ('```\n{"bbox_2d": [x1, y1, x2, y2], "label": "a"}\n```\n```\n{"bbox_2d": [12, 30, 60, 88], "label": "a"}\n```',
     [("a", BOX)], "not read: a [x1, y1, x2, y2], where a box has 4 numbers"),
    ('```json\n[{"bbox_2d": [12, 30, 60, 88], "label": "a"}]\n```\n```json\n[{"bbox_2d": [1, 2\n```', [("a", BOX)],
     "cut short"),
    ('```json\n{"point_2d": [12, 30], "label": "a"}\n```\n```json\n{"point_2d": [12, 30], "label": "a"}\n```',
     [("a", POINT)], "repeated word for word"),
    ("```python\npyautogui.click(12, 30)\n```\n```python\npyautogui.click(60, 88)\n```",
     [("click", POINT), ("click", POINT2)], None),                                 # what is done twice is done twice
]


def said_of(rows):
    return [Said(label, tuple(map(float, numbers))) for label, numbers in rows]


@pytest.mark.parametrize(("text", "rows"), CLEAN, ids=[text[:40] for text, _ in CLEAN])
def test_forms_that_are_read_without_a_word(text, rows):
    said, notes = read(text)
    assert said == said_of(rows)
    assert [note for note in notes if "cut short" not in note] == []


@pytest.mark.parametrize(("text", "rows"), TABLES, ids=[text[:40] for text, _ in TABLES])
def test_tables_are_read_by_the_names_of_their_columns(text, rows):
    assert read(text) == (said_of(rows), [])


@pytest.mark.parametrize(("text", "rows", "told"), BLOCKS)
def test_of_blocks_that_name_the_same_the_last_one_counts(text, rows, told):
    said, notes = read(text)
    assert said == said_of(rows)
    assert len(notes) >= 1 and told in notes[0] if told else notes == []


PROSE = "read from prose: no box or point stands in a form of its own"
OLD = "in the notation of Qwen2-VL numbers are thousandths of the picture: these were read as pixels"


def more(*shown):
    return f"{len(shown)} more {'was' if len(shown) == 1 else 'were'} written, and not read: {'; '.join(shown)}"


@pytest.mark.parametrize(("text", "rows", "told"), [
    ("The button is at (12, 30).", [("", POINT)], [PROSE]), ("点的坐标在 (12, 30)", [("", POINT)], [PROSE]),
    ("x=12, y=30", [("", POINT)], [PROSE]), ("x1: 12, y1: 30, x2: 60, y2: 88", [("", BOX)], [PROSE]),
    ("Top-left corner: (12, 30), bottom-right corner: (60, 88)", [("", BOX)], [PROSE]),
    ("- cat: (12, 30, 60, 88)\n- dog: (5, 6, 70, 80)", [("cat", BOX), ("dog", BOX2)], [PROSE]),
    ("<function=click><parameter=x>12</parameter>\n<parameter=y>30</parameter></function>", [("", POINT)], [PROSE]),
    ("a dog(12,30),(60,88)", [("a dog", BOX)], [PROSE, OLD]),
    ("<|object_ref_start|>a dog<|object_ref_end|><|box_start|>(12,30),(60,88)<|box_end|>",
     [("a dog", BOX)], [OLD]),
    ("<think>Maybe [1, 2, 3, 4].</think>[12, 30, 60, 88]", [("", BOX)], [more("1, 2, 3, 4")]),
    ("Maybe (3, 4) </think> <answer>[12, 30]</answer>", [("", POINT)], [more("3, 4")]),
    ("<think>It is [1, 2, 3, 4]", [], [more("1, 2, 3, 4")]),
    ("Thought: click(1, 2) is wrong.\nAction: click(12, 30)", [("click", POINT)], [more("1, 2")]),
    ("I see [1, 2, 3, 4].\n**Final answer:** [12, 30, 60, 88]", [("", BOX)], [more("1, 2, 3, 4")]),
    ('```json\n[{"bbox_2d": [1, 2, 3, 4]}]\n```\nWait, let me correct that:\n```json\n'
     '[{"bbox_2d": [12, 30, 60, 88]}]\n```',
     [("", BOX)], ["the model takes back what it named before; what it names last is read", more("1, 2, 3, 4")]),
    ('{"thought": "near (3, 4)", "coordinate": [12, 30]}', [("", POINT)], [more("3, 4")]),
    ('{"thought": "near (3, 4)"}', [], [more("3, 4")]), ("type(content='at (12, 30)')", [], [more("12, 30")]),
    ("scroll(0, -500)", [], [more("0, -500")]), ("pyautogui.moveRel(12, 30)", [], [more("12, 30")]),
    ("pyautogui.scroll(-5, x=12, y=30)", [], [more("-5, x=12, y=30")]),
    ('{"result": [12, 30]}', [], [more("12, 30")]),
    ('{"box_2d": [1, 2, 3, 4], "label": "a"}', [], [more("1, 2, 3, 4")]),
    ("| cat | 12 | 30 | 60 | 88 |", [], [more("12 | 30 | 60 | 88")]),
    ("Drag the slider from (12, 30) to (60, 88).", [("drag", POINT), ("drag", POINT2)], [PROSE]),
    ("Action: swipe from (12, 30) down to (60, 88)", [("swipe", POINT), ("swipe", POINT2)], [PROSE]),
    ("drag (12, 30) -> (60, 88)", [("drag", POINT), ("drag", POINT2)], [PROSE]),
    ("从(12, 30)拖到(60, 88)", [("拖", POINT), ("拖", POINT2)], [PROSE]),
    ("from (12, 30) to (60, 88)", [("", POINT), ("", POINT2)], [PROSE]),
    ("The dog's box spans from (12, 30) to (60, 88)", [("", BOX)], [PROSE]),
    ("Drag the box from (12, 30) to (60, 88)", [("drag", POINT), ("drag", POINT2)], [PROSE]),
    ("| item | price | rows |\n|-|-|-|\n| tea | 12 | 30 |", [], [more("12 | 30")]),
    ("| label | bbox |\n|-|-|\n| a cat | 12, 30, 60 |", [], ["not read: a cat 12, 30, 60, where a box has 4 numbers"]),
    ("| label | x | y |\n|-|-|-|\n| a cat | 12% | 30% |", [], [more("12% | 30%")]),
    ("| label | x1 | y1 | x2 | y2 |\n|-|-|-|-|-|\n| a cat | 12 | 30 | 60 | 88 |\n| a dog | 1 | 2", [("a cat", BOX)],
     [more("1 | 2")]),
    ("| label | bbox |\n|-|-|\n| a | 1, 2, 3, 4 |\n\nWait, it is:\n\n| label | bbox |\n|-|-|\n| a | 12, 30, 60, 88 |",
     [("a", BOX)], ["the model takes back what it named before; what it names last is read", more("1, 2, 3, 4")]),
    ("input tap 12 30", [], [more("12 30")]),
    ('{"x": 1, "y": 2, "width": 3, "height": 4}', [],
     ['not read: {"x": 1, "y": 2, "width": 3, "height": 4}, where a box has 4 numbers']),
    ("<box>(1,2),(3,4),(5,6)</box>", [], [more("1,2),(3,4),(5,6")]),
    ("There are 3 cats and 2 dogs.", [], []), ("<answer>none</answer>", [], []),
])
def test_what_is_not_plain_is_said_in_a_note(text, rows, told):
    said, notes = read(text)
    assert said == said_of(rows) and notes == told


def test_the_sweep_counts_what_it_does_not_show():
    said, notes = read(" and ".join(f"({n}, {n + 1})" for n in range(10, 40)))
    assert said == [] and len(notes) == 1 and notes[0].startswith("30 more were written, and not read: 10, 11; 11, 12")
    assert notes[0].endswith("29, 30; ...")


# ---- laws ----------------------------------------------------------------------------------------------------------

FORMS = [
    '[{{"bbox_2d": [{0}, {1}, {2}, {3}], "label": "a"}}]', "[{0}, {1}]", "click({0}, {1})",
    "<point>{0} {1}</point>", "click(start_box='({0},{1})')", '{{"coordinate": [{0}, {1}]}}',
    "drag(({0}, {1}), ({2}, {3}))", "<box>({0},{1}),({2},{3})</box>",
    '{{"x1": {0}, "y1": {1}, "x2": {2}, "y2": {3}}}', '<p data-bbox="{0} {1} {2} {3}">words</p>',
    "\n| b | x1 | y1 | x2 | y2 |\n|-|-|-|-|-|\n| c | {0} | {1} | {2} | {3} |\n",
    "\n\nlabel,x1,y1,x2,y2\nd,{0},{1},{2},{3}\n\n"]
OTHERS = [
    "at ({0}, {1})", "{0}, {1}", "| {0} | {1} | {2} | {3} |", '{{"thought": "{0}, {1}"}}',
    '{{"colour": [{0}, {1}]}}', "<think>({0}, {1})</think>", "type('{0} {1}')", "rgb({0}, {1})",
    "<td>{0}</td><td>{1}</td>", '{{"a": "{0}, {1}', "({0},{1}),({2},{3})", "scroll({0}, {1})",
    "x={0} y={1}", '{{"bbox_2d": [{0}, {1}', "[[{0}, {1}"]
JOINS = ("\n", " and ", ". Then ", " -> ")


def filled(forms, joins=(*JOINS, "\n```\n")):
    """A text of these forms, each with numbers of its own: 101, 102 ... in order."""
    def fill(drawn):
        count, parts = 100, []
        for form, join in drawn:
            parts += [form.format(*range(count + 1, count + 5)), join]
            count += 4
        return "".join(parts)
    return st.lists(st.tuples(st.sampled_from(forms), st.sampled_from(joins)), min_size=1, max_size=6).map(fill)


@given(filled(FORMS, JOINS))
def test_what_is_read_is_read_whole_and_in_order(text):
    said, notes = read(text)
    assert [int(n) for one in said for n in one.numbers] == [int(n) for n in re.findall(r"\d{3}", text)]
    assert all("notation" in note for note in notes)


@given(filled([*FORMS, *OTHERS]))
def test_nothing_is_lost_and_nothing_is_made_up(text):
    said, notes = read(text)
    spoken = [int(n) for one in said for n in one.numbers]
    written = [int(n) for n in re.findall(r"\d{3}", text)]
    noted = {int(n) for note in notes for n in re.findall(r"\d{3}", note)}
    assert set(spoken) | noted == set(written)
    assert spoken == sorted(spoken) and len(set(spoken)) == len(spoken)


PIECES = st.sampled_from([
    "<think>", "</think>", "<answer>", "Thought:", "\nAction:", "click(", "drag(", "type(",
    "<point>", "<box>", "<|box_start|>", "x=", "y=", "start_box=", '"arguments": "', "at (", "1,",
    "2.5", "(3, 4)", "[5, 6]", "wait", "| x | y |\n|-|-|\n", "| 1 | 2 |\n",
    "\nx,y\n", "```", "<p data-bbox=", "from", " to ", *"[](){}<>\"'\\,:=|\n "])


@given(st.lists(PIECES, max_size=50).map("".join))
def test_no_mixture_of_forms_is_too_strange(text):
    said, notes = read(text)
    assert all(len(one.numbers) in (2, 4) for one in said) and all(isinstance(note, str) for note in notes)
    locate(text, (56, 84), (100, 90))


HOSTILE = [
    "[", '{"a":', "click(", "<point ", "<ref>", "9", "(1,", "1 ", "x=1,", "<think>", "Thought:\n",
    "\n", "a", "[1,2]", '"', "'a", "top left ", "at at ", '{"arguments":"', "wait [1,2]", "\\", " ",
    "final answer\n", "1e", "-", "_click", "left_", "<|box_start|>", "(1,2),(", "x1=1,", '{"x":1,',
    "[1", "</answer>", "1.", '"a":[1,2],', "|", "|a|\n|-|\n", "|x|y|\n|-|-|\n|1|2|\n", "|-", "-|\n", "a,b\n",
    "a,x,y\n1,", "x,y\n1,2\n", '"1,', "<p data-bbox=\"", '<p data-bbox="1 2 3 4">', "<a b", "```", "```\n[1,2]\n", "//",
    "from (1,2) to ", "(1,2)->", "(1,2) to", "from ", "drag (1,2)"]


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_long_hostile_texts_end(piece):
    """Where the work grows with the length of a text, 100,000 characters take about a second; where with its square, a
    minute and more. The bound is far from both, so that no machine is too slow for it."""
    start = time.process_time()
    for text in (piece * (100_000 // len(piece)), "[1" + piece * (100_000 // len(piece)) + "]"):
        said, notes = read(text)
        assert all(isinstance(note, str) for note in notes) and isinstance(said, list)
    assert time.process_time() - start < 15


# ---- held against the picture --------------------------------------------------------------------------------------

SIZE, SOURCE = (504, 700), (1008, 1400)                                      # height, width


def notes_of(*numbers, source=SOURCE):
    key = "bbox_2d" if len(numbers) == 4 else "point_2d"
    found = locate(json.dumps([{key: numbers}]), SIZE, source)
    return [one.said for one in found], found.notes


def test_fractions_are_no_pixels():
    left_out = "left out: [{}] are fractions, not pixels; nothing was rescaled"
    assert notes_of(0.1, 0.2, 0.5, 1) == ([], [left_out.format("0.1, 0.2, 0.5, 1")])
    assert notes_of(0.4, 0.81) == ([], [left_out.format("0.4, 0.81")])
    assert notes_of(0, 0) == ([(0, 0)], []) and notes_of(0.5, 30.5) == ([(0.5, 30.5)], [])
    assert notes_of(0, 0, 1, 1) == ([(0, 0, 1, 1)],
                                    ["[0, 0, 1, 1] is one pixel, or the whole picture in fractions: read as pixels"])


def test_numbers_far_beyond_the_picture_are_said_to_be_of_another_unit():
    seen = "the picture as the model saw it, 700 wide and 504 high"
    thousandths, source = "thousandths of it", "pixels of the picture as it came, 1400 wide and 1008 high"
    out, end = f"lies outside of {seen}", ", and nothing was rescaled"
    both = f"; they may be {thousandths} or {source}{end}"
    assert notes_of(900, 950) == ([], [f"left out: [900, 950] {out}{both}"])
    assert notes_of(1200, 950) == ([], [f"left out: [1200, 950] {out}; they may be {source}{end}"])
    assert notes_of(900, 950, source=SIZE)[1] == [f"left out: [900, 950] {out}; they may be {thousandths}{end}"]
    assert notes_of(5000, 5000) == ([], [f"left out: [5000, 5000] {out}"])
    assert notes_of(10, 20, 990, 500)[1] == [f"clipped: [10, 20, 990, 500] reaches beyond {seen}{both}"]
    assert notes_of(10, 20, 728, 500)[1] == [f"clipped: [10, 20, 728, 500] reaches beyond {seen}"]


def test_a_click_on_a_screen_comes_back_in_its_own_pixels():
    """1080 x 1920 is seen as 1064 x 1904: each axis has a factor of its own."""
    found = locate("Action: click(start_box='(952,532)')", (1064, 1904), (1080, 1920))
    assert found[0].point == (960, 540) and found.notes == []


def test_the_sizes_of_a_token_agree():
    from minivl.config import OFFICIAL_PICTURES as official
    from minivl.run.grounding import TOKEN
    assert official.patch_size * official.merge_size == TOKEN
