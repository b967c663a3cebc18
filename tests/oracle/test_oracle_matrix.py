"""The matrix of reference versions: the worker with the pinned version, what counts as drift, and the page.

Other versions need pip and minutes: `python -m tools.truth.oracle_matrix` runs them and writes
docs/made/oracle-drift.md.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import minivl
from minivl.checkpoint.safetensors import File
from minivl.truth.trace.format import read_array
from minivl.truth.trace.recorder import Recorder
from tools.truth.oracle_matrix import drift, page, prompts, worker
from tools.truth.oracle_matrix.drift import MOVED, ROUNDED, SAME, WAYS, Matrix, Version, matrix, moved, numbered
from tools.truth.oracle_matrix.venvs import Result, last_line, pinned

ROOT = Path(__file__).parent.parent.parent
VLM = minivl.load()
FEW = ("video 2 fps",)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    found = prompts.write(VLM, tmp_path_factory.mktemp("prompts"))
    return {name: found[name] for name in FEW}


@pytest.fixture(scope="module")
def base(asked, tmp_path_factory):
    """The pinned version's run of a few prompts."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "ATTENTION", ("sdpa",))
        found = worker.run(str(VLM.folder), out, list(asked.values()))
    torch.set_num_threads(1)
    return Result(pinned(), out, None, json.loads(json.dumps(found)))


def copy_of(base, folder, change):
    """Another version: the same files with some arrays changed."""
    folder.mkdir()
    for path in base.runs.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder)
            continue
        file = File(path)
        with Recorder(folder / path.name) as out:
            for name in file.tensors:
                array = change(name, np.array(read_array(file, name)))
                if array is not None:
                    out.put(name, array)
        file.close()
    return Result("9.9.9", folder, None, base.found)


def test_the_pinned_version_loads_runs_and_is_no_drift_from_itself(base, asked):
    assert base.found["errors"] == {} and set(base.found["loading"]) == {"float32-sdpa", "bfloat16-sdpa"}
    assert all(not names for way in base.found["loading"].values() for names in way.values())
    found = matrix([base, Result("0.0.1", base.runs, "cannot be installed: no such version")], pinned(), VLM, asked)
    same, gone = found.versions
    assert {word for word, _ in same.drift.values()} == {SAME} and len(same.drift) > 30
    assert {at.word for at in same.against.values()} == {"rounding"}
    assert gone.error and not gone.drift
    assert same.positions["video 2 fps"].rules == ("tf5",)          # what the pinned version does behind a video
    text = page.markdown(found)
    assert "cannot be installed: no such version" in text and f"**{pinned()}**, pinned" in text


def test_what_moved_is_told_from_what_was_rounded_otherwise(base, asked, tmp_path):
    def change(name, array):
        if name == "vision.merge_2x2":
            return array * 1.01
        if name == "decoder.normalise" or name.startswith("vision.blocks.0.project_qkv"):
            return array * (1 + np.float32(2.0**-23))
        return None if name == "decoder.logits" else array
    found = matrix([base, copy_of(base, tmp_path / "other", change)], pinned(), VLM, asked)
    words = {kind: found.versions[1].drift[kind, "float32", "sdpa"][0] for kind in
             ("vision.merge_2x2", "vision.blocks.N.project_qkv", "decoder.normalise", "decoder.logits",
              "vision.blocks.N.add_mlp")}
    assert words == {"vision.merge_2x2": MOVED, "vision.blocks.N.project_qkv": ROUNDED, "decoder.normalise": ROUNDED,
                     "decoder.logits": drift.ABSENT, "vision.blocks.N.add_mlp": SAME}
    assert found.versions[1].against["float32", "sdpa"][1:3] == ("wrong", "vision.merge_2x2")
    assert "moved, 1.0e-02" in page.markdown(found)
    with pytest.raises(ValueError, match="has to be one of the versions"):
        matrix([copy_of(base, tmp_path / "again", lambda name, array: array)], pinned(), VLM, asked)


def test_shapes_that_fit_in_no_way_have_moved():
    assert moved(np.zeros((3, 2)), np.zeros((5, 2)), None, np.zeros((5, 2)), 0, "float32") == (MOVED, float("inf"))


def test_a_version_that_numbers_a_video_otherwise_is_neither():
    right = prompts.inputs(VLM, "video 2 fps")
    assert numbered(right.position_ids, VLM, "video 2 fps").rules == ("max_plus_one",)
    other = right.position_ids.copy()
    other[0, np.isin(right.input_ids, VLM.config.video_token_id)] += 1
    assert numbered(other, VLM, "video 2 fps").rules == ()
    picture = prompts.inputs(VLM, "picture")
    assert numbered(picture.position_ids, VLM, "picture").rules == ("max_plus_one", "tf5")


def test_a_worker_tells_its_errors_in_a_line(tmp_path, asked):
    found = worker.run(str(tmp_path / "no model"), tmp_path, list(asked.values()))
    assert set(found["errors"]) == {"-".join(way) for way in WAYS}
    assert all("\n" not in text for text in found["errors"].values())
    assert last_line("a\nb\n") == "b" and last_line("") == "it said nothing"


def test_the_page_is_about_the_pinned_version():
    text = (ROOT / "docs" / "made" / "oracle-drift.md").read_text(encoding="utf-8")
    wanted = re.search(r"transformers==([\d.]+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    stale = "stale: run `python -m tools.truth.oracle_matrix` and look at the diff"
    assert f"**{wanted}**, pinned" in text, stale
    assert all(f"| {name} " in text for name in prompts.CASES), stale


def test_a_page_of_no_versions_but_the_pinned_one():
    text = page.markdown(Matrix("1.0", "2.0", ["picture"], [Version("1.0")]))
    assert "0 of 0 kinds" in text and "-" in text
