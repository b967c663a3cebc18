"""The folder of compiled code: where it is, who may read it, what is removed, and what a reader is told of it."""

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from minivl.kernels import kept
from minivl.kernels.jit import cache

from .test_jit_interpreter import RIGHT, made

DAYS = 24 * 60 * 60


def age(path, days):
    """Let a file look as if nobody used it for so long."""
    os.utime(path, (time.time() - days * DAYS,) * 2)


@pytest.mark.parametrize("said", ["off", "OFF", "Off"])
def test_off_is_off_in_any_letters(monkeypatch, said):
    monkeypatch.setenv("MINIVL_CACHE", said)
    assert kept.folder() is None


def test_the_folder_that_is_named_may_begin_with_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("MINIVL_CACHE", "~/x")
    assert kept.folder() == tmp_path / "x" / "kernels"
    for name in ("0", "~no-such-user-here/x", str(tmp_path)):
        monkeypatch.setenv("MINIVL_CACHE", name)
        assert kept.folder() == Path(name) / "kernels"


@pytest.mark.skipif(sys.platform == "win32", reason="rights of Windows are others")
def test_the_folder_of_compiled_code_is_for_its_owner_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    assert made() == RIGHT
    assert stat.S_IMODE((tmp_path / "kernels").stat().st_mode) == 0o700


def test_what_nobody_used_for_long_is_removed_when_something_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    where = tmp_path / "kernels"
    where.mkdir()
    old, young, theirs = where / ("a" * 64), where / ("b" * 64), where / "notes.txt"
    for path in (old, young, theirs):
        path.write_text("x", encoding="utf-8")
        age(path, cache.UNUSED + (-1 if path == young else 1))
    made()
    assert not old.exists() and young.exists() and theirs.exists() and len(list(where.iterdir())) > 2


def test_what_is_used_is_not_old(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    made()
    files = list((tmp_path / "kernels").iterdir())
    for path in files:
        age(path, cache.UNUSED + 1)
    assert made() == RIGHT and files
    assert all(time.time() - path.stat().st_mtime < DAYS for path in files)
    monkeypatch.setattr(os, "utime", lambda *given: pytest.fail("written again on the same day"))
    assert made() == RIGHT


@pytest.fixture
def slow(monkeypatch):
    """Somebody watches, and this process has compiled for long."""
    monkeypatch.setattr(cache, "_first", time.monotonic() - 2 * cache.PATIENCE)
    monkeypatch.setattr(cache, "_said", False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_once_is_said_once_and_where_it_is_kept(slow, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    cache.told()
    cache.told()
    assert capsys.readouterr().err == "compiling kernels for this processor, once: about half a minute\n"


def test_where_it_is_not_kept_the_reader_is_told_why(slow, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    for name, why in (("off", 'MINIVL_CACHE is "off"'), (str(tmp_path / "file"), "cannot be made")):
        monkeypatch.setenv("MINIVL_CACHE", name)
        monkeypatch.setattr(cache, "_said", False)
        cache.told()
        said = capsys.readouterr().err
        assert "as every process does, because" in said and why in said and "once" not in said
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *given: False)               # root may write everywhere
    monkeypatch.setattr(cache, "_said", False)
    cache.told()
    assert "may not be written to; MINIVL_CACHE names another one" in capsys.readouterr().err


def test_quick_compiling_is_not_worth_a_word(slow, monkeypatch, capsys):
    monkeypatch.setattr(cache, "_first", None)
    cache.told()
    cache.told()
    assert capsys.readouterr().err == ""
