"""The sealed parity report: what verifying tells apart, and the page. Runs without PyTorch, on a report that is made
up; `oracle/test_parity_oracle.py` makes a real one.
"""

import copy
import json

import pytest
from typer.testing import CliRunner

import minivl
from minivl.cli import words as cli
from minivl.truth.seal import parts, seal
from minivl.truth.seal.page import html
from minivl.truth.seal.run import PROMPTS, WAYS, runs
from minivl.truth.seal.seal import (
    DRIFTED,
    INCOMPLETE,
    NEAR,
    SAME,
    SECTIONS,
    TAMPERED,
    VERIFIED,
    alike,
    seal_of,
    verify,
)

from ..browser import chromium, faint_texts

HOSTILE = "</script><img src=x onerror=document.title='broken'>"


def stage(name, verdict="rounding", error=2e-7):
    return {"name": name, "verdict": verdict, "error": error, "rounding": 1e-7, "ratio": 0.25}


def made_up():
    """A report as `seal.made` makes them, of numbers that nobody computed."""
    entries = [{"prompt": run.prompt, "precision": run.precision, "attention": run.attention, "producer": HOSTILE,
                "verdict": "rounding", "first_bad": None, "logits": {"kl_worst": 1e-9, "top_overlap": 1.0,
                                                                     "differing_rows": 0},
                "stages": [stage("vision.embed_patches"), stage("decoder.logits", error=4e-7)],
                "inputs": {"input_ids": "1" * 64}, "outputs": {"decoder.logits": "2" * 64}}
               for run in runs()]
    entries[3]["stages"][1] |= {"verdict": "wrong", "error": None, "ratio": None}
    entries[3] |= {"verdict": "wrong", "first_bad": "decoder.logits"}
    report = {"format": seal.NAME, "version": seal.VERSION, "versions": {"torch": "1"}, "checkpoint": {"a": "3" * 64},
              "package": {"door/stage.py": "4" * 64}, "runs": entries}
    return sealed(report)


def sealed(report):
    return report | {"seals": {name: seal_of(report[name]) for name in SECTIONS}}


@pytest.fixture
def again(monkeypatch):
    """What is made when a report is verified: the same one, or what the test turns it into."""
    now = made_up()
    monkeypatch.setattr(seal, "made", lambda vlm, chosen, say: now)
    return now


def test_a_report_that_holds_is_verified(again):
    found = verify(made_up(), None)
    assert found.verdict == VERIFIED and not (found.tampered or found.drifted or found.changed)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_was_changed_does_not_fit_its_seal(again, section):
    report = made_up()
    if section == "runs":
        report["runs"][3]["stages"][1]["verdict"] = "rounding"
    else:
        report[section] = {**report[section], next(iter(report[section])): "5"}
    found = verify(report, None)
    assert found.verdict == TAMPERED and found.tampered == [f"section {section!r} was changed after it was sealed"]


def test_a_figure_that_was_changed_and_sealed_anew_is_found_by_making_it_again(again):
    report = made_up()
    report["runs"][3]["stages"][1] |= {"verdict": "rounding", "error": 1e-7, "ratio": 0.5}
    found = verify(sealed(report), None)
    assert found.verdict == TAMPERED and "sealed anew" in found.tampered[0] and not found.drifted
    assert any("decoder.logits: verdict was rounding, is wrong" in line for line in found.changed)


def put(**values):
    return lambda entry: entry.update(values)


@pytest.mark.parametrize(("change", "said"), [
    (put(verdict="exact"), "verdict was exact, is rounding"), (put(first_bad="a"), "first_bad was a, is nothing"),
    (put(producer="another"), "producer was another, is"), (put(more="a"), "more is not there any more"),
    (put(logits={}), "logits: top_overlap was not there"), (put(outputs={}), "outputs: decoder.logits was not there"),
    (lambda entry: entry["logits"].update(kl_worst=2e-9), "logits: kl_worst was 2e-09, is 1e-09"),
    (lambda entry: entry["logits"].update(differing_rows=None), "differing_rows was nothing, is 0"),
    (lambda entry: entry["stages"].append(entry["stages"][0]), "another order, or one comes twice"),
    (lambda entry: entry["stages"].reverse(), "another order"),
    (lambda entry: entry["stages"].append(stage("a")), "a is not there any more"),
    (lambda entry: entry["stages"].pop(), "decoder.logits was not there"),
    (lambda entry: entry["stages"][0].update(more=1), "more is not there any more"),
    (lambda entry: entry["outputs"].update(more="2"), "outputs: more is not there any more")])
