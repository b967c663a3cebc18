"""The demonstration runs anywhere, says what is wrong and leaves no half-written file; samples are what they say."""

import io
import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

import minivl
from minivl.door import listing
from minivl.door.contract import outputs
from minivl.show import demo
from minivl.show.figures import figure_of
from minivl.show.samples import FOLDER, Sample, boxes_in, load_samples, overlap

SAMPLES = load_samples()


def said_by(output, **options):
    """What the demonstration prints, on a terminal of 80 columns."""
    text = io.StringIO()
    demo.main(output, Console(file=text, width=80, **options))
    return text.getvalue()


# ---- end to end --------------------------------------------------------------------------------------------

def test_answers_passes_and_picture(tmp_path):
    text = said_by(tmp_path / "a.png")
    assert all(f"{s.name}: {s.question}" in text and s.note in text for s in SAMPLES)
    assert text.count("    says  ") == len(SAMPLES)
    assert text.count("   right, ") + text.count("   WRONG, ") == len(SAMPLES) == text.count("\n    card  ")
    for sample in SAMPLES:                                # the card's figure, and no count of chosen pictures
        behind = text.split(f"\n{sample.name}: ")[1].split("\n\n")[0].splitlines()[-1]
        assert behind == f"    card  {figure_of(sample.question, sample.answer).sentence()}"
    assert not re.search(r"\b\d+ right, \d+ wrong|\d+ of \d+ right", text)
    for line in ("vision.blocks.*.attend", "decoder.layers.*.project_qkv", "all further tokens", "in all"):
        assert f"\n{line}" in text
    assert max(map(len, text[text.index("\npass ") : text.index("\nin all")].splitlines())) <= 80
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000


BARE = """
import sys
for name in ("tokenizers", "safetensors", "ml_dtypes", "matplotlib"):
    sys.modules[name] = None                       # importing it fails
from minivl.show.demo import main
main()
"""


def test_without_what_is_optional_on_a_code_page(tmp_path):
    env = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "PYTHONPATH": str(FOLDER.parents[2])}
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, cwd=tmp_path, env=env, timeout=120)
    text = done.stdout.decode("cp1252")
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert 'No picture of the passes: plots need matplotlib: pip install "minivl[plot]"' in text
    assert text.count("    says  ") == len(SAMPLES) and not list(tmp_path.iterdir())


def test_an_answer_may_hold_any_character():
    file = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    demo._say(Console(file=file, width=80), "[bold]\N{SNOWMAN} \x1b[2J é {\"a\": [1, 2]}")
    file.flush()
    assert file.buffer.getvalue().decode("cp1252").strip() == '[bold]? ?[2J é {"a": [1, 2]}'


# ---- the file is whole, or is not there --------------------------------------------------------------------

@pytest.fixture
def run(monkeypatch):
    """A finished run whose picture costs nothing."""
    class Drawing:
        def savefig(self, buffer, **options):
            buffer.write(b"new")
    monkeypatch.setattr(demo, "draw", lambda run, vlm: Drawing())


