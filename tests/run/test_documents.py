"""Answers as pages and forms: what is read, what is mended, what is refused.

Answers are written here, as official models write them; expected values are told by hand, or by a reader
of another make (`json`).
"""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minivl
from minivl.run.documents import read_page
from minivl.run.forms import read_json
from minivl.run.markdown import markdown

SEEN, CAME = (280, 560), (140, 1120)                    # height, width: x is doubled, y is halved

INVOICE = """```html
<html><body>
<h2 data-bbox="10 12 90 30">Invoice &amp; receipt</h2>
<p data-bbox="10 40 200 60">Pay <b>now</b>, or later</p>
<table data-bbox="10 70 500 200"><tr><th>what</th><th>price</th></tr>
<tr><td>a | b</td><td>3 &lt; 4</td></tr></table>
<div class="image" data-bbox="300 10 400 60"><img data-bbox="300 10 400 60" /></div>
<ul><li>one</li><li>two</li></ul>
</html></body>
```"""


def page(answer):
    return read_page(answer, SEEN, CAME)


def form(answer, schema=None):
    return read_json(answer, SEEN, CAME, schema)


# ---- pages
# -------------------------------------------------------------------------------------------------

def test_a_page_has_its_boxes_in_the_pixels_of_the_picture():
    found = page(INVOICE)
    assert found.problems == [] and found.notes == []
    assert [(one["kind"], one["box"], one["text"]) for one in found.elements] == [
        ("h2", [20, 6, 180, 15], "Invoice & receipt"), ("p", [20, 20, 400, 30], "Pay now, or later"),
        ("table", [20, 35, 1000, 100], "what price a | b 3 < 4"), ("div", [600, 5, 800, 30], ""),
        ("img", [600, 5, 800, 30], "")]
    assert '<h2 data-bbox="20 6 180 15">Invoice &amp; receipt</h2>' in found.document
    assert "<td>3 &lt; 4</td>" in found.document and found.document.startswith("<!DOCTYPE html>")
    assert markdown(found.page) == """## Invoice & receipt

Pay **now**, or later

| what | price |
| --- | --- |
| a \\| b | 3 \\< 4 |

<!-- picture 600 5 800 30 -->

- one
- two
"""


def test_a_page_read_again_is_the_same_page():
    first = page(INVOICE).document
    assert read_page(first, CAME, CAME).document == first


@pytest.mark.parametrize(("answer", "said"), [
    ("", "elements"), ("The page is empty.", "elements"), ("<p>cut", "<p>: it was cut"),
    ("<p>a</p><p data-bb", "cut"),
    ("<table><tr><td>a", "<td> in <tr> in <table>"), ("```html\n<p>a</p><p>", "<p>: it was cut"),
    ("<p>a</h1></p>", "</h1>"), ("<p><b>a</p></b>", "</p> comes while <b>"), ("<p data-bbox='1 2 "
                                                                              "3'>a</p>", "4 numbers"),
    ("<p data-bbox='900 2 990 9'>a</p>", "no area"),
    ("<p data-bbox='0.1 0.2 0.3 0.4'>a</p>", "fractions"),
    ("<p data-polygon='1 2 3 4'>a</p>", "corners"), ("<div>" * 60 + "</div>" * 60, "deep"),
    ("<style>p {", "<style>"),
    ("<p>a</p><", "cut")])
def test_what_can_mean_several_things_is_a_problem(answer, said):
    found = page(answer)
    assert found.document is None and any(said in one for one in found.problems), found.problems


@pytest.mark.parametrize(("answer", "kept"), [
    ("<p>a</p>", "<p>a</p>"), ("```\n<p>a</p>\n```", "<p>a</p>"), ("```html\n<p>a</p>", "<p>a</p>"),
    ("<font>b</font><p>a</p>", "b<p>a</p>"), ("<p onclick='x' style='y' id=z>a</p>", "<p>a</p>"),
    ("<style>p {color: red}</style><p>a</p>", "<p>a</p>"),
    ("<script>alert(1)</script><p>a</p>", "<p>a</p>"),
    ("<p><a href='javascript:x'>a</a><img src='http://x/'></p>", "<p><a>a</a><img></p>"),
    ("<p data-bbox='550 270 570 290'>a</p>", '<p data-bbox="1100 135 1120 140">a</p>'),
    ("<P>a</P>", "<p>a</p>"),
    ("<p>&lt;script&gt;</p>", "<p>&lt;script&gt;</p>"), ("<!-- c --><p>a</p>", "<p>a</p>"),
    ("<p class='\"><script>'>a</p>", '<p class="&quot;&gt;&lt;script&gt;">a</p>'),
    ("<p data-polygon='0 0 28 0 28 28'>a</p>", '<p data-polygon="0 0 56 0 56 14">a</p>')])