def test_nothing_of_a_run_can_be_changed_and_sealed_anew(again, change, said):
    report = made_up()
    change(report["runs"][0])
    found = verify(sealed(report), None)
    assert found.verdict == TAMPERED and not found.drifted and len(found.changed) in (1, 3)
    assert any(said in line and line.startswith(str(seal.run_of(report["runs"][0]))) for line in found.changed)


def test_more_inputs_are_other_inputs_and_more_sections_are_tampering(again):
    report = made_up()
    report["runs"][0]["inputs"]["more"] = "2"
    assert verify(sealed(report), None).drifted == [f"{seal.run_of(report['runs'][0])}: other inputs: more"]
    assert verify(made_up() | {"approved": "yes"}, None).tampered == ["'approved' is no part of a report"]


def test_runs_that_were_taken_out_are_named_and_their_order_does_not_matter(again):
    report = made_up()
    gone = report["runs"].pop(1)
    report["runs"].reverse()
    found = verify(sealed(report), None)
    assert found.verdict == INCOMPLETE and found.missing == [str(seal.run_of(gone))] and not found.changed


def wrong_types():
    """Changes of a report that leave it without something, or with another type."""
    for name, value in (("prompt", ["x"]), ("verdict", 1), ("stages", {}), ("logits", []), ("inputs", {"a": 1}),
                        ("outputs", None), ("logits", {"kl_worst": "x"}), ("first_bad", 3)):
        yield put(**{name: value}), f"runs[0].{name}" if isinstance(value, dict) and value else "runs[0]: " + name
    for name, value in (("error", "x"), ("name", ["x"]), ("ratio", 10**400), ("rounding", True),
                        ("error", float("nan"))):
        yield (lambda entry, n=name, v=value: entry["stages"][0].update({n: v})), f"runs[0].stages[0]: {name} is"


@pytest.mark.parametrize(("change", "said"), list(wrong_types()))
def test_a_report_of_other_types_is_refused_before_anything_is_made(tmp_path, change, said):
    report = made_up()
    change(report["runs"][0])
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    with pytest.raises(seal.ParityError) as error:
        seal.read(path)
    assert said in str(error.value)


def test_versions_are_texts_and_a_run_comes_once(tmp_path, again):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(made_up() | {"versions": {"python": 3}}), encoding="utf-8")
    with pytest.raises(seal.ParityError, match="versions: python is 3, should be a text"):
        seal.read(path)
    report = made_up()
    with pytest.raises(seal.ParityError, match="twice"):
        verify(sealed(report | {"runs": [*report["runs"], report["runs"][0]]}), None)


@pytest.mark.parametrize(("section", "name"),
                         [("versions", "torch"), ("checkpoint", "a"), ("package", "door/stage.py")])
def test_a_part_that_is_another_is_drift(again, section, name):
    again[section] = {**again[section], name: "6" * 64}
    again["runs"][0]["stages"][0] |= {"error": 3e-7}             # another order of sums: within a factor
    found = verify(made_up(), None)
    assert found.verdict == DRIFTED and not found.tampered and not found.changed
    assert len(found.drifted) == 1 and f"{section}: {name} was" in found.drifted[0]
    again["runs"][0]["stages"][0] |= {"error": 9e-7, "verdict": "suspicious"}
    assert len(verify(made_up(), None).changed) == 2


def test_on_the_same_machine_the_reference_has_the_same_bits(again):
    again["runs"][0]["outputs"] = {"decoder.logits": "7" * 64}
    assert verify(made_up(), None).tampered
    again["versions"] = {"torch": "2"}
    found = verify(made_up(), None)
    assert not found.tampered and not found.changed and found.drifted


def test_figures_are_compared_as_they_are_rounded():
    assert alike(1e-7, 1.0004e-7, SAME) and not alike(1e-7, 1.01e-7, SAME) and alike(0.0, 0.0, SAME)
    assert alike(1e-7, 1.9e-7, NEAR) and not alike(1e-7, 2.1e-7, NEAR) and not alike(0.0, 1e-9, NEAR)
    assert alike(None, None, SAME) and not alike(None, 1.0, NEAR)


