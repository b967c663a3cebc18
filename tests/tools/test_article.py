"""The page about the article is what its command writes, on any checkpoint; verdicts follow from what is run.

A verdict that no fault could change would be an opinion. So faults are planted in the passes: it must turn.
"""

import re

import numpy as np
import pytest

import minivl
from tools.checkpoints.make_checkpoint import config_of, make_checkpoint
from tools.pages.article import setting, uses
from tools.pages.article.__main__ import PAGE, main, run
from tools.pages.article.finding import CLAIMS, LOOSE, TRUE, UNTESTED, VERDICTS, WRONG, Finding, claim
from tools.pages.article.page import evidence, page


@pytest.fixture(scope="module")
def findings():
    return run()


def test_the_page_is_what_the_command_writes(findings):
    stale = "stale: run `python -m tools.pages.article` and look at the diff"
    assert PAGE.read_text(encoding="utf-8") == page(findings), stale


def test_another_checkpoint_changes_nothing_on_the_page(findings, tmp_path, monkeypatch):
    make_checkpoint(config_of("3B", small=True), tmp_path / "other", seed=9)
    with minivl.load(tmp_path / "other") as other:
        monkeypatch.setattr(minivl, "load", lambda: other)
        setting.embedded.cache_clear()
        assert setting.embedded() is other
        again = page(run())
    setting.embedded.cache_clear()
    assert again == page(findings)


def test_all_claims_are_there_and_counted(findings):
    assert sorted(CLAIMS) == list(range(1, 35))
    text = PAGE.read_text(encoding="utf-8")
    summary = text.split("## Claim 1\n")[0]
    any_verdict = "|".join(VERDICTS)
    rows = re.findall(rf"^\| ({any_verdict}) \| (\d+) \|$", summary, re.M)
    counts = {verdict: int(n) for verdict, n in rows}
    told = re.findall(rf"^\*\*({any_verdict})\.\*\* ", text, re.M | re.I)
    assert sum(counts.values()) == len(told) == 34
    assert {verdict: sum(one.lower() == verdict for one in told) for verdict in VERDICTS} == counts
    for n, finding in findings.items():
        assert f"| [{n}](#claim-{n}) | {CLAIMS[n].text} | {finding.verdict} |" in summary


@pytest.mark.parametrize("n", range(1, 35))
def test_a_claim_has_reasons_figures_and_a_command(n, findings):
    sentences = re.findall(r"[.:?]\)?(?= [A-Z\"*]|$)", CLAIMS[n].why)
    assert 2 <= len(sentences) <= 7
    assert findings[n].figures and not re.search("True|False", "".join(findings[n].figures))
    section = PAGE.read_text(encoding="utf-8").split(f"## Claim {n}\n")[1].split("\n## ")[0]
    assert section.rstrip().endswith(f"Shown by `python -m tools.pages.article {n}`.")


def test_nothing_is_measured_in_time(findings):
    """Costs are operations: a page with timings would differ on every computer."""
    assert not re.search(r"\d ?(ms|µs|milliseconds|it/s|FLOP/s)\b", page(findings))


# ---- verdicts follow from what is run ----------------------------------------------------------------------

def unchanged_size(original):
    return lambda shape, config: np.array(shape[:2], np.int64)


def frames_swapped(original):
    return lambda frames, config: original(frames[::-1], config)


def one_segment(original):
    def schedule(grids, config):
        end = int(grids.prod(axis=1).sum())
        return (np.array([[0, end, 0, end]]),) * config.depth
    return schedule


def no_time(original):
    return lambda ids, grids, ticks, *rest: original(ids, grids, np.zeros_like(ticks), *rest)


def next_cell(original):
    return lambda x, merger: original(np.roll(x, 4, axis=0), merger)


def absolute(original):
    return lambda at, config: original(at**2, config)


def no_time_axis(original):
    return lambda positions, config: original(positions * np.array([[0], [1], [1]]), config)


def switched(original):
    return lambda x, w: original(np.where(x > 0, x, 0), w)


def sees_ahead(original):
    return lambda q, k, v, segments, causal: original(q, k, v, segments, False)


FAULTS = [
    (1, "picture.target_size", unchanged_size, TRUE),
    (2, "picture.target_size", unchanged_size, TRUE),
    (3, "picture.target_size", lambda original: lambda *args: original(*args) + 28, WRONG),
    (4, "patches.patchify", frames_swapped, WRONG),
    (6, "*schedule", one_segment, WRONG),
    (7, "*schedule", one_segment, WRONG),
    (9, "kernel.gated_mlp", switched, LOOSE),
    (10, "spatial_angles", absolute, LOOSE),
    (11, "angles", no_time_axis, TRUE),
    (12, "positions.mrope", no_time, WRONG),
    (13, "positions.mrope", no_time, WRONG),
    (15, "merge_2x2", next_cell, WRONG),
    (16, "angles", lambda original: lambda *args: original(*args) * np.float32(1.0000001), WRONG),
    (19, "kernel.attend", sees_ahead, WRONG),
]


@pytest.mark.parametrize(("n", "label", "fault", "verdict"), FAULTS)
def test_a_planted_fault_turns_the_verdict(n, label, fault, verdict, findings):
    assert findings[n].verdict != verdict
    with minivl.session(replace={label: fault}):
        assert CLAIMS[n].check().verdict == verdict


# ---- the command -------------------------------------------------------------------------------------------

def test_the_command_prints_the_evidence_of_one_claim(capsys):
    main(["5"])
    printed = capsys.readouterr().out
    assert CLAIMS[5].text in printed and "112 x 112 pixels" in printed
    assert " ".join(CLAIMS[5].why.split()) in " ".join(printed.split())


@pytest.mark.parametrize("n", [20, 25, 30, 31])
def test_the_embedded_model_is_asked_and_answers_with_a_share(n, findings, monkeypatch):
    monkeypatch.setattr(uses, "ASKED", 1)
    said = evidence(CLAIMS[n], findings[n])
    assert re.search(r"the embedded model, .*\b[01] of 1\b", said)
    assert "the embedded model, " not in page({n: findings[n]})


def test_an_unknown_claim_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["35"])
    assert "there is no claim 35; they are numbered 1 to 34" in capsys.readouterr().err


def test_a_slip_in_a_check_is_refused():
    with pytest.raises(ValueError, match="claim 5 is checked twice"):
        claim(5, "again")(lambda: Finding(UNTESTED, ()))
    with pytest.raises(ValueError, match="verdict 'right'"):
        Finding("right", ())