def test_what_is_left_out_is_noted_and_never_runs(answer, kept):
    found = page(answer)
    assert found.problems == [] and kept in found.document.replace("\n", ""), found
    whole = ("<p>", "<P>", "<!--", "<p class", "<p data-poly")  # nothing of these is left out
    assert found.notes or answer.strip("`\nhtml ").startswith(whole)


SCRAPS = st.lists(st.sampled_from([
    "<p>", "</p>", "<b>", "</b>", "<table>", "</table>", "<script>", "</script>",
    "<img src=x onerror=y>", "text", "&lt;",
    "<p data-bbox='1 2 30 40'>", "<a href='javascript:1'>", "</a>", "<!--", "-->", "<", ">", "'", '"',
    "<svg/onload=1>",
    "<![CDATA[", "]]>", "<?php", "?>", "&#x3c;script&#x3e;", "<style>", "</style>", "<p data-bbox='",
    "```", "\0", "<iframe>",
    "<p class='&quot; onclick=&quot;x'>", "</", "<!DOCTYPE x>", "<br/>", "<td>", "</td>"]),
                  max_size=12).map("".join)


@given(SCRAPS)
def test_nothing_runs_and_nothing_is_raised(answer):
    found = page(answer)
    assert (found.document is None) == bool(found.problems)
    if found.document is not None:
        tags = re.findall(r"<[^>]*>", found.document)
        given = r"( (class|colspan|rowspan|format|data-bbox|data-polygon)=\"[^\"<>]*\")*"
        known = rf"<!DOCTYPE html>|</?[a-z][a-z0-9]*{given}>"
        assert all(re.fullmatch(known, tag) for tag in tags), tags
        assert not re.search(r"<(script|iframe|svg|style|object)", found.document)
        assert read_page(found.document, CAME, CAME).document is not None
        markdown(found.page)


@given(st.integers(0, len(INVOICE)))
def test_a_page_that_is_cut_is_never_taken_for_whole(at):
    found = page(INVOICE[:at])
    whole = [one["text"] for one in page(INVOICE).elements]
    if found.document is not None:                       # between two elements nobody can tell
        assert re.search(r"</?(h2|p|table|div|ul|html|body)>\s*`{0,3}$",
                         INVOICE[:at]) is not None, INVOICE[:at]
        assert [one["text"] for one in found.elements] == whole[:len(found.elements)]


def test_markdown_of_lists_code_and_signs():
    found = page("<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol><pre>x\n  y</pre><p>1. * _a_ "
                 "#b</p><blockquote>q</blockquote><p>a<br>b</p><table><tr><td "
                 "colspan=2>w</td></tr><tr><td>x</td><td>y</td></tr></table>")
    assert markdown(found.page) == ("1. a\n   - b\n2. c\n\n```\nx\n  y\n```\n\n\\1. \\* \\_a\\_ "
                                    "\\#b\n\n> q\n\na\nb\n\n| w |  |\n| --- | --- |\n| x | y |\n")


# ---- forms
# -------------------------------------------------------------------------------------------------

def test_a_form_has_its_boxes_in_the_pixels_of_the_picture():
    found = form('```json\n[{"bbox_2d": [10, 12, 90, 30], "text_content": "Total"},\n'
                 ' {"point_2d": [28, 28], "label": "ok", "more": {"bbox": null, "n": [1, 2]}},]\n```')
    assert found.document == [{"bbox_2d": [20, 6, 180, 15], "text_content": "Total"},
                              {"point_2d": [56, 14], "label": "ok", "more": {"bbox": None, "n": [1, 2]}}]
    assert found.elements == [{"kind": "bbox_2d", "box": [20, 6, 180, 15], "text": "Total"},
                              {"kind": "point_2d", "box": [56, 14], "text": "ok"}]
    assert found.problems == [] and found.notes == ["a comma before a closing bracket is left out"]


