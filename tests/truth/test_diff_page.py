"""The page of a comparison: the guilty stage comes first, its rows stand where provenance puts them, and a keyboard and
a telephone are enough. What needs a browser is skipped by name where there is none.
"""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import minivl
from minivl.cli.words import app
from minivl.run.provenance import provenance
from minivl.truth.compare.compare import compare
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.page import html
from minivl.truth.compare.page_data import MOST, drawn, first_rows
from minivl.truth.museum import get
from minivl.truth.trace.format import Trace
from minivl.truth.trace.record import record

from ..browser import Opened, chromium, faint_texts

VLM = minivl.load(precision="float64")
NOISE = np.random.default_rng(1)
WIDE, TALL = (NOISE.integers(0, 256, (h, u, 3), np.uint8) for h, u in ((140, 196), (196, 112)))     # ragged windows


def asked(*pictures):
    words = {"type": "text", "text": "What is it?"}
    return [{"role": "user", "content": [*({"type": "image", "image": one} for one in pictures), words]}]


# case -> the pictures, the fault, the stage that goes wrong first, whether its rows lie in a picture
CASES = {"order": ([WIDE], "order-not-inverted", "vision.restore_order", True),
         "positions": ([WIDE], "height-and-width-swapped", "positions.mrope", True),
         "nan": ([WIDE], "nan-from-a-masked-row", "vision.blocks.0.attend", True),
         "two": ([WIDE, TALL], "pictures-see-each-other", "vision.schedule", False),
         "healthy": ([WIDE], None, None, True)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Case -> golden trace, candidate's trace, comparison, page."""
    folder, found = tmp_path_factory.mktemp("diff"), {}
    for case, (pictures, fault, *_) in CASES.items():
        golden, theirs, page = (folder / f"{case}{end}" for end in ("-golden.safetensors", ".safetensors", ".html"))
        record(VLM, asked(*pictures), golden, yardsticks=("float32",))
        replaced = minivl.session(replace=get(fault).table() if fault else {}, quiet=True)
        with np.errstate(all="ignore"), minivl.load(precision="float32") as vlm, replaced:
            record(vlm, asked(*pictures), theirs)
        with Trace(golden) as trace, np.errstate(all="ignore"):
            judged = compare(trace, read_candidate(theirs, trace))
            page.write_text(html(judged, trace), encoding="utf-8")
        found[case] = SimpleNamespace(golden=golden, theirs=theirs, judged=judged, page=page)
    return found


def shown(page):
    """What a page shows, read without its script."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)[1])


def arrays(case, name):
    """The golden array and the candidate's."""
    with Trace(case.golden) as golden, Trace(case.theirs) as theirs:
        return np.array(golden.array(name)), np.array(theirs.array(name))


# ---- what the page is made of ------------------------------------------------------------------------------

def test_the_guilty_stage_comes_first(made):
    for case, (_, _, stage, _) in CASES.items():
        data = shown(made[case].page)
        assert data["bad"] == (stage is not None)
        if stage:
            assert data["title"] == f"{stage} goes wrong first" and data["first"].partition(":")[0] == stage
            assert data["suspects"][-1] == stage
    assert shown(made["healthy"].page)["title"] == "the same within rounding"


def test_a_line_for_every_array_in_the_order_of_the_run(made):
    with Trace(made["two"].golden) as golden:
        expected = [name for key in golden.recorded() for name in golden.stages[key].arrays]
    assert [line["name"] for line in shown(made["two"].page)["lines"]] == expected


def test_rows_beyond_the_limit_are_those_that_differ(made):
    """Of a stage that moves rows, a row is right or is another one: no rounding lies between."""
    golden, theirs = arrays(made["order"], "vision.restore_order")
    apart = np.linalg.norm(theirs - golden, axis=1) > 1e-3 * np.linalg.norm(golden, axis=1)
    (line,) = [one for one in shown(made["order"].page)["lines"] if one["name"] == "vision.restore_order"]
    assert [times > 1 for times in line["rows"]] == apart.tolist() and 0 < apart.sum() < len(apart)
    golden, theirs = arrays(made["positions"], "positions.mrope")
    (line,) = [one for one in shown(made["positions"].page)["lines"] if one["name"] == "positions.mrope"]
    assert [times is None for times in line["rows"]] == (golden != theirs).any(axis=0).tolist()
    assert {times for times in line["rows"] if times is not None} == {0.0}


def test_a_stage_that_runs_once_for_each_picture_has_its_part_of_the_places(made):
    case = made["two"]
    at = provenance(VLM.prepare(asked(WIDE, TALL)), VLM.config)["p"]
    with Trace(case.golden) as golden:
        starts = first_rows(case.judged, golden)
    media = [at[starts[f"patches.patchify{end}"], 0] for end in ("", "@1")]
    assert media == [0, 1] and "picture.resize" not in starts and starts["decoder.logits"] == 0


def test_no_row_is_lost_where_a_line_is_too_long():
    rows = np.zeros(3 * MOST + 5)
    for bad in (0, 1234, len(rows) - 1):
        line = drawn(SimpleNamespace(rows={"a": np.where(np.arange(len(rows)) == bad, 7.0, rows)},
                                     letters={"a": "s"}), "a")
        assert len(line["rows"]) <= MOST and line["rows"].index(7.0) == bad // line["step"]


def test_the_commands_write_the_page_with_known_faults_or_a_diagnosis(made, tmp_path, capsys):
    case, page = made["order"], tmp_path / "page.html"
    for words in (["diff", case.golden, case.theirs], ["diagnose", case.theirs, "--golden", case.golden]):
        with pytest.raises(SystemExit) as left:
            app([*map(str, words), "--html", str(page)])
        data, out = shown(page), capsys.readouterr().out
        assert left.value.code == 1 and data["title"] == "vision.restore_order goes wrong first"
        if words[0] == "diff":
            fault = data["faults"][0]
            assert fault["name"] == "order-not-inverted" and fault["incidents"][0] == [
                "lablup/mlxcel#1601", "https://github.com/lablup/mlxcel/issues/1601"]
        else:
            assert data["looks_like"][0] == out.splitlines()[0] and "order not inverted" in out


# ---- in a browser ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("case", CASES)
def test_the_page_opens_with_what_goes_wrong_first(browser, made, case, width):
    _, _, stage, placed = CASES[case]
    with Opened(browser, made[case].page, (width, 900)) as page:
        tab = page.tab
        first, panel, chart = (tab.locator(f"#{name}").bounding_box() for name in ("first", "shown", "map"))
        assert first["y"] < chart["y"] and panel["y"] < chart["y"]              # the map comes behind both
        assert stage is None or tab.inner_text("#shown-name").partition(":")[0] == stage
        assert tab.locator(".line[aria-pressed=true]").get_attribute("data-name") == tab.inner_text("#shown-name")
        assert tab.locator("#instead").is_visible() != placed
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("case", ["order", "nan", "two"])
def test_the_error_lies_on_the_patches_of_its_rows(browser, made, case):
    """Each patch of each picture: its colour is that of its row, laid over the picture."""
    at = provenance(VLM.prepare(asked(*CASES[case][0])), VLM.config)
    paint = """view => {
      const { canvas, medium } = data.views[view], [, rows, columns] = data.media[medium].grid;
      const copy = document.createElement("canvas"), ratio = devicePixelRatio, found = {};
      [copy.width, copy.height] = [canvas.width, canvas.height];
      const pen = copy.getContext("2d", { willReadFrequently: true });
      pen.drawImage(canvas, 0, 0);
      const width = canvas.width / ratio - AXIS.left - 2, height = canvas.height / ratio - AXIS.bottom - 2;
      for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++)
        found[`${medium} 0 ${y} ${x}`] = [...pen.getImageData(ratio * (AXIS.left + (width * (x + 0.4)) / columns),
          ratio * (1 + (height * (y + 0.4)) / rows), 1, 1).data].slice(0, 3);
      return found;
    }"""
    with Opened(browser, made[case].page) as page:
        tab = page.tab
        tab.evaluate("state.column = null")
        name, letter = tab.evaluate("[state.drawn.name, state.drawn.letter]")
        views = range(len(CASES[case][0]))
        tab.evaluate("data.views.forEach(drawPicture)")
        over = {key: colour for n in views for key, colour in tab.evaluate(paint, n).items()}
        tab.evaluate("state.columns = new Map(); data.views.forEach(drawPicture)")
        under = {key: colour for n in views for key, colour in tab.evaluate(paint, n).items()}
        (times,) = [one["rows"] for one in shown(made[case].page)["lines"] if one["name"] == name]
        colours = [tab.evaluate("colourOf", value) for value in times]
    seen = 0
    for row, places in enumerate(at[letter].reshape(len(times), -1, 4).tolist()):
        for place in (one for one in places if one[0] >= 0):
            key, share = " ".join(map(str, place)), 0.25 if times[row] is not None and times[row] <= 1 else 0.75
            expected = share * np.array(colours[row]) + (1 - share) * np.array(under[key])
            assert np.abs(expected - over[key]).max() <= 3, (key, row)
            seen += 1
    assert seen == len(at["p"])


def test_a_keyboard_is_enough(browser, made):
    focused = "document.activeElement.dataset.name ?? document.activeElement.tagName"
    with Opened(browser, made["order"].page) as page:
        tab = page.tab
        while not tab.evaluate("document.activeElement.matches('.line')"):
            tab.keyboard.press("Tab")
        assert tab.evaluate(focused) == "vision.restore_order"
        tab.keyboard.press("ArrowDown")
        assert tab.evaluate(focused) == tab.inner_text("#shown-name") == "decoder.angles"
        assert tab.inner_text("#cell") == "Every row is within its limit."
        tab.keyboard.press("n")
        assert tab.evaluate(focused) == tab.inner_text("#shown-name") == "decoder.place_features"
        tab.keyboard.press("p")
        assert tab.evaluate(focused) == "vision.restore_order"
        before = tab.evaluate("state.column")
        tab.keyboard.press("ArrowLeft")
        assert tab.inner_text("#cell").startswith(f"row {before - 1}: ")
        tab.keyboard.press("ArrowUp")
        tab.keyboard.press("ArrowUp")                                          # a block of the tower: shut
        assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"
        assert tab.evaluate("document.activeElement.parentElement.dataset.block") == "vision.blocks." + str(
            VLM.config.vision.depth - 1)
        tab.keyboard.press("Enter")
        tab.keyboard.press("ArrowDown")
        assert tab.evaluate(focused).endswith(".normalise")
        tab.keyboard.press("f")
        assert tab.evaluate(focused) == "vision.restore_order"
        tab.locator("#pictures canvas").focus()
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowRight")
        y, x = tab.evaluate("state.patch.slice(2)")
        assert tab.evaluate("document.activeElement.tagName") == "CANVAS"
        where = re.search(r"pixels x (\d+)\.\.(\d+), y (\d+)\.\.(\d+)", tab.inner_text("#cell"))
        x0, x1, y0, y1 = map(int, where.groups())
        assert x0 <= 14 * x < x1 and y0 <= 14 * y < y1 and x1 - x0 == y1 - y0 == 28


def test_on_a_telephone_the_stage_opens_under_the_line_that_is_tapped(browser, made):
    with Opened(browser, made["order"].page, (390, 900), has_touch=True) as page:
        tab = page.tab
        line = tab.locator('.line[data-name="decoder.place_features"]')
        line.tap(position={"x": 60, "y": 25})
        assert tab.evaluate("$('shown').previousSibling.dataset.name") == "decoder.place_features"
        assert tab.inner_text("#cell").startswith("row ") and "a token of text" in tab.inner_text("#cell")
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.wait_for_selector("#home > #shown")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("case", ["order", "two", "healthy"])
def test_every_text_can_be_read_and_nothing_is_wider_than_the_page(browser, made, case, width, scheme):
    with Opened(browser, made[case].page, (width, 900), color_scheme=scheme) as page:
        tab = page.tab
        assert faint_texts(tab) == {}                                          # with everything unfolded
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert not re.search(r"Infinity|NaN|undefined", tab.inner_text("body"))


def test_texts_of_a_trace_stay_texts(browser, made, tmp_path):
    case, hostile = made["order"], "</script><img src=x onerror=document.title='broken'>"
    judged = case.judged.__class__(**{**vars(case.judged), "candidate": hostile, "warnings": [hostile],
                                      "producer": hostile})
    with Trace(case.golden) as golden:
        (path := tmp_path / "page.html").write_text(
            html(judged, golden, [hostile], [{"name": hostile, "seen": hostile, "incidents": []}]), encoding="utf-8")
    with Opened(browser, path) as page:
        tab = page.tab
        assert tab.title() == "minivl diff: vision.restore_order goes wrong first"
        assert hostile in tab.inner_text("#causes") and tab.locator("img").count() == 0
