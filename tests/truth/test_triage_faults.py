"""Candidates with known faults through `minivl triage`: which kind it is, and what the bad samples share.

The quick form runs the candidates on a small model of random weights, so that nothing depends on what a model was
trained to read. Digits it hardly ever writes; that candidate runs on the embedded one. The full form is the command
of docs/guide/triage.md.
"""

from pathlib import Path

import pytest

from minivl.truth.museum.world import world
from minivl.truth.triage.cache import Cache
from minivl.truth.triage.hypotheses import ARITHMETIC, PIXELS, SETTINGS, UNDECIDED
from minivl.truth.triage.lines import read_lines
from minivl.truth.triage.triage import triage
from tools.truth.triage.__main__ import Outcome, outcomes, passed
from tools.truth.triage.candidates import CANDIDATES, DIGITS, MOST_TOKENS, TEN, write_lines
from tools.truth.triage.few import DRAWN, MOST, Draw, draws, table
from tools.truth.triage.forms import FORMS, read_rows
from tools.truth.triage.samples import draw

SAMPLES = 30


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readings")
    return folder, draw(SAMPLES, 0, folder)


@pytest.fixture(scope="module")
def cache():
    return Cache()


def outcome(name: str, readings: tuple, cache: Cache) -> Outcome:
    """One candidate on the random model."""
    folder, samples = readings
    path, vlm = folder / f"{name}.jsonl", world()
    write_lines(CANDIDATES[name], vlm, samples, path)
    return Outcome(CANDIDATES[name], triage(read_lines(path), vlm, "float32", cache=cache, max_new_tokens=MOST_TOKENS))


def test_the_ten_cover_every_kind_and_most_properties():
    assert len(TEN) == 10 and {one.kind for one in TEN} == {"pixels", "settings", "arithmetic"}
    assert len({one.shared for one in TEN if one.shared}) >= 8


@pytest.mark.parametrize("name", [one.name for one in TEN if one.shared != DIGITS])
def test_triage_tells_the_kind_and_what_bad_samples_share(name, readings, cache):
    found = outcome(name, readings, cache)
    assert found.kind_is_right, found.cells()
    assert found.shared_is_right, found.cells()


@pytest.mark.parametrize("name", ["penalty that nobody asked for", "drawn, not greedy", "nearest pixel"])
def test_triage_tells_the_kind_of_others(name, readings, cache):
    assert outcome(name, readings, cache).kind_is_right


def test_a_healthy_candidate_is_the_same(readings, cache):
    found = outcome("healthy", readings, cache).found
    assert not found.different and not found.lost and not found.bad.any()


def test_triage_tells_a_fault_of_digits_in_sixteen_bits(readings):
    folder, samples = readings
    (found,) = outcomes([one for one in TEN if one.shared == DIGITS], samples[:24], "bfloat16", folder)
    assert found.kind_is_right and found.shared_is_right, found.cells()


def test_to_few_samples_no_kind_is_named_by_likelihood(readings, cache, tmp_path):
    """One bad sample fits the hypothesis that patches are in raster order, though a second picture was read as text."""
    folder, samples = readings
    rows = {name: read_rows(written(name, folder, samples)) for name in ("healthy", "second picture as text")}
    kinds = {name: CANDIDATES[name].kind for name in rows}

    def ask(form, path):
        return triage(read_lines(path), world(), "float32", cache=cache, max_new_tokens=MOST_TOKENS)
    for row in [row for each in rows.values() for row in each]:
        row["messages"] = [{**m, "content": [beside(item, folder) for item in m["content"]]} for m in row["messages"]]
    found = list(draws(rows, kinds, ask, tmp_path / "few.jsonl", 2, DRAWN[:3]))
    assert {one.said for one in found if one.candidate == "healthy"} == {"same"}
    assert not [one for one in found if one.column in ("settings, wrongly", "pixels, wrongly")]
    assert len(found) > 2 * len(FORMS) and any(one.column == UNDECIDED for one in found)


def written(name: str, folder: Path, samples) -> Path:
    """A candidate's file on the random model."""
    write_lines(CANDIDATES[name], world(), samples, folder / f"{name}.jsonl")
    return folder / f"{name}.jsonl"


def beside(item, folder):
    """An item whose pictures are looked for in the folder."""
    if "image" in item:
        return {**item, "image": str(folder / item["image"])}
    return {**item, "video": [str(folder / one) for one in item["video"]]} if "video" in item else item


def test_draws_count_by_their_bad_samples():
    said = [(0, "same", "same"), (1, ARITHMETIC, SETTINGS), (1, ARITHMETIC, UNDECIDED), (MOST + 4, PIXELS, PIXELS),
            (2, PIXELS, ARITHMETIC), (2, ARITHMETIC, "same"), (3, SETTINGS, PIXELS)]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in
            table([Draw("a", FORMS[0], *one, "") for one in said])]
    assert rows[2:6] == [["0", "1", "1", "0", "0", "0", "0", "0"], ["1", "2", "0", "1", "1", "0", "0", "0"],
                         ["2", "2", "0", "0", "0", "0", "1", "1"], ["3", "1", "0", "0", "0", "1", "0", "0"]]
    assert rows[-1] == [f"{MOST} or more", "1", "1", "0", "0", "0", "0", "0"]


@pytest.mark.full
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_ten_faults_on_two_hundred_samples(precision, tmp_path: Path):
    found = list(outcomes(TEN, draw(200, 0, tmp_path), precision, tmp_path))
    assert passed(found), [one.cells() for one in found]