def test_parts_are_files_as_they_lie_there(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert parts.checkpoint_parts(tmp_path) == {
        "config.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}
    own = parts.package_parts()
    assert {"door/stage.py", "truth/seal/page.html"} <= set(own) and not any(name.startswith("tiny/") for name in own)
    assert parts.versions()["minivl"] == minivl.__version__


def command(*words, code=0):
    result = CliRunner().invoke(cli.app, ["parity", *(str(word) for word in words)], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result.stdout, result.stderr


def test_the_command_verifies_and_refuses(again, tmp_path, monkeypatch):
    monkeypatch.setattr("minivl.cli.parity.need_the_reference", lambda: None)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(made_up()), encoding="utf-8")
    assert "verified" in command("--verify", path)[0]
    again["versions"] = {"torch": "2"}
    assert "drifted: versions: torch was 1, is 2" in command("--verify", path, code=1)[0]
    found = json.loads(command("--verify", path, "--json", code=1)[0])
    assert found["verdict"] == "drifted" and set(found) == {"verdict", "tampered", "drifted", "changed",
                                                                  "missing"}
    report = made_up()
    report["runs"][0]["prompt"] = "another"
    for text, said in [("{}", "no report of this version"), ("{", "not valid JSON"),
                       (json.dumps({"format": seal.NAME, "version": 1}), "the report has no versions"),
                       (json.dumps(report), "makes other ones"), ("[]", "no report of this version"),
                       (json.dumps({**made_up(), "package": 3}), "package is 3, should be an object"),
                       (json.dumps({**made_up(), "runs": [{"prompt": "a"}]}), "runs[0] has no precision")]:
        path.write_text(text, encoding="utf-8")
        err = command("--verify", path, code=2)[1]
        assert said in err and err.count("\n") == 1
    assert "no such file" in command("--verify", tmp_path / "none.json", code=2)[1]
    assert "as in report.html" in command("-o", tmp_path / "report.pdf", code=2)[1]
    assert not list(tmp_path.glob("*.pdf"))


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("minivl.cli.parity.need_the_reference", lambda: None)
    monkeypatch.setattr("minivl.cli.parity.made", lambda *a, **k: pytest.fail("it was made"))
    (tmp_path / "a.json").mkdir()
    for name, said in (("none/a.html", "its folder is not there"), ("a.html", "a.json: is a folder")):
        assert said in command("-o", tmp_path / name, code=2)[1]


def test_the_page_holds_the_report_and_asks_for_nothing():
    page = html(made_up())
    links = page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "http" not in links and HOSTILE not in page
    assert len(WAYS) == 5 and len(PROMPTS) == 5


# ---- in a browser ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.mark.parametrize("width", [1280, 390])
def test_a_run_is_chosen_and_its_stages_are_read(browser, tmp_path, width):
    path, report = tmp_path / "report.html", made_up()
    path.write_text(html(report), encoding="utf-8")
    tab, complaints = browser.new_page(viewport={"width": width, "height": 900}), []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: request.url.startswith(("data:", path.as_uri()))
           or complaints.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector("body[data-ready]", timeout=60_000)
    assert "differ" in tab.inner_text("h1") and tab.title() != "broken"
    assert "first bad stage: decoder.logits" in tab.inner_text("#words")          # the worst run comes first
    assert tab.locator("#stages tbody tr").nth(1).inner_text().split() == [
        "decoder.logits", "wrong", "not", "finite", "1.00e-7", "not", "finite"]
    tab.locator("#runs tbody tr").nth(1).locator("button").nth(2).click()
    chosen = report["runs"][len(WAYS) + 2]
    assert tab.inner_text("#which") == f"{chosen['prompt']}, float32 eager: rounding"
    assert tab.locator("#stages tbody tr").first.locator("td").nth(2).inner_text() == "2.00e-7"
    assert tab.locator("svg polyline").count() == 2 and tab.locator("button[aria-pressed=true]").count() == 1
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert faint_texts(tab) == {}
    assert tab.evaluate("document.documentElement.scrollWidth") <= width and complaints == []
    tab.close()


def test_a_report_is_not_changed_by_verifying(again):
    report = made_up()
    before = copy.deepcopy(report)
    verify(report, None)
    assert report == before
