"""The compiled interpreter around its kernels: what it says, its threads, what it keeps on disk, packed weights."""

import functools
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.checkpoint import layout
from minivl.checkpoint.packed import Packed, packed
from minivl.checkpoint.weight import Stored, weight
from minivl.cli.given import Chosen, open_model
from minivl.door.errors import ArgumentError
from minivl.kernels import jit, processors
from minivl.kernels.jit import cache, tiers
from minivl.kernels.jit.build import Maker

from .compiled import BF16, assert_exact_enough, drawn, guarded, running

THREADS = sys.modules["minivl.kernels.jit.team"]


def python(code, **environment):
    """Run code in a process of its own; its output. Fails where the process does."""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True,
                          text=True, cwd=Path(__file__).parents[2], timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------- choices

def test_without_numba_the_message_says_what_to_install():
    said = python("""
import sys
sys.modules["numba"] = None
import minivl
minivl.load()
try:
    minivl.load(kernels="jit")
except minivl.Error as error:
    print(type(error).__name__, error)
""")
    assert said.startswith("MissingExtra ") and 'pip install "minivl[jit]"' in said and "numba" in said


def test_a_tier_is_one_of_seven():
    with pytest.raises(ArgumentError, match=r"a tier must be portable, avx2, .* or amx, got 'mmx'; did you mean 'amx'"):
        tiers.chosen("mmx")
    with pytest.raises(ArgumentError, match=r"got 'AVX512-BF16'; did you mean 'avx512-bf16'"):
        tiers.chosen("AVX512-BF16")
    assert tiers.chosen("portable").name == "portable" and tiers.chosen() in tiers.TIERS.values()


def test_a_tier_that_the_machine_lacks_is_refused_with_what_it_needs(monkeypatch):
    monkeypatch.setattr(tiers, "flags", lambda: frozenset(("avx2", "fma")))
    assert tiers.best().name == "avx2" and tiers.chosen().name == "avx2"
    with pytest.raises(ArgumentError, match=r"'avx512' needs avx512bw, .* lacks: the best that it has is 'avx2'"):
        tiers.chosen("avx512")
    with pytest.raises(ArgumentError, match="'amx' needs amx_bf16"):
        Maker(tiers.TIERS["amx"])
    monkeypatch.setattr(tiers, "flags", lambda: tiers.TIERS["amx"].needs)
    monkeypatch.setattr(tiers, "may_use_tiles", lambda: False)
    assert tiers.best().name == "avx512-bf16"
    with pytest.raises(ArgumentError, match="'amx' needs the system's permission for tiles"):
        tiers.chosen("amx")


def test_the_environment_names_a_tier(monkeypatch):
    monkeypatch.setenv("MINIVL_TIER", "portable")
    assert tiers.chosen().name == "portable"
    monkeypatch.setenv("MINIVL_TIER", "sse9")
    with pytest.raises(ArgumentError, match="got 'sse9'"):
        tiers.chosen()


@pytest.mark.parametrize(("name", "value", "said"), [
    ("MINIVL_TIER", "sse9", "MINIVL_TIER must be portable, .*, got 'sse9'; the best that this machine has is"),
    ("MINIVL_THREADS", "0", "MINIVL_THREADS must be a number from 1 to 1024, got '0'"),
    ("MINIVL_THREADS", "9" * 5000, "MINIVL_THREADS must be a number from 1 to 1024, got '999")])
def test_a_wrong_setting_is_refused_before_anything_is_read(name, value, said, monkeypatch, tmp_path):
    """And blamed on nothing else: no tensor and no stage has anything to do with it."""
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(jit, "maker", functools.cache(lambda: Maker(tiers.chosen())))
    monkeypatch.setattr(THREADS, "_team", None)
    for refused in (lambda: minivl.load(tmp_path / "nothing", kernels="jit"),
                    lambda: minivl.load(kernels="jit-int8"), lambda: minivl.convert(None, tmp_path / "packed"),
                    lambda: minivl.convert(tmp_path / "nothing", tmp_path / "packed"),
                    lambda: open_model(Chosen(str(tmp_path / "nothing"), kernels="jit"))):
        with pytest.raises(ArgumentError, match=f"^{said}"):
            refused()
    assert not list(tmp_path.iterdir())


