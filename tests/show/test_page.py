"""The one page builder: what a page lets run, and what its data can do. The pages themselves are tested where they are
made (`test_explorer.py`, `truth/test_trace.py`, `truth/test_parity.py`).
"""

import base64
import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivl.show.page import as_json, build

from ..browser import chromium

HOSTILE = "</script><script>document.title = 'broken'</script><!--<title>@SCRIPT@\u2028 \ud800"
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(HOSTILE),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@pytest.fixture
def page(tmp_path):
    """A page whose script says that it ran and what it read."""
    sources = {"body.html": "<h1></h1><p>text</p>", "one.css": "p { color: rgb(1, 2, 3); }", "two.css": "/* \u00e9 */",
               "show.js": "const data = dataOf('data');", "more.js": "document.title += data.a;"}
    for name, text in sources.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    paths = [tmp_path / name for name in sources]
    return build("</script>", paths[0], paths[1:3], paths[3:], {"data": {"a": 5, "b": [HOSTILE]}, "more": 1})


def test_only_the_scripts_and_styles_of_the_page_run(page):
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    for kind, tag in (("script", "script"), ("style", "style")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert re.findall(f"{kind}-src ([^;]*)", policy) == [f"'sha256-{digest}'"]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    assert page.index("Content-Security-Policy") < page.index("<title>")       # it holds for what comes after it
    assert page.count("<script") == 3 and page.count("@SCRIPT@") == 1


@given(JSON)
def test_data_closes_no_tag_and_comes_back_with_null_for_what_is_not_finite(value):
    text = as_json(value)
    assert "<" not in text
    text.encode("utf-8")
    assert json.loads(text) == json.loads(json.dumps(value), parse_constant=lambda word: None)


def test_a_browser_runs_the_page_and_nothing_that_was_put_into_it(page, tmp_path):
    path = tmp_path / "page.html"
    with chromium() as browser:
        for text, blocked in ((page, 0), (page.replace("<p>", "<img src=x onerror=alert(1)><p onclick='' style=''>"
                                                              "<script>document.title = 'broken'</script>"), 1)):
            path.write_text(text, encoding="utf-8")
            tab, complaints = browser.new_page(), []
            tab.on("console", lambda message, said=complaints: said.append(message.text))
            tab.goto(path.as_uri())
            assert tab.title() == "</script>5"
            assert tab.evaluate("getComputedStyle(document.querySelector('p')).color") == "rgb(1, 2, 3)"
            assert bool(complaints) == blocked, complaints
            tab.close()
