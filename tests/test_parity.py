"""The sealed parity report: what verifying tells apart, and the page. Runs without PyTorch, on a report that is made
up; `oracle/test_parity_oracle.py` makes a real one.
"""

import copy
import json
import os
import shutil

import pytest
from typer.testing import CliRunner

import minivl
from minivl import cli
from minivl.parity import parts, seal
from minivl.parity.page import html
from minivl.parity.run import PROMPTS, WAYS, runs
from minivl.parity.seal import DRIFTED, NEAR, SAME, SECTIONS, TAMPERED, VERIFIED, alike, seal_of, verify

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
               for run in runs(tuple(PROMPTS)[:2])]
    entries[3]["stages"][1] |= {"verdict": "wrong", "error": None, "ratio": None}
    entries[3] |= {"verdict": "wrong", "first_bad": "decoder.logits"}
    report = {"format": seal.NAME, "version": seal.VERSION, "versions": {"torch": "1"}, "checkpoint": {"a": "3" * 64},
              "package": {"stage.py": "4" * 64}, "runs": entries}
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
    assert any("decoder.logits was rounding, is wrong" in line for line in found.changed)


@pytest.mark.parametrize(("section", "name"), [("versions", "torch"), ("checkpoint", "a"), ("package", "stage.py")])
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
    assert {"stage.py", "parity/page.html"} <= set(own) and not any(name.startswith("tiny/") for name in own)
    assert parts.versions()["minivl"] == minivl.__version__


def command(*words, code=0):
    result = CliRunner().invoke(cli.app, ["parity", *(str(word) for word in words)], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result.stdout, result.stderr


def test_the_command_verifies_and_refuses(again, tmp_path, monkeypatch):
    monkeypatch.setattr("minivl.commands.parity.need_the_reference", lambda: None)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(made_up()), encoding="utf-8")
    assert "verified" in command("--verify", path)[0]
    again["versions"] = {"torch": "2"}
    assert "drifted: versions: torch was 1, is 2" in command("--verify", path, code=1)[0]
    found = json.loads(command("--verify", path, "--json", code=1)[0])
    assert found["verdict"] == "drifted" and set(found) == {"verdict", "tampered", "drifted", "changed"}
    report = made_up()
    report["runs"][0]["prompt"] = "another"
    for text, said in [("{}", "no report of this version"), ("{", "not valid JSON"),
                       (json.dumps({"format": seal.NAME, "version": 1}), "has no versions"),
                       (json.dumps(report), "makes other ones"), ("[]", "no report of this version"),
                       (json.dumps({**made_up(), "package": 3}), "has no package"),
                       (json.dumps({**made_up(), "runs": [{"prompt": "a"}]}), "no whole entry")]:
        path.write_text(text, encoding="utf-8")
        err = command("--verify", path, code=2)[1]
        assert said in err and err.count("\n") == 1
    assert "no such file" in command("--verify", tmp_path / "none.json", code=2)[1]
    assert "as in report.html" in command("-o", tmp_path / "report.pdf", code=2)[1]
    assert not list(tmp_path.glob("*.pdf"))


def test_the_page_holds_the_report_and_asks_for_nothing():
    page = html(made_up())
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "") and HOSTILE not in page
    assert len(WAYS) == 5 and len(PROMPTS) == 5


# ---- in a browser ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium (Debian: apt-get install chromium fonts-dejavu-core)")
    root = getattr(os, "geteuid", lambda: 1)() == 0
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if root else [])
        yield started
        started.close()


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
    assert tab.evaluate("document.documentElement.scrollWidth") <= width and complaints == []
    tab.close()


def test_a_report_is_not_changed_by_verifying(again):
    report = made_up()
    before = copy.deepcopy(report)
    verify(report, None)
    assert report == before
