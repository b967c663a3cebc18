"""The folder of compiled code: where it is, who may read it, what is removed, and what a reader is told of it."""

import os
import pickle
import stat
import sys
import time
import warnings
from pathlib import Path

import pytest

from minivl.kernels import kept, kept_files
from minivl.kernels.cuda import build
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
    old = os.umask(0o002)
    try:
        monkeypatch.setenv("MINIVL_CACHE", str(tmp_path / "a" / "b"))
        assert made() == RIGHT
        monkeypatch.setenv("MINIVL_CACHE", str(tmp_path / "c"))
        assert cuda_place() == tmp_path / "c" / "kernels" / "cuda"
    finally:
        os.umask(old)
    for name in ("a", "a/b", "a/b/kernels", "c", "c/kernels", "c/kernels/cuda"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700, name


def cuda_place():
    """Where compiled CUDA kernels lie, asked anew."""
    build.place.cache_clear()
    try:
        return build.place()
    finally:
        build.place.cache_clear()


UNSAFE = [*([0o770, 0o707, 0o1777] if hasattr(os, "geteuid") else []), "other user", "link of other user"]


@pytest.fixture(params=UNSAFE, ids=lambda one: one if isinstance(one, str) else f"{one:o}")
def unsafe(request, monkeypatch, tmp_path):
    """A full folder of compiled code that others may write to."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no owners as Unix has")
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    where, user, lstat = tmp_path / "kernels", os.geteuid(), Path.lstat
    assert made() == RIGHT
    if request.param == "other user":                                    # for root as for anybody else
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    elif request.param == "link of other user":
        where.rename(tmp_path / "elsewhere")
        where.symlink_to(tmp_path / "elsewhere")
        monkeypatch.setattr(Path, "lstat", lambda path: other(lstat(path)) if path == where else lstat(path))
    else:
        where.chmod(request.param)
    return where


def other(about):
    """What the system says of a file, with another owner."""
    return os.stat_result((*about[:4], about.st_uid + 1, *about[5:]))


def test_a_folder_that_others_may_write_to_is_not_read_nor_written_and_that_is_said_once(unsafe, monkeypatch):
    monkeypatch.setattr(pickle, "loads", lambda data: pytest.fail("it was unpickled"))
    before = {path.name: path.read_bytes() for path in unsafe.iterdir()}
    with pytest.warns(UserWarning, match="kernels: .*so the compiled code in it is ignored; remove the folder") as said:
        assert made() == made() == RIGHT
    assert len(said) == 1
    assert {path.name: path.read_bytes() for path in unsafe.iterdir()} == before
    assert "is ignored: " in cache.unkept()
    assert "minivl-cuda-" in str(cuda_place())


def test_a_folder_of_cuda_kernels_that_others_may_write_to_is_not_used(monkeypatch, tmp_path):
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no owners as Unix has")
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    where = cuda_place()
    where.chmod(0o770)
    with pytest.warns(UserWarning, match="cuda: only you must be able to write to it, and its mode is 0770"):
        assert "minivl-cuda-" in str(cuda_place())


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners as Unix has")
def test_a_link_of_ones_own_to_a_folder_of_ones_own_is_followed(monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "kernels").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert made() == RIGHT and list((tmp_path / "elsewhere").iterdir())


def test_what_nobody_used_for_long_is_removed_when_something_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    where = tmp_path / "kernels"
    where.mkdir(mode=0o700)
    gone = [where / ("a" * 64), where / f".{'c' * 64}.k1alf2_5"]           # the second a kill left half written
    stay = [where / ("b" * 64), where / f".{'d' * 64}.k1alf2_5", where / "notes.txt", where / ".hidden"]
    for path in (*gone, *stay):
        path.write_text("x", encoding="utf-8")
        age(path, kept_files.UNUSED + (-1 if path in stay[:2] else 1))
    made()
    assert not any(path.exists() for path in gone) and all(path.exists() for path in stay)
    assert len(list(where.iterdir())) > len(stay)


@pytest.mark.skipif(sys.platform != "linux", reason="the runner needs Linux")
def test_compiled_cuda_kernels_that_nobody_used_for_long_are_removed(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    where = cuda_place()
    names = [f"{'a' * 40}-kernel.so", f"usage-{'b' * 40}.json", f".usage-{'c' * 40}.json.k1alf2_5"]
    gone = [where / name for name in names]
    stay = [where / f"{'d' * 40}-serve", where / "notes.txt"]
    for path in (*gone, *stay):
        path.write_text("x", encoding="utf-8")
    half = where / ".making-k1alf2_5"
    half.mkdir()
    (half / "kernel.o").write_text("x", encoding="utf-8")
    for path in (*gone, half, stay[1]):
        age(path, kept_files.UNUSED + 1)
    monkeypatch.setattr(build, "machine_key", lambda: "key")
    monkeypatch.setattr(build, "compiler", lambda: build.Compiler("cp", "of files"))
    (tmp_path / "text").write_text("x", encoding="utf-8")
    words = [str(tmp_path / "text"), "{out}"]
    build.place.cache_clear()
    try:
        path = build.made("kernel.so", "key", words)
        assert not any(one.exists() for one in (*gone, half)) and all(one.exists() for one in (path, *stay))
        age(path, kept_files.UNUSED + 1)
        assert build.made("kernel.so", "key", words) == path               # a hit: it is used, and not old
        assert time.time() - path.stat().st_mtime < DAYS
    finally:
        build.place.cache_clear()


def test_what_is_used_is_not_old(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    made()
    files = list((tmp_path / "kernels").iterdir())
    for path in files:
        age(path, kept_files.UNUSED + 1)
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