def test_a_folder_that_is_not_there(tmp_path, run):
    said = demo.picture_of(None, None, tmp_path / "no" / "a.png")
    assert said.startswith("The picture was not written to") and "name another file" in said
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_files_place(tmp_path, run):
    (tmp_path / "a.png").mkdir()
    assert "not written" in demo.picture_of(None, None, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_cannot_be_written(tmp_path, run, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    said = demo.picture_of(None, None, tmp_path / "a.png")
    assert "a.png (Permission denied); name another file" in said


def test_a_full_disk_leaves_the_old_file(tmp_path, run, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(self, target):
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(demo.Path, "replace", full)
        assert "No space left on device" in demo.picture_of(None, None, path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
    assert str(path) in demo.picture_of(None, None, path) and path.read_bytes() == b"new"


# ---- the table ---------------------------------------------------------------------------------------------

def test_folding_loses_nothing():
    with minivl.load() as vlm, minivl.session(profile=True) as s:
        run = demo.take_apart(vlm, SAMPLES[0])
    rows, costs = listing.fold(run.rows), s.profile
    assert [row.key for row in run.rows] == list(costs) == list(run.session.trace)
    assert sum(row.runs for row in rows) == len(costs)
    assert sum(row.flops for row in rows) == sum(cost.flops for cost in costs.values())
    assert sum(row.seconds for row in rows) == pytest.approx(sum(row.seconds for row in run.rows))
    assert len({row.label for row in rows}) == len(rows) < 60
    assert {row.runs for row in rows if ".blocks." in row.label} == {vlm.config.vision.depth}
    for row in rows[:-1]:
        first = next(key for key in run.session.trace if fnmatchcase(key, row.label))
        assert row.outputs == tuple((str(a.dtype), a.shape) for a in outputs(run.session.trace[first]))
    assert rows[-1].label == listing.FURTHER


def test_what_is_folded_is_a_pass_in_all_blocks_and_all_after_the_first_token():
    def row(key, label, seconds=1.0):
        return listing.Row(key, label, "n d -> n d", (("float32", (2, 3)),), seconds, 10)
    rows = [row("picture.resize", "picture.resize"), row("picture.resize@1", "picture.resize"),
            row("vision.blocks.0.attend", "vision.blocks.0.attend"), row("vision.merge_2x2", "vision.merge_2x2"),
            row("vision.blocks.10.attend", "vision.blocks.10.attend", 0.25), row("decoder.logits", "decoder.logits"),
            row("positions.advance", "positions.advance"), row("decoder@1.logits", "decoder.logits"),
            row("decoder@1.layers.0.attend", "decoder.layers.0.attend"),
            row("positions.advance@1", "positions.advance")]
    found = [(r.label, r.runs, r.seconds, r.flops) for r in listing.fold(rows)]
    assert found == [("picture.resize", 2, 2.0, 20), ("vision.blocks.*.attend", 2, 1.25, 20),
                     ("vision.merge_2x2", 1, 1.0, 10), ("decoder.logits", 1, 1.0, 10),
                     ("all further tokens", 4, 4.0, 40)]
    assert listing.total(rows, "in all") == listing.Row("in all", "in all", "", (), 9.25, 100, 10)


# ---- samples -----------------------------------------------------------------------------------------------

def test_the_samples_show_what_they_should():
    sizes = {s.name: Image.open(s.paths[0]).size[::-1] for s in SAMPLES}
    assert sum(path.stat().st_size for path in FOLDER.glob("*.png")) < 130_000
    assert {path for s in SAMPLES for path in s.paths} == set(FOLDER.glob("*.png"))
    assert any(h % 56 and w % 56 and not (h % 28 or w % 28) for h, w in sizes.values())       # ragged both ways
    assert any(h % 28 and w % 28 for h, w in sizes.values())                                  # must be resized
    assert any(min(size) < 56 for size in sizes.values())                                     # thinner than a window
    assert any(s.fps for s in SAMPLES) and any(s.answer.isdigit() and s.name == "number" for s in SAMPLES)
    assert 0 < sum(s.kept_as_failure for s in SAMPLES) < len(SAMPLES) / 2
    assert demo.SHOWN in sizes


def test_the_samples_were_made_with_this_model():
    """When this fails after a change of the embedded checkpoint: python -m tools.checkpoints.make_samples"""
    with minivl.load() as vlm:
        for sample in SAMPLES:
            assert sample.is_right(vlm.chat(sample.messages())) != sample.kept_as_failure, sample.name


BOXES = st.tuples(*[st.integers(0, 6)] * 4)


@given(BOXES, BOXES)
def test_overlap_counts_pixels(a, b):
    inside = [{(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])} for box in (a, b)]
    union = inside[0] | inside[1]
    assert overlap(a, b) == (len(inside[0] & inside[1]) / len(union) if union else 0)


def test_an_answer_is_judged_by_words_or_by_overlap():
    words = Sample("a", (), None, "?", "A red star.", False, "")
    assert words.is_right(" a red  star") and not words.is_right("A red star is left of a red star.")
    box = Sample("a", (), None, "?", '[{"bbox_2d": [0, 0, 10, 10], "label": "star"}]', False, "")
    assert box.is_right("[[0, 0, 10, 5]]") and not box.is_right("[0, 0, 10, 4]")
    assert not box.is_right("") and not box.is_right("[0, 0, 10, 10] [0, 0, 10, 10]")
    assert boxes_in('{"bbox_2d": [1,2, 3,44]} [1, 2, 3]') == [(1, 2, 3, 44)]