@pytest.mark.parametrize(("answer", "said"), [
    ("", "must be JSON"), ("There is none.", "must be JSON"), ("5", "must be JSON"),
    ('{"a": 1', "cut short"), ('["a', "cut short"),
    ('[1, 2]]', ""), ("[1] and [2]", "one piece"), ("```json\n[1]\n```\n```json\n[2]\n```", "blocks"),
    ("{'a': 1}", "no JSON"),
    ('{"a": 1 "b": 2}', "no JSON"), ('{"a": 1, "a": 2}', "twice"), ('{"a": NaN}', "NaN"),
    ('{"a": 1e999}', "beyond"),
    ('[{"bbox_2d": [900, 1, 990, 9]}]', "no area"), ('[{"bbox_2d": [0.1, 0.2, 0.3, 0.4]}]', "fractions"),
    ("[" * 100_000 + "]" * 100_000, "deeply"), ("```json\n[1, 2", "cut short"), ("[1,,2]", "no JSON")])
def test_what_is_no_form_is_a_problem(answer, said):
    found = form(answer)
    if said:
        assert found.document is None and any(said in one for one in found.problems), found.problems


def test_words_around_and_places_that_are_none_are_noted():
    found = form('Here it is: {"box": "left", "bbox_2d": [1, 2, 3], "position": [[0, 0], [28, 28]]} as '
                 'you "asked.')
    assert found.document == {"box": "left", "bbox_2d": [1, 2, 3], "position": [[0, 0], [56, 14]]}
    assert len(found.notes) == 3 and found.problems == []
    assert form(f'[{{"bbox_2d": [1, 2, 3, {10**400}]}}]').problems == []


VALUES = st.recursive(st.none() | st.booleans() | st.integers(-10**6, 10**6) | st.text(max_size=8),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                          st.sampled_from(["a", "b,]", "c}", 'd"', "é", "```"]), inner, max_size=3),
                      max_leaves=8)


@given(st.lists(VALUES, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2),
       st.sampled_from(["%s", "```json\n%s\n```", "```\n%s\n```", "  %s\n"]), st.booleans())
def test_a_value_comes_through_whatever_is_around_it(value, around, comma):
    text = json.dumps(value, indent=1, ensure_ascii=False)
    text = text[:-1] + ", " + text[-1] if comma and value else text
    if "```" in text and "```" in around:
        return                                           # a fence inside of a fence is not one block
    found = form(around.replace("%s", text))
    assert found.problems == [] and found.document == value


@given(VALUES.map(lambda value: [value, {"key": "va]l,ue", "bbox_2d": [1, 2, 30, 40]}]), st.data())
def test_a_form_that_is_cut_is_never_taken_for_whole(value, data):
    text = json.dumps(value)
    for prefix in ("", "```json\n"):
        found = form(prefix + text[:data.draw(st.integers(0, len(text) - 1))])
        assert found.document is None and found.problems


# ---- schemas
# -----------------------------------------------------------------------------------------------

SCHEMA = {"type": "array", "items": {"type": "object", "required": ["label"], "properties": {
    "label": {"type": "string"}, "bbox_2d": {"type": "array",
                                             "items": {"type": "number", "maximum": 200}}}}}


def test_a_schema_is_held_against_the_value_with_its_boxes():
    pytest.importorskip("jsonschema", reason="the package jsonschema is not installed")
    assert form('[{"label": "a", "bbox_2d": [1, 2, 90, 40]}]',
                SCHEMA).document == [{"label": "a", "bbox_2d": [2, 1, 180, 20]}]
    found = form('[{"bbox_2d": [1, 2, 110, 40]}, {"label": 5}]', SCHEMA)
    assert found.document is None and [one.partition(":")[0] for one in found.problems] == [
        "$[0]", "$[0].bbox_2d[2]", "$[1].label"]


def test_a_schema_that_is_none_or_lies_elsewhere_is_refused(monkeypatch):
    pytest.importorskip("jsonschema", reason="the package jsonschema is not installed")
    import urllib.request

    def fetched(*args, **named):
        raise AssertionError("something was fetched")
    monkeypatch.setattr(urllib.request, "urlopen", fetched)
    for schema in ({"type": "nothing"}, [], 5, {"$ref": "http://example.org/a.json"},
                   {"$ref": "#/$defs/none"}):
        with pytest.raises(minivl.Error):
            form("[1]", schema)