def test_bytes_are_multiplied_as_bytes_wherever_the_processor_can(monkeypatch):
    """AVX-VNNI has come without AVX-512, and AVX512-VNNI without bfloat16."""
    for flag, below, name in (("avx_vnni", "avx2", "avx2-vnni"), ("avx512_vnni", "avx512", "avx512-vnni")):
        monkeypatch.setattr(tiers, "flags", lambda b=below, f=flag: tiers.TIERS[b].needs | {f})
        assert tiers.best().name == name
        assert tiers.best()._replace(name=below, needs=tiers.TIERS[below].needs, byte_rows=0) == tiers.TIERS[below]


def test_how_much_is_asked_for_ahead_is_the_processors(monkeypatch):
    """Every line of the cache, but where the processor goes on reading by itself."""
    for vendor, family, lines in (("AuthenticAMD", "26", 16), ("AuthenticAMD", "25", 1), ("GenuineIntel", "26", 1)):
        monkeypatch.setattr(tiers, "about", lambda v=vendor, f=family: {"vendor_id": v, "cpu family": f})
        assert tiers.lines_an_ask() == lines
    monkeypatch.setattr(tiers, "about", dict)
    assert tiers.lines_an_ask() == 1


# ------------------------------------------------------------------------------------------------- threads

def test_the_environment_says_how_many_threads(monkeypatch):
    monkeypatch.setattr(THREADS, "_team", None)
    monkeypatch.setenv("MINIVL_THREADS", "3")
    assert THREADS.team().size == 3 and THREADS.team() is THREADS.team()
    for wrong in ("0", "2000", "many", "1.5"):
        monkeypatch.setattr(THREADS, "_team", None)
        monkeypatch.setenv("MINIVL_THREADS", wrong)
        with pytest.raises(ArgumentError, match=f"from 1 to 1024, got .*{wrong}"):
            THREADS.team()


def test_every_thread_does_its_share_and_small_work_stays_here():
    seen = []
    crew = THREADS.Team(4)

    def share(me, team, tag):
        seen.append((me, team, tag, threading.current_thread() is threading.main_thread()))
    crew.run(share, "big", work=10**9)
    assert sorted(seen) == [(me, 4, "big", me == 0) for me in range(4)]
    seen.clear()
    crew.run(share, "small", work=10)
    assert seen == [(0, 1, "small", True)]


@pytest.mark.parametrize("guilty", [0, 2])
def test_what_a_thread_raises_reaches_the_caller(guilty):
    crew = THREADS.Team(3)

    def share(me, team):
        if me == guilty:
            raise KeyError(me)
    for _ in range(3):                                                     # and the team goes on
        with pytest.raises(KeyError, match=str(guilty)):
            crew.run(share)
    done = []
    crew.run(lambda me, team: done.append(me))
    assert sorted(done) == [0, 1, 2]


