"""`minivl diff` for builds: JUnit's XML, SARIF, and thresholds by pattern in a baseline."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from minivl.cli.words import app
from minivl.door.stage import session
from minivl.truth.compare.junit import clean
from minivl.truth.compare.metrics import Measure
from minivl.truth.compare.thresholds import checked, entry_of, is_news
from minivl.truth.compare.verdict import EXACT, ROUNDING, SUSPICIOUS, WORDS, WRONG, Judged, Yard
from minivl.truth.museum import get
from minivl.truth.museum.cases import ragged
from minivl.truth.museum.world import world
from minivl.truth.trace.format import TraceError
from minivl.truth.trace.record import record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A golden trace, a healthy candidate, and one whose merger is wrong."""
    made, prompt = tmp_path_factory.mktemp("traces"), ragged.build(world())[0]
    record(world().on("float64", "definition"), prompt, made / "golden.safetensors", yardsticks=("float32",))
    record(world(), prompt, made / "healthy.safetensors")
    with session(replace=get("gelu-by-tanh").table()):
        record(world(), prompt, made / "wrong.safetensors")
    return made


def diff(folder, name, *words):
    return CliRunner().invoke(app, ["diff", str(folder / "golden.safetensors"), str(folder / f"{name}.safetensors"),
                                    *map(str, words)])


@pytest.mark.parametrize(("name", "code"), [("healthy", 0), ("wrong", 1)])
def test_each_array_is_a_test_and_a_bad_one_a_failure_and_a_finding(name, code, folder, tmp_path):
    ran = diff(folder, name, "--junit", tmp_path / "a.xml", "--sarif", tmp_path / "a.sarif")
    assert ran.exit_code == code, ran.output
    suite = ElementTree.parse(tmp_path / "a.xml").getroot().find("testsuite")
    cases = suite.findall("testcase")
    failed = [case.get("name") for case in cases if case.find("failure") is not None]
    assert int(suite.get("tests")) == len(cases) > 20 and int(suite.get("failures")) == len(failed)
    document = json.loads((tmp_path / "a.sarif").read_text())
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert document["version"] == "2.1.0" and bool(failed) == bool(code)
    assert len(run["results"]) == len(failed)
    for one in run["results"]:
        assert rules[one["ruleIndex"]] == one["ruleId"] and one["level"] in ("warning", "error")
        assert one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith(f"{name}.safetensors")
    if code:
        first = run["results"][0]
        assert first["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "vision.merge_2x2"
        assert "the first bad tap" in first["message"]["text"] and "vision.merge_2x2" in failed[0]


def test_a_threshold_by_pattern_is_the_whole_verdict(folder, tmp_path):
    known = tmp_path / "known.json"
    known.write_text(json.dumps({"vision.*": {"error": 0.1}, "decoder.*": {"error": 0.1, "times": 1e9}}))
    ran = diff(folder, "wrong", "--baseline", known, "--junit", tmp_path / "a.xml")
    assert ran.exit_code == 0 and "0 arrays are worse" in ran.stdout, ran.output
    assert ElementTree.parse(tmp_path / "a.xml").getroot().get("failures") == "0"
    known.write_text(json.dumps({"vision.blocks.*": {"error": 0}}))
    ran = diff(folder, "healthy", "--baseline", known, "--sarif", tmp_path / "b.sarif")
    assert ran.exit_code == 1
    found = json.loads((tmp_path / "b.sarif").read_text())["runs"][0]["results"]
    assert found and {one["ruleId"] for one in found} == {"threshold"}


@pytest.mark.parametrize("entry", ["good", {}, {"error": -1}, {"error": "1"}, {"share": 1}, {"error": True}, 3, None,
                                   {"times": float("inf")}])
def test_a_baseline_that_is_none_is_refused_by_name(entry, tmp_path):
    with pytest.raises(TraceError, match=r"known.json: 'vision.\*' should be exact"):
        checked({"a": "wrong", "vision.*": entry}, "known.json")


def judged(word, error=0.0, ratio=0.0, name="a.b.c", finite=True):
    return Judged(name, name, word, ratio, Measure(error, error, 0, error, 1.0, 1.0, 0.0, finite), Yard(0, 0), ())


@given(st.sampled_from(WORDS), st.sampled_from(WORDS))
def test_a_word_is_news_where_it_is_worse_than_the_one_written_down(word, known):
    bad = word in (SUSPICIOUS, WRONG)
    assert is_news(judged(word), {}) == bad
    assert is_news(judged(word), {"a.b.c": known}) == (bad and WORDS.index(word) > WORDS.index(known))
    assert is_news(judged(word), {"a.*": known}) == (bad and WORDS.index(word) > WORDS.index(known))


def test_a_name_counts_before_a_pattern_and_a_longer_pattern_before_a_shorter():
    known = {"a.*": "wrong", "a.b.*": {"error": 0.5}, "a.b.c": "exact"}
    assert entry_of("a.b.c", known) == "exact" and entry_of("a.b.d", known) == {"error": 0.5}
    assert entry_of("a.x", known) == "wrong" and entry_of("b", known) is None
    assert is_news(judged(ROUNDING, 0.6, name="a.b.d"), known) and not is_news(judged(WRONG, 0.4, name="a.b.d"), known)
    assert is_news(judged(EXACT, 0.0, name="a.b.d", finite=False), known)          # no threshold allows no numbers
    assert not is_news(judged(WRONG, 9, 2, "x"), {"x": {"times": 3}}) and is_news(judged(WRONG, 9, 4, "x"),
                                                                                 {"x": {"times": 3}})


@given(st.text())
def test_any_name_can_stand_in_xml(said):
    element = ElementTree.Element("a", name=clean(said))
    assert ElementTree.fromstring(ElementTree.tostring(element)).get("name") is not None
    assert np.char.str_len(clean(said)) == len(clean(said))
