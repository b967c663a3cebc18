"""Making samples anew: the new ones come whole or not at all, and nothing but old samples goes."""

import sys
from pathlib import Path

import pytest

from minivl.show.samples import Sample, load_samples
from tools.checkpoints import make_samples as tool


def kept(folder: Path) -> dict[str, bytes]:
    """All files; and no folder to work in was left behind."""
    assert not list(folder.glob(".samples-*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(names: dict[str, bytes]):
    """What stands in for asking the model: samples with these files; the last is one it was wrong about."""
    def make(seed: int, folder: Path) -> list[Sample]:
        for name, data in names.items():
            (folder / name).write_bytes(data)
        last = list(names)[-1]
        return [Sample(name, (folder / name,), None, "What?", "This.", name == last, "") for name in names]
    return make


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two samples, and three files that are somebody's: a picture, one in a folder, a note."""
    folder = tmp_path / "out"
    (folder / "deeper").mkdir(parents=True)
    for name in ("holiday.png", "deeper/a.png", "note.txt"):
        (folder / name).write_bytes(b"mine")
    monkeypatch.setattr(tool, "make", made({"a.png": b"old a", "b.png": b"old b"}))
    tool.main(["--output", str(folder)])
    monkeypatch.setattr(tool, "make", made({"a.png": b"new a", "c.png": b"new c"}))
    return folder


def test_only_old_samples_go(folder):
    tool.main(["--output", str(folder)])
    found = kept(folder)
    assert sorted(found) == ["a.png", "c.png", str(Path("deeper/a.png")), "holiday.png", "note.txt", "samples.json"]
    assert found["holiday.png"] == b"mine" and found["a.png"] == b"new a"
    assert [path.name for sample in load_samples(folder) for path in sample.paths] == ["a.png", "c.png"]


@pytest.mark.parametrize("step", range(7))                  # 3 old files go aside, 3 new ones come, none is left
def test_a_failure_at_any_step_leaves_the_old_samples_whole(folder, monkeypatch, step):
    before, replace, steps = kept(folder), Path.replace, iter(range(100))

    def fail(path, target):
        if next(steps) == step:
            raise OSError(28, "No space left on device")
        return replace(path, target)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        if step < 6:
            with pytest.raises(OSError, match="No space"):
                tool.main(["--output", str(folder)])
            assert kept(folder) == before
        else:
            tool.main(["--output", str(folder)])
            assert kept(folder) != before


def test_a_failure_while_writing_leaves_the_old_samples_whole(folder, monkeypatch):
    before, write = kept(folder), Path.write_bytes

    def fail(path, data):
        if path.name == "c.png" and path.parent.name == "new":
            raise OSError(28, "No space left on device")
        return write(path, data)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="No space"):
            tool.main(["--output", str(folder)])
    assert kept(folder) == before


def test_a_file_that_is_no_sample_is_not_covered(folder, monkeypatch):
    before = kept(folder)
    monkeypatch.setattr(tool, "make", made({"a.png": b"new a", "holiday.png": b"new"}))
    with pytest.raises(SystemExit, match="holiday.png is no old sample"):
        tool.main(["--output", str(folder)])
    assert kept(folder) == before


def test_an_index_cannot_name_files_elsewhere(folder):
    outside = folder.parent / "elsewhere.png"
    outside.write_bytes(b"mine")
    index = folder / "samples.json"
    index.write_text(index.read_text(encoding="utf-8").replace("b.png", "../elsewhere.png"), encoding="utf-8")
    tool.main(["--output", str(folder)])
    assert outside.read_bytes() == b"mine"


def test_a_new_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "make", made({"a.png": b"a"}))
    monkeypatch.setattr(sys, "argv", ["make_samples.py", "--output", str(tmp_path / "not" / "there")])
    tool.main()
    assert sorted(kept(tmp_path / "not" / "there")) == ["a.png", "samples.json"]