def test_two_callers_share_the_threads_one_after_the_other():
    product, found = drawn(40, 300, 200), {}
    with running(tiers.best().name, False, 3):
        wanted = guarded(product.x, product.w).tobytes()

        def ask(name):
            found[name] = {guarded(product.x, product.w).tobytes() for _ in range(20)}
        callers = [threading.Thread(target=ask, args=(name,)) for name in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert found == {name: {wanted} for name in range(3)}


def _in_a_child(x, w, wanted):
    same = jit.linear(x, w).tobytes() == wanted
    os._exit(0 if same else 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_makes_its_own_threads(monkeypatch):
    monkeypatch.setattr(THREADS, "_team", THREADS.Team(3))
    product = drawn(64, 600, 300)                                          # enough work for all of them
    wanted = jit.linear(product.x, product.w).tobytes()
    assert THREADS._team.jobs
    child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(product.x, product.w, wanted))
    child.start()
    child.join(120)
    assert child.exitcode == 0


OTHERS = """
import os, sys, threading
import numpy as np
import minivl
from minivl.run.inputs import Inputs

def spent():
    '''Clock ticks of the threads that Python did not make.'''
    ours = {thread.native_id for thread in threading.enumerate()}
    found = 0
    for one in set(map(int, os.listdir("/proc/self/task"))) - ours:
        fields = open(f"/proc/self/task/{one}/stat").read().rpartition(")")[2].split()
        found += int(fields[11]) + int(fields[12])
    return found

vlm = minivl.load(kernels=sys.argv[1])
picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
def answer():
    inputs = vlm.prepare([{"role": "user", "content": [{"type": "image", "image": picture},
                                                {"type": "text", "text": "What is this?" * 60}]}])
    vlm.generate(inputs, 8, stop_ids=())
answer()
before = spent()
for _ in range(8):
    answer()
print(spent() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are looked up in /proc")
@pytest.mark.skipif(processors() < 2, reason="with one processor BLAS has no threads of its own")
def test_threads_of_blas_rest_while_compiled_kernels_run():
    """A thread of BLAS that waits for its next product keeps a core busy, which then is not the team's."""
    def ticks(kernels):
        done = subprocess.run([sys.executable, "-c", OTHERS, kernels], env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
                              capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300, check=True)
        return int(done.stdout)
    assert ticks("jit") <= 1 < 5 < ticks("definition")


# --------------------------------------------------------------------------------------------------- cache

def made(name="add"):
    """A small kernel, compiled or loaded anew: what it gives for two rows of three."""
    x, out = np.arange(6, dtype=np.float32), np.zeros(6, np.float32)
    Maker(tiers.TIERS["portable"]).made(name)(0, 1, x, x, out, 6)
    return out.tolist()


def test_two_functions_of_one_name_are_no_one_function():
    """What is kept under a name would be run for both."""
    maker = Maker(tiers.TIERS["portable"])

    def adding(more):
        def kernel(out):
            out[0] += more
        return maker.compile(kernel)
    assert adding(1) is not None and adding(1) is not None
    with pytest.raises(AssertionError, match="two functions are called"):
        adding(2)


def test_threads_that_ask_at_once_are_given_the_same_function():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(20):
            maker, given = Maker(tiers.TIERS["portable"]), []
            ready = threading.Barrier(4)

            def ask(maker=maker, given=given, ready=ready):
                ready.wait()
                given.append(maker.made("vector_product", "bf16", True))
            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(given) == 4 and all(one is given[0] for one in given)
    finally:
        sys.setswitchinterval(before)


def test_what_was_interrupted_while_it_was_made_is_made_by_the_next_call(monkeypatch):
    maker, whole = Maker(tiers.TIERS["portable"]), Maker.compile

    def interrupted(self, function):
        if "matrix_vector" in function.__qualname__:
            raise KeyboardInterrupt
        return whole(self, function)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Maker, "compile", interrupted)
        maker.made("vector_product", "bf16", True)
    assert maker.key == () and maker.made("vector_product", "bf16", True) is not None


RIGHT = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of compiled code, new and empty."""
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    return tmp_path / "kernels"


def test_code_is_kept_and_loaded(kept, monkeypatch):
    assert made() == RIGHT
    files = sorted(kept.iterdir())
    stamps = [path.stat().st_mtime_ns for path in files]
    assert files
    told = []
    monkeypatch.setattr(cache, "told", lambda: told.append(1))
    assert made() == RIGHT and not told                                    # nothing was compiled
    assert [path.stat().st_mtime_ns for path in sorted(kept.iterdir())] == stamps


def test_half_a_file_and_a_file_of_something_else_are_compiled_anew(kept):
    made()
    for damage in (lambda whole: whole[:len(whole) // 2], lambda whole: b"", lambda whole: b"nonsense"):
        before = {path: path.read_bytes() for path in kept.iterdir()}
        for path, whole in before.items():
            path.write_bytes(damage(whole))
        assert made() == RIGHT
        assert all(len(path.read_bytes()) > 1000 for path in before)       # and kept again


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path / "file" / "below"))
    assert made() == RIGHT


def test_nothing_is_kept_when_it_is_off(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIVL_CACHE", "off")
    monkeypatch.setattr(Path, "mkdir", lambda *args, **more: pytest.fail("a folder was made"))
    assert cache.folder() is None and made() == RIGHT


def test_an_edit_in_a_source_file_is_compiled_anew(kept, tmp_path, monkeypatch):
    made()
    before = set(kept.iterdir())
    copy = tmp_path / "jit"
    shutil.copytree(Path(cache.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(copy / "cache.py"))
    hashes = set()
    for path in [None, *sorted(copy.glob("*.py"))]:
        if path:
            path.write_text(path.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
        hashes.add(cache.sources.__wrapped__())
    assert len(hashes) == 1 + len(list(copy.glob("*.py")))                 # every file counts
    monkeypatch.setattr(cache, "sources", lambda: "another time")
    assert made() == RIGHT and set(kept.iterdir()) > before


def test_two_processes_at_once_keep_one_whole_file(kept):
    code = "from tests.kernels.test_jit_interpreter import made, RIGHT\nassert made() == RIGHT"
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) for _ in range(2)]
    assert [one.wait(300) for one in both] == [0, 0]
    files = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert all(len(name) == 64 for name in files)                          # no half-written ones are left
    assert made() == RIGHT and {path.name: path.read_bytes() for path in kept.iterdir()} == files


CLASH = """
import sys
from tests.kernels.test_jit_interpreter import products_of
products_of(*{formats!r})
"""


def products_of(*formats):
    for format in formats:
        product = drawn(1, 34, 40, format=format)
        with running("portable", False):
            assert_exact_enough(product, guarded(product.x, product.w))


def test_kernels_that_two_processes_compiled_are_not_taken_for_each_other(kept):
    """Numba numbers functions of one name as a process compiles them: both had the same symbols."""
    for formats in (("bf16",), ("int8",), ("bf16", "int8")):
        python(CLASH.format(formats=formats))


# ------------------------------------------------------------------------------------------ packed weights

@pytest.mark.parametrize("kind", ["bf16", "f32"])
@pytest.mark.parametrize("shape", [(1, 1), (33, 70), (2100, 40)])
def test_a_packed_weight_gives_back_what_is_stored(kind, shape):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=shape).astype(BF16 if kind == "bf16" else np.float32)
    stored = weight(numbers)
    tiles = packed(stored)
    assert isinstance(tiles, Packed) and tiles.format == kind and tiles.shape == shape
    assert isinstance(tiles, minivl.checkpoint.tree.Weight) and packed(tiles) is tiles
    index = rng.integers(0, shape[0], (3, 4))
    for dtype in ("float32", "bfloat16", "float64", "float16"):
        assert np.array_equal(tiles.dense(dtype), stored.dense(dtype))
        assert np.array_equal(tiles.rows(index, dtype), stored.rows(index, dtype))
        out = np.full(shape, 7, tiles.dense(dtype).dtype)
        tiles.fill(out)
        assert np.array_equal(out, stored.dense(dtype))
    assert tiles.rows(np.zeros((0,), np.int64), "float32").shape == (0, shape[1])
    assert tiles.tiles.ctypes.data % layout.LINE == 0 and repr(tiles) == f"Packed({kind} {list(shape)})"


@pytest.mark.parametrize("index", [[-1], [33], [0, 40], [-5, 3]])
@pytest.mark.parametrize("format", layout.IN_WORD)
def test_rows_that_are_not_there_are_refused(index, format):
    tiles = packed(weight(np.ones((33, 40), np.float32)), format)
    with pytest.raises(IndexError, match="of a table of 33 rows"):
        tiles.rows(np.array(index), "float32")


@pytest.mark.parametrize(("format", "steps"), [("int8", 254), ("int4", 15)])
def test_smaller_weights_are_within_half_a_step_of_the_stored_ones(format, steps):
    numbers = np.random.default_rng(0).normal(size=(40, 300)).astype(np.float32)
    numbers[3], numbers[4] = 0, np.abs(numbers[4])
    tiles = packed(weight(numbers), format)
    groups = [numbers] if format == "int8" else [numbers[:, at:at + 128] for at in range(0, 300, 128)]
    at = 0
    for group in groups:
        most, least = np.maximum(group.max(axis=1), 0), np.minimum(group.min(axis=1), 0)
        span = 2 * np.abs(group).max(axis=1) if format == "int8" else most - least
        error = np.abs(tiles.dense("float32")[:, at:at + group.shape[1]] - group).max(axis=1)
        assert (error <= 1.01 * span / steps * (0.5 if format == "int8" else 1)).all()
        at += group.shape[1]
    assert not tiles.dense("float32")[3].any()
    assert np.array_equal(tiles.rows(np.array([7, 0]), "float32"), tiles.dense("float32")[[7, 0]])


def test_what_cannot_be_packed_stays_as_it_is_or_is_refused():
    half = weight(np.linspace(-3, 7, 12, dtype=np.float16).reshape(3, 4))
    assert packed(half).format == "f32" and np.array_equal(packed(half).dense("float32"), half.dense("float32"))
    vector = Stored(np.ones(4, np.float32), "f32")
    assert packed(vector) is vector
    with pytest.raises(ArgumentError, match="packed as f32, bf16, int8, int4, not as 'int2'"):
        packed(weight(np.ones((3, 4), np.float32)), "int2")
